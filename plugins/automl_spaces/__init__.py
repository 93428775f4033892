"""The search spaces that come with automl."""

from collections.abc import Mapping

from automl import hookimpl


@hookimpl
def automl_spaces() -> Mapping[str, str]:
    """Return the spaces by name."""
    return {"nasnet": "automl_spaces.nasnet:NASNet"}

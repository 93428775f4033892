"""The evaluators that come with automl."""

from collections.abc import Mapping

from automl import hookimpl


@hookimpl
def automl_evaluators() -> Mapping[str, str]:
    """Return the evaluators by name."""
    return {"training": "automl_evaluators.training:Training"}

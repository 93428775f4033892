"""The compressors that come with automl, and the space of the networks that they make."""

from collections.abc import Mapping

from automl import hookimpl


@hookimpl
def automl_spaces() -> Mapping[str, str]:
    """Return the spaces by name."""
    return {"compressed": "automl.compressor:Compressed"}


@hookimpl
def automl_compressors() -> Mapping[str, str]:
    """Return the compressors by name."""
    return {"amc": "automl_compressors.amc:AMC", "pruning": "automl_compressors.pruning:Pruning"}

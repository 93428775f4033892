"""What this package brings. It is imported at every start of automl, so it imports nothing heavy."""

from collections.abc import Mapping

from automl import hookimpl


@hookimpl
def automl_config_path() -> str:
    """Return where the settings of its components and its own group live."""
    return "pkg://automl_hello.conf"


@hookimpl
def automl_spaces() -> Mapping[str, str]:
    """Return its spaces by name; the module is imported when one is built."""
    return {"hello": "automl_hello.space:Hello"}


@hookimpl
def automl_strategies() -> Mapping[str, str]:
    """Return its strategies by name."""
    return {"hello": "automl_hello.strategy:HillClimbing"}


@hookimpl
def automl_trackers() -> Mapping[str, str]:
    """Return its trackers by name."""
    return {"hello": "automl_hello.tracker:Diary"}

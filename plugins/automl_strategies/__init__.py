"""The search strategies that come with automl."""

from collections.abc import Mapping

from automl import hookimpl


@hookimpl
def automl_strategies() -> Mapping[str, str]:
    """Return the strategies by name."""
    return {
        "evolution": "automl_strategies.evolution:Evolution",
        "random": "automl_strategies.random:Random",
    }

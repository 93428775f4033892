"""The evaluators that come with automl."""

from collections.abc import Mapping

from automl import hookimpl


@hookimpl
def automl_evaluators() -> Mapping[str, str]:
    """Return the evaluators by name."""
    return {
        "asha": "automl_evaluators.asha:ASHA",
        "curve": "automl_evaluators.curve:Curve",
        "hyperband": "automl_evaluators.hyperband:Hyperband",
        "morphism": "automl_evaluators.morphism:Morphism",
        "successive_halving": "automl_evaluators.successive_halving:SuccessiveHalving",
        "supernet": "automl_evaluators.supernet:Supernet",
        "tabular": "automl_evaluators.tabular:Tabular",
        "training": "automl_evaluators.training:Training",
    }

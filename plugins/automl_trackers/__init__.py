"""The trackers that come with automl: they watch a study and never steer it."""

from collections.abc import Mapping

from automl import hookimpl


@hookimpl
def automl_trackers() -> Mapping[str, str]:
    """Return the trackers by name."""
    return {
        "progress": "automl_trackers.progress:Progress",
        "report": "automl_trackers.report:HTMLReport",
        "csv": "automl_trackers.csv_table:CSVTable",
        "optuna": "automl_trackers.optuna_mirror:OptunaMirror",
        "tensorboard": "automl_trackers.tensorboard_events:TensorBoard",
        "wandb": "automl_trackers.weights_and_biases:WeightsAndBiases",
    }

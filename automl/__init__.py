"""AutoML for lightweight neural networks: search, compress and ship them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from automl.compressor import Compressor, Training
from automl.decisions import Architecture, Choose, Integer, Op, Options, Real
from automl.errors import AutoMLError, BadInput, TrialFailed
from automl.evaluator import Evaluator, Trainer, Wrapper
from automl.hookspecs import hookimpl
from automl.space import Origin, Space
from automl.strategy import Strategy
from automl.task import Data, Dataset, Task
from automl.trial import Candidate, Cost, Limit, LogCost, Objective, Report, Trial, Worth, best, merit

if TYPE_CHECKING:
    from automl.compression import compress
    from automl.experiment import search
    from automl.final import load
    from automl.study import Study

__version__ = "0.1.0"

_LATER = {
    "Study": "automl.study",
    "compress": "automl.compression",
    "load": "automl.final",
    "search": "automl.experiment",
}

__all__ = [
    "Architecture",
    "AutoMLError",
    "BadInput",
    "Candidate",
    "Choose",
    "Compressor",
    "Cost",
    "Data",
    "Dataset",
    "Evaluator",
    "Integer",
    "Limit",
    "LogCost",
    "Objective",
    "Op",
    "Options",
    "Origin",
    "Real",
    "Report",
    "Space",
    "Strategy",
    "Study",
    "Task",
    "Trainer",
    "Training",
    "Trial",
    "TrialFailed",
    "Worth",
    "Wrapper",
    "best",
    "compress",
    "hookimpl",
    "load",
    "merit",
    "search",
]


def __getattr__(name: str) -> Any:
    """Import what is heavier than a plugin's needs when it is asked for."""
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'automl' has no attribute {name!r}")

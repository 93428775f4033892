"""AutoML for lightweight neural networks: search, compress and ship them."""

from automl.decisions import Architecture, Choose, Integer, Op, Options, Real
from automl.errors import AutoMLError, BadInput, TrialFailed
from automl.evaluator import Evaluator, Trainer
from automl.hookspecs import hookimpl
from automl.space import Space
from automl.strategy import Strategy
from automl.task import Data, Dataset, Task
from automl.trial import Candidate, Objective, Report, Trial, best, merit

__version__ = "0.1.0"

__all__ = [
    "Architecture",
    "AutoMLError",
    "BadInput",
    "Candidate",
    "Choose",
    "Data",
    "Dataset",
    "Evaluator",
    "Integer",
    "Objective",
    "Op",
    "Options",
    "Real",
    "Report",
    "Space",
    "Strategy",
    "Task",
    "Trainer",
    "Trial",
    "TrialFailed",
    "best",
    "hookimpl",
    "merit",
]

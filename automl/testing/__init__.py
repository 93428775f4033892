"""The contracts by which components are tested, ours and others' alike, with toys to test by."""

from automl.testing.components import check_component
from automl.testing.compressors import Lending, check_compressor
from automl.testing.evaluators import check_evaluator
from automl.testing.spaces import check_space
from automl.testing.strategies import check_strategy, story
from automl.testing.tasks import check_task
from automl.testing.toys import (
    NO_TASK,
    OBJECTIVES,
    Checksum,
    ConditionalSpace,
    Scripted,
    ToyNetworks,
    ToySpace,
    ToyTask,
)
from automl.testing.trackers import check_tracker

__all__ = [
    "NO_TASK",
    "OBJECTIVES",
    "Checksum",
    "ConditionalSpace",
    "Lending",
    "Scripted",
    "ToyNetworks",
    "ToySpace",
    "ToyTask",
    "check_component",
    "check_compressor",
    "check_evaluator",
    "check_space",
    "check_strategy",
    "check_task",
    "check_tracker",
    "story",
]

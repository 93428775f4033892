"""An evaluator says how good a candidate is, in reports each better informed than the last."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from automl.space import Space
from automl.strategy import Strategy
from automl.task import Task
from automl.trial import Report, Trial

if TYPE_CHECKING:
    from pathlib import Path

    from torch.nn import Module

    from automl.decisions import Architecture


class Evaluator(ABC):
    """How candidates are judged. Fields are hyperparameters; work begins in ``start``."""

    repeatable: ClassVar[bool] = True  # an architecture met again is worth the same, so it is not evaluated again
    wanted: frozenset[str] = frozenset()  # the metrics that the objectives name, set before ``start``
    folder: Path | None = None  # where the run keeps checkpoints, set before ``start``; None: nothing is kept
    space: Space[Any]
    task: Task

    def start(self, space: Space[Any], task: Task) -> None:
        """Begin; the task holds the training and the validation images, and never those of the test."""
        self.space = space
        self.task = task

    @abstractmethod
    def evaluate(self, trial: Trial) -> Iterator[Report]:
        """Yield reports of ``trial.candidate``; closed early when the trial is stopped.

        All that is drawn is drawn from ``trial.seed``. Raises TrialFailed, or anything else, for a candidate
        that cannot be scored: the trial fails with that reason and the study goes on.
        """

    def schedule(self, strategy: Strategy) -> Strategy:
        """Return who decides how far candidates go: the strategy itself, or a wrapper around it."""
        return strategy

    def estimate(self, architecture: Architecture) -> float | None:
        """Return about how many seconds one evaluation takes here, measured in a moment; None if unknown."""
        return None

    def metrics(self) -> frozenset[str] | None:
        """Return the names of the metrics that can be reported; None if they are not known before.

        What is costly to measure is reported only where it is wanted.
        """
        return None


class Trainer(Evaluator):
    """An evaluator that really trains networks, and so can train the final one."""

    @abstractmethod
    def fit(
        self,
        architecture: Architecture,
        seed: int,
        *,
        checkpoint: Path | None = None,
        watch: Callable[[Report], None] = lambda _: None,
    ) -> Module:
        """Return the network of that architecture, trained from scratch at full fidelity, at rest on the CPU.

        Each epoch's report goes to ``watch``. With a checkpoint folder, training that was interrupted goes on
        from there, bitwise as if it had not been.
        """

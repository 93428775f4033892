"""An evaluator says how good a candidate is, in reports each better informed than the last."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from automl.space import Space
from automl.strategy import Strategy
from automl.task import Task
from automl.trial import Limit, Objective, Report, Trial

if TYPE_CHECKING:
    from pathlib import Path

    from torch.nn import Module

    from automl.checkpoint import Checkpoint
    from automl.decisions import Architecture
    from automl.device import Device


class Evaluator(ABC):
    """How candidates are judged. Fields are hyperparameters; work begins in ``start``."""

    repeatable: ClassVar[bool] = True  # an architecture met again is worth the same, so it is not evaluated again
    differentiable: bool = False  # takes soft choices, and reports the gradients of their weights
    stateful: bool = False  # what it makes of a trial depends on those before: it has a state of its own
    finishes: bool = False  # trains networks that a space then makes others of (``Space.finish``)
    takes: frozenset[str] = frozenset()  # settings of its training that an architecture may bring (``Space.recipe``)
    objectives: Sequence[Objective] = ()  # what is searched for, set before ``start``
    limits: Sequence[Limit] = ()  # what candidates must keep, set before ``start``
    folder: Path | None = None  # where the run keeps checkpoints, set before ``start``; None: nothing is kept
    trainer: Trainer | None = None  # of the run's final network, set before ``start``; None: there is none
    device: Device | None = None  # whose latencies are reported, set before ``start``; None: this machine
    space: Space[Any]
    task: Task

    def start(self, space: Space[Any], task: Task) -> None:
        """Begin; the task holds the training and the validation images, and never those of the test.

        Raises BadInput where the space or the task is not one that can be evaluated.
        """
        self.space = space
        self.task = task

    @abstractmethod
    def evaluate(self, trial: Trial) -> Iterator[Report]:
        """Yield reports of ``trial.candidate``; closed early when the trial is stopped.

        All that is drawn is drawn from ``trial.seed``. A first report of fidelity 0 may say what needs no training:
        a trial that breaks a limit by it is rejected there. Raises TrialFailed, or anything else, for a candidate
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

    def rests_on(self) -> frozenset[str]:
        """Return the settings of ``trainer`` on which rests what is reported: none of them, unless it trains for it."""
        return frozenset()

    def steps(self) -> int | None:
        """Return in how many steps (epochs) the full schedule can be cut, for work that can be gone on with.

        A candidate's fidelity is then a whole number of them, and a trial with a ``parent`` goes on from where that
        ended. None: an evaluation is whole.
        """
        return None

    def key(self, architecture: Architecture) -> Hashable | None:
        """Return what two architectures that are worth the same here have in common; None where no two have."""
        if not self.repeatable:
            return None
        form = self.space.canonical(architecture.blueprint)
        return architecture if form is None else form

    def state(self) -> Checkpoint:
        """Return what a stateful evaluator goes on from between two trials."""
        raise NotImplementedError(f"{type(self).__name__} has no state")

    def restore(self, state: Checkpoint) -> None:
        """Go on from such a state, bit for bit as if it had not stopped."""
        raise NotImplementedError(f"{type(self).__name__} has no state")

    def provenance(self) -> Mapping[str, str]:
        """Return by metric where it comes from, in words, for those of which a reader has to know."""
        return {}

    def outcome(self, architecture: Architecture) -> Mapping[str, float] | None:
        """Return what is already recorded of full training and of the test images; None where nothing is.

        Asked once, of the architecture that a search ends with.
        """
        return None

    @property
    def wanted(self) -> frozenset[str]:
        """The metrics that the objectives and the limits name."""
        return frozenset(
            [name for one in self.objectives for name in one.metrics] + [limit.metric for limit in self.limits]
        )


class Wrapper(Evaluator):
    """An evaluator around another, which does the work; derived classes are dataclasses and change what they are about.

    The field ``inner`` is built from the config group of its own: ``evaluator/inner=training``.
    """

    inner: Evaluator

    @property
    def differentiable(self) -> bool:  # type: ignore[override]  # what is true of it is true of what it is around
        return self.inner.differentiable

    @property
    def stateful(self) -> bool:  # type: ignore[override]
        return self.inner.stateful

    @property
    def finishes(self) -> bool:  # type: ignore[override]
        return self.inner.finishes

    @property
    def takes(self) -> frozenset[str]:  # type: ignore[override]
        return self.inner.takes

    def state(self) -> Checkpoint:
        return self.inner.state()

    def restore(self, state: Checkpoint) -> None:
        self.inner.restore(state)

    def within(self) -> Iterator[Evaluator]:
        """Yield the evaluators inside this one, the outermost first."""
        yield self.inner
        if isinstance(self.inner, Wrapper):
            yield from self.inner.within()

    def start(self, space: Space[Any], task: Task) -> None:
        super().start(space, task)
        self.inner.objectives, self.inner.limits, self.inner.folder = self.objectives, self.limits, self.folder
        self.inner.trainer, self.inner.device = self.trainer, self.device
        self.inner.start(space, task)

    def evaluate(self, trial: Trial) -> Iterator[Report]:
        return self.inner.evaluate(trial)

    def schedule(self, strategy: Strategy) -> Strategy:
        return self.inner.schedule(strategy)

    def estimate(self, architecture: Architecture) -> float | None:
        return self.inner.estimate(architecture)

    def metrics(self) -> frozenset[str] | None:
        return self.inner.metrics()

    def rests_on(self) -> frozenset[str]:
        return self.inner.rests_on()

    def steps(self) -> int | None:
        return self.inner.steps()

    def key(self, architecture: Architecture) -> Hashable | None:
        return self.inner.key(architecture)

    def provenance(self) -> Mapping[str, str]:
        return self.inner.provenance()

    def outcome(self, architecture: Architecture) -> Mapping[str, float] | None:
        return self.inner.outcome(architecture)


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

    def before(self, architecture: Architecture, seed: int) -> Module | None:
        """Return the trained network that the architecture's is made of, at rest on the CPU; None where it is none."""
        return None

"""What strategies that train a controller share: each sample is told once, and learnt from by its advantage."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Lt

from automl import Architecture, Candidate, Space, Strategy, Trial, Worth

if TYPE_CHECKING:
    from automl_strategies.controller import Controller, Step

REPEATS = 3  # so many known architectures in a row, and the next is drawn at random


class Sample:
    """An architecture that the controller chose, and what came of it."""

    __slots__ = ("advantage", "architecture", "log_probs", "steps")

    def __init__(self, architecture: Architecture, log_probs: Sequence[float]) -> None:
        self.architecture = architecture
        self.log_probs = log_probs  # of each decision, when it was made
        self.steps: list[Step] = []
        self.advantage = 0.0


class MovingAverage:
    """An exponential moving average, corrected for its beginning at zero; None before the first number."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._total = 0.0
        self._weight = 0.0

    @property
    def value(self) -> float | None:
        return self._total / self._weight if self._weight else None

    def add(self, number: float) -> None:
        self._total = self.decay * self._total + (1 - self.decay) * number
        self._weight = self.decay * self._weight + (1 - self.decay)


@dataclass
class PolicyGradient(Strategy):
    """A controller that is trained by the rewards of its samples; derived classes say how.

    A reward is the score; a failed trial's is below all others. What is learnt from is the advantage over the moving
    average of the rewards before, by the fidelity that was asked for. A sample is learnt from once, so a trial that is
    gone on with teaches nothing more: which are was not the controller's choice.

    After three known architectures in a row the next is drawn at random, and not learnt from: a controller that has
    settled would repeat itself without end.
    """

    several: ClassVar[bool] = False

    hidden: Annotated[int, Ge(0)] = 100
    layers: Annotated[int, Ge(1)] = 1
    learning_rate: Annotated[float, Gt(0)] = 0.006
    entropy: Annotated[float, Ge(0)] = 0.01
    baseline: Annotated[float, Ge(0), Lt(1)] = 0.95
    batch: Annotated[int, Ge(1)] = 10

    def start(self, space: Space[Any], rng: Random) -> None:
        super().start(space, rng)
        self.worth = Worth()
        self.baselines: dict[float, MovingAverage] = {}  # by fidelity
        self.running: dict[int, Sample] = {}  # by the identity of the architecture
        self.finished: list[Sample] = []  # not learnt from yet
        self.numbers: set[int] = set()  # of the trials told
        self.repeats = 0  # in a row
        self.met_legal = False
        self.controller: Controller | None = None  # born when the generator is seeded

    def ask(self) -> Candidate:
        if self.repeats >= REPEATS:
            return Candidate(self.space.sample(self.rng))
        if self.controller is None:
            from automl_strategies.controller import Controller

            self.controller = Controller(self.hidden, self.layers, self.learning_rate, self.rng.getrandbits(63))
        architecture, log_probs = self.controller.draw(self.space, self.rng)
        if log_probs:
            self.running[id(architecture)] = Sample(architecture, log_probs)
        return Candidate(architecture)

    def tell(self, trial: Trial) -> None:
        self.repeats = self.repeats + 1 if trial.number in self.numbers else 0
        self.numbers.add(trial.number)
        is_legal = trial.is_scored and not trial.violation
        if is_legal and not self.met_legal:
            self.met_legal = True
            self.baselines.clear()  # what was worth less than nothing known was on a scale of its own
        self.worth.see(trial)
        sample = self.running.pop(id(trial.architecture), None)
        if sample is None or self.controller is None:
            return
        sample.advantage = self.advantage(trial)
        sample.steps = self.controller.steps(sample.architecture)
        self.finished.append(sample)
        if len(self.finished) == self.batch:
            self.learn(self.controller, self.finished)
            self.finished = []

    def advantage(self, trial: Trial) -> float:
        """Return by how much the trial is better than those before, 0 for the first, and count it among them."""
        reward = self.worth.of(trial)
        average = self.baselines.setdefault(trial.candidate.fidelity, MovingAverage(self.baseline))
        advantage = 0.0 if average.value is None else reward - average.value
        average.add(reward)
        return advantage

    @abstractmethod
    def learn(self, controller: Controller, samples: Sequence[Sample]) -> None:
        """Train the controller by a batch of samples."""

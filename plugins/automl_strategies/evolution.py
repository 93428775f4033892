"""Regularised evolution: tournament selection in a population where the oldest dies."""

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Annotated, Any

from annotated_types import Ge, Le

from automl import BadInput, Candidate, Space, Strategy, Trial
from automl.pareto import ranked


@dataclass
class Evolution(Strategy):
    """Regularised (ageing) evolution (Real et al., 2019).

    The paper's setting is population 100, tournament 25 and 20,000 trials; the defaults suit tens of trials.
    The sample of a tournament is drawn with replacement, and with probability ``identity`` the child is its
    parent unchanged.
    """

    population: Annotated[int, Ge(1)] = 10
    tournament: Annotated[int, Ge(1)] = 3
    identity: Annotated[float, Ge(0), Le(1)] = 0.05

    def __post_init__(self) -> None:
        if self.tournament > self.population:
            raise BadInput(
                f"strategy.tournament={self.tournament} is larger than strategy.population={self.population}: "
                f"give at most {self.population}"
            )

    def start(self, space: Space[Any], rng: Random) -> None:
        super().start(space, rng)
        self.asked = 0
        self.alive: deque[Trial] = deque(maxlen=self.population)  # a full queue drops its oldest

    def ask(self) -> Candidate:
        self.asked += 1
        if self.asked <= self.population or not self.alive:
            return Candidate(self.space.sample(self.rng))
        parent = ranked(self.rng.choices(self.alive, k=self.tournament))[0]
        if self.rng.random() < self.identity:
            return Candidate(parent.architecture)
        return Candidate(self.space.mutate(parent.architecture, self.rng))

    def tell(self, trial: Trial) -> None:
        if trial.error is None:
            self.alive.append(trial)

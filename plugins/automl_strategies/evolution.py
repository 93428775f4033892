"""Regularised evolution: tournament selection in a population where the oldest dies."""

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Annotated, Any

from annotated_types import Ge, Le

from automl import BadInput, Candidate, Space, Strategy, Trial
from automl.pareto import ranked

_PATIENCE = 10


@dataclass
class Evolution(Strategy):
    """Regularised (ageing) evolution (Real et al., 2019).

    The paper's setting is population 100, tournament 25 and 20,000 trials; the defaults suit tens of trials.
    The sample of a tournament is drawn with replacement, and with probability ``identity`` the child is its
    parent unchanged. A population that has converged begets what is known already: after every ten repeats in a
    row a child is changed in one decision more.
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
        self.numbers: set[int] = set()  # of the trials told
        self.repeats = 0  # in a row

    def ask(self) -> Candidate:
        self.asked += 1
        if self.asked <= self.population or not self.alive:
            return Candidate(self.space.sample(self.rng))
        parent = ranked(self.rng.choices(self.alive, k=self.tournament))[0]
        if self.rng.random() < self.identity:
            return Candidate(parent.architecture)
        child = self.space.mutate(parent.architecture, self.rng)
        for _ in range(self.repeats // _PATIENCE):
            child = self.space.mutate(child, self.rng)
        return Candidate(child)

    def tell(self, trial: Trial) -> None:
        self.repeats = self.repeats + 1 if trial.number in self.numbers else 0
        self.numbers.add(trial.number)
        if trial.error is None:
            self.alive.append(trial)

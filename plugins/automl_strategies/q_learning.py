"""Q-learning: what each choice is worth given those before it, learnt from its own past walks again and again."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from itertools import accumulate
from math import inf
from random import Random
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Le

from automl import Architecture, BadInput, Candidate, Integer, Options, Real, Space, Strategy, Trial, Worth
from automl_strategies.intervals import MANY, from_unit

Domain = Real | Integer | Options[Any]
Level = tuple[Annotated[float, Ge(0), Le(1)], Annotated[int, Ge(1)]]
METAQNN = (
    (1.0, 1500), (0.9, 100), (0.8, 100), (0.7, 100), (0.6, 150), (0.5, 150), (0.4, 150), (0.3, 150), (0.2, 150),
    (0.1, 150),
)  # fmt: skip
PATIENCE = 5  # known architectures in a row that are waited out


class Walk:
    """The choices of one architecture: for each state that it went through the values there, and the place taken."""

    __slots__ = ("places", "rows", "trial")
    trial: Trial  # once told

    def __init__(self) -> None:
        self.rows: list[list[float]] = []
        self.places: list[int] = []

    def learn(self, reward: float, rate: float, discount: float, shaped: bool) -> None:
        """Update each choice by the values of the state after it, the last by the reward, from the last to the first.

        Shaped, each choice has its share of the reward at once (Zhong et al., 2018).
        """
        share = reward / len(self.rows) if shaped else 0.0
        target = share if shaped else reward
        for row, place in zip(reversed(self.rows), reversed(self.places), strict=True):
            row[place] += rate * (target - row[place])
            target = share + discount * max(row)


@dataclass
class QLearning(Strategy):
    """Tabular Q-learning with replay, epsilon-greedy (MetaQNN: Baker et al., 2017).

    A state is all that was decided before, or the last ``memory`` decisions. Numbers of an interval, and integers of
    more than 64 values, are chosen by ``bins`` of equal share, and drawn within. A choice not tried yet is worth
    ``initial``, which suits accuracies in shares. After each trial ``replay`` walks are learnt from, drawn among all.

    ``schedule`` is of pairs: epsilon, and for how many different architectures; the last epsilon stays. With
    ``length`` it is scaled to so many in all. After five known architectures in a row each more adds 0.1 to epsilon,
    until there is a new one. Where trials are gone on with, a walk is worth the last one's score.
    """

    several: ClassVar[bool] = False

    learning_rate: Annotated[float, Gt(0), Le(1)] = 0.01
    discount: Annotated[float, Ge(0), Le(1)] = 1.0
    initial: float = 0.5
    replay: Annotated[int, Ge(1)] = 128
    schedule: tuple[Level, ...] = METAQNN
    length: Annotated[int, Ge(1)] | None = 100
    memory: Annotated[int, Ge(1)] | None = None
    bins: Annotated[int, Ge(2)] = 10
    shaped: bool = False

    def __post_init__(self) -> None:
        if not self.schedule:
            raise BadInput("strategy.schedule=[] has no epsilon: give pairs of an epsilon and a number of trials")

    def start(self, space: Space[Any], rng: Random) -> None:
        super().start(space, rng)
        self.worth = Worth()
        self.rows: dict[Hashable, list[float]] = {}  # what each choice is worth, by state
        self.prefixes: dict[tuple[Hashable, int], int] = {}
        self.running: dict[int, tuple[Architecture, Walk]] = {}  # by the identity of the architecture
        self.walks: list[Walk] = []  # told
        self.numbers: dict[int, Walk] = {}  # by the trials of each
        self.different = 0
        self.repeats = 0  # in a row
        total = sum(count for _, count in self.schedule)
        self.scale = 1.0 if self.length is None else self.length / total

    @property
    def epsilon(self) -> float:
        """The probability that a decision is drawn by its domain, by the number of different architectures told."""
        ends = accumulate(count * self.scale for _, count in self.schedule)
        level = sum(self.different >= end for end in ends)
        return self.schedule[min(level, len(self.schedule) - 1)][0]

    def ask(self) -> Candidate:
        walk = Walk()
        state: Hashable = 0 if self.memory is None else ()
        random = self.rng.random
        epsilon = self.epsilon + max(self.repeats - PATIENCE, 0) / 10  # all that it likes is known: further out

        def answer(name: str, domain: Domain) -> Any:
            nonlocal state
            if domain.count == 1:
                return domain.options[0]
            row = self.row(state, name, domain)
            value, place = self.explore(domain) if random() < epsilon else self.exploit(row, domain)
            walk.rows.append(row)
            walk.places.append(place)
            state = self.after(state, place)
            return value

        architecture = self.space.make(answer)
        if walk.rows:
            self.running[id(architecture)] = architecture, walk
        return Candidate(architecture)

    def tell(self, trial: Trial) -> None:
        self.worth.see(trial)
        known = trial.number in self.numbers
        self.repeats = self.repeats + 1 if known else 0
        _, walk = self.running.pop(id(trial.architecture), (None, None))
        if walk is not None:
            self.walks.append(walk)
            self.different += not known
        elif not known:
            walk = self.numbers.get(-1 if trial.candidate.parent is None else trial.candidate.parent)
        if walk is not None:
            walk.trial = trial
            self.numbers.setdefault(trial.number, walk)
        if not self.walks:
            return
        for past in self.rng.choices(self.walks, k=self.replay):
            past.learn(self.worth.of(past.trial), self.learning_rate, self.discount, self.shaped)

    def row(self, state: Hashable, name: str, domain: Domain) -> list[float]:
        """Return what the choices in that state are worth; what the domain never draws is never worth most.

        The places of a state do not tell its domain: a bin holds several numbers, which others can depend on.
        """
        key = (name, domain.options if isinstance(domain, Options) else domain, state)
        row = self.rows.get(key)
        if row is None:
            count = domain.count
            row = self.rows[key] = [self.initial] * (self.bins if count is None or _is_wide(domain) else count)
            if isinstance(domain, Options) and domain.prior is not None:
                row[:] = [self.initial if share else -inf for share in domain.prior]
        return row

    def after(self, state: Hashable, place: int) -> Hashable:
        """Return the state that a choice leads to: the number of a prefix, or the last places."""
        if self.memory is None:
            return self.prefixes.setdefault((state, place), len(self.prefixes) + 1)
        return (*state, place)[-self.memory :]  # type: ignore[misc]

    def explore(self, domain: Domain) -> tuple[Any, int]:
        """Return a value drawn by the domain, and its place."""
        random = self.rng.random
        if not isinstance(domain, Options) and _is_wide(domain):
            unit = random()
            return from_unit(domain, unit), int(unit * self.bins)
        value = domain.sample(random)
        return value, domain.index(value) if isinstance(domain, Options) else int(value) - int(domain.low)

    def exploit(self, row: list[float], domain: Domain) -> tuple[Any, int]:
        """Return a value from the place that is worth most, any of equals."""
        random = self.rng.random
        most = max(row)
        best = [place for place, value in enumerate(row) if value == most]
        place = best[int(random() * len(best))]
        if not isinstance(domain, Options) and _is_wide(domain):
            return from_unit(domain, (place + random()) / self.bins), place
        return domain.options[place], place


def _is_wide(domain: Domain) -> bool:
    """Return whether the domain is an interval that is cut into bins."""
    return isinstance(domain, Real) or (isinstance(domain, Integer) and domain.count > MANY)

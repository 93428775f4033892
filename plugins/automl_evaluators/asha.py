"""Asynchronous successive halving: a configuration goes on as soon as it is among the best share of its rung."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush, heappushpop
from math import inf
from random import Random
from typing import Annotated, Any

from annotated_types import Ge

from automl import BadInput, Candidate, Space, Strategy, Task, Trial
from automl_evaluators.brackets import Bracket, halving
from automl_evaluators.promoting import Key, Promoting, goes_on, seniority
from automl_evaluators.schedule import Schedule


@dataclass
class ASHA(Schedule):
    """Asynchronous successive halving (Li et al., MLSys 2020, algorithm 2), around work that can be gone on with.

    ``bracket`` is the paper's early-stopping rate s: so many of the lowest rungs are left out. With several
    objectives the best of a rung are those that the fewest of it dominate (Fonseca & Fleming, 1993).
    """

    name = "asha"

    bracket: Annotated[int, Ge(0)] = 0

    def start(self, space: Space[Any], task: Task) -> None:
        super().start(space, task)
        if self.bracket >= len(self.ladder):
            raise BadInput(
                f"evaluator.bracket={self.bracket} leaves out all {len(self.ladder)} rungs: "
                f"give at most {len(self.ladder) - 1}"
            )

    def brackets(self) -> list[Bracket]:
        steps = self.ladder[self.bracket :]
        return [halving(self.eta ** (len(steps) - 1), steps, self.eta)]

    def promoting(self, strategy: Strategy) -> Strategy:
        steps = self.ladder[self.bracket :]
        return Asynchronous(strategy, self.whole, self.key, self.eta, steps, len(self.objectives))


class Asynchronous(Promoting):
    """Promotes from the highest rung that has one to promote, else begins a new configuration at the bottom.

    A configuration is to be promoted when it is among the best 1 / eta of those told at its rung, rounded down, and
    was not promoted yet. One that is told again at its rung, for it was asked for again, is not counted again.
    Where there is nothing new to begin with, the best of each rung goes on, however few it has.
    """

    def __init__(
        self, inner: Strategy, whole: int, key: Key, eta: int, steps: Sequence[int], objectives: int = 1
    ) -> None:
        super().__init__(inner, whole, key)
        self.eta = eta
        self.steps = steps
        self.objectives = objectives

    def start(self, space: Space[Any], rng: Random) -> None:
        super().start(space, rng)
        below = len(self.steps) - 1  # nothing is promoted from the highest
        self._rungs: list[_Line | _Crowd] = [
            _Line() if self.objectives < 2 else _Crowd(self.objectives) for _ in range(below)
        ]
        self._known: list[set[Hashable]] = [set() for _ in range(below)]

    def ask(self) -> Candidate | None:
        candidate = self._promotion(least=self.extra)
        if candidate is not None:
            return candidate
        new = self.inner.ask()
        if new is not None:
            return self.begin(new, self.steps[0], rung=0)
        return None if self._running else self._promotion(least=1)

    def _promotion(self, least: int) -> Candidate | None:
        for number in reversed(range(len(self._rungs))):
            rung = self._rungs[number]
            trial = rung.promote(max(least, len(rung) // self.eta))
            if trial is not None:
                return self.promote(trial, self.steps[number + 1], rung=number + 1)
        return None

    def settle(self, trial: Trial) -> None:
        number = trial.candidate.notes["rung"]
        if number == len(self._rungs):
            return
        form = self.key(trial.architecture)
        form = trial.number if form is None else form
        if form not in self._known[number]:
            self._known[number].add(form)
            self._rungs[number].add(trial)


class _Line:
    """The trials told at a rung, of one objective: the best of them, and the rest, each as a heap."""

    def __init__(self) -> None:
        self._best: list[Place] = []  # negated, so that the worst is on top
        self._rest: list[Place] = []
        self._waiting: list[tuple[Place, Trial]] = []  # a heap of those that can be promoted

    def __len__(self) -> int:
        return len(self._best) + len(self._rest)

    def add(self, trial: Trial) -> None:
        legality, score = trial.merit
        place = (-legality, -score, *seniority(trial))
        heappush(self._rest, _negated(heappushpop(self._best, _negated(place))) if self._best else place)
        if goes_on(trial):
            heappush(self._waiting, (place, trial))

    def promote(self, best: int) -> Trial | None:
        """Return the first that was not promoted yet, where it is among so many best, and take it for promoted."""
        while len(self._best) < best and self._rest:
            heappush(self._best, _negated(heappop(self._rest)))
        while len(self._best) > best:
            heappush(self._rest, _negated(heappop(self._best)))
        if not self._best or not self._waiting or self._waiting[0][0] > _negated(self._best[0]):
            return None
        return heappop(self._waiting)[1]


Place = tuple[float, float, float, float]  # the better the smaller


def _negated(place: Place) -> Place:
    return (-place[0], -place[1], -place[2], -place[3])


class _Crowd:
    """The trials told at a rung, by how many of it dominate each: the less illegal before the more (Deb, 2000).

    Of those with as many, the promoted come first, so that no more are promoted than are among the best. A trial
    takes a dozen operations on arrays as long as the rung: about a millisecond at 100,000.
    """

    def __init__(self, objectives: int) -> None:
        import numpy as np

        self._trials: list[Trial] = []
        self._scores = np.empty((objectives, 64))  # the arrays have room for more trials than there are
        self._violation = np.empty(64)
        self._above = np.zeros(64, dtype=np.int64)  # how many dominate it
        self._waits = np.zeros(64, dtype=np.bool_)

    def __len__(self) -> int:
        return len(self._trials)

    def add(self, trial: Trial) -> None:
        size = len(self)
        if size == len(self._above):
            self._make_room()
        scores, violation, above = self._scores[:, :size], self._violation[:size], self._above[:size]
        its_violation = inf if trial.error is not None else trial.violation
        its_scores = trial.scores if trial.error is None and trial.scores else (-inf,) * len(scores)
        fewer, more = violation < its_violation, violation > its_violation
        equal = ~(fewer | more)
        better = equal & (scores[0] > its_scores[0])
        worse = equal & (scores[0] < its_scores[0])
        for row, its_score in zip(scores[1:], its_scores[1:], strict=True):
            better |= equal & (row > its_score)
            worse |= equal & (row < its_score)
        above += more | (worse & ~better)
        self._above[size] = (fewer | (better & ~worse)).sum()
        self._scores[:, size] = its_scores
        self._violation[size] = its_violation
        self._waits[size] = goes_on(trial)
        self._trials.append(trial)

    def promote(self, best: int) -> Trial | None:
        """Return the first that was not promoted yet, where it is among so many best, and take it for promoted."""
        import numpy as np

        above, waits = self._above[: len(self)], self._waits[: len(self)]
        if not best or not waits.any():
            return None
        fewest = above[waits].min()
        tied = above == fewest
        if (above < fewest).sum() + (tied & ~waits).sum() >= best:
            return None
        place = min(np.flatnonzero(tied & waits).tolist(), key=lambda place: seniority(self._trials[place]))
        waits[place] = False
        return self._trials[place]

    def _make_room(self) -> None:
        import numpy as np

        self._scores = np.hstack((self._scores, np.empty_like(self._scores)))
        self._violation = np.append(self._violation, np.empty_like(self._violation))
        self._above = np.append(self._above, np.zeros_like(self._above))
        self._waits = np.append(self._waits, np.zeros_like(self._waits))

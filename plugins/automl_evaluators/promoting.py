"""Strategies around a strategy: they start its candidates low and promote the best, each time as a new trial."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import count, cycle
from math import inf
from random import Random
from typing import Any

from automl import Architecture, Candidate, Space, Strategy, Trial
from automl.pareto import ranked
from automl.strategy import Around
from automl_evaluators.brackets import Bracket, Rung

_REPEATS = 20

Key = Callable[[Architecture], Hashable | None]


class Promoting(Around):
    """Asks the inner strategy for new configurations, says how far each is trained, and tells it of every rung.

    A candidate's notes are the inner strategy's and those of its place: by these, which stay what they are on the
    way through a journal or another wrapper, a trial that is told finds where it belongs.

    ``whole`` is the steps of the full schedule, ``key`` what architectures that are worth the same have in common.
    """

    def __init__(self, inner: Strategy, whole: int, key: Key) -> None:
        super().__init__(inner)
        self.whole = whole
        self.key = key

    def start(self, space: Space[Any], rng: Random) -> None:
        super().start(space, rng)
        self._places = count()
        self._running: set[int] = set()
        self._first: dict[int, Candidate] = {}  # by trial
        self._repeats = 0  # in a row, of new configurations

    def tell(self, trial: Trial) -> None:
        super().tell(trial)
        is_repeat = trial.number in self._first
        self._first.setdefault(trial.number, trial.candidate)
        notes = trial.candidate.notes
        if notes.get("place") in self._running:  # else it was told before
            self._running.remove(notes["place"])
            if notes["rung"] == 0:
                self._repeats = self._repeats + 1 if is_repeat else 0
            self.settle(trial)

    @property
    def extra(self) -> int:
        """How many more than the best share of a rung go on: one for every twenty repeats in a row.

        So a small space, of which there is nothing new to begin with, is still trained in full.
        """
        return self._repeats // _REPEATS

    @abstractmethod
    def settle(self, trial: Trial) -> None:
        """Take a trial to its rung; called once for each candidate."""

    def begin(self, candidate: Candidate, steps: int, **notes: int) -> Candidate:
        """Return the inner strategy's candidate, to be trained for so many steps."""
        return self._placed(candidate, steps, candidate.parent, notes)

    def promote(self, trial: Trial, steps: int, **notes: int) -> Candidate:
        """Return the candidate that goes on from the trial.

        It is that which was trained under the trial's number: one that was asked for later and known by then may be
        the same network in other decisions, which no checkpoint is of.
        """
        return self._placed(self._first[trial.number], steps, trial.number, notes)

    def _placed(self, candidate: Candidate, steps: int, parent: int | None, notes: dict[str, int]) -> Candidate:
        place = next(self._places)
        self._running.add(place)
        notes = {**candidate.notes, **notes, "place": place}
        return Candidate(candidate.architecture, steps / self.whole, parent, notes)


class Synchronous(Promoting):
    """Brackets in which a rung promotes when all of it is told (successive halving, Hyperband), in endless passes.

    While a bracket waits for its trials the next one begins, so no worker idles, and each bracket is what it would
    be alone. Where the inner strategy has no more to ask for, a bracket begins with what there is.
    """

    def __init__(self, inner: Strategy, whole: int, key: Key, eta: int, brackets: Sequence[Bracket]) -> None:
        super().__init__(inner, whole, key)
        self.eta = eta
        self.brackets = brackets

    def start(self, space: Space[Any], rng: Random) -> None:
        super().start(space, rng)
        self._next = enumerate(cycle(self.brackets))
        self._open: dict[int, _Running] = {}  # by number, the oldest first; about as many as there are workers

    def ask(self) -> Candidate | None:
        for number, bracket in self._open.items():
            if bracket.promoted:
                return self.promote(bracket.promoted.popleft(), bracket.steps, bracket=number, rung=bracket.rung)
        for number, bracket in self._open.items():
            if bracket.rung == 0 and bracket.awaited > bracket.asked:
                return self._begin(number, bracket)
        number, rungs = next(self._next)
        self._open[number] = _Running(rungs)
        return self._begin(number, self._open[number])

    def _begin(self, number: int, bracket: _Running) -> Candidate | None:
        candidate = self.inner.ask()
        if candidate is not None:
            bracket.asked += 1
            return self.begin(candidate, bracket.steps, bracket=number, rung=0)
        if self._running or not bracket.asked:
            return None
        bracket.awaited = bracket.asked
        self._close(number, bracket)
        return self.ask() if bracket.promoted else None

    def settle(self, trial: Trial) -> None:
        number = trial.candidate.notes["bracket"]
        bracket = self._open[number]
        bracket.told.append(trial)
        if len(bracket.told) == bracket.awaited:
            self._close(number, bracket)

    def _close(self, number: int, bracket: _Running) -> None:
        """Promote the best of the rung, or end the bracket."""
        bracket.rung += 1
        if bracket.rung < len(bracket.rungs):
            size = max(1, len(bracket.told) // self.eta) + self.extra
            bracket.promoted.extend(survivors(bracket.told, size, self.key))
        bracket.told.clear()
        bracket.awaited = len(bracket.promoted)
        if not bracket.promoted:
            del self._open[number]


class _Running:
    """A bracket on its way."""

    def __init__(self, rungs: Sequence[Rung]) -> None:
        self.rungs = rungs
        self.rung = 0
        self.asked = 0  # in the first rung
        self.awaited = rungs[0].size  # trials that this rung is complete with
        self.told: list[Trial] = []  # of this rung
        self.promoted: deque[Trial] = deque()  # to this rung, not asked for yet

    @property
    def steps(self) -> int:
        return self.rungs[self.rung].steps


def goes_on(trial: Trial) -> bool:
    """Return whether the trial can be gone on from: it did not fail, nor was it rejected or stopped on its way."""
    return trial.error is None and bool(trial.scores) and trial.fidelity > trial.candidate.fidelity - 1e-9


def seniority(trial: Trial) -> tuple[float, int]:
    """Return what orders trials that are worth the same: fewer parameters, then age."""
    return (trial.metrics.get("parameters", inf), trial.number)


def survivors(trials: Iterable[Trial], size: int, key: Key) -> list[Trial]:
    """Return so many of the trials, the best first, no two of architectures that are worth the same.

    An architecture that was asked for twice in a rung thus takes no second place in the next.
    """
    different: dict[Hashable, Trial] = {}
    for trial in ranked(sorted(filter(goes_on, trials), key=seniority)):
        form = key(trial.architecture)
        different.setdefault(trial.number if form is None else form, trial)
        if len(different) == size:
            break
    return list(different.values())

"""Architectures met before: none is evaluated twice, and when all are known the search is over."""

from __future__ import annotations

from collections.abc import Hashable
from math import inf
from typing import Any

from automl.errors import BadInput
from automl.evaluator import Evaluator
from automl.space import Space
from automl.trial import Candidate, Trial

FEW = 1_000  # architectures that are counted at the first repeat
MANY = 20_000  # that are counted after as many repeats in a row as FEW; and repeats in a row that end a search


class Known:
    """The told trials by what they evaluated: an architecture's key, its fidelity and its parent."""

    def __init__(self, space: Space[Any], evaluator: Evaluator) -> None:
        self._space = space
        self._evaluator = evaluator
        self._trials: dict[Hashable, Trial] = {}
        self._distinct: float | None = None  # different architectures; unknown before the first repeat
        self._repeats = 0  # in a row

    def key(self, candidate: Candidate) -> Hashable | None:
        """Return what two candidates have in common that are worth the same; None where no two are."""
        form = self._evaluator.key(candidate.architecture)
        if form is None:
            return None
        if candidate.fidelity == 1.0 and candidate.parent is None:
            return form
        return (form, candidate.fidelity, candidate.parent)

    def find(self, key: Hashable) -> Trial | None:
        """Return the trial that was told under that key."""
        return self._trials.get(key)

    def add(self, key: Hashable, trial: Trial) -> None:
        """Remember a told trial."""
        self._trials.setdefault(key, trial)
        self._repeats = 0

    def repeat(self) -> str | None:
        """Count a repeat; return why the search should end, if it should."""
        self._repeats += 1
        if self._distinct is None:
            self._distinct = self._count(FEW)
        elif self._repeats == FEW and self._distinct == inf:
            self._distinct = self._count(MANY)
        if len(self._trials) >= self._distinct and len(self._done()) >= self._distinct:
            return f"the space is exhausted: all its {self._distinct:,} architectures are evaluated"
        if self._repeats >= MANY:
            return f"the strategy proposed nothing new in {MANY:,} asks, so the search ends here"
        return None

    def _done(self) -> set[Hashable | None]:
        """Return the architectures of which nothing is left to learn: asked for in full, or failed."""
        trials = self._trials.values()
        done = [trial.architecture for trial in trials if trial.candidate.fidelity == 1.0 or trial.error is not None]
        return {self.key(Candidate(architecture)) for architecture in done}

    def _count(self, limit: int) -> float:
        """Return how many different architectures there are; infinity where there are more than the limit."""
        keys = set()
        if self._space.exceeds(limit):
            return inf
        try:
            for number, architecture in enumerate(self._space.enumerate()):
                if number == limit:
                    return inf
                keys.add(self.key(Candidate(architecture)))
        except BadInput:
            return inf
        return len(keys)

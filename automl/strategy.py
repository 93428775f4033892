"""A strategy makes the choices: it asks for candidates and learns from what is told of them."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from automl.decisions import Architecture
from automl.errors import SearchFailed
from automl.space import Space
from automl.trial import Candidate, Trial, best


class Strategy(ABC):
    """How to search. Fields are hyperparameters; state is born in ``start``; randomness comes from ``rng`` alone.

    The study reseeds ``rng`` before every ask and tell, so that a resumed search draws what an unbroken one would.
    """

    several: ClassVar[bool] = True  # follows several objectives at once, and not the first alone
    gradients: ClassVar[bool] = False  # asks for soft choices, and learns from the gradients that are reported of them
    stateful: ClassVar[bool] = False  # a journal does not restore it: it has a state of its own
    space: Space[Any]
    rng: random.Random

    def start(self, space: Space[Any], rng: random.Random) -> None:
        """Begin a search of the space; called once, before the first ask. Overriders call super().start."""
        self.space = space
        self.rng = rng

    @abstractmethod
    def ask(self) -> Candidate | None:
        """Return the next candidate.

        None means "not before another trial is told"; with no trial running, it ends the search.
        """

    def keep(self, trial: Trial) -> bool:
        """Say after each report whether the trial should go on."""
        return True

    def tell(self, trial: Trial) -> None:  # noqa: B027
        """Learn from a trial that finished, was stopped, or failed (``trial.error``)."""

    def state(self) -> Mapping[str, Any]:
        """Return, as JSON values, what a stateful strategy goes on from between two trials."""
        return {}

    def restore(self, state: Mapping[str, Any], trials: Sequence[Trial]) -> None:  # noqa: B027
        """Go on from such a state; the trials are those told by then."""

    def recommend(self, trials: Sequence[Trial]) -> Architecture:
        """Return the architecture to keep: the best at the highest fidelity reached."""
        winner = best(trials)
        if winner is None:
            raise SearchFailed("no trial finished, so there is no best architecture: see the failures in the journal")
        return winner.architecture


class Around(Strategy):
    """A strategy around another, which makes the choices; derived classes change what they are about."""

    def __init__(self, inner: Strategy) -> None:
        self.inner = inner
        self.several = inner.several  # type: ignore[misc]  # as many objectives as the inner strategy follows

    def start(self, space: Space[Any], rng: random.Random) -> None:
        super().start(space, rng)
        self.inner.start(space, rng)

    def ask(self) -> Candidate | None:
        return self.inner.ask()

    def keep(self, trial: Trial) -> bool:
        return self.inner.keep(trial)

    def tell(self, trial: Trial) -> None:
        self.inner.tell(trial)

    def recommend(self, trials: Sequence[Trial]) -> Architecture:
        return self.inner.recommend(trials)

"""Hill climbing."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Annotated, Any

from annotated_types import Gt, Le

from automl import Candidate, Space, Strategy, Trial


@dataclass
class HillClimbing(Strategy):
    """Change one decision of the best network so far; a share of the networks is drawn at random."""

    fresh: Annotated[float, Gt(0), Le(1)] = 0.2  # that share, so that no peak holds the search

    def start(self, space: Space[Any], rng: Random) -> None:
        super().start(space, rng)
        self.best: Trial | None = None

    def ask(self) -> Candidate:
        if self.best is None or self.rng.random() < self.fresh:
            return Candidate(self.space.sample(self.rng))
        return Candidate(self.space.mutate(self.best.architecture, self.rng))

    def tell(self, trial: Trial) -> None:
        if trial.is_scored and (self.best is None or trial.rank > self.best.rank):
            self.best = trial

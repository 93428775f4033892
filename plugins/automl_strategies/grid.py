"""Grid search: every architecture in turn, for spaces of few decisions or none."""

from dataclasses import dataclass
from random import Random
from typing import Annotated, Any

from annotated_types import Ge

from automl import Candidate, Space, Strategy


@dataclass
class Grid(Strategy):
    """Every combination of the options, the last decision changing first; then the search ends.

    An interval of numbers has ``points`` of them, evenly spaced, or in their logarithms where it is logarithmic.
    """

    points: Annotated[int, Ge(1)] = 5

    def start(self, space: Space[Any], rng: Random) -> None:
        super().start(space, rng)
        self.left = space.enumerate(points=self.points)

    def ask(self) -> Candidate | None:
        architecture = next(self.left, None)
        return None if architecture is None else Candidate(architecture)

"""Weights drawn from a relaxed categorical distribution whose temperature falls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Annotated

from annotated_types import Ge, Gt

from automl_strategies.gradient import Gradient, softmax


@dataclass
class Concrete(Gradient):
    """Draws shares softmax((logits + Gumbel noise) / temperature) anew each trial (Maddison et al., 2017).

    The temperature falls linearly from ``warmest`` to ``coldest`` over ``decay`` trials.
    """

    warmest: Annotated[float, Gt(0)] = 1.0
    coldest: Annotated[float, Gt(0)] = 0.03
    decay: Annotated[int, Ge(1)] = 1000

    @property
    def temperature(self) -> float:
        """That of the next candidate."""
        return self.warmest + (self.coldest - self.warmest) * min(1.0, self.asked / self.decay)

    def draw(self, logits: Sequence[float]) -> list[float]:
        """Return shares drawn at the temperature."""
        return softmax([(logit + gumbel(self.rng)) / self.temperature for logit in logits])


def gumbel(rng: Random) -> float:
    """Return a standard Gumbel number."""
    return -math.log(-math.log(min(max(rng.random(), 1e-300), 1 - 1e-16)))

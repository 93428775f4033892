"""GDAS: one operation drawn for each decision, its gradient passed on as if all were weighted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt

from automl_strategies.concrete import Concrete
from automl_strategies.gradient import Weighed


@dataclass
class GDAS(Concrete):
    """Gradient-based search with a differentiable architecture sampler (Dong & Yang, 2019).

    Of each decision the option with the largest share is taken, and alone computed; its gradient goes through the
    softmax of all, straight through. The logits learn from other images than the weights, as in DARTS.
    """

    warmest: Annotated[float, Gt(0)] = 10.0
    coldest: Annotated[float, Gt(0)] = 0.1

    def weigh(self, name: str, logits: Sequence[float]) -> Weighed:
        shares = self.draw(logits)
        taken = shares.index(max(shares))
        return Weighed(tuple(float(place == taken) for place in range(len(shares))), shares, 1 / self.temperature)

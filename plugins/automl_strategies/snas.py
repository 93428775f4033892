"""SNAS: operations drawn from a relaxed categorical distribution, learnt with the weights from one loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from automl_strategies.concrete import Concrete
from automl_strategies.gradient import Weighed


@dataclass
class SNAS(Concrete):
    """Stochastic neural architecture search (Xie et al., 2019).

    The weights of a decision's options are the shares drawn; weights and logits descend the same training loss in one
    pass.
    """

    def weigh(self, name: str, logits: Sequence[float]) -> Weighed:
        shares = self.draw(logits)
        return Weighed(tuple(shares), shares, 1 / self.temperature)

    def how(self) -> Mapping[str, Any]:
        return {"order": "joint"}

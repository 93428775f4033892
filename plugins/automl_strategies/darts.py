"""DARTS: every operation at once, weighted by a softmax whose logits descend the loss of other images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from automl_strategies.gradient import Gradient, Weighed, softmax


@dataclass
class DARTS(Gradient):
    """Differentiable architecture search (Liu et al., 2019).

    Each trial trains the shared weights on one batch, then takes the gradient of the loss on a batch of other images
    by the logits. With ``order`` second the weights are thought one step further (equation 7), at three times the cost;
    its Hessian product is a finite difference (equation 8).
    """

    order: Literal["first", "second"] = "first"

    def weigh(self, name: str, logits: Sequence[float]) -> Weighed:
        shares = softmax(logits)
        return Weighed(tuple(shares), shares)

    def how(self) -> Mapping[str, Any]:
        return {"order": self.order}

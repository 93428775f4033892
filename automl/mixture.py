"""Weighted choices as modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from automl.decisions import Op


class Mixture(nn.Module):
    """Every option of a decision applied to one input, the sum of what they make, each times its weight.

    ``weights`` is set from outside before it runs: a tensor with a number for each option, through which gradients
    flow, shared by all mixtures of the decision. What weighs exactly 0 is not computed. With ``share`` k above 1, where
    the options are made of equal inputs and outputs and a stride, 1 / k of the channels are mixed, the others pass by,
    pooled where the options stride, and a shuffle joins the two (PC-DARTS; Xu et al., 2020).

    Mixtures of one input may be given one ``memo``: what an option that says ``is_pure`` made of it (a pool, say) is
    then not made again, and neither is the ReLU of options that say ``shares_relu`` and take it as ``activated=True``.
    """

    weights: Tensor | None

    def __init__(self, decision: str, options: Sequence[Op], share: int, *arguments: Any) -> None:
        super().__init__()
        self.decision = decision
        self.share = 1
        self.stride = 1
        if share > 1 and len(arguments) > 1 and arguments[0] == arguments[1] and arguments[0] % share == 0:
            inputs, outputs, *others = arguments
            self.share = share
            self.stride = others[0] if others else 1
            arguments = (inputs // share, outputs // share, *others)
        self.options = nn.ModuleList(option(*arguments) for option in options)
        self.weights = None

    def forward(self, x: Tensor, memo: dict[str, Tensor] | None = None) -> Tensor:
        if self.share == 1:
            return self._mixed(x, {} if memo is None else memo)
        part = x.shape[1] // self.share
        mixed, passing = x[:, :part], x[:, part:]
        if self.stride > 1:
            passing = functional.max_pool2d(passing, 3, self.stride, 1)
        return torch.channel_shuffle(torch.cat([self._mixed(mixed, {}), passing], dim=1), self.share)

    def _mixed(self, x: Tensor, memo: dict[str, Tensor]) -> Tensor:
        if self.weights is None:
            raise RuntimeError(f"the mixture of decision {self.decision!r} has no weights: set them before it runs")
        numbers = self.weights.tolist()
        terms: list[Tensor] = [
            _made(option, x, memo) * weight
            for option, weight, number in zip(self.options, self.weights, numbers, strict=True)
            if number != 0.0
        ]
        if not terms:
            return option_of_zeros(self.options[0], x)
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total


def _made(option: nn.Module, x: Tensor, memo: dict[str, Tensor]) -> Tensor:
    """Return what an option makes of the input, or did before."""
    made: Tensor
    if getattr(option, "shares_relu", False):
        if "relu" not in memo:
            memo["relu"] = functional.relu(x)
        made = option(memo["relu"], activated=True)
    elif getattr(option, "is_pure", False):
        key = repr(option)
        if key not in memo:
            memo[key] = option(x)
        made = memo[key]
    else:
        made = option(x)
    return made


def option_of_zeros(option: nn.Module, x: Tensor) -> Tensor:
    """Return zeros of the shape that an option makes."""
    return torch.zeros_like(option(x))

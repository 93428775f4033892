"""Group convolutions that learn in training which inputs each group reads."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class LearnedGroupConvolution(nn.Module):
    """A 1 x 1 convolution whose groups of outputs each come to read 1 / groups of the inputs (Huang et al., 2018).

    In the first half of training, in groups - 1 equal steps, each group lets go of as many of its inputs, those of the
    least absolute weights. They are zeros from then on: parameters and multiply-adds are counted with them. The
    paper's group-lasso penalty is left out.
    """

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 1, 1))
        self.register_buffer("mask", torch.ones(groups, inputs))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def on_progress(self, progress: float) -> None:
        """Take the share of the training done, in [0, 1]; let go of inputs where a step is due."""
        inputs = self.mask.shape[1]
        step = inputs // self.groups
        due = min(self.groups - 1, int(2 * progress * (self.groups - 1))) * step
        gone = inputs - int(self.mask[0].sum())
        if due <= gone:
            return
        with torch.no_grad():
            weights = self.weight.view(self.groups, -1, inputs).abs().sum(1)
            weights = weights.masked_fill(self.mask == 0, -1.0)  # what is gone stays gone
            least = weights.argsort(dim=1, stable=True)[:, :due]
            self.mask.scatter_(1, least, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        outputs, inputs = self.weight.shape[:2]
        kept = self.mask.repeat_interleave(outputs // self.groups, dim=0)
        return functional.conv2d(x, self.weight * kept.view(outputs, inputs, 1, 1))

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, groups={self.groups}"

"""Depthwise convolutions that are dilated, which one precision must not see on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from automl_networks.depthwise import Depthwise


class DilatedDepthwise(Depthwise):
    """A depthwise convolution that is computed in float32 on the CPU where others are in bfloat16.

    There PyTorch 2.13, channels-last, with dilation 2 or more, stride 1 and a map wider than 28, writes beyond its
    memory when it computes the gradient of the weights (a crash, or numbers of any size).
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- the word of nn.Conv2d
        if input.is_cpu and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(input.to(self.weight.dtype))
        return super().forward(input)

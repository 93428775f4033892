"""A module that gathers context of a map without making it smaller."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

DILATIONS = (1, 1, 2, 4, 8, 16, 1)
_WIDTHS = {"basic": (1, 1, 1, 1, 1, 1, 1), "large": (2, 2, 4, 8, 16, 32, 32)}  # in multiples of the channels


class ContextModule(nn.Module):
    """Seven 3 x 3 convolutions with growing dilations and a ReLU each, then 1 x 1 (Yu & Koltun, 2016).

    Sees 67 x 67 pixels and keeps size and channels. "basic" has as many channels throughout, "large" up to 32 times
    as many. It begins as the identity on what is not negative, but for noise with that deviation, times a layer's
    own scale.
    """

    def __init__(self, channels: int, form: Literal["basic", "large"] = "basic", noise: float = 1e-3) -> None:
        super().__init__()
        self.channels = channels
        self.noise = noise
        self.layers = nn.ModuleList()
        inputs = channels
        for width, dilation in zip(_WIDTHS[form], DILATIONS, strict=True):
            outputs = width * channels
            self.layers.append(nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation))
            inputs = outputs
        self.last = nn.Conv2d(inputs, channels, 1)
        self.initialise()

    def initialise(self) -> None:
        """Let each layer pass the channels on, each as often as there is room, and their sum be the input's.

        The release's rule: output b reads input a where floor(a C / inputs) = floor(b C / outputs), with weight
        C / outputs.
        """
        for layer in [*self.layers, self.last]:
            assert isinstance(layer, nn.Conv2d)
            scale = self.channels / layer.out_channels
            device = layer.weight.device
            read = torch.arange(layer.in_channels, device=device) * self.channels // layer.in_channels
            made = torch.arange(layer.out_channels, device=device) * self.channels // layer.out_channels
            middle = layer.kernel_size[0] // 2
            with torch.no_grad():
                layer.weight.normal_(0, self.noise * scale)
                layer.weight[..., middle, middle] += scale * (made[:, None] == read)
                assert layer.bias is not None
                layer.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = functional.relu(layer(x))
        gathered: Tensor = self.last(x)
        return gathered

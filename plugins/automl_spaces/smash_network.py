"""Networks of SMASH: blocks of memory banks, and layers that read some and add to some."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from automl_networks.activation import PreActivated
from automl_networks.classifier import Classifier, pooled_linear
from automl_networks.conv_norm import conv_norm
from automl_networks.convolutions import convolution
from automl_spaces.smash import Blocks, Layer


def network(blocks: Blocks, banks: int, channels: int, colours: int, outputs: int) -> Classifier:
    """Return images to logits, N x outputs."""
    width = banks * channels
    stem = conv_norm(colours, width, 3, activation=None)
    stages = [
        nn.Sequential(convolution(width, width, 1, 2 if number else 1), Memory(layers, banks, channels))
        for number, layers in enumerate(blocks)
    ]
    head = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(inplace=True), *pooled_linear(width, outputs))
    return Classifier(stem, stages, head)


class Memory(nn.Module):
    """A block: a map of banks, one after the other along the channels, to one of the same shape."""

    def __init__(self, layers: tuple[Layer, ...], banks: int, channels: int) -> None:
        super().__init__()
        self.banks = banks
        self.accesses = [(layer.reads, layer.writes) for layer in layers]
        self.layers = nn.ModuleList([MemoryLayer(layer, channels) for layer in layers])

    def forward(self, x: Tensor) -> Tensor:
        banks = list(x.chunk(self.banks, dim=1))
        for (reads, writes), layer in zip(self.accesses, self.layers, strict=True):
            parts = layer(torch.cat([banks[bank] for bank in reads], dim=1)).chunk(len(writes), dim=1)
            for bank, part in zip(writes, parts, strict=True):
                banks[bank] = banks[bank] + part
        return torch.cat(banks, dim=1)


class MemoryLayer(nn.Module):
    """A 1 x 1 convolution of what was read, and the sum of one or two paths of convolutions: what is written."""

    def __init__(self, layer: Layer, channels: int) -> None:
        super().__init__()
        inside, outside = layer.filters * channels, len(layer.writes) * channels
        self.read = convolution(len(layer.reads) * channels, inside, 1)
        self.paths = nn.ModuleList()
        for path in layer.paths:
            made: list[nn.Module] = []
            for number, (height, width, dilation, groups) in enumerate(path, 1):
                outputs = outside if number == len(path) else inside
                padding = (dilation * (height // 2), dilation * (width // 2))
                kernel = nn.Conv2d(inside, outputs, (height, width), 1, padding, dilation, groups, bias=False)
                made.append(PreActivated(kernel, nn.BatchNorm2d(outputs)))
            self.paths.append(nn.Sequential(*made))

    def forward(self, x: Tensor) -> Tensor:
        x = self.read(x)
        paths: list[Tensor] = [path(x) for path in self.paths]
        return sum(paths[1:], paths[0])

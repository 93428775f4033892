"""Networks of ENAS's macro space: a chain of layers with skips, and reductions of all that is still read."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from automl_networks.classifier import pooled_linear
from automl_networks.conv_norm import conv_norm
from automl_networks.convolutions import convolution
from automl_networks.depthwise import Depthwise
from automl_networks.pooling import Pool
from automl_networks.reductions import factorised_reduction
from automl_spaces.enas_macro import Layers
from automl_spaces.graph_network import Added, Concatenated


def operation(kind: str, kernel: int, inputs: int, channels: int, stride: int) -> nn.Module:
    """Return a 1 x 1 convolution, then one of kernel x kernel, plain or separable, or a pool."""
    first = conv_norm(inputs, channels)
    if kind == "conv":
        return nn.Sequential(first, conv_norm(channels, channels, kernel, stride))
    if kind == "sep":
        return nn.Sequential(first, Depthwise(channels, kernel, stride), conv_norm(channels, channels))
    return nn.Sequential(first, Pool("average" if kind == "average" else "maximum", kernel, stride))


class SkipNetwork(nn.Module):
    """Images to logits, N x outputs; after so many layers as ``places`` says all that is read later is halved."""

    def __init__(
        self,
        layers: Layers,
        places: Sequence[int],
        channels: int,
        growth: int,
        join: str,
        colours: int,
        outputs: int,
    ) -> None:
        super().__init__()
        self.skips = [layer.skips for layer in layers]
        self.stem = conv_norm(colours, channels, 3, activation=None)
        self.operations, self.joins, self.ends = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.reductions = nn.ModuleDict()
        for place, layer in enumerate(layers):
            self.operations.append(layer.op(channels, channels, 1))
            self.joins.append(Added() if join == "sum" else Concatenated())
            self.ends.append(_end(join, place, len(layer.skips), channels))
            if place + 1 in places:
                for state in self._read_later(place + 1):
                    halves = factorised_reduction(channels, channels * growth, activate=False)
                    self.reductions[f"{place + 1}_{state}"] = halves
                channels *= growth
        self.head = nn.Sequential(*pooled_linear(channels, outputs))

    def forward(self, images: Tensor) -> Tensor:
        states = {0: self.stem(images)}
        for place, (operation, join, end) in enumerate(zip(self.operations, self.joins, self.ends, strict=True)):
            skipped = [states[state] for state in self.skips[place]]
            states[place + 1] = end(join(operation(states[place]), *skipped))
            if f"{place + 1}_{place + 1}" in self.reductions:
                states = {
                    state: self.reductions[f"{place + 1}_{state}"](states[state])
                    for state in self._read_later(place + 1)
                }
        logits: Tensor = self.head(states[len(self.skips)])
        return logits

    def _read_later(self, place: int) -> list[int]:
        """Return the states up to a layer that it or a later one reads, the one before it among them."""
        skipped = {state for skips in self.skips[place:] for state in skips if state <= place}
        return sorted({*skipped, place})


def _end(join: str, place: int, skips: int, channels: int) -> nn.Module:
    if place == 0:
        return nn.Identity()
    return nn.BatchNorm2d(channels) if join == "sum" else convolution((1 + skips) * channels, channels, 1)

"""Networks of morphisms: layers by name, which a child inherits from its parent."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from automl_networks.classifier import pooled_linear
from automl_networks.conv_norm import conv_norm
from automl_networks.depthwise import Depthwise
from automl_networks.pooling import Pool
from automl_spaces.morphism_graphs import IMAGE, Graph, Layer
from automl_spaces.morphism_templates import Morphed


class Network(nn.Module):
    """Images to logits, N x outputs."""

    def __init__(
        self,
        morphed: Morphed,
        colours: int,
        outputs: int,
        width: int = 1,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        super().__init__()
        self.morphed = morphed
        self.graph = morphed.template.whole(morphed.graph)
        self.settings = Settings(colours, outputs, width, activation)
        self.channels = {name: width * channels for name, channels in self.graph.channels.items()}
        self.channels[IMAGE] = colours
        self.layers = nn.ModuleDict(
            {name: _module(layer, self.channels, self.graph, activation) for name, layer in self.graph.layers.items()}
        )
        self.head = pooled_linear(self.channels[next(reversed(self.graph.layers))], outputs)

    @property
    def linear(self) -> nn.Linear:
        """The last layer."""
        return cast(nn.Linear, self.head[-1])

    def forward(self, images: Tensor) -> Tensor:
        maps = {IMAGE: images}
        last = images
        for name, layer in self.graph.layers.items():
            last = maps[name] = self.layers[name](*[maps[read] for read in layer.reads])
        logits: Tensor = self.head(last)
        return logits

    @torch.no_grad()
    def inherit(
        self,
        parent: Network,
        *,
        images: Tensor | None = None,
        noise: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> bool:
        """Take the parent's weights over, so that at rest (``eval``) this network computes what the parent does.

        The list of steps has to begin with the parent's. Layers of both keep their weights; a wider one has all of its
        filters and copies of some, drawn by the generator, and what reads these has its weights divided by how many
        there are (Net2WiderNet; Chen et al., 2016); a new one passes on what it is given (Net2DeeperNet); what is
        concatenated is read with zeros, and of a sum the share of what skips is zero (Elsken et al., 2018, types I to
        IV). Shrinking steps are only near: the filters of the largest norm stay, a separable convolution is the nearest
        one by least squares, and what reads a layer that was removed reads the channels of the same numbers.

        ``images``, N x colours x height x width, set the normalisation of new layers, so that it changes nothing in
        training either where the batch is like these; else it has mean 0 and variance 1, and training begins with a
        jump. ``noise`` is the deviation of what is added to the copies' weights, as a share of theirs: copies learn
        alike for ever without any (0.01 in Cai et al., 2018), and with some, outputs are only near.

        Return whether the outputs differ by no more than rounding: there is no shrinking step, and no noise. Raises
        ValueError where the parent is not one, of these images and outputs. Both lie on one device.
        """
        from automl_spaces.morphism_weights import calibrated
        from automl_spaces.morphisms_inherit import inherited, passing

        inherited(self, parent, noise, generator)
        if images is not None:
            calibrated(self, passing(self, parent), images)
        return noise == 0.0 and all(self.morphed.exact[len(parent.morphed.moves) :])


class Settings(NamedTuple):
    """What networks of one space are built by, besides their graph."""

    colours: int
    outputs: int
    width: int
    activation: Callable[[], nn.Module]


class Separable(nn.Sequential):
    """A depthwise convolution, and a 1 x 1 one with batch normalisation and the activation (Chollet, 2017)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__(Depthwise(inputs, kernel), *conv_norm(inputs, outputs, activation=activation))


class Blend(nn.Module):
    """The activation of s f + (1 - s) h: what goes on, and what skips, after its adapter, with a learned share."""

    def __init__(self, adapter: nn.Module, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.adapter = adapter
        self.share = nn.Parameter(torch.tensor(0.5))
        self.activation = activation()

    def forward(self, f: Tensor, h: Tensor) -> Tensor:
        made: Tensor = self.activation(self.share * f + (1 - self.share) * self.adapter(h))
        return made


class Beside(nn.Module):
    """What goes on, and what skips, after its adapter, concatenated."""

    def __init__(self, adapter: nn.Module) -> None:
        super().__init__()
        self.adapter = adapter

    def forward(self, f: Tensor, h: Tensor) -> Tensor:
        return torch.cat([f, self.adapter(h)], dim=1)


def _module(layer: Layer, channels: dict[str, int], graph: Graph, activation: Callable[[], nn.Module]) -> nn.Module:
    inputs, outputs = channels[layer.reads[0]], channels[layer.name]
    if layer.kind == "conv":
        return conv_norm(inputs, outputs, layer.kernel, activation=activation)
    if layer.kind == "separable":
        return Separable(inputs, outputs, layer.kernel, activation)
    if layer.kind == "dense":  # of a map of one pixel
        return conv_norm(inputs, outputs, activation=activation)
    if layer.kind == "pool":
        return Pool("maximum", 2, 2)
    if layer.kind == "mean":
        return nn.AdaptiveAvgPool2d(1)
    skips = layer.reads[1]
    adapter: list[nn.Module] = [
        Pool("maximum", 2, 2) for _ in range(graph.halvings[layer.name] - graph.halvings[skips])
    ]
    if layer.projected:
        adapter.append(conv_norm(channels[skips], outputs, activation=None))
    if layer.kind == "concat":
        return Beside(nn.Sequential(*adapter))
    return Blend(nn.Sequential(*adapter), activation)

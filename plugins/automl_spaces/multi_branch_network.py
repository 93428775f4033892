"""Networks of the multi-branch space: layers of any wiring, what they merge brought to one shape."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from automl_networks.classifier import pooled_linear
from automl_networks.conv_norm import conv_norm
from automl_networks.convolutions import Subsample
from automl_networks.depthwise_separable import depthwise_separable
from automl_networks.pooling import Pool
from automl_spaces.dags import INPUT
from automl_spaces.graph_network import Added, Concatenated, Graph, Merge
from automl_spaces.multi_branch import Layer, Layers


class Map(NamedTuple):
    """What a layer makes: so many channels, and so often half the image's size, rounded up."""

    channels: int
    halvings: int


def network(layers: Layers, colours: int, outputs: int) -> nn.Sequential:
    """Return images to logits, N x outputs."""
    wanted = {len(layers) - 1}
    for place in reversed(range(len(layers))):
        if place in wanted:
            wanted.update(layers[place].reads)
    places = {INPUT: INPUT, **{place: number for number, place in enumerate(sorted(wanted - {INPUT}))}}
    maps = {INPUT: Map(colours, 0)}
    reads, merges, made = [], [], []
    for place in places:
        if place == INPUT:
            continue
        layer = layers[place]
        merge, merged = _merged(layer.merge, [maps[read] for read in layer.reads])
        reads.append([places[read] for read in layer.reads])
        merges.append(merge)
        made.append(_operation(layer, merged.channels))
        maps[place] = Map(layer.filters or merged.channels, merged.halvings + layer.stride - 1)
    return nn.Sequential(Graph(reads, merges, made), *pooled_linear(maps[len(layers) - 1].channels, outputs))


def _merged(how: str, maps: list[Map]) -> tuple[Merge, Map]:
    """Return what makes one of several maps, and of what shape that is."""
    halvings = max(one.halvings for one in maps)
    if how == "add":
        channels = max(one.channels for one in maps)
        return Added([_projection(one, Map(channels, halvings)) for one in maps]), Map(channels, halvings)
    channels = sum(one.channels for one in maps)
    shrunk = [nn.Sequential(*(Pool("average", 2, 2) for _ in range(halvings - one.halvings))) for one in maps]
    return Concatenated(shrunk), Map(channels, halvings)


def _projection(one: Map, other: Map) -> nn.Module:
    if one == other:
        return nn.Identity()
    return conv_norm(one.channels, other.channels, 1, 2 ** (other.halvings - one.halvings), activation=None)


def _operation(layer: Layer, inputs: int) -> nn.Module:
    """Return a layer's module; a side becomes ceil(side / stride)."""
    if layer.op == "conv":
        return conv_norm(inputs, layer.filters, layer.kernel, layer.stride)
    if layer.op == "dilconv":
        return conv_norm(inputs, layer.filters, layer.kernel, layer.stride, dilation=2)
    if layer.op == "sepconv":
        return depthwise_separable(inputs, layer.filters, layer.stride, layer.kernel)
    if layer.op == "identity" or layer.kernel == 1:
        return Subsample(layer.stride) if layer.stride > 1 else nn.Identity()
    return Pool("maximum" if layer.op == "maxpool" else "average", layer.kernel, layer.stride)

"""Networks of the space of NAS-RL: convolutions that read concatenated maps."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from automl_networks.classifier import pooled_linear
from automl_networks.pooling import Pool
from automl_spaces.dags import INPUT
from automl_spaces.graph_network import Concatenated, Graph
from automl_spaces.nasrl import Convolution, Layers, completed


def network(layers: Layers, pools: Sequence[int], colours: int, outputs: int) -> nn.Sequential:
    """Return images to logits, N x outputs."""
    nodes = completed(layers, tuple(pools))
    reads = [sorted(node.reads) for node in nodes]
    widths = {INPUT: colours, **{place: layer.filters for place, layer in enumerate(layers)}}
    made: list[nn.Module] = []
    for place, layer in enumerate(layers):
        convolution = _convolution(sum(widths[read] for read in reads[place]), layer)
        made.append(nn.Sequential(convolution, Pool("maximum", 2, 2)) if place + 1 in pools else convolution)
    graph = Graph(reads, [Concatenated() for _ in nodes], [*made, nn.Identity()])
    return nn.Sequential(graph, *pooled_linear(sum(widths[read] for read in reads[-1]), outputs))


def _convolution(inputs: int, layer: Convolution) -> nn.Sequential:
    """Return a convolution, batch normalisation and ReLU; a side becomes ceil(side / stride)."""
    height, width, *strides, filters, _ = layer
    layers: list[nn.Module] = []
    step = (strides[0], strides[1])
    if height == width == 1 and max(step) > 1:
        layers.append(nn.MaxPool2d(1, step))  # leaves pixels out, for what Subsample says of strided 1 x 1 convolutions
        step = (1, 1)
    layers.append(nn.Conv2d(inputs, filters, (height, width), step, (height // 2, width // 2), bias=False))
    return nn.Sequential(*layers, nn.BatchNorm2d(filters), nn.ReLU(inplace=True))

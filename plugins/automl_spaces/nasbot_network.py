"""Networks of NASBOT: layers that read concatenated ones of their size, and the mean of the softmaxes at their ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from automl_networks.classifier import pooled_linear
from automl_networks.conv_norm import conv_norm
from automl_networks.pooling import Pool
from automl_networks.residual import Residual
from automl_spaces.dags import INPUT
from automl_spaces.graph_network import Graph, Merge
from automl_spaces.nasbot import Layer, Layers, leaves


class Shape(NamedTuple):
    """Channels, height and width of a map; a vector has neither height nor width."""

    channels: int
    height: int = 0
    width: int = 0


def network(layers: Layers, image: tuple[int, int, int], outputs: int) -> Graph:
    """Return images to logits, N x outputs; the logarithms of mean probabilities where several layers end it."""
    shapes = {INPUT: Shape(*image)}
    made = []
    for place, layer in enumerate(layers):
        given = shapes[layer.parents[0]]._replace(channels=sum(shapes[read].channels for read in layer.parents))
        made.append(_module(layer, given))
        shapes[place] = _shape(layer, given)
    ends = leaves(layers)
    reads = [*(layer.parents for layer in layers), ends]
    merges = [*(Joined() for _ in layers), MeanOfSoftmaxes([_classifier(shapes[end], outputs) for end in ends])]
    return Graph(reads, merges, [*made, nn.Identity()])


class Joined(Merge):
    """Maps of one size, or vectors, one after the other."""

    def merge(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(maps), dim=1)


class MeanOfSoftmaxes(Merge):
    """A classifier for each of the maps, the adapters; the logarithm of the mean of their probabilities."""

    def merge(self, maps: Sequence[Tensor]) -> Tensor:
        logarithms = torch.stack([functional.log_softmax(logits, dim=1) for logits in maps])
        return torch.logsumexp(logarithms, dim=0) - math.log(len(maps))


def _shape(layer: Layer, given: Shape) -> Shape:
    if layer.kind == "fc":
        return Shape(layer.units)
    return Shape(layer.units or given.channels, -(-given.height // layer.stride), -(-given.width // layer.stride))


def _module(layer: Layer, given: Shape) -> nn.Module:
    kind, units, stride, _ = layer
    if kind == "fc":
        features = given.channels * max(1, given.height * given.width)
        return nn.Sequential(nn.Flatten(), nn.Linear(features, units), nn.ReLU(inplace=True))
    if kind in ("maxpool", "avgpool"):
        return Pool("maximum" if kind == "maxpool" else "average", 2, 2)
    kernel = int(kind[-1])
    first = conv_norm(given.channels, units, kernel, stride)
    if kind.startswith("conv"):
        return first
    changes = stride > 1 or given.channels != units
    around = conv_norm(given.channels, units, 1, stride, activation=None) if changes else nn.Identity()
    return Residual(nn.Sequential(first, conv_norm(units, units, kernel, activation=None)), around)


def _classifier(shape: Shape, outputs: int) -> nn.Module:
    return pooled_linear(shape.channels, outputs) if shape.height else nn.Linear(shape.channels, outputs)

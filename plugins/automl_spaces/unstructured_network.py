"""Networks of large-scale evolution: maps of any shape, with others brought to it and added."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from automl_networks.classifier import pooled_linear
from automl_networks.convolutions import Subsample
from automl_spaces.dags import INPUT
from automl_spaces.graph_network import Graph as Network
from automl_spaces.unstructured import Convolution, Graph


def network(graph: Graph, colours: int, outputs: int) -> nn.Sequential:
    """Return images to logits, N x outputs."""
    wanted = {len(graph) - 1}
    for place in reversed(range(len(graph))):
        if place in wanted:
            wanted.update((graph[place].source, *graph[place].skips))
    places = {INPUT: INPUT, **{place: number for number, place in enumerate(sorted(wanted - {INPUT}))}}
    widths = {INPUT: colours}
    reads, merges, ends = [], [], []
    for place in sorted(wanted - {INPUT}):
        vertex = graph[place]
        widths[place] = widths[vertex.source] if vertex.edge is None else vertex.edge.filters
        reads.append([places[read] for read in (vertex.source, *vertex.skips)])
        edge = _edge(widths[vertex.source], vertex.edge, bias=not vertex.active)
        merges.append(Reconciled(edge, widths[place]))
        normalised = (nn.BatchNorm2d(widths[place]), nn.ReLU()) if vertex.active else ()
        ends.append(nn.Sequential(*normalised))
    return nn.Sequential(Network(reads, merges, ends), *pooled_linear(widths[len(graph) - 1], outputs))


class Reconciled(nn.Module):
    """What the edge makes of the first map, and the others brought to its shape and added.

    Channels that are missing are zeros, those too many are left out; of pixels the nearest are taken.
    """

    def __init__(self, edge: nn.Module, channels: int) -> None:
        super().__init__()
        self.edge = edge
        self.channels = channels

    def forward(self, first: Tensor, *others: Tensor) -> Tensor:
        made: Tensor = self.edge(first)
        for x in others:
            x = x[:, : self.channels]
            if x.shape[-2:] != made.shape[-2:]:
                x = functional.interpolate(x, size=made.shape[-2:], mode="nearest")
            made = made + functional.pad(x, (0, 0, 0, 0, 0, self.channels - x.shape[1]))
        return made


def _edge(inputs: int, edge: Convolution | None, bias: bool) -> nn.Module:
    """Return the convolution of an edge; a side becomes ceil(side / stride)."""
    if edge is None:
        return nn.Identity()
    height, width, stride, filters = edge
    if height == width == 1 and stride > 1:
        return nn.Sequential(Subsample(stride), nn.Conv2d(inputs, filters, 1, bias=bias))
    return nn.Conv2d(inputs, filters, (height, width), stride, (height // 2, width // 2), bias=bias)

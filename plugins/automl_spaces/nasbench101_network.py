"""Networks of NAS-Bench-101: a stem, and stages of one cell with a maximum over 2 x 2 between them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from automl_networks.classifier import Classifier, pooled_linear
from automl_networks.conv_norm import conv_norm
from automl_networks.pooling import Pool
from automl_spaces.nasbench101 import INPUT, Graph


def network(cell: Graph, stages: int, cells: int, channels: int, colours: int, outputs: int) -> Classifier:
    """Return images to logits, N x outputs: so many cells a stage, of a width that doubles from stage to stage."""
    stem = conv_norm(colours, channels, 3)
    inputs, rows = channels, []
    for stage in range(stages):
        layers: list[nn.Module] = [Pool("maximum", 2, 2)] if stage else []
        channels *= 2 if stage else 1
        for _ in range(cells):
            layers.append(GraphCell(cell, inputs, channels))
            inputs = channels
        rows.append(nn.Sequential(*layers))
    return Classifier(stem, rows, pooled_linear(channels, outputs))


def widths(cell: Graph, inputs: int, outputs: int) -> list[int]:
    """Return the channels of each vertex: those that the output reads share its own, the others have their readers'.

    Where they cannot be shared evenly the first have one more; never less than one.
    """
    last = len(cell.reads) - 1
    sharing = [vertex for vertex in cell.reads[last] if vertex != INPUT]
    channels = [0] * last + [outputs]
    for place, vertex in enumerate(sharing):
        channels[vertex] = max(1, outputs // len(sharing) + (place < outputs % len(sharing)))
    for vertex in range(last - 1, 0, -1):
        if vertex not in sharing:
            channels[vertex] = max(channels[reader] for reader in range(last) if vertex in cell.reads[reader])
    channels[INPUT] = inputs
    return channels


class GraphCell(nn.Module):
    """One cell: vertices add what they read, the output concatenates it and adds the cell's input."""

    def __init__(self, cell: Graph, inputs: int, outputs: int) -> None:
        super().__init__()
        self.reads = cell.reads
        self.channels = widths(cell, inputs, outputs)
        joined = sum(self.channels[vertex] for vertex in cell.reads[-1] if vertex != INPUT)
        self.channels[-1] = joined or outputs
        self.projections = nn.ModuleDict(
            {
                str(vertex): conv_norm(inputs, self.channels[vertex])
                for vertex, read in enumerate(cell.reads)
                if INPUT in read
            }
        )
        self.operations = nn.ModuleList(
            op(width, width, 1) for op, width in zip(cell.operations, self.channels[1:], strict=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        made = [x]
        for vertex, operation in enumerate(self.operations, start=1):
            made.append(operation(self._sum(vertex, [made[source] for source in self._others(vertex)], x)))
        last = len(self.reads) - 1
        others = [made[source] for source in self._others(last)]
        return self._sum(last, [torch.cat(others, dim=1) if len(others) > 1 else others[0]] if others else [], x)

    def _others(self, vertex: int) -> list[int]:
        return [source for source in self.reads[vertex] if source != INPUT]

    def _sum(self, vertex: int, terms: list[Tensor], x: Tensor) -> Tensor:
        """Return the sum of what a vertex reads, cut to its width, and of the cell's input where it reads that."""
        cut = [term[:, : self.channels[vertex]] for term in terms]
        if str(vertex) in self.projections:
            cut.append(self.projections[str(vertex)](x))
        return sum(cut[1:], cut[0])

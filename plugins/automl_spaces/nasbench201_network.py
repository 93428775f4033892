"""Networks of NAS-Bench-201: a stem, and stages of one cell with residual blocks between them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from automl.mixture import Mixture, mixed
from automl_networks.activation import PreActivated
from automl_networks.convolutions import convolution
from automl_networks.pooling import Pool
from automl_networks.zero import Zero
from automl_spaces.dense_cells import EDGES, DenseCell


def network(cell: DenseCell, stages: int, cells: int, channels: int, colours: int, outputs: int) -> nn.Sequential:
    """Return images to logits, N x outputs: so many cells a stage, of a width that doubles from stage to stage."""
    layers: list[nn.Module] = [nn.Conv2d(colours, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)]
    for stage in range(stages):
        if stage:
            layers.append(Residual(channels, 2 * channels))
            channels *= 2
        layers += [DenseCellModule(cell, channels) for _ in range(cells)]
    layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(channels, outputs))


class DenseCellModule(nn.Module):
    """One cell: each node is the sum of what the edges from all earlier nodes bring."""

    def __init__(self, cell: DenseCell, channels: int) -> None:
        super().__init__()
        self.operations = nn.ModuleList([op(channels, channels, 1) for op in cell])

    def forward(self, x: Tensor) -> Tensor:
        states = [x]
        activated: dict[int, Tensor] = {}  # the states after a ReLU, computed once for all that read them so
        ready: dict[int, Tensor] = {}  # what mixtures make, of all that read a state at once
        terms: list[Tensor] = []
        for place, ((source, target), operation) in enumerate(zip(EDGES, self.operations, strict=True)):
            if isinstance(operation, PreActivated):
                if source not in activated:
                    activated[source] = functional.relu(states[source])
                terms.append(operation(activated[source], activated=True))
            elif isinstance(operation, Mixture):
                if place not in ready:
                    ready.update(self._mixed(source, states[source]))
                terms.append(ready.pop(place))
            elif not isinstance(operation, Zero):
                terms.append(operation(states[source]))
            if source == target - 1:
                states.append(sum(terms[1:], terms[0]) if terms else torch.zeros_like(x))
                terms = []
        return states[-1]

    def _mixed(self, source: int, x: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield what each mixture that reads a node makes of it, with its edge's place."""
        readers = {
            place: operation
            for place, ((read, _), operation) in enumerate(zip(EDGES, self.operations, strict=True))
            if read == source and isinstance(operation, Mixture)
        }
        yield from zip(readers, mixed(list(readers.values()), x), strict=True)


class Residual(nn.Module):
    """Half the size, rounded up, at another width: two 3 x 3 convolutions beside pooling and a 1 x 1 one."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(convolution(inputs, outputs, 3, stride=2), convolution(outputs, outputs, 3))
        self.shortcut = nn.Sequential(Pool("average", 2, stride=2), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.convolutions(x) + self.shortcut(x)
        return made

"""Networks of layers in any wiring: each layer merges earlier maps into one, and works on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class Merge(nn.Module, ABC):
    """Several maps made one, each after its adapter; where there are none, as they are."""

    def __init__(self, adapters: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.adapters = nn.ModuleList(adapters)

    def forward(self, *maps: Tensor) -> Tensor:
        if self.adapters:
            maps = tuple(adapter(x) for adapter, x in zip(self.adapters, maps, strict=True))
        return maps[0] if len(maps) == 1 else self.merge(maps)

    @abstractmethod
    def merge(self, maps: Sequence[Tensor]) -> Tensor:
        """Return one map of two or more."""


class Added(Merge):
    """The sum of maps of one shape."""

    def merge(self, maps: Sequence[Tensor]) -> Tensor:
        return sum(maps[1:], maps[0])


class Concatenated(Merge):
    """Maps one after the other along the channels; smaller ones with zeros around them, one more at the end if odd."""

    def merge(self, maps: Sequence[Tensor]) -> Tensor:
        height, width = max(x.shape[-2] for x in maps), max(x.shape[-1] for x in maps)
        return torch.cat([_padded(x, height, width) for x in maps], dim=1)


def _padded(x: Tensor, height: int, width: int) -> Tensor:
    down, right = height - x.shape[-2], width - x.shape[-1]
    if down == right == 0:
        return x
    return functional.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))


class Graph(nn.Module):
    """Layers in order, each of the merged maps of earlier ones; the last one's map is the answer.

    ``reads`` has for each layer the places of those that it reads; -1 is what the graph is given.
    """

    def __init__(
        self, reads: Sequence[Sequence[int]], merges: Sequence[nn.Module], layers: Sequence[nn.Module]
    ) -> None:
        super().__init__()
        self.reads = [tuple(places) for places in reads]
        self.merges = nn.ModuleList(merges)
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        maps = [x]
        for reads, merge, layer in zip(self.reads, self.merges, self.layers, strict=True):
            maps.append(layer(merge(*[maps[place + 1] for place in reads])))
        return maps[-1]

"""What a morphism does to a graph: deepen, widen, skip, and, only nearly preserving the function, shrink."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, NamedTuple

from automl_spaces.morphism_graphs import CONVOLUTIONS, IMAGE, MERGES, Graph, Layer, inserted, removed, replaced


class Move(NamedTuple):
    """One step: the operator's name, the layer where, and its argument; None where it has none."""

    op: str
    where: str
    arg: Any = None


class Operator(ABC):
    """One kind of step; ``is_exact`` where a child that inherits its weights computes what its parent does."""

    is_exact: ClassVar[bool] = True
    alike_from: ClassVar[float] = 2  # the kernel from which on all are alike to it

    @abstractmethod
    def places(self, graph: Graph) -> list[str]:
        """Return the names of the layers where it can be applied."""

    def arguments(self, graph: Graph, where: str) -> Sequence[Any]:
        """Return what can be chosen there besides; nothing, where there is no choice."""
        return ()

    @abstractmethod
    def applied(self, graph: Graph, where: str, argument: Any, name: str) -> Graph:
        """Return the graph after the step; a layer that it makes gets the name."""


@dataclass(frozen=True)
class Deepen(Operator):
    """A layer after another, as wide, that passes on what it is given: all maps have gone through a ReLU."""

    kernels: tuple[int, ...]
    most: int

    def places(self, graph: Graph) -> list[str]:
        return [
            layer.name
            for layer in graph.layers.values()
            if layer.kind == "dense" or (layer.kind != "mean" and graph.channels[layer.name] <= self.most)
        ]

    def arguments(self, graph: Graph, where: str) -> Sequence[Any]:
        return () if graph.layers[where].kind == "dense" else self.kernels

    def applied(self, graph: Graph, where: str, argument: Any, name: str) -> Graph:
        kind = "conv" if argument else "dense"
        return inserted(graph, graph.layers[where], Layer(name, kind, (where,), argument or 0, graph.channels[where]))


@dataclass(frozen=True)
class Multiply(Operator):
    """So many times the filters of a convolution, up to a number of them."""

    factors: tuple[int, ...]
    most: int

    def places(self, graph: Graph) -> list[str]:
        most = self.most // min(self.factors)
        return [layer.name for layer in graph.layers.values() if 0 < layer.width <= most]

    def arguments(self, graph: Graph, where: str) -> Sequence[Any]:
        width = graph.layers[where].width
        return [factor for factor in self.factors if width * factor <= self.most]

    def applied(self, graph: Graph, where: str, argument: Any, name: str) -> Graph:
        layer = graph.layers[where]
        return replaced(graph, layer._replace(width=layer.width * argument))


@dataclass(frozen=True)
class NextWidth(Operator):
    """The next of the widths that there are for convolutions, or for fully connected layers."""

    widths: tuple[int, ...]
    units: tuple[int, ...]

    def places(self, graph: Graph) -> list[str]:
        return [layer.name for layer in graph.layers.values() if 0 < layer.width < self._widths(layer)[-1]]

    def applied(self, graph: Graph, where: str, argument: Any, name: str) -> Graph:
        layer = graph.layers[where]
        widths = self._widths(layer)
        return replaced(graph, layer._replace(width=widths[bisect_right(widths, layer.width)]))

    def _widths(self, layer: Layer) -> tuple[int, ...]:
        return self.units if layer.kind == "dense" else self.widths


@dataclass(frozen=True)
class Skip(Operator):
    """A map that skips from an earlier layer to the end of another, added or concatenated; pooled where it is larger.

    Not where a layer that has no weights, a pool or a merge, reads it already.
    """

    kind: str

    def places(self, graph: Graph) -> list[str]:
        return [
            layer.name
            for place, layer in enumerate(graph.layers.values())
            if place > (0 if layer.width else len(layer.reads))
        ]

    def arguments(self, graph: Graph, where: str) -> Sequence[Any]:
        known = () if graph.layers[where].width else graph.layers[where].reads
        return [name for name in _until(graph.layers, where) if name not in known]

    def applied(self, graph: Graph, where: str, argument: Any, name: str) -> Graph:
        return inserted(graph, graph.layers[where], Layer(name, self.kind, (where, argument)))


@dataclass(frozen=True)
class Branch(Operator):
    """Two convolutions of one map, concatenated, that have the filters of one between them (Net2Branch)."""

    def places(self, graph: Graph) -> list[str]:
        return [layer.name for layer in graph.layers.values() if layer.kind in CONVOLUTIONS and layer.width > 1]

    def applied(self, graph: Graph, where: str, argument: Any, name: str) -> Graph:
        layer = graph.layers[where]
        half = layer.width // 2
        branch = layer._replace(name=f"{name}branch", width=half)
        narrower = layer._replace(width=layer.width - half)
        return inserted(graph, narrower, branch, Layer(name, "concat", (where, branch.name)))


@dataclass(frozen=True)
class Enlarge(Operator):
    """A larger kernel, with zeros around what was there."""

    alike_from = inf
    kernels: tuple[int, ...]

    def places(self, graph: Graph) -> list[str]:
        return [layer.name for layer in graph.layers.values() if 0 < layer.kernel < self.kernels[-1]]

    def arguments(self, graph: Graph, where: str) -> Sequence[Any]:
        return [kernel for kernel in self.kernels if kernel > graph.layers[where].kernel]

    def applied(self, graph: Graph, where: str, argument: Any, name: str) -> Graph:
        return replaced(graph, graph.layers[where]._replace(kernel=argument))


@dataclass(frozen=True)
class Remove(Operator):
    """One convolution or one skip less; not a convolution of the image, nor where a map would be merged with itself."""

    is_exact = False

    def places(self, graph: Graph) -> list[str]:
        merged = [layer.reads for layer in graph.layers.values() if layer.kind in MERGES]
        return [
            layer.name
            for layer in graph.layers.values()
            if (layer.kind in CONVOLUTIONS or layer.kind in MERGES)
            and layer.reads[0] != IMAGE
            and not any(layer.name in reads and layer.reads[0] in reads for reads in merged)
        ]

    def applied(self, graph: Graph, where: str, argument: Any, name: str) -> Graph:
        return removed(graph, where)


@dataclass(frozen=True)
class Prune(Operator):
    """A share of a convolution's filters less, rounded down."""

    is_exact = False
    shares: tuple[float, ...]

    def places(self, graph: Graph) -> list[str]:
        most = max(self.shares)
        return [layer.name for layer in graph.layers.values() if layer.width * most >= 1]

    def arguments(self, graph: Graph, where: str) -> Sequence[Any]:
        width = graph.layers[where].width
        return [share for share in self.shares if width * share >= 1]

    def applied(self, graph: Graph, where: str, argument: Any, name: str) -> Graph:
        layer = graph.layers[where]
        return replaced(graph, layer._replace(width=layer.width - int(layer.width * argument)))


@dataclass(frozen=True)
class Separate(Operator):
    """A depthwise separable convolution in place of a convolution; of 1 x 1 there is none."""

    is_exact = False

    def places(self, graph: Graph) -> list[str]:
        return [layer.name for layer in graph.layers.values() if layer.kind == "conv" and layer.kernel > 1]

    def applied(self, graph: Graph, where: str, argument: Any, name: str) -> Graph:
        return replaced(graph, graph.layers[where]._replace(kind="separable"))


def _until(names: Iterable[str], end: str) -> list[str]:
    """Return the names before one."""
    before: list[str] = []
    for name in names:
        if name == end:
            break
        before.append(name)
    return before

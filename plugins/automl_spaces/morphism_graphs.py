"""The graphs that morphisms grow: named layers in order, each reading earlier ones, and what changes them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple

from automl_spaces.dags import INPUT, Node

IMAGE = "image"
CONVOLUTIONS = ("conv", "separable")
MERGES = ("add", "concat")


class Layer(NamedTuple):
    """A layer by its name, which it keeps for ever.

    ``kind`` is "conv", "separable", "pool", "mean" (of the whole map), "dense", "add" or "concat". ``kernel`` and
    ``width``, the filters or units, are 0 where it has none. Merges read what goes on and, second, what skips.
    ``projected``: what skips to a sum goes through a 1 x 1 convolution.
    """

    name: str
    kind: str
    reads: tuple[str, ...]
    kernel: int = 0
    width: int = 0
    projected: bool = False


class Graph(NamedTuple):
    """Layers by name, each after those it reads, the last one the output; their channels, how often each was halved."""

    layers: dict[str, Layer]
    channels: Mapping[str, int]
    halvings: Mapping[str, int]


def graph(layers: Iterable[Layer], before: Graph | None = None) -> Graph:
    """Return the graph of the layers.

    A sum of two maps as they are needs a projection from then on when one of them has changed its channels, or the two
    differ in them.
    """
    channels, halvings, made = {IMAGE: 0}, {IMAGE: 0}, {}
    for layer in layers:
        name, kind, reads, _, width, projected = layer
        first = reads[0]
        if kind == "concat":
            width = channels[first] + channels[reads[1]]
        elif not width:
            width = channels[first]
        if kind == "add" and not projected:
            given = [channels[read] for read in reads]
            was = given if before is None or name not in before.layers else _given(before, name)
            if given[0] != given[1] or given != was:
                layer = layer._replace(projected=True)
        channels[name] = width
        halvings[name] = halvings[first] + (kind == "pool")
        made[name] = layer
    return Graph(made, channels, halvings)


def inserted(before: Graph, after: Layer, *new: Layer) -> Graph:
    """Return the graph with more layers after one, which may be changed; what read that reads the last of them."""
    layers: list[Layer] = []
    for old in before.layers.values():
        if after.name in old.reads:
            old = old._replace(reads=tuple([new[-1].name if read == after.name else read for read in old.reads]))
        layers += [after, *new] if old.name == after.name else [old]
    return graph(layers, before)


def removed(before: Graph, name: str) -> Graph:
    """Return the graph without a layer: what read it reads what it read first."""
    source = before.layers[name].reads[0]
    layers = [
        layer._replace(reads=tuple([source if read == name else read for read in layer.reads]))
        for layer in before.layers.values()
        if layer.name != name
    ]
    return graph(layers, before)


def replaced(before: Graph, layer: Layer) -> Graph:
    """Return the graph with this layer in place of the one of its name."""
    return graph({**before.layers, layer.name: layer}.values(), before)


def _given(net: Graph, name: str) -> list[int]:
    """Return the channels of what a layer reads."""
    return [net.channels[read] for read in net.layers[name].reads]


def dag(net: Graph) -> list[Node]:
    """Return the graph as nodes without names, for its key and for drawing.

    Projections and the pools of what skips are nodes of their own. A pool of one map is there once, and a
    concatenation of concatenations is one.
    """
    places, nodes = {IMAGE: INPUT}, []
    pools: dict[int, int] = {}
    parts: dict[int, tuple[int, ...]] = {}  # of what is concatenated

    def add(label: tuple[object, ...], reads: tuple[int, ...]) -> int:
        nodes.append(Node(label, reads))
        return len(nodes) - 1

    def pooled(place: int) -> int:
        if place not in pools:
            pools[place] = add(("pool",), (place,))
        return pools[place]

    for layer in net.layers.values():
        first, *others = (places[read] for read in layer.reads)
        for other in others:
            for _ in range(net.halvings[layer.name] - net.halvings[layer.reads[1]]):
                other = pooled(other)
            if layer.projected:
                other = add(("project", net.channels[layer.name]), (other,))
            others = [other]
        if layer.kind == "pool":
            place = pooled(first)
        elif layer.kind == "concat":
            read = tuple(part for one in (first, *others) for part in parts.get(one, (one,)))
            place = add(("concat",), read)
            parts[place] = read
        else:
            kernel = f"{layer.kernel}x{layer.kernel}" if layer.kernel else ""
            place = add((f"{layer.kind}{kernel}", *([layer.width] if layer.width else [])), (first, *others))
        places[layer.name] = place
    return [*nodes, Node(("output",), (place,))]


def shape(net: Graph, alike_from: float) -> Hashable:
    """Return the graph without names, which tells what steps are possible, now and later.

    Kernels of that size and more are alike.
    """
    numbers = {IMAGE: INPUT, **{name: place for place, name in enumerate(net.layers)}}
    return tuple(
        [
            (kind, width, min(size, alike_from), net.channels[name], *[numbers[read] for read in reads])
            for name, kind, reads, size, width, _ in net.layers.values()
        ]
    )

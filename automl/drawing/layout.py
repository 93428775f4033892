"""Lays a graph out: states and, on the way between two, each operation as a label of its own.

The layers are those of Sugiyama, Tagawa and Toda (1981): long edges pass through every layer between, so that no
line runs under a label, and sweeps order each layer by the mean place of its neighbours. What leads to what is read
from left to right, or from the top down where that is too wide for a page.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

Edge = tuple[str, str, str]  # from, to, operation
Point = tuple[float, float]
Segments = list[tuple[Hashable, Hashable]]

MOST_EDGES = 200
WIDTH = 936  # of a page, in pixels
LONGEST = 36  # characters of a label
_SWEEPS = 16
_GAP = 12.0  # between two boxes of a layer
_BEND = 4.0  # the room of a line that passes
_BETWEEN = (34.0, 26.0)  # between two layers, from left to right and from the top down
_CHARACTER = 6.9  # the width of one at 12 pixels


class Box(NamedTuple):
    """A state or an operation: its upper left corner, its size in pixels, and its words."""

    is_operation: bool
    x: float
    y: float
    width: float
    height: float
    words: str


class Line(NamedTuple):
    """A curve from the first point to the last by two that bend it, then straight on to the end; a tip says where to.

    ``ahead`` is the direction in which it arrives.
    """

    curve: tuple[Point, Point, Point, Point]
    end: Point
    has_tip: bool
    ahead: Point


class Layout(NamedTuple):
    """Where everything is, in pixels."""

    width: float
    height: float
    boxes: Sequence[Box]
    lines: Sequence[Line]


def lay_out(edges: Sequence[Edge], width: float = WIDTH) -> Layout | None:
    """Return where the boxes and lines of a graph are; None where it is empty, too large to be read, or has a cycle.

    It goes from left to right where it is no wider than so many pixels; else the narrower way.
    """
    found = _layers(edges) if 0 < len(edges) <= MOST_EDGES else None
    if found is None:
        return None
    labels, segments, layers = found
    layers = _order(layers, segments)
    across = _placed(labels, segments, layers, is_down=False)
    if across.width <= width:
        return across
    down = _placed(labels, segments, layers, is_down=True)
    return min(down, across, key=lambda layout: layout.width)


def _placed(
    labels: Mapping[Hashable, str], segments: Segments, layers: Sequence[Sequence[Hashable]], *, is_down: bool
) -> Layout:
    """Return the layout in one of two directions: the layers follow each other on one axis, and lie on the other."""
    sizes = {node: _size(node, labels) for layer in layers for node in layer}
    breadths = {node: size[0] if is_down else size[1] for node, size in sizes.items()}
    depths = {node: size[1] if is_down else size[0] for node, size in sizes.items()}
    place = _place(layers, segments, breadths)
    begin, deep, along = {}, {}, 1.0
    for layer in layers:
        depth = max((depths[node] for node in layer if node in labels), default=0.0)
        begin.update(dict.fromkeys(layer, along))
        deep.update(dict.fromkeys(layer, depth))
        along += depth + _BETWEEN[is_down]
    whole = along - _BETWEEN[is_down] + 1, max(place[node] + breadths[node] / 2 for node in place) + 1

    def turned(first: float, second: float) -> Point:
        return (second, first) if is_down else (first, second)

    lines = []
    for source, target in segments:
        start, stop = begin[source] + deep[source], begin[target]
        if source in labels:  # a box may be less deep than its layer
            start -= (deep[source] - depths[source]) / 2
        if target in labels:
            stop += (deep[target] - depths[target]) / 2
        middle = (start + stop) / 2
        curve = (
            turned(start, place[source]),
            turned(middle, place[source]),
            turned(middle, place[target]),
            turned(stop, place[target]),
        )
        end = stop if target in labels else begin[target] + deep[target]
        has_tip = target in labels and not _is_operation(target)
        lines.append(Line(curve, turned(end, place[target]), has_tip, turned(1, 0)))
    boxes = []
    for node, label in labels.items():
        corner = turned(begin[node] + (deep[node] - depths[node]) / 2, place[node] - breadths[node] / 2)
        boxes.append(Box(_is_operation(node), *corner, *sizes[node], label))
    return Layout(*turned(*whole), boxes, lines)


def _layers(edges: Sequence[Edge]) -> tuple[dict[Hashable, str], Segments, list[list[Hashable]]] | None:
    """Return the label of each box, the segments between neighbouring layers, and what stands in each layer.

    Keys: a state is its name, an operation its edge's number, a bend of the lines out of a state (state, layer).
    """
    import networkx as nx

    graph = nx.DiGraph()
    graph.add_edges_from((source, target) for source, target, _ in edges)
    if not nx.is_directed_acyclic_graph(graph):
        return None
    level = {state: 2 * number for number, states in enumerate(nx.topological_generations(graph)) for state in states}
    labels: dict[Hashable, str] = {state: state for state in graph}
    depth: dict[Hashable, int] = dict(level)
    segments: dict[tuple[Hashable, Hashable], None] = {}
    for number, (source, target, label) in enumerate(edges):
        last: Hashable = target
        stop = level[target]
        if label:
            last, stop = number, level[target] - 1
            labels[number], depth[number] = label, stop
            segments[(number, target)] = None
        here: Hashable = source
        for between in range(level[source] + 1, stop):
            bend = (source, between)
            depth[bend] = between
            segments[(here, bend)] = None
            here = bend
        segments[(here, last)] = None
    layers: list[list[Hashable]] = [[] for _ in range(max(depth.values()) + 1)]
    for node, place in depth.items():
        layers[place].append(node)
    return labels, list(segments), layers


def _order(layers: list[list[Hashable]], segments: Segments) -> list[list[Hashable]]:
    """Return the layers so ordered that few segments cross."""
    before, after = _neighbours(segments)
    best, fewest = layers, _crossings(layers, segments)
    for sweep in range(_SWEEPS):
        if fewest == 0:
            break
        forward = sweep % 2 == 0
        neighbours = before if forward else after
        layers = [list(layer) for layer in layers]
        place = {node: float(index) for layer in layers for index, node in enumerate(layer)}
        for layer in layers if forward else reversed(layers):
            means = {node: _mean((place[other] for other in neighbours.get(node, ())), place[node]) for node in layer}
            layer.sort(key=means.__getitem__)
            place.update((node, float(index)) for index, node in enumerate(layer))
        crossings = _crossings(layers, segments)
        if crossings < fewest:
            best, fewest = layers, crossings
    return best


def _crossings(layers: Sequence[Sequence[Hashable]], segments: Segments) -> int:
    place = {node: index for layer in layers for index, node in enumerate(layer)}
    depth = {node: index for index, layer in enumerate(layers) for node in layer}
    by_layer: dict[int, list[tuple[int, int]]] = {}
    for source, target in segments:
        by_layer.setdefault(depth[source], []).append((place[source], place[target]))
    return sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for pairs in by_layer.values() for a, b in combinations(pairs, 2))


def _place(
    layers: Sequence[Sequence[Hashable]], segments: Segments, breadths: Mapping[Hashable, float]
) -> dict[Hashable, float]:
    """Return the middle of each box: near its neighbours, in order, apart."""
    before, after = _neighbours(segments)
    place: dict[Hashable, float] = {}
    for layer in layers:
        place.update(_apart(layer, dict.fromkeys(layer, 0.0), breadths))
    for sweep in range(2 * _SWEEPS):
        forward = sweep % 2 == 0
        for layer in layers if forward else reversed(layers):
            first, second = (before, after) if forward else (after, before)
            wanted = {}
            for node in layer:
                others = first.get(node) or second.get(node) or []
                if sweep >= _SWEEPS:
                    others = [*before.get(node, []), *after.get(node, [])]
                bends = [other for other in others if breadths[other] == breadths[node] == _BEND]
                wanted[node] = _mean((place[other] for other in bends or others), place[node])
            place.update(_apart(layer, wanted, breadths))
    top = min(place[node] - breadths[node] / 2 for node in place)
    return {node: value - top + 1 for node, value in place.items()}


def _apart(
    layer: Sequence[Hashable], wanted: Mapping[Hashable, float], breadths: Mapping[Hashable, float]
) -> dict[Hashable, float]:
    """Return the places nearest to those wanted that keep order and distance (isotonic regression)."""
    offsets, offset = [], 0.0
    for index, node in enumerate(layer):
        if index:
            offset += (breadths[layer[index - 1]] + breadths[node]) / 2 + _GAP
        offsets.append(offset)
    pools: list[tuple[float, int, int]] = []  # mean, weight, members
    for node, offset in zip(layer, offsets, strict=True):
        mean, weight = wanted[node] - offset, 5 if breadths[node] == _BEND else 1  # a line that passes stays straight
        members = 1
        while pools and pools[-1][0] > mean:
            other, heavy, more = pools.pop()
            mean, weight, members = (mean * weight + other * heavy) / (weight + heavy), weight + heavy, members + more
        pools.append((mean, weight, members))
    means = [mean for mean, _, members in pools for _ in range(members)]
    return {node: mean + offset for node, mean, offset in zip(layer, means, offsets, strict=True)}


def _neighbours(segments: Segments) -> tuple[dict[Hashable, list[Hashable]], dict[Hashable, list[Hashable]]]:
    before: dict[Hashable, list[Hashable]] = {}
    after: dict[Hashable, list[Hashable]] = {}
    for source, target in segments:
        before.setdefault(target, []).append(source)
        after.setdefault(source, []).append(target)
    return before, after


def _mean(values: Iterable[float], otherwise: float) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else otherwise


def _is_operation(node: Hashable) -> bool:
    return isinstance(node, int)


def _size(node: Hashable, labels: Mapping[Hashable, str]) -> tuple[float, float]:
    """Return the width and the height of a box, or the room of a line that passes."""
    if node not in labels:
        return _BEND, _BEND
    label = labels[node]
    return max(32.0, min(len(label), LONGEST) * _CHARACTER + 20), 24.0 if _is_operation(node) else 32.0

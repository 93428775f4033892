"""Draws a cell as a graph: states from left to right, each operation a label of its own on the way.

The layers are those of Sugiyama, Tagawa and Toda (1981): long edges pass through every column between, so that no
line runs under a label, and sweeps order each column by the mean place of its neighbours.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import combinations

from markupsafe import Markup

from automl_trackers.svg import box, path, picture

Edge = tuple[str, str, str]
Segments = list[tuple[Hashable, Hashable]]

MOST_EDGES = 200
_SWEEPS = 16
_GAP = 12  # between two boxes of a column, in pixels
_BEND = 4.0  # the room of a line that passes
_BETWEEN = 34  # between two columns
_LONGEST = 24  # characters of a label
_CHARACTER = 6.9  # its width at 12 pixels


def draw(edges: Sequence[Edge], name: str) -> Markup | None:
    """Return the cell's graph as SVG; None where it is empty, too large to be read, or has a cycle."""
    columns = _columns(edges) if 0 < len(edges) <= MOST_EDGES else None
    if columns is None:
        return None
    labels, segments, layers = columns
    layers = _order(layers, segments)
    heights = {node: _height(node, labels) for layer in layers for node in layer}
    y = _place(layers, segments, heights)
    widths = [max((_width(labels[node]) for node in layer if node in labels), default=0.0) for layer in layers]
    left, x = {}, 1.0
    for layer, width in zip(layers, widths, strict=True):
        left.update(dict.fromkeys(layer, (x, width)))
        x += width + _BETWEEN
    width, height = x - _BETWEEN + 1, max(y[node] + heights[node] / 2 for node in y) + 1
    parts = []
    for source, target in segments:
        start, stop = left[source][0] + left[source][1], left[target][0]
        if source in labels:  # a box may be narrower than its column
            start -= (left[source][1] - _width(labels[source])) / 2
        if target in labels:
            stop += (left[target][1] - _width(labels[target])) / 2
        middle = (start + stop) / 2
        line = f"M{start:.1f} {y[source]:.1f}C{middle:.1f} {y[source]:.1f} {middle:.1f} "
        line += f"{y[target]:.1f} {stop:.1f} {y[target]:.1f}"
        if target not in labels:
            line += f"h{left[target][1]:.1f}"
        parts.append(path("edge", line))
        if target in labels and not _is_operation(target):
            parts.append(path("tip", "M-7-4L0 0l-7 4z", at=(stop, y[target])))
    for node, label in labels.items():
        breadth, tall = _width(label), heights[node]
        x, top = left[node][0] + (left[node][1] - breadth) / 2, y[node] - tall / 2
        kind, corner = ("op", 4.0) if _is_operation(node) else ("state", tall / 2)
        parts.append(box(kind, x, top, breadth, tall, corner, label, _LONGEST))
    told = (f"{source} to {target}" + (f" by {label}" if label else "") for source, target, label in edges)
    return picture("cell", width, height, f"the {name} cell: {'; '.join(told)}", parts, natural=True)


def _columns(edges: Sequence[Edge]) -> tuple[dict[Hashable, str], Segments, list[list[Hashable]]] | None:
    """Return the label of each box, the segments between neighbouring columns, and what stands in each column.

    Keys: a state is its name, an operation its edge's number, a bend of the lines out of a state (state, column).
    """
    import networkx as nx

    graph = nx.DiGraph()
    graph.add_edges_from((source, target) for source, target, _ in edges)
    if not nx.is_directed_acyclic_graph(graph):
        return None
    level = {state: 2 * depth for depth, states in enumerate(nx.topological_generations(graph)) for state in states}
    labels: dict[Hashable, str] = {state: state for state in graph}
    column: dict[Hashable, int] = dict(level)
    segments: dict[tuple[Hashable, Hashable], None] = {}
    for number, (source, target, label) in enumerate(edges):
        last: Hashable = target
        stop = level[target]
        if label:
            last, stop = number, level[target] - 1
            labels[number], column[number] = label, stop
            segments[(number, target)] = None
        here: Hashable = source
        for between in range(level[source] + 1, stop):
            bend = (source, between)
            column[bend] = between
            segments[(here, bend)] = None
            here = bend
        segments[(here, last)] = None
    layers: list[list[Hashable]] = [[] for _ in range(max(column.values()) + 1)]
    for node, place in column.items():
        layers[place].append(node)
    return labels, list(segments), layers


def _order(layers: list[list[Hashable]], segments: Segments) -> list[list[Hashable]]:
    """Return the columns so ordered that few segments cross."""
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
    column = {node: index for index, layer in enumerate(layers) for node in layer}
    by_column: dict[int, list[tuple[int, int]]] = {}
    for source, target in segments:
        by_column.setdefault(column[source], []).append((place[source], place[target]))
    return sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for pairs in by_column.values() for a, b in combinations(pairs, 2))


def _place(
    layers: Sequence[Sequence[Hashable]], segments: Segments, heights: Mapping[Hashable, float]
) -> dict[Hashable, float]:
    """Return the middle of each box: near its neighbours, in order, apart."""
    before, after = _neighbours(segments)
    y: dict[Hashable, float] = {}
    for layer in layers:
        y.update(_apart(layer, dict.fromkeys(layer, 0.0), heights))
    for sweep in range(2 * _SWEEPS):
        forward = sweep % 2 == 0
        for layer in layers if forward else reversed(layers):
            first, second = (before, after) if forward else (after, before)
            wanted = {}
            for node in layer:
                others = first.get(node) or second.get(node) or []
                if sweep >= _SWEEPS:
                    others = [*before.get(node, []), *after.get(node, [])]
                bends = [other for other in others if heights[other] == heights[node] == _BEND]
                wanted[node] = _mean((y[other] for other in bends or others), y[node])
            y.update(_apart(layer, wanted, heights))
    top = min(y[node] - heights[node] / 2 for node in y)
    return {node: value - top + 1 for node, value in y.items()}


def _apart(
    layer: Sequence[Hashable], wanted: Mapping[Hashable, float], heights: Mapping[Hashable, float]
) -> dict[Hashable, float]:
    """Return the places nearest to those wanted that keep order and distance (isotonic regression)."""
    offsets, offset = [], 0.0
    for index, node in enumerate(layer):
        if index:
            offset += (heights[layer[index - 1]] + heights[node]) / 2 + _GAP
        offsets.append(offset)
    pools: list[tuple[float, int, int]] = []  # mean, weight, members
    for node, offset in zip(layer, offsets, strict=True):
        mean, weight = wanted[node] - offset, 5 if heights[node] == _BEND else 1  # a line that passes stays straight
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


def _height(node: Hashable, labels: Mapping[Hashable, str]) -> float:
    if node not in labels:
        return _BEND
    return 24 if _is_operation(node) else 32


def _width(label: str) -> float:
    return max(32.0, min(len(label), _LONGEST) * _CHARACTER + 20)

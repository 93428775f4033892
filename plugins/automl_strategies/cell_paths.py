"""What a cell's graph says of it whatever its nodes are called: its operations that count, and its paths.

A graph is given by its edges (from, to, operation), as ``Space.graph`` does. An edge that carries nothing is none,
and one that changes nothing is on a path without being told. Nodes that are named by a number alone are inner ones:
one of these that nothing leads to has nothing to pass on, and one that leads nowhere is not heard of. All others
without an edge in or out are the cell's inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Edge = tuple[str, str, str]
Path = tuple[str, ...]  # the input that it starts from, and the operations on the way
Ways = dict[Path, int]  # how many ways through the graph are that path
NOTHING = frozenset({"none", "zero"})
IDENTITY = frozenset({"", "identity", "skip", "skip_connect"})
MOST = 256  # different paths to a node: beyond, those that are told most often are kept


def operations_and_paths(graph: Mapping[str, Sequence[Edge]]) -> tuple[dict[str, float], dict[str, float]]:
    """Return how often each cell has each operation on a way from input to output, and which paths it has.

    The path encoding is White et al.'s (BANANAS, 2021): a path is there or is not. Cells of more than ``MOST`` paths
    keep those that most ways through them agree in.
    """
    operations: dict[str, float] = {}
    paths: dict[str, float] = {}
    for cell, edges in graph.items():
        alive, ends = _walk([edge for edge in edges if edge[2] not in NOTHING])
        for operation in alive:
            name = f"{cell}: {operation}"
            operations[name] = operations.get(name, 0.0) + 1
        for path in ends:
            paths[f"{cell}: {' > '.join(path)}"] = 1.0
    return operations, paths


def _walk(edges: Sequence[Edge]) -> tuple[list[str], Ways]:
    """Return the operations of all edges that are on a way from an input to an output, and the paths there."""
    into: dict[str, list[Edge]] = {}
    out: dict[str, list[str]] = {}
    for edge in edges:
        source, target, _ = edge
        if source not in into:
            into[source], out[source] = [], []
        if target not in into:
            into[target], out[target] = [], []
        out[source].append(target)
        into[target].append(edge)
    ways: dict[str, Ways] = {}
    waiting = {node: len(before) for node, before in into.items()}
    ready = [node for node, before in into.items() if not before]
    for node in ready:  # grows as it goes; a node on a circle never gets ready
        ways[node] = {(node,): 1} if not into[node] and not node.isdigit() else _joined(into[node], ways)
        for target in out[node]:
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    outputs = [node for node in ready if not out[node] and not node.isdigit()]
    heard = set(outputs)
    for node in reversed(ready):
        if not heard.isdisjoint(out[node]):
            heard.add(node)
    alive = [operation for source, target, operation in edges if target in heard and ways.get(source)]
    return alive, _joined([(node, "", "") for node in outputs], ways)


def _joined(edges: Sequence[Edge], ways: Mapping[str, Ways]) -> Ways:
    joined: Ways = {}
    for source, _, operation in edges:
        for path, times in ways[source].items():
            longer = path if operation in IDENTITY else (*path, operation)
            joined[longer] = joined.get(longer, 0) + times
    if len(joined) > MOST:
        kept = sorted(joined, key=lambda path: (-joined[path], len(path), path))[:MOST]
        return {path: joined[path] for path in kept}
    return joined

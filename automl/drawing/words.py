"""A graph in words, for a terminal: each state in its order, and what it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from automl.drawing.layout import Edge
from automl.errors import printable

_WIDTH = 110  # characters of a line
_MOST = 40  # lines of a graph


def tell(graphs: Mapping[str, Sequence[Edge]]) -> list[str]:
    """Return lines that tell graphs: a name, then each state with the operations on earlier states that make it."""
    lines = []
    for name, edges in graphs.items():
        made = _made(edges)
        width = max((len(state) for state in made), default=0)
        told = [f"    {state:<{width}}  {'; '.join(terms)}" for state, terms in made.items()]
        if len(told) > _MOST:
            told[_MOST - 1 : -1] = [f"    ... {len(told) - _MOST} more ..."]
        lines += [f"  {name}", *(printable(_cut(line)) for line in told)]
    return lines


def _made(edges: Sequence[Edge]) -> dict[str, list[str]]:
    """Return of each state that others lead to what they lead by, states in the order of the graph."""
    import networkx as nx

    graph = nx.MultiDiGraph([(source, target, {"operation": operation}) for source, target, operation in edges])
    order = nx.lexicographical_topological_sort(graph, key=_rank) if nx.is_directed_acyclic_graph(graph) else graph
    return {
        state: [
            f"{operation} of {source}" if operation else source
            for source, _, operation in graph.in_edges(state, data="operation")
        ]
        for state in order
        if graph.in_degree(state)
    }


def _rank(state: str) -> tuple[bool, int, str]:
    """Return a key that has numbers in their order, and words after them."""
    return (not state.isdecimal(), int(state) if state.isdecimal() else 0, state)


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"

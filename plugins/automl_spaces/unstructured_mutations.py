"""Mutations that put a vertex into a graph of the unstructured space, or take one out, and leave the rest as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from automl_spaces.dags import INPUT

if TYPE_CHECKING:
    from automl_spaces.unstructured import Graph, Vertex


def inserted(graph: Graph, place: int, vertex: Vertex) -> Graph:
    """Return the graph with a vertex before the one at a place, which reads it in place of what it read; or at the end.

    What the vertex is said to read counts for nothing.
    """

    def moved(read: int) -> int:
        return read + (read >= place)

    source = graph[place].source if place < len(graph) else len(graph) - 1
    later = [
        other._replace(source=place if number == place else moved(other.source), skips=tuple(map(moved, other.skips)))
        for number, other in enumerate(graph[place:], start=place)
    ]
    return (*graph[:place], vertex._replace(source=source, skips=()), *later)


def removed(graph: Graph, place: int) -> Graph:
    """Return the graph without the vertex at a place; what read it reads what that read by its primary edge."""
    instead = graph[place].source

    def moved(read: int) -> int:
        return instead if read == place else read - (read > place)

    later = []
    for vertex in graph[place + 1 :]:
        source = moved(vertex.source)
        skips = tuple(sorted({moved(read) for read in vertex.skips} - {source}))
        later.append(vertex._replace(source=source, skips=skips))
    return (*graph[:place], *later)


def filters_before(graph: Graph, place: int) -> int | None:
    """Return the filters of what the vertex at a place reads, or of the last map; None: the channels of the image."""
    read = graph[place].source if place < len(graph) else len(graph) - 1
    while read != INPUT:
        edge = graph[read].edge
        if edge is not None:
            return edge.filters
        read = graph[read].source
    return None

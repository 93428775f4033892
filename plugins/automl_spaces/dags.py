"""Directed graphs of layers as data: what leads to the output, one key for all tellings, and the edges for drawing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from automl_spaces import graphs
from automl_spaces.graphs import reaching

INPUT = -1  # what stands for the network's input among what a node reads


class Node(NamedTuple):
    """A layer, and the earlier nodes that it reads, in no order: by their places, and INPUT."""

    layer: tuple[Any, ...]  # of text and numbers that tell it from layers of another kind
    reads: tuple[int, ...]


Dag = Sequence[Node]  # each node after those it reads; the last one is the output


def alive(dag: Dag) -> list[Node]:
    """Return the nodes that the last one depends on, renumbered."""
    kept = reaching([[read for read in node.reads if read != INPUT] for node in dag], len(dag) - 1)
    places = {INPUT: INPUT, **{place: number for number, place in enumerate(kept)}}
    return [Node(dag[place].layer, tuple(places[read] for read in dag[place].reads)) for place in kept]


def canonical(dag: Dag) -> tuple[tuple[tuple[Any, ...], tuple[int, ...]], ...]:
    """Return one key for all orders in which the nodes can be told, and what they read; dead nodes have no say."""
    nodes = alive(dag)
    layers = {repr(node.layer): node.layer for node in nodes}
    told = graphs.canonical(
        [("input", ()), *((repr(node.layer), tuple(read - INPUT for read in node.reads)) for node in nodes)]
    )
    first = told.index(("input", ()))
    places = [INPUT if place == first else place - (place > first) for place in range(len(told))]
    return tuple(
        (layers[label], tuple(sorted(places[read] for read in reads))) for label, reads in told if label in layers
    )


def edges(dag: Dag, title: str = "output") -> list[tuple[str, str, str]]:
    """Return the edges as (from, to, layer): nodes are named by numbers from 1, the last one by the title."""
    names = {INPUT: "input", **{place: str(place + 1) for place in range(len(dag))}, len(dag) - 1: title}
    return [
        (names[read], names[place], " ".join(map(str, node.layer)))
        for place, node in enumerate(dag)
        for read in node.reads
    ]

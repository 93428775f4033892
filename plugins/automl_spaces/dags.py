"""Directed graphs of layers as data: what leads to the output, one key for all tellings, and the edges for drawing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

INPUT = -1  # what stands for the network's input among what a node reads


class Node(NamedTuple):
    """A layer, and the earlier nodes that it reads, in no order: by their places, and INPUT."""

    layer: tuple[Any, ...]  # of text and numbers that tell it from layers of another kind
    reads: tuple[int, ...]


Dag = Sequence[Node]  # each node after those it reads; the last one is the output


def alive(dag: Dag) -> list[Node]:
    """Return the nodes that the last one depends on, renumbered."""
    wanted = {len(dag) - 1}
    for place in reversed(range(len(dag))):
        if place in wanted:
            wanted.update(dag[place].reads)
    kept = [place for place in range(len(dag)) if place in wanted]
    places = {INPUT: INPUT, **{place: number for number, place in enumerate(kept)}}
    return [Node(dag[place].layer, tuple(places[read] for read in dag[place].reads)) for place in kept]


def canonical(dag: Dag) -> tuple[Any, ...]:
    """Return one key for all orders in which the nodes can be told, and what they read; dead nodes have no say.

    Nodes are told apart by their layers, and by what tells apart those they read and those that read them. Where that
    leaves some alike, each in turn is told first, and the smallest key counts: so it is right for any graph.
    """
    nodes = alive(dag)
    readers: list[list[int]] = [[] for _ in nodes]
    for place, node in enumerate(nodes):
        for read in node.reads:
            if read != INPUT:
                readers[read].append(place)
    kinds = {layer: number for number, layer in enumerate(sorted({_ordered(node.layer) for node in nodes}))}
    return _least(nodes, readers, [kinds[_ordered(node.layer)] for node in nodes])


def _ordered(layer: tuple[Any, ...]) -> tuple[tuple[str, str], ...]:
    """Return a layer as what can be sorted beside any other."""
    return tuple((type(part).__name__, str(part)) for part in layer)


def _refined(nodes: Dag, readers: Sequence[Sequence[int]], colours: Sequence[int]) -> list[int]:
    """Tell nodes apart by the colours around them until that tells no more apart."""
    count = 0
    while True:
        told = [
            (
                colours[place],
                sorted(INPUT if read == INPUT else colours[read] for read in node.reads),
                sorted(colours[reader] for reader in readers[place]),
            )
            for place, node in enumerate(nodes)
        ]
        order = sorted(told)
        ranks = [0]
        for before, after in pairwise(order):
            ranks.append(ranks[-1] + (before != after))
        colours = [ranks[order.index(one)] for one in told]
        if ranks[-1] == count:
            return list(colours)
        count = ranks[-1]


def _least(nodes: Dag, readers: Sequence[Sequence[int]], colours: Sequence[int]) -> tuple[Any, ...]:
    colours = _refined(nodes, readers, colours)
    alike = [colour for colour, number in Counter(colours).items() if number > 1]
    if not alike:
        order = sorted(range(len(nodes)), key=colours.__getitem__)
        reads = [sorted(INPUT if read == INPUT else colours[read] for read in nodes[place].reads) for place in order]
        return tuple((nodes[place].layer, tuple(read)) for place, read in zip(order, reads, strict=True))
    first = min(alike)
    tied = [place for place, colour in enumerate(colours) if colour == first]
    twins = {(tuple(sorted(nodes[place].reads)), tuple(readers[place])): place for place in tied}
    return min(  # of twins, which the rest of the graph cannot tell apart, one is enough
        (
            _least(nodes, readers, [2 * colour + (place != one) for place, colour in enumerate(colours)])
            for one in twins.values()
        ),
        key=lambda told: [(_ordered(layer), reads) for layer, reads in told],
    )


def edges(dag: Dag, title: str = "output") -> list[tuple[str, str, str]]:
    """Return the edges as (from, to, layer): nodes are named by numbers from 1, the last one by the title."""
    names = {INPUT: "input", **{place: str(place + 1) for place in range(len(dag))}, len(dag) - 1: title}
    return [
        (names[read], names[place], " ".join(map(str, node.layer)))
        for place, node in enumerate(dag)
        for read in node.reads
    ]

"""Graphs of labelled nodes: what reaches their output, and one form for all orders in which one can be told."""

from __future__ import annotations

from collections.abc import Sequence

Node = tuple[str, tuple[int, ...]]  # a label, and the places of the nodes that it reads, one as often as it is read
Form = tuple[Node, ...]


def reaching(reads: Sequence[Sequence[int]], output: int) -> list[int]:
    """Return the places of the nodes that the output depends on, itself among them, in their order.

    Each node stands after those that it reads.
    """
    needed = {output}
    for place in range(output, -1, -1):
        if place in needed:
            needed.update(reads[place])
    return sorted(needed)


def canonical(nodes: Sequence[Node]) -> Form:
    """Return one form for all orders of the nodes; those that a node reads have no order.

    Nodes are told apart by what they read and who reads them, as far as that goes (Weisfeiler & Leman, 1968); where it
    leaves several alike, each in turn is set apart, and the smallest form counts (McKay, 1981). Two nodes are never
    merged: what is computed twice is not what is read twice.
    """
    read_by: list[list[int]] = [[] for _ in nodes]
    for place, (_, sources) in enumerate(nodes):
        for source in sources:
            read_by[source].append(place)
    return _smallest(nodes, read_by, _refined(nodes, read_by, _ranks([(label,) for label, _ in nodes])))


def _ranks(keys: Sequence[tuple[object, ...]]) -> list[int]:
    order = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    return [order[key] for key in keys]


def _refined(nodes: Sequence[Node], read_by: Sequence[Sequence[int]], colours: list[int]) -> list[int]:
    """Return the colours told further apart by those of the neighbours, until that tells no more apart."""
    while True:
        finer = _ranks(
            [
                (
                    colours[place],
                    tuple(sorted([colours[source] for source in sources])),
                    tuple(sorted([colours[reader] for reader in read_by[place]])),
                )
                for place, (_, sources) in enumerate(nodes)
            ]
        )
        most = max(finer, default=0)
        if most == max(colours, default=0) or most == len(nodes) - 1:  # no two are left alike
            return finer
        colours = finer


def _smallest(nodes: Sequence[Node], read_by: Sequence[Sequence[int]], colours: list[int], first: bool = False) -> Form:
    """Return the smallest form over all ways to tell the nodes apart; ``first``: that of the first way."""
    alike: dict[int, list[int]] = {}
    for place, colour in enumerate(colours):
        alike.setdefault(colour, []).append(place)
    tied = next((places for _, places in sorted(alike.items()) if len(places) > 1), None)
    if tied is None:
        order = sorted(range(len(nodes)), key=colours.__getitem__)
        return tuple(
            (nodes[place][0], tuple(sorted([colours[source] for source in nodes[place][1]]))) for place in order
        )

    def apart(chosen: int) -> list[int]:
        keys = [(colour, place != chosen) for place, colour in enumerate(colours)]
        return _refined(nodes, read_by, _ranks(keys))

    if first:
        return _smallest(nodes, read_by, apart(tied[0]), first=True)
    # of twins, which the rest of the graph cannot tell apart, one is enough
    tied = list({(tuple(sorted(nodes[place][1])), tuple(read_by[place])): place for place in tied}.values())
    smallest = _smallest(nodes, read_by, apart(tied[0]))
    begun = _smallest(nodes, read_by, apart(tied[0]), first=True) if len(tied) > 1 else smallest
    for other in tied[1:]:
        # of equal first forms one node is the other's mirror image: all that follows of it is alike
        if _smallest(nodes, read_by, apart(other), first=True) != begun:
            smallest = min(smallest, _smallest(nodes, read_by, apart(other)))
    return smallest

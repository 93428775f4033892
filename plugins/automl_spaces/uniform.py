"""What random architectures are drawn uniformly from: the options of each decision, all architectures, or networks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Hashable, Sequence
from random import Random
from typing import Literal, TypeVar

from automl import Architecture, Options, Space

T = TypeVar("T")
Blueprint = TypeVar("Blueprint")
Uniform = Literal["decisions", "architectures"]


def weighed(uniform: Uniform, options: Sequence[T], ways: Sequence[int]) -> Options[T]:
    """Return the options of a decision, each of which goes on in so many ways; at least one goes on at all.

    Where random architectures are uniform over decisions all options are equally likely; where they are uniform over
    architectures, as likely as they have ways. So every decision that has options of unequal ways is to be drawn, and
    a description ends up with one chance among all.
    """
    if uniform == "decisions":
        return Options(options)
    return Options(options, [number / sum(ways) for number in ways])  # of whole numbers, which may be no floats


class EachNetwork(Space[Blueprint]):
    """A space that is described in equally likely ways, of which some are of one network.

    Where ``uniform`` is "networks", a random description is kept with one chance in as many as tell its network, so
    that every network is as likely as any other (rejection sampling; von Neumann, 1951).
    """

    uniform: Literal["decisions", "networks"]

    @abstractmethod
    def tellings(self, blueprint: Blueprint) -> int:
        """Return how many descriptions there are of the network, this one among them."""

    def sample(self, rng: Random) -> Architecture:
        drawn = super().sample(rng)
        if self.uniform == "networks":
            while rng.random() * self.tellings(drawn.blueprint) >= 1:
                drawn = super().sample(rng)
        return drawn


Reads = Sequence[tuple[int, str]]  # earlier nodes by their places, or less than 0 for what is given, and how


def tellings(nodes: Sequence[tuple[Hashable, Reads]], among: Collection[int] = ()) -> int:
    """Return in how many different ways a graph can be told, node by node, each after those it reads.

    A node has a label and what it reads; those at some places can only be told ``among`` these places. The ways are the
    orders of the nodes divided by those that tell the same, the graph's symmetries: no other leaves an order as it is.

    >>> tellings([("a", []), ("b", [])]), tellings([("a", []), ("a", [])]), tellings([("a", []), ("b", [(0, "")])])
    (2, 1, 1)
    """
    needs = [sum({1 << source for source, _ in reads if source >= 0}) for _, reads in nodes]
    orders = {0: 1}  # by the nodes told, as bits: in how many orders
    for _ in nodes:
        grown: dict[int, int] = {}
        for told, ways in orders.items():
            for place, need in enumerate(needs):
                is_next = not told >> place & 1 and told & need == need
                if is_next and (place in among) == (told.bit_count() in among):
                    grown[told | 1 << place] = grown.get(told | 1 << place, 0) + ways
        orders = grown
    return sum(orders.values()) // _symmetries(nodes, [])


def _symmetries(nodes: Sequence[tuple[Hashable, Reads]], chosen: list[int]) -> int:
    """Return in how many ways nodes can stand for the nodes in their order, the chosen ones for the first."""
    if len(chosen) == len(nodes):
        return 1
    label, reads = nodes[len(chosen)]
    wanted = sorted((source if source < 0 else chosen[source], how) for source, how in reads)
    return sum(
        _symmetries(nodes, [*chosen, place])
        for place, (other, others) in enumerate(nodes)
        if place not in chosen and other == label and sorted(others) == wanted
    )

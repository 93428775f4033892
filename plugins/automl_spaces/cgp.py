"""The space of Cartesian genetic programming: a grid of nodes, of which those that the output reaches are a network."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from annotated_types import Ge

from automl import Architecture, BadInput, Choose, Options, Task
from automl_spaces.counted import Counted
from automl_spaces.graphs import Form, canonical, reaching

if TYPE_CHECKING:
    from torch.nn import Module

KERNELS = (3, 5)
ONE = ("max_pool", "avg_pool")
TWO = ("concat", "sum")
INPUT = 0


class Node(NamedTuple):
    """An active node: its function, and the places of the active nodes that it reads, the network's input as 0."""

    function: str
    reads: tuple[int, ...]


@dataclass
class CGP(Counted[tuple[Node, ...]]):
    """A grid of ``rows`` by ``columns`` of nodes, each a function of earlier ones (Suganuma et al., 2017).

    A node has a function, of a convolution or residual ``block`` of each of the ``widths`` and with kernels of 3 and 5,
    the two poolings, concatenation and sum, and two nodes that it could read: of the ``levels_back`` columns before its
    own, or the network's input where that is as near. The output reads a node of the last so many columns. Only what it
    depends on is built, the blueprint; the other genes are silent. Maps of different size are joined at the smaller
    one's by maxima over 2 x 2, of different width by zeros; nothing smaller than a pixel is pooled. The mean over the
    last map goes to one linear layer.

    ``mutate`` changes an active gene, so that another network comes of it (forced mutation; Suganuma et al., 2018);
    named genes are changed as anywhere, for neutral drift. The paper's bounds on the number of active nodes, 10 to 50,
    are left out. It has rows=5, columns=30, levels_back=10 and widths of 32, 64 and 128. The defaults suit small images
    and a search of minutes.
    """

    rows: Annotated[int, Ge(1)] = 3
    columns: Annotated[int, Ge(1)] = 10
    levels_back: Annotated[int, Ge(1)] = 5
    block: Literal["convolution", "residual"] = "convolution"
    widths: tuple[Annotated[int, Ge(1)], ...] = (8, 16, 32)

    def __post_init__(self) -> None:
        blocks = [f"{self.block}{kernel}x{kernel}_{width}" for width, kernel in product(self.widths, KERNELS)]
        self._functions = Options((*blocks, *ONE, *TWO))
        self._functions.check("space.widths")
        if self.levels_back > self.columns:
            raise BadInput(
                f"space.levels_back={self.levels_back} goes further back than space.columns={self.columns}: "
                f"give at most {self.columns}"
            )
        self._sources = [self._readable(column) for column in range(self.columns + 1)]
        self._asked = [
            (column, f"node{number}.fn", f"node{number}.in0", f"node{number}.in1")
            for column in range(self.columns)
            for number in range(column * self.rows + 1, (column + 1) * self.rows + 1)
        ]

    def describe(self, choose: Choose) -> tuple[Node, ...]:
        nodes, kept = self._grid(choose)
        places = {old: new for new, old in enumerate(kept)}
        return tuple(nodes[old]._replace(reads=tuple(places[read] for read in nodes[old].reads)) for old in kept)

    def active(self, architecture: Architecture) -> list[str]:
        """Return the genes that the network depends on, in their order."""
        values = architecture.values
        nodes, kept = self._grid(lambda name, domain: values[name])
        genes: list[str] = []
        for number in kept:
            if number != INPUT:
                _, *names = self._asked[number - 1]
                genes += names[: 1 + len(nodes[number].reads)]
        return [gene for gene in [*genes, "output.in"] if gene in values]

    def mutate(self, architecture: Architecture, rng: Random, names: Collection[str] | None = None) -> Architecture:
        if names is None:
            free = [gene for gene in self.active(architecture) if architecture.domains[gene].count != 1]
            names = (rng.choice(free),) if free else ()
        return super().mutate(architecture, rng, names)

    def build(self, blueprint: tuple[Node, ...], task: Task) -> Module:
        from automl_spaces.cgp_network import GridNetwork

        self.check(task)
        return GridNetwork(blueprint, task.input, task.outputs)

    def canonical(self, blueprint: tuple[Node, ...]) -> Form:
        """Return one key for all places in the grid and both orders of a sum, whatever the silent genes.

        What is concatenated has an order: where widths differ, zeros stand for the last channels.
        """
        told: list[tuple[str, tuple[int, ...]]] = []
        places: list[int] = []
        for function, reads in blueprint:
            read = [places[source] for source in reads]
            if function == "concat":
                told += [("first", (read[0],)), ("second", (read[1],))]
                read = [len(told) - 2, len(told) - 1]
            told.append((function, tuple(read)))
            places.append(len(told) - 1)
        return canonical([*told, ("output", (len(told) - 1,))])

    def size(self) -> int:
        """Return the number of genotypes: of each node functions x readable^2, of the output the readable nodes."""
        size = self._sources[-1].count
        for column, *_ in self._asked:
            size *= self._functions.count * self._sources[column].count ** 2
        return size

    def graph(self, blueprint: tuple[Node, ...]) -> dict[str, list[tuple[str, str, str]]]:
        """Return the active nodes' edges (from, to, function) by the network's name, for drawing it."""
        names = ["input", *map(str, range(1, len(blueprint)))]
        drawn = [
            (names[read], names[place], node.function) for place, node in enumerate(blueprint) for read in node.reads
        ]
        return {"network": [*drawn, (names[-1], "output", "")]}

    def _grid(self, choose: Callable[[str, Any], Any]) -> tuple[list[Node], list[int]]:
        """Return all nodes, the input as the first, and the places of those that the output depends on."""
        functions = self._functions
        nodes = [Node("input", ())]
        for column, fn, in0, in1 in self._asked:
            function, sources = choose(fn, functions), self._sources[column]
            if sources.count > 1:
                first, second = choose(in0, sources), choose(in1, sources)
            else:
                first = second = sources.options[0]
            nodes.append(Node(function, (first, second) if function in TWO else (first,)))
        output = self._sources[-1]
        last = choose("output.in", output) if output.count > 1 else output.options[0]
        return nodes, reaching([node.reads for node in nodes], last)

    def _readable(self, column: int) -> Options[int]:
        """Return the nodes that a column can read, counted from 1; 0 is the network's input."""
        first = max(0, column - self.levels_back)
        near = [INPUT] if column < self.levels_back else []
        nodes = [*near, *range(first * self.rows + 1, column * self.rows + 1)]
        return Options([node for node in nodes if node != INPUT] if column == self.columns else nodes)

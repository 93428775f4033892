"""The cell space of NAS-Bench-201: six edges with one of five operations each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, permutations, product
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge

from automl import Architecture, BadInput, Choose, Op, Options, Task
from automl.errors import near_miss, printable
from automl_spaces.dense_cells import DECISIONS, EDGES, DenseCell, decide, edges
from automl_spaces.image_sizes import check_side
from automl_spaces.operations import OPERATIONS
from automl_spaces.uniform import EachNetwork

if TYPE_CHECKING:
    from torch.nn import Module


NONE, SKIP = "none", "skip_connect"
_OPERATIONS = Options(
    (
        Op(NONE, OPERATIONS["none"].make),
        Op(SKIP, OPERATIONS["identity"].make),
        Op("nor_conv_1x1", OPERATIONS["conv1x1"].make),
        Op("nor_conv_3x3", OPERATIONS["conv3x3"].make),
        Op("avg_pool_3x3", OPERATIONS["avg3x3"].make),
    )
)
_STAGES = 3
_LEAST = 2 ** (_STAGES - 1)  # pixels of a side: one is left in the last stage


@dataclass
class NASBench201(EachNetwork[DenseCell]):
    """One cell of four nodes, stacked in three stages (Dong & Yang, 2020).

    ``cells`` is the number of cells a stage, ``channels`` the width of the first, which doubles twice, in a residual
    block that halves the size. The defaults are the benchmark's, so that what is built has the parameters and the
    multiply-adds that it counts: edges count that lead nowhere, and so does the classifier's bias among the
    multiply-adds.

    ``uniform`` says what random architectures are drawn uniformly from: the options of each decision, by which a
    network with several descriptions is drawn as many times as often, or all 5,425 ``networks``.
    """

    cells: Annotated[int, Ge(1)] = 5
    channels: Annotated[int, Ge(1)] = 16
    uniform: Literal["decisions", "networks"] = "decisions"

    def describe(self, choose: Choose) -> DenseCell:
        return decide(choose, _OPERATIONS)

    def build(self, blueprint: DenseCell, task: Task) -> Module:
        from automl_spaces.nasbench201_network import network

        self.check(task)
        return network(blueprint, _STAGES, self.cells, self.channels, task.input[0], task.outputs)

    def check(self, task: Task) -> None:
        check_side("nasbench201", task, _LEAST)

    def canonical(self, blueprint: DenseCell) -> tuple[object, ...]:
        """Return one key for all cells that compute the same, whatever their weights: 5,425 of 15,625 differ.

        Operations that lead nowhere, or that nothing leads to, are left out, and a skip is what it skips from; so a
        node is the sum of the results of some operations. The key is the smallest over all orders of these.
        """
        return min(_tellings(*_alive(blueprint)))

    @cached_property
    def _tellings(self) -> Counter[object]:
        return Counter(self.canonical(one.blueprint) for one in self.enumerate())

    def tellings(self, blueprint: DenseCell) -> int:
        """Return how many of the 15,625 cells compute the same; all are looked at once, which takes a second."""
        return self._tellings[self.canonical(blueprint)]

    def isomorph(self, blueprint: DenseCell) -> str:
        """Return the benchmark's own text for a class of cells, of which it counts 6,466, to join tables by.

        It has no place for results that are read twice: a cell that adds one convolution's result to itself and one
        that adds up two convolutions are told alike. So it is no key to what was trained.
        """
        nodes = ["0"]
        for node in range(1, 4):
            terms = []
            for (source, target), op in zip(EDGES, blueprint, strict=True):
                if target == node:
                    given = nodes[source]
                    nothing = op.name == NONE or given == "#"
                    terms.append("#" if nothing else given if op.name == SKIP else f"({given})@{op.name}")
            nodes.append("+".join(sorted(terms)))
        return nodes[-1]

    def size(self) -> int:
        return int(_OPERATIONS.count ** len(EDGES))

    def graph(self, blueprint: DenseCell) -> dict[str, list[tuple[str, str, str]]]:
        """Return the cell's edges (from, to, operation) by its name, for drawing it."""
        return {"cell": edges(blueprint)}

    def arch(self, blueprint: DenseCell) -> str:
        """Return the cell in the benchmark's notation, ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``."""
        nodes = [
            "".join(
                f"{op.name}~{source}|" for (source, target), op in zip(EDGES, blueprint, strict=True) if target == node
            )
            for node in range(1, 4)
        ]
        return "+".join(f"|{node}" for node in nodes)

    def from_arch(self, text: str) -> Architecture:
        """Return the architecture that is written so in the benchmark's notation; raises BadInput for another text."""
        names = re.findall(r"\|?([^|~+]+)~\d", text)
        known = {op.name: op for op in _OPERATIONS}
        for name in names:
            if name not in known:
                raise BadInput(
                    f"the cell {printable(text)!r} has the operation {printable(name)!r}"
                    f"{near_miss(name, known)}: write it with {', '.join(known)}"
                )
        if len(names) != len(EDGES) or self.arch(tuple(known[name] for name in names)) != text:
            raise BadInput(
                f"{printable(text)!r} is no cell of NAS-Bench-201: write |op~0|+|op~0|op~1|+|op~0|op~1|op~2|"
            )
        return self.read(dict(zip(DECISIONS, names, strict=True)))


_INPUT = -1  # what stands for the cell's input among the results that are added up
Result = tuple[str, tuple[int, ...]]  # an operation and the results, by their places, whose sum it is applied to


def _alive(cell: DenseCell) -> tuple[list[Result], tuple[int, ...]]:
    """Return the operations that the cell's output depends on, each after those it reads, and what is added up."""
    nodes: list[tuple[int, ...]] = [(_INPUT,)]
    results: list[Result] = []
    for node in range(1, 4):
        terms: tuple[int, ...] = ()
        for (source, target), op in zip(EDGES, cell, strict=True):
            if target != node or op.name == NONE or not nodes[source]:
                continue
            if op.name == SKIP:
                terms += nodes[source]
            else:
                terms += (len(results),)
                results.append((op.name, nodes[source]))
        nodes.append(terms)
    alive = set(nodes[-1])
    for place in reversed(range(len(results))):
        if place in alive:
            alive |= set(results[place][1])
    places = [place for place in range(len(results)) if place in alive]
    labels = {_INPUT: _INPUT, **{place: label for label, place in enumerate(places)}}
    return (
        [(results[place][0], tuple(labels[read] for read in results[place][1])) for place in places],
        tuple(labels[read] for read in nodes[-1]),
    )


def _tellings(results: Sequence[Result], output: Sequence[int]) -> Iterator[tuple[object, ...]]:
    """Yield the cell told in every order of its operations that differs by more than by what they are."""
    texts = {_INPUT: "0"}
    for place, (name, read) in enumerate(results):
        texts[place] = f"({'+'.join(sorted(texts[source] for source in read))})@{name}"
    alike = [
        tuple(group) for _, group in groupby(sorted(range(len(results)), key=texts.__getitem__), texts.__getitem__)
    ]
    for orders in product(*map(permutations, alike)):
        order = [place for group in orders for place in group]
        labels = {_INPUT: _INPUT, **{place: label for label, place in enumerate(order)}}
        told = tuple((results[p][0], tuple(sorted(labels[source] for source in results[p][1]))) for p in order)
        yield told, tuple(sorted(labels[source] for source in output))

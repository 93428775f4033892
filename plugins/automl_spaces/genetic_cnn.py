"""The space of Genetic CNN: stages of convolutions, and a bit for every pair of them that may be joined."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Lt

from automl import BadInput, Choose, Space, Task
from automl_spaces.dags import INPUT, Node, canonical, edges
from automl_spaces.image_sizes import check_side

if TYPE_CHECKING:
    from torch.nn import Module

Stages = tuple[tuple[int, ...], ...]  # the bits of each stage, for 1-2, 1-3, 2-3 of three nodes, in pairs' order
_BITS = (0, 1)


@dataclass
class GeneticCNN(Space[Stages]):
    """Stages of 3 x 3 convolutions, the nodes, with edges from any earlier ones to later ones (Xie & Yuille, 2017).

    A stage has so many ``nodes`` and ``filters``. What a node reads is summed. A convolution before them feeds all
    nodes that read none, one after them sums all that none reads; nodes without an edge are left out, so that a stage
    without edges has these two convolutions alone. A pool of 2 x 2 ends each stage. The head has ``hidden`` units and
    ``dropout``.

    Stages are what a crossover exchanges. ``width`` multiplies the filters. The paper searches with
    ``filters=[8,16,32]`` on CIFAR-10, and with ``nodes=[3,5]`` on MNIST, and trains what it finds with many more.
    """

    nodes: tuple[Annotated[int, Ge(1)], ...] = (3, 4, 5)
    filters: tuple[Annotated[int, Ge(1)], ...] = (8, 16, 32)
    hidden: Annotated[int, Ge(1)] = 128
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.5
    width: Annotated[int, Ge(1)] = 1

    def __post_init__(self) -> None:
        if not self.nodes or len(self.nodes) != len(self.filters):
            raise BadInput(
                f"space.nodes={list(self.nodes)} has {len(self.nodes)} stages and space.filters={list(self.filters)} "
                f"{len(self.filters)}: give both a number for each stage"
            )
        self._names = [
            [f"stage{stage}.edge{one}_{other}" for one, other in pairs(count)] for stage, count in enumerate(self.nodes)
        ]

    def describe(self, choose: Choose) -> Stages:
        return tuple([tuple([choose(name, _BITS) for name in names]) for names in self._names])

    def build(self, blueprint: Stages, task: Task) -> Module:
        from automl_spaces.genetic_cnn_network import network

        self.check(task)
        dags = [stage(bits, count) for bits, count in zip(blueprint, self.nodes, strict=True)]
        filters = [self.width * count for count in self.filters]
        return network(dags, filters, self.hidden, self.dropout, task.input, task.outputs)

    def check(self, task: Task) -> None:
        stages = len(self.nodes)  # each of which halves the size
        check_side(f"genetic_cnn with {stages} stages", task, 2**stages, "fewer space.nodes")

    def canonical(self, blueprint: Stages) -> tuple[object, ...]:
        """Return one key for all numberings of the nodes of a stage; a node without an edge has no say."""
        return tuple([canonical(stage(bits, count)) for bits, count in zip(blueprint, self.nodes, strict=True)])

    def size(self) -> int:
        """Return the number of descriptions: 2 to the number of pairs of nodes of a stage."""
        return int(2 ** sum(count * (count - 1) // 2 for count in self.nodes))

    def exceeds(self, number: int) -> bool:
        return self.size() > number

    def graph(self, blueprint: Stages) -> dict[str, list[tuple[str, str, str]]]:
        """Return each stage's edges (from, to, operation) by the stage's name, for drawing it."""
        return {
            f"stage{number}": edges(stage(bits, count))
            for number, (bits, count) in enumerate(zip(blueprint, self.nodes, strict=True))
        }


def pairs(count: int) -> list[tuple[int, int]]:
    """Return the pairs of nodes, from 1, in the order of their bits: those of the second node, of the third, ..."""
    return sorted(combinations(range(1, count + 1), 2), key=lambda pair: (pair[1], pair[0]))


def stage(bits: tuple[int, ...], count: int) -> list[Node]:
    """Return a stage's graph between its first convolution, which is the input, and its last."""
    joined = [pair for pair, bit in zip(pairs(count), bits, strict=True) if bit]
    kept = sorted({node for pair in joined for node in pair})
    places = {node: place for place, node in enumerate(kept)}
    nodes = [
        Node(("conv3x3",), tuple(places[one] for one, other in joined if other == node) or (INPUT,)) for node in kept
    ]
    feeding = {one for one, _ in joined}
    last = tuple(places[node] for node in kept if node not in feeding) or (INPUT,)
    return [*nodes, Node(("conv3x3",), last)]

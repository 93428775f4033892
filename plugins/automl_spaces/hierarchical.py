"""The hierarchical space: motifs of operations, a cell of motifs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import combinations
from random import Random
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from automl import Architecture, BadInput, Choose, Op, Options, Task
from automl_spaces.counted import Counted
from automl_spaces.graphs import Form
from automl_spaces.image_sizes import check_stages
from automl_spaces.operations import OPERATIONS, named
from automl_spaces.states import FIRST, JOINED, State, alive, key, made_by

if TYPE_CHECKING:
    from torch.nn import Module

HIERARCHICAL_OPERATIONS = ("conv1x1", "depthwise3x3", "sep3x3_once", "max3x3", "avg3x3", "identity")
NONE = OPERATIONS["none"]
IDENTITY = "identity"

Level = tuple[tuple[Op | int, ...], ...]  # of each motif its edges: an operation, or a motif of the level below


@dataclass
class Hierarchical(Counted[tuple[Level, ...]]):
    """Graphs of operations, the motifs, that are the edges of a larger graph, the cell (Liu et al., 2018).

    ``nodes`` has the number of nodes of the graphs of each level, ``motifs`` how many graphs there are of each level
    below the last, which is the cell. Every two nodes of a graph are joined by an edge that carries nothing, an
    operation, or on higher levels a motif, with weights of its own wherever it is used. A node concatenates what its
    edges bring and, where they are several, a 1 x 1 convolution takes that back to the cell's width. An edge from a
    node that nothing reaches carries nothing, and neither does a motif without a path; a cell without one hands its
    input on.

    ``cells`` is the number of cells a stage, of which there are three; ``channels`` the width of the first stage,
    which a separable convolution of stride 2 doubles from stage to stage. The paper searched with channels=16 on
    CIFAR-10 and trained with channels=64; its flat space is nodes=[11] motifs=[]. The defaults suit small images and a
    search of minutes.

    ``mutations`` says what a random architecture is: of so many changes of the trivial one, whose graphs are chains of
    identities (the paper: 1,000), or, null, of labels that are all drawn. A mutation changes one label of an edge, on
    each level as often as on any other.
    """

    nodes: tuple[Annotated[int, Ge(2)], ...] = (4, 5)
    motifs: tuple[Annotated[int, Ge(1)], ...] = (6,)
    cells: Annotated[int, Ge(1)] = 1
    channels: Annotated[int, Ge(1)] = 8
    operations: tuple[str, ...] = HIERARCHICAL_OPERATIONS
    mutations: Annotated[int, Ge(0)] | None = None

    def __post_init__(self) -> None:
        if len(self.nodes) != len(self.motifs) + 1:
            raise BadInput(
                f"space.nodes has {len(self.nodes)} levels and space.motifs {len(self.motifs)}: give motifs for each "
                "level but the last, as space.nodes=[4,5] space.motifs=[6]"
            )
        operations: Options[Op | int] = Options([NONE, *named(self.operations, self.channels)])
        operations.check("space.operations")
        self._asked = []
        for level, (nodes, motifs) in enumerate(zip(self.nodes, (*self.motifs, 1), strict=True), start=2):
            names = [
                [f"l{level}.m{motif}.e{i}_{j}" for i, j in combinations(range(nodes), 2)] for motif in range(motifs)
            ]
            self._asked.append((operations, names))
            operations = Options(range(motifs + 1))  # 0: nothing
            operations.check("space.motifs")
        if self.mutations is not None and IDENTITY not in self.operations:
            raise BadInput(
                f"space.mutations={self.mutations} changes a network of identities, and space.operations has none: "
                f"add {IDENTITY}, or give space.mutations=null"
            )

    def describe(self, choose: Choose) -> tuple[Level, ...]:
        return tuple(
            [
                tuple([tuple([choose(edge, labels) for edge in edges]) for edges in motifs])
                for labels, motifs in self._asked
            ]
        )

    def sample(self, rng: Random) -> Architecture:
        if self.mutations is None:
            return super().sample(rng)
        values = self.trivial()
        for _ in range(self.mutations):
            labels, edge = self._edge(rng)
            values[edge] = labels.other(values[edge], rng.random)
        return self.complete(values, rng)

    def mutate(self, architecture: Architecture, rng: Random, names: Collection[str] | None = None) -> Architecture:
        return super().mutate(architecture, rng, (self._edge(rng)[1],) if names is None else names)

    def trivial(self) -> dict[str, Op | int]:
        """Return the decisions that make every graph a chain: of identities, or of the first motif below."""
        values: dict[str, Op | int] = {}
        for (labels, motifs), nodes in zip(self._asked, self.nodes, strict=True):
            one = next(label for label in labels if label == 1 or (isinstance(label, Op) and label.name == IDENTITY))
            for edges in motifs:
                pairs = zip(edges, combinations(range(nodes), 2), strict=True)
                values |= {edge: one if j == i + 1 else labels.options[0] for edge, (i, j) in pairs}
        return values

    def _edge(self, rng: Random) -> tuple[Options[Op | int], str]:
        """Draw a level, a motif of it and an edge of that; return its labels and its name."""
        labels, motifs = rng.choice(self._asked)
        return labels, rng.choice(rng.choice(motifs))

    def build(self, blueprint: tuple[Level, ...], task: Task) -> Module:
        from automl_spaces.hierarchical_network import network

        self.check(task)
        return network(self.written_out(blueprint), self.cells, self.channels, task.input[0], task.outputs)

    def check(self, task: Task) -> None:
        check_stages("hierarchical", task, 3)

    def written_out(self, blueprint: tuple[Level, ...]) -> tuple[State, ...]:
        """Return the cell's states, each after those it reads: the input first, the output last, none of them dead."""
        states = [FIRST]

        def graph(level: int, motif: int, source: int) -> int | None:
            """Add the states of a graph that reads a state, and return its output; None: it has no path."""
            size = self.nodes[level]
            reached: list[int | None] = [source]
            edges = dict(zip(combinations(range(size), 2), blueprint[level][motif], strict=True))
            for node in range(1, size):
                brought = [edge(level, edges[before, node], state) for before, state in enumerate(reached)]
                terms = [state for state in brought if state is not None]
                if len(terms) > 1:
                    states.append(State(JOINED, tuple(terms)))
                    terms = [len(states) - 1]
                reached.append(terms[0] if terms else None)
            return reached[-1]

        def edge(level: int, label: Op | int, state: int | None) -> int | None:
            if state is None or label in (0, NONE):
                return None
            if not isinstance(label, Op):
                return graph(level - 1, label - 1, state)
            if label.name == "identity":
                return state
            states.append(made_by(label, state))
            return len(states) - 1

        output = graph(len(self.nodes) - 1, 0, 0)
        return alive(states, 0 if output is None else output)

    def canonical(self, blueprint: tuple[Level, ...]) -> Form:
        """Return one key for all descriptions of one network: motifs and nodes in any order, dead ones or none."""
        return key(self.written_out(blueprint))

    def size(self) -> int:
        """Return the number of descriptions: labels^edges, over all motifs and the cell."""
        total = 1
        for labels, motifs in self._asked:
            for edges in motifs:
                total *= labels.count ** len(edges)
        return total

    def graph(self, blueprint: tuple[Level, ...]) -> dict[str, list[tuple[str, str, str]]]:
        """Return the edges (from, to, operation or motif) of the cell and of each motif, those that carry something."""
        drawn = {}
        for level, motifs in enumerate(blueprint):
            names = ["input", *map(str, range(1, self.nodes[level] - 1)), "output"]
            for motif, labels in enumerate(motifs):
                name = "cell" if level == len(blueprint) - 1 else f"l{level + 2}.m{motif}"
                drawn[name] = [
                    (names[i], names[j], label.name if isinstance(label, Op) else f"l{level + 1}.m{label - 1}")
                    for (i, j), label in zip(combinations(range(self.nodes[level]), 2), labels, strict=True)
                    if label not in (0, NONE)
                ]
        return drawn

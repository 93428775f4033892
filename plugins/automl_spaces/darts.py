"""The cell space of DARTS: two cells of four nodes that read two earlier states each."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb, prod
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Lt

from automl import Architecture, BadInput, Choose, Options, Task
from automl_spaces.cells import Block, Cells, canonical, edges
from automl_spaces.genotypes import DARTS as STYLE
from automl_spaces.genotypes import genotype
from automl_spaces.image_sizes import check_size
from automl_spaces.operations import named
from automl_spaces.uniform import EachNetwork, tellings

if TYPE_CHECKING:
    from torch.nn import Module

DARTS_OPERATIONS = ("max3x3", "avg3x3", "skip", "sep3x3", "sep5x5", "dilsep3x3", "dilsep5x5")


@dataclass
class DARTS(EachNetwork[Cells]):
    """Normal and reduction cells of nodes that add one operation on each of two different states (Liu et al., 2019).

    All nodes are concatenated. The two states that a node reads are one decision, so that each network is described
    once, and the first node, which has no choice, makes none; an operation's decision is named by the state it reads.
    A supernet reads all states with all operations at once. States are counted as elsewhere here: 0 is the output
    of the last cell, 1 that of the one before it (the paper's release has them the other way round), 2 the first
    node. The paper's eighth operation, none, is for supernets: it is never derived.

    ``cells`` is the number of normal cells a stage, ``channels`` the width of the first stage, doubled by each of the
    ``reductions``. ``skeleton`` says how the network begins: "cifar" with one convolution, "imagenet" with three that
    halve the size. ``stem`` is the width of these: by default 3 x channels, and channels. ``drop_path`` is the
    probability to drop a path of the last cell when training ends, ``auxiliary`` adds a second classifier in training.

    The published networks have 20 cells on CIFAR-10 (cells=6 channels=36, drop_path 0.2 and an auxiliary head) and 14
    on ImageNet (cells=4 channels=48 skeleton=imagenet). The defaults suit small images and a search of minutes.

    ``uniform`` says what random architectures are drawn uniformly from: the options of each decision, by which a
    network with several descriptions is drawn as many times as often, or all ``networks``: nodes can be told in several
    orders.
    """

    nodes: Annotated[int, Ge(1)] = 4
    cells: Annotated[int, Ge(1)] = 1
    channels: Annotated[int, Ge(1)] = 8
    reductions: Annotated[int, Ge(0)] = 2
    skeleton: Literal["cifar", "imagenet"] = "cifar"
    stem: Annotated[int, Ge(1)] | None = None
    drop_path: Annotated[float, Ge(0), Lt(1)] = 0.0
    auxiliary: bool = False
    operations: tuple[str, ...] = DARTS_OPERATIONS
    uniform: Literal["decisions", "networks"] = "decisions"

    def __post_init__(self) -> None:
        self._operations = Options(named(self.operations, self.channels))
        self._operations.check("space.operations")
        self._kinds = ("normal", "reduce") if self.reductions else ("normal",)
        self._asked = [[_asked(kind, node) for node in range(self.nodes)] for kind in self._kinds]

    def describe(self, choose: Choose) -> Cells:
        operations = self._operations
        cells = []
        for nodes in self._asked:
            blocks = []
            for pairs, inputs, ops in nodes:
                read = choose(inputs, pairs) if pairs.count > 1 else pairs.options[0]
                (in0, op0), (in1, op1), *more = [(state, choose(ops[state], operations)) for state in read]
                blocks.append(Block(in0, in1, op0, op1, more=tuple(more)))
            cells.append(tuple(blocks))
        return Cells(cells[0], cells[1] if len(cells) > 1 else None)

    def build(self, blueprint: Cells, task: Task) -> Module:
        from automl_spaces.cell_networks import CellNetwork, Plan

        self.check(task)
        keep = range(2, self.nodes + 2)
        plan = Plan(
            cells=self.cells,
            channels=self.channels,
            reductions=self.reductions,
            skeleton=self.skeleton,
            stem=self.stem or (3 * self.channels if self.skeleton == "cifar" else self.channels),
            drop_path=self.drop_path,
            auxiliary=self.auxiliary,
            style=STYLE,
            keep=keep,
            keep_reduce=keep,
        )
        return CellNetwork(blueprint, plan, task.input, task.outputs)

    def check(self, task: Task) -> None:
        check_size("darts", task, self.reductions + (0 if self.skeleton == "cifar" else 3), self.reductions)

    def canonical(self, blueprint: Cells) -> str:
        return "/".join(canonical(cell) for cell in blueprint if cell is not None)

    def tellings(self, blueprint: Cells) -> int:
        """Return how many descriptions there are of the network: the orders of the nodes of both cells."""
        return prod(
            tellings([("", [(state - 2, op.name) for state, op in node.sides]) for node in cell])
            for cell in blueprint
            if cell is not None
        )

    def size(self) -> int:
        """Return the number of architectures: a cell has prod over its nodes of C(states, 2) operations^2."""
        cell = prod(comb(node + 2, 2) * len(self.operations) ** 2 for node in range(self.nodes))
        return int(cell ** len(self._kinds))

    def graph(self, blueprint: Cells) -> dict[str, list[tuple[str, str, str]]]:
        """Return each cell's edges (from, to, operation) by the cell's name, for drawing it."""
        keep = range(2, self.nodes + 2)
        return {
            kind: edges(cell, keep)
            for kind, cell in zip(("normal", "reduce"), blueprint, strict=True)
            if cell is not None
        }

    def published(self, name: str) -> Architecture:
        """Return published cells, such as ``darts_v2``; raises BadInput for those that are not of this space."""
        values: dict[str, object] = {}
        for kind, cell in zip(self._kinds, genotype(name).cells(), strict=False):
            assert cell is not None, "every genotype has a reduction cell"
            for node, block in enumerate(cell):
                (in0, op0), (in1, op1) = sorted(
                    [(block.in0, block.op0.name), (block.in1, block.op1.name)], key=lambda side: side[0]
                )
                if in0 == in1:
                    raise BadInput(
                        f"genotype {name} has a node that reads one state twice, and a node of space darts reads two: "
                        "give darts_v1 or darts_v2"
                    )
                if node or (in0, in1) != (0, 1):
                    values[f"{kind}.n{node}.inputs"] = [in0, in1]
                values[f"{kind}.n{node}.op{in0}"], values[f"{kind}.n{node}.op{in1}"] = op0, op1
        return self.read(values)


def _asked(kind: str, node: int) -> tuple[Options[tuple[int, ...]], str, list[str]]:
    """Return the pairs of states that a node can read and the names of its decisions, made once."""
    name = f"{kind}.n{node}"
    states = range(node + 2)
    pairs: Options[tuple[int, ...]] = Options(tuple(combinations(states, 2)), together=tuple(states))
    return pairs, f"{name}.inputs", [f"{name}.op{state}" for state in states]

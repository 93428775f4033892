"""The one-shot space of choice blocks: each reads some of the states before it and applies a few operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NamedTuple

from annotated_types import Ge

from automl import Choose, Op, Options, Task
from automl_spaces.counted import Counted
from automl_spaces.graphs import Form, canonical
from automl_spaces.image_sizes import check_stages
from automl_spaces.operations import OPERATIONS, named
from automl_spaces.subsets import subsets

if TYPE_CHECKING:
    from torch.nn import Module

CHOICE_OPERATIONS = ("identity", "sep3x3", "sep5x5", "conv1x7_7x1", "max3x3", "avg3x3")
NONE = OPERATIONS["none"]


class ChoiceBlock(NamedTuple):
    """The states that are added up, h[k-1] as 0 and h[k-2] as 1, and the operations on the sum, added up in turn."""

    reads: tuple[int, ...]
    operations: tuple[Op, ...]


Cell = tuple[ChoiceBlock, ...]


@dataclass
class ChoiceBlocks(Counted[Cell]):
    """One cell of choice blocks, as one-shot models hold all at once (Bender et al., 2018).

    A block adds up at most ``inputs`` of the states before it, the outputs of the last two cells and earlier blocks,
    applies at most ``paths`` operations to the sum, of which only the first must be one, and adds up what they make.
    All blocks are concatenated.

    ``cells`` is the number of cells a stage, of which there are ``stages`` with averages over 2 x 2 between them;
    ``channels`` the width of the first stage, which doubles after each. The paper's networks have eight cells; it
    trains one set of weights for all (``evaluator=supernet strategy=random``). The defaults suit small images and a
    search of minutes.
    """

    blocks: Annotated[int, Ge(1)] = 4
    inputs: Annotated[int, Ge(1)] = 5
    paths: Annotated[int, Ge(1)] = 2
    stages: Annotated[int, Ge(1)] = 3
    cells: Annotated[int, Ge(1)] = 1
    channels: Annotated[int, Ge(1)] = 8
    operations: tuple[str, ...] = CHOICE_OPERATIONS

    def __post_init__(self) -> None:
        operations = named(self.operations, self.channels)
        self._one, self._more = Options(operations), Options([NONE, *operations])
        self._one.check("space.operations")
        self._more.check("space.operations")
        self._asked = [
            (subsets(block + 2, self.inputs), f"b{block}.inputs", [f"b{block}.op{path}" for path in range(self.paths)])
            for block in range(self.blocks)
        ]

    def describe(self, choose: Choose) -> Cell:
        one, more = self._one, self._more
        cell = []
        for sets, inputs, (first, *others) in self._asked:
            reads = choose(inputs, sets)
            chosen = [choose(first, one), *[choose(other, more) for other in others]]
            cell.append(ChoiceBlock(reads, tuple([op for op in chosen if op.name != NONE.name])))
        return tuple(cell)

    def build(self, blueprint: Cell, task: Task) -> Module:
        from automl_spaces.choice_blocks_network import ChoiceNetwork

        self.check(task)
        return ChoiceNetwork(blueprint, self.stages, self.cells, self.channels, task.input[0], task.outputs)

    def check(self, task: Task) -> None:
        check_stages("choice_blocks", task, self.stages)

    def canonical(self, blueprint: Cell) -> Form:
        """Return one key for all orders of the blocks, of their inputs and of their operations."""
        told: list[tuple[str, tuple[int, ...]]] = [("h[k-1]", ()), ("h[k-2]", ())]
        places = [0, 1]
        for reads, operations in blueprint:
            terms = [places[read] for read in reads]
            read = _sum(told, terms)
            made = []
            for op in operations:
                if op.name != "identity":
                    told.append((op.name, (read,)))
                made.append(read if op.name == "identity" else len(told) - 1)
            places.append(_sum(told, made))
        return canonical([*told, ("output", tuple(places[2:]))])

    def size(self) -> int:
        """Return the number of descriptions: of each block its sets of inputs, operations and further ones or none."""
        size = 1
        for sets, _, others in self._asked:
            size *= sets.count * self._one.count * self._more.count ** (len(others) - 1)
        return size

    def graph(self, blueprint: Cell) -> dict[str, list[tuple[str, str, str]]]:
        """Return the cell's edges (from, to, operations) by its name, for drawing it."""
        names = ["h[k-1]", "h[k-2]", *map(str, range(len(blueprint)))]
        drawn = [
            (names[read], names[place], " + ".join(op.name for op in block.operations))
            for place, block in enumerate(blueprint, start=2)
            for read in block.reads
        ]
        return {"cell": [*drawn, *((name, "output", "") for name in names[2:])]}


def _sum(told: list[tuple[str, tuple[int, ...]]], terms: list[int]) -> int:
    """Tell a sum, where there is one and it was not told, and return its place."""
    if len(terms) == 1:
        return terms[0]
    made = ("sum", tuple(sorted(terms)))
    if made not in told:
        told.append(made)
    return told.index(made)

"""The tree-structured cells of path-level search: nodes that split their input over branches and merge the results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NamedTuple

from annotated_types import Ge

from automl import BadInput, Choose, Op, Options, Task
from automl_spaces.counted import Counted
from automl_spaces.image_sizes import check_stages
from automl_spaces.operations import named
from automl_spaces.uniform import Uniform, weighed

if TYPE_CHECKING:
    from torch.nn import Module

TREE_OPERATIONS = ("sep3x3_once", "sep5x5_once", "sep7x7_once", "conv1x1", "identity", "max3x3", "avg3x3")
BRANCHES = {"add2": 2, "add3": 3, "concat2": 2}  # by how a node merges them
STAGES = 3


class Branch(NamedTuple):
    """An operation and, where it was expanded, the node after it."""

    op: Op
    node: Node | None


class Node(NamedTuple):
    """How branches are merged: "add2" and "add3" give each all channels and add, "concat2" deals them out."""

    merge: str
    branches: tuple[Branch, ...]


class _Asked(NamedTuple):
    """A node's decisions and their options, and those of what its branches may be expanded to."""

    merge: str
    merges: Options[str]
    expands: Options[int]
    branches: tuple[tuple[str, str, _Asked | None], ...]


@dataclass
class TreeCell(Counted[Node]):
    """A cell that is a tree of branches, up to ``depth`` nodes deep (Cai et al., 2018).

    A node gives all of its branches its input and adds what they make, two or three, or deals its channels out to two
    and concatenates. A branch has one of the ``operations`` and may be expanded by a node after it, which may turn out
    to have no branches: then it is none. All this is asked depth first.

    The cell stands between two 1 x 1 convolutions in a residual unit, as in the paper's PyramidNets; ``cells`` is the
    number of units a stage, of which there are three, ``channels`` the width of the first stage, which doubles. The
    paper grows its cells by function-preserving changes from one convolution; its networks have 18 units a stage. The
    defaults suit small images and a search of minutes.

    ``uniform`` says what random architectures are drawn uniformly from: the options of each decision, by which small
    trees are common, or all ``architectures``, of which most are large.
    """

    depth: Annotated[int, Ge(1)] = 3
    cells: Annotated[int, Ge(1)] = 1
    channels: Annotated[int, Ge(1)] = 16
    operations: tuple[str, ...] = TREE_OPERATIONS
    uniform: Uniform = "decisions"

    def __post_init__(self) -> None:
        multiple = 2**self.depth
        if self.channels % multiple:
            raise BadInput(
                f"space.channels={self.channels} cannot be halved space.depth={self.depth} times, as it may: "
                f"give {multiple * max(1, round(self.channels / multiple))}"
            )
        self._operations = Options(named(self.operations, self.channels // multiple))
        self._operations.check("space.operations")
        self._root = self._asked("root", self.depth)

    def describe(self, choose: Choose) -> Node:
        operations = self._operations

        def node(asked: _Asked) -> Node | None:
            merge = choose(asked.merge, asked.merges)
            if merge == "none":
                return None
            branches = []
            for op, expand, inner in asked.branches[: BRANCHES[merge]]:
                chosen = choose(op, operations)
                branches.append(Branch(chosen, node(inner) if inner and choose(expand, asked.expands) else None))
            return Node(merge, tuple(branches))

        root = node(self._root)
        assert root is not None, "a root merges its branches"
        return root

    def build(self, blueprint: Node, task: Task) -> Module:
        from automl_spaces.tree_cell_network import network

        self.check(task)
        return network(blueprint, STAGES, self.cells, self.channels, task.input[0], task.outputs)

    def check(self, task: Task) -> None:
        check_stages("tree_cell", task, STAGES)

    def canonical(self, blueprint: Node) -> str:
        """Return one key for all orders of what is added, and for sums in sums; channels are dealt out in order."""
        return _told(blueprint)

    def size(self) -> int:
        """Return the number of descriptions, counted from the deepest nodes up."""
        return sum(self._ways(self.depth).values()) - 1  # a root merges its branches

    def _ways(self, depth: int) -> dict[str, int]:
        """Return in how many ways a node that may be so deep is told, by how it merges its branches."""
        ways = self._operations.count * (1 + self._expanded(depth))
        return {"none": 1, **{merge: int(ways**branches) for merge, branches in BRANCHES.items()}}

    def _expanded(self, depth: int) -> int:
        """Return in how many ways a branch of a node that may be so deep is expanded."""
        return sum(self._ways(depth - 1).values()) if depth > 1 else 0

    def _asked(self, path: str, depth: int) -> _Asked:
        """Return the decisions of a node and of those below it, made once and not for every sample."""
        ways = self._ways(depth)
        if path == "root":
            del ways["none"]
        branches = [f"{path}.{branch}" for branch in range(max(BRANCHES.values()))]
        return _Asked(
            f"{path}.merge",
            weighed(self.uniform, list(ways), list(ways.values())),
            weighed(self.uniform, (0, 1), (1, self._expanded(depth))),
            tuple(
                (f"{branch}.op", f"{branch}.expand", self._asked(branch, depth - 1) if depth > 1 else None)
                for branch in branches
            ),
        )

    def graph(self, blueprint: Node) -> dict[str, list[tuple[str, str, str]]]:
        """Return the cell's edges (from, to, operation) by its name, for drawing it."""
        drawn: list[tuple[str, str, str]] = []
        count = 0

        def draw(node: Node, source: str, target: str) -> None:
            nonlocal count
            for op, inner in node.branches:
                if inner is None:
                    drawn.append((source, target, op.name))
                    continue
                after, merged = str(count), str(count + 1)
                count += 2
                drawn.append((source, after, op.name))
                draw(inner, after, merged)
                drawn.append((merged, target, ""))

        draw(blueprint, "input", "output")
        return {"cell": drawn}


def _told(node: Node) -> str:
    if node.merge == "concat2":
        return f"[{'|'.join('+'.join(sorted(_terms(branch))) for branch in node.branches)}]"
    return "+".join(sorted(term for branch in node.branches for term in _terms(branch)))


def _terms(branch: Branch) -> list[str]:
    """Return what a branch adds up to."""
    op, node = branch
    if op.name != "identity":
        return [f"{op.name}({_told(node) if node else ''})"]
    if node is None:
        return ["x"]
    return [_told(node)] if node.merge == "concat2" else [term for inner in node.branches for term in _terms(inner)]

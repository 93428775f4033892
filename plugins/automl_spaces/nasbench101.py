"""The cell space of NAS-Bench-101: graphs of up to seven vertices and nine edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, NamedTuple

from annotated_types import Ge

from automl import Architecture, BadInput, Choose, Op, Options, Task
from automl_spaces.counted import Counted
from automl_spaces.graphs import Form, canonical, reaching
from automl_spaces.image_sizes import check_stages
from automl_spaces.subsets import subsets

if TYPE_CHECKING:
    from torch.nn import Module

_STAGES = 3


def _convolution(kernel: int, inputs: int, channels: int, stride: int) -> Module:
    from automl_networks.conv_norm import conv_norm

    return conv_norm(inputs, channels, kernel, stride)


def _pool(inputs: int, channels: int, stride: int) -> Module:
    from automl_networks.pooling import Pool

    return Pool("maximum", 3, stride)


_OPERATIONS = Options(
    (
        Op("conv3x3-bn-relu", partial(_convolution, 3)),
        Op("conv1x1-bn-relu", partial(_convolution, 1)),
        Op("maxpool3x3", _pool),
    )
)
_NAMES = {op.name: op for op in _OPERATIONS}
INPUT = 0


class Graph(NamedTuple):
    """A cell: which vertices each reads, and the operations of those between the input, 0, and the output, the last."""

    reads: tuple[tuple[int, ...], ...]
    operations: tuple[Op, ...]


@dataclass
class NASBench101(Counted[Graph]):
    """One cell, any graph of few vertices and edges with three operations (Ying et al., 2019).

    The number of ``vertices`` is a decision, the input and the output among them, and so are those that each reads: at
    least one, so that every description is a cell, and of all together at most ``edges``. What the output does not
    depend on is left out. A vertex adds what it reads, cut to its width, the cell's input through a 1 x 1 convolution;
    the output concatenates, adding the cell's input: the widths follow from the graph.

    ``cells`` is the number of cells a stage, of which there are three, ``channels`` the width of the first, which
    doubles twice. At the benchmark's scale, cells=3 channels=128, what is built has the parameters that it counts. The
    defaults suit small images and a search of minutes.
    """

    vertices: Annotated[int, Ge(2)] = 7
    edges: Annotated[int, Ge(1)] = 9
    cells: Annotated[int, Ge(1)] = 1
    channels: Annotated[int, Ge(1)] = 16

    def __post_init__(self) -> None:
        if self.edges < self.vertices - 1:
            raise BadInput(
                f"space.edges={self.edges} are too few for each of space.vertices={self.vertices} to read another: "
                f"give at least {self.vertices - 1}"
            )
        self._counts = Options(range(2, self.vertices + 1))
        self._sources = {  # by vertex, and by how many edges there may be
            vertex: [subsets(vertex, most) for most in range(self.edges + 1)] for vertex in range(1, self.vertices)
        }
        self._asked = [(f"v{vertex}.inputs", f"v{vertex}.op") for vertex in range(self.vertices)]

    def describe(self, choose: Choose) -> Graph:
        count = choose("vertices", self._counts) if self._counts.count > 1 else 2
        left = self.edges
        reads: list[tuple[int, ...]] = [()]
        operations = []
        for vertex in range(1, count):
            is_output = vertex == count - 1
            inputs, op = ("output.inputs", "") if is_output else self._asked[vertex]
            sources = self._sources[vertex][left - (count - 1 - vertex)]  # each vertex after it reads one at least
            read = choose(inputs, sources) if sources.count > 1 else sources.options[0]
            reads.append(read)
            left -= len(read)
            if not is_output:
                operations.append(choose(op, _OPERATIONS))
        return Graph(tuple(reads), tuple(operations))

    def build(self, blueprint: Graph, task: Task) -> Module:
        from automl_spaces.nasbench101_network import network

        self.check(task)
        return network(alive(blueprint), _STAGES, self.cells, self.channels, task.input[0], task.outputs)

    def check(self, task: Task) -> None:
        check_stages("nasbench101", task, _STAGES)

    def canonical(self, blueprint: Graph) -> Form:
        """Return one key for all orders of the vertices, dead ones or none: 423,624 differ.

        As in the benchmark, orders may still differ by a channel, where a width cannot be shared evenly.
        """
        reads, operations = alive(blueprint)
        labels = ["input", *(op.name for op in operations), "output"]
        return canonical(list(zip(labels, reads, strict=True)))

    def size(self) -> int:
        """Return the number of descriptions, counted by vertices and edges."""
        return sum(self._described(count) for count in self._counts)

    def _described(self, vertices: int) -> int:
        ways = {0: 1}  # how many ways there are to have read so many edges
        for vertex in range(1, vertices):
            after = vertices - 1 - vertex
            grown: dict[int, int] = {}
            for used, number in ways.items():
                for read in self._sources[vertex][self.edges - used - after]:
                    grown[used + len(read)] = grown.get(used + len(read), 0) + number
            ways = grown
        return int(sum(ways.values()) * _OPERATIONS.count ** (vertices - 2))

    def graph(self, blueprint: Graph) -> dict[str, list[tuple[str, str, str]]]:
        """Return the cell's edges (from, to, operation of what is read) by its name, for drawing it."""
        reads, operations = alive(blueprint)
        names = ["input", *map(str, range(1, len(reads) - 1)), "output"]
        labels = ["", *(op.name for op in operations)]
        return {
            "cell": [
                (names[source], names[vertex], labels[source]) for vertex, read in enumerate(reads) for source in read
            ]
        }

    def from_matrix(self, matrix: Sequence[Sequence[int]], operations: Sequence[str]) -> Architecture:
        """Return the architecture of a cell in the benchmark's notation.

        ``matrix[i][j]`` is 1 where vertex j reads i, for i < j; ``operations`` has the names of all vertices, "input"
        first and "output" last. Raises BadInput where that is no cell of this space.
        """
        size = len(operations)
        if any(matrix[i][j] for i in range(size) for j in range(i + 1)):
            raise BadInput(
                "the matrix has an edge to the vertex itself or an earlier one: give edges i to j with i < j"
            )
        wrong = [name for name in operations[1:-1] if name not in _NAMES]
        if wrong or size < 2 or (operations[0], operations[-1]) != ("input", "output"):
            raise BadInput(f"the cell has the vertices {list(operations)}: give input, {', '.join(_NAMES)}, output")
        reads = [tuple(i for i in range(j) if matrix[i][j]) for j in range(size)]
        forward = {INPUT}
        for vertex in range(1, size):
            if forward.intersection(reads[vertex]):
                forward.add(vertex)
        if size - 1 not in forward:
            raise BadInput("the matrix has no path from the input, the first vertex, to the output, the last")
        reads = [tuple(source for source in read if source in forward) for read in reads]
        kept = alive(Graph(tuple(reads), tuple(_NAMES[name] for name in operations[1:-1])))
        values: dict[str, object] = {"vertices": len(kept.reads)} if self._counts.count > 1 else {}
        left, last = self.edges, len(kept.reads) - 1
        if sum(map(len, kept.reads)) > left or last + 1 > self.vertices:
            raise BadInput(
                f"the cell has {last + 1} vertices and {sum(map(len, kept.reads))} edges: "
                f"of this space it has at most {self.vertices} and {self.edges}"
            )
        for vertex in range(1, last + 1):
            inputs, op = ("output.inputs", "") if vertex == last else self._asked[vertex]
            if self._sources[vertex][left - (last - vertex)].count > 1:
                values[inputs] = list(kept.reads[vertex])
            left -= len(kept.reads[vertex])
            if vertex < last:
                values[op] = kept.operations[vertex - 1].name
        return self.read(values)


def alive(graph: Graph) -> Graph:
    """Return the graph without the vertices that the output does not depend on."""
    kept = reaching(graph.reads, len(graph.reads) - 1)
    kept = [INPUT, *(vertex for vertex in kept if vertex != INPUT)]
    places = {old: new for new, old in enumerate(kept)}
    reads = tuple(tuple(places[source] for source in graph.reads[old]) for old in kept)
    return Graph(reads, tuple(graph.operations[old - 1] for old in kept[1:-1]))

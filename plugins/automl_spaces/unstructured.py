"""The space of large-scale evolution: any acyclic graph of convolutions and shortcuts, of any shapes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from annotated_types import Ge

from automl import Architecture, BadInput, Choose, Integer, Space, Task
from automl_spaces.dags import INPUT, Node, canonical, edges
from automl_spaces.unstructured_mutations import filters_before, inserted, removed

if TYPE_CHECKING:
    from torch.nn import Module

_BITS = (False, True)
_EDGES = ("conv", "identity")
_MUTATIONS = (
    "insert convolution",
    "insert identity",
    "remove",
    *["change"] * 5,
)  # five of the paper's change a decision


class Convolution(NamedTuple):
    """Height, width and strides of a kernel, and its filters."""

    height: int
    width: int
    stride: int
    filters: int


class Vertex(NamedTuple):
    """A map: what its primary edge makes of one earlier, by a convolution or as it is, and what skips add to it.

    ``active`` maps are normalised and go through a ReLU, others stay linear.
    """

    source: int
    edge: Convolution | None
    skips: tuple[int, ...]
    active: bool


Graph = tuple[Vertex, ...]


@dataclass
class Unstructured(Space[Graph]):
    """Graphs of 0 to ``vertices`` maps, each made of any earlier ones (Real et al., 2017, large-scale evolution).

    A vertex decides which earlier map, or the image, its primary edge comes from; whether that is a convolution, then
    the height and the width of its kernel (odd, up to ``kernel``), its stride (a power of two, up to ``stride``) and
    its filters (up to ``filters``, by their logarithm); from which other earlier maps there are skips, which are
    brought to its shape, by zeros or cuts in the channels and the nearest pixels in space, and added; and whether it
    is normalised and goes through a ReLU or stays linear. The last map is pooled and classified, so that without a
    vertex the network is linear: ``space.complete({"vertices": 0}, rng)`` is what the paper's evolution begins with.

    The paper bounds nothing; here the bounds are settings, so raise them at will. Its learning rate, a part of the
    "DNA", is the evaluator's, and its inherited weights are a strategy's.

    Mutations are those of the paper that concern the graph, each as likely: a convolution is inserted, 3 x 3 and as
    wide as what it reads; a vertex that hands its map on is inserted; a convolution is removed; or, in place of the
    five that alter strides, filters, sides and skips, one decision is changed. Where the graph is full or has nothing
    to remove, a decision is changed.
    ``width`` multiplies the filters of what is built.
    """

    vertices: Annotated[int, Ge(0)] = 8
    kernel: Annotated[int, Ge(1)] = 7
    stride: Annotated[int, Ge(1)] = 2
    filters: Annotated[int, Ge(1)] = 32
    width: Annotated[int, Ge(1)] = 1

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise BadInput(f"space.kernel={self.kernel} is not odd, as all are here: give {self.kernel + 1}")
        if self.stride.bit_count() != 1:
            more = 2 ** self.stride.bit_length()
            raise BadInput(f"space.stride={self.stride} is not a power of two, as all are here: give {more}")
        self._counts = Integer(0, self.vertices)
        self._sides = tuple(range(1, self.kernel + 1, 2))
        self._strides = tuple(2**power for power in range(self.stride.bit_length()))
        self._filters = Integer(1, self.filters, log=True)
        self._names = [_Names(place) for place in range(self.vertices)]

    def describe(self, choose: Choose) -> Graph:
        count = choose("vertices", self._counts) if self.vertices else 0
        return tuple([self._vertex(choose, names) for names in self._names[:count]])

    def mutate(self, architecture: Architecture, rng: Random, names: Collection[str] | None = None) -> Architecture:
        kind = rng.choice(_MUTATIONS) if names is None and self.vertices else "change"
        graph: Graph = architecture.blueprint
        convolutions = [place for place, vertex in enumerate(graph) if vertex.edge is not None]
        if kind == "remove" and convolutions:
            return self.complete(self.told(removed(graph, rng.choice(convolutions))), rng)
        if kind.startswith("insert") and len(graph) < self.vertices:
            place, edge = rng.randrange(len(graph) + 1), None
            if kind == "insert convolution":
                side, filters = min(3, self.kernel), filters_before(graph, place) or self._filters.sample(rng.random)
                edge = Convolution(side, side, rng.choice(self._strides), filters)
            return self.complete(self.told(inserted(graph, place, Vertex(INPUT, edge, (), rng.random() < 0.5))), rng)
        return super().mutate(architecture, rng, names)

    def told(self, graph: Graph) -> dict[str, Any]:
        """Return the decisions that make a graph."""
        values: dict[str, Any] = {"vertices": len(graph)}
        for names, vertex in zip(self._names, graph, strict=False):
            texts = {read: text for text, read in names.sources.items()}
            values |= {names.source: texts[vertex.source], names.edge: "identity" if vertex.edge is None else "conv"}
            if vertex.edge is not None:
                sides = (names.height, names.width, names.stride, names.filters)
                values |= dict(zip(sides, vertex.edge, strict=True))
            values |= {name: read in vertex.skips for read, name in names.skips if read != vertex.source}
            values[names.active] = vertex.active
        return values

    def build(self, blueprint: Graph, task: Task) -> Module:
        from automl_spaces.unstructured_network import network

        wide = tuple(
            vertex
            if vertex.edge is None
            else vertex._replace(edge=vertex.edge._replace(filters=self.width * vertex.edge.filters))
            for vertex in blueprint
        )
        return network(wide, task.input[0], task.outputs)

    def canonical(self, blueprint: Graph) -> tuple[object, ...]:
        """Return one key for all orders in which vertices can be told.

        Vertices that lead nowhere have no say, nor have linear ones that are another map as it is.
        """
        return canonical(dag(blueprint))

    def size(self) -> int:
        """Return the number of descriptions: the sum over the vertices of the product of what each can be."""
        edges = 1 + len(self._sides) ** 2 * len(self._strides) * self.filters
        ways = ((place + 1) * edges * (2 << place) for place in range(self.vertices))
        return 1 + int(sum(accumulate(ways, mul)))

    def exceeds(self, number: int) -> bool:
        return self.size() > number

    def graph(self, blueprint: Graph) -> dict[str, list[tuple[str, str, str]]]:
        """Return the edges (from, to, what is there): convolutions, skips and the vertices that add them."""
        return {"network": edges(dag(blueprint))}

    def _vertex(self, choose: Choose, names: _Names) -> Vertex:
        source = names.sources[choose(names.source, names.texts) if len(names.texts) > 1 else names.texts[0]]
        edge = None
        if choose(names.edge, _EDGES) == "conv":
            edge = Convolution(
                choose(names.height, self._sides) if len(self._sides) > 1 else 1,
                choose(names.width, self._sides) if len(self._sides) > 1 else 1,
                choose(names.stride, self._strides) if len(self._strides) > 1 else 1,
                choose(names.filters, self._filters) if self.filters > 1 else 1,
            )
        skips = [read for read, name in names.skips if read != source and choose(name, _BITS)]
        return Vertex(source, edge, tuple(skips), choose(names.active, _BITS))


class _Names:
    """The names of a vertex's decisions and of what it may read, made once."""

    def __init__(self, place: int) -> None:
        vertex = f"vertex{place}"
        self.sources = {"image" if read == INPUT else str(read): read for read in range(INPUT, place)}
        self.texts = tuple(self.sources)
        self.skips = [(read, f"{vertex}.skip_{text}") for text, read in self.sources.items()]
        self.source, self.edge, self.active = (f"{vertex}.{part}" for part in ("source", "edge", "active"))
        self.height, self.width, self.stride, self.filters = (f"{vertex}.{part}" for part in Convolution._fields)


def dag(graph: Graph) -> list[Node]:
    """Return the graph: a node for each edge and each vertex that does something, and the output."""
    stands: dict[int, int] = {INPUT: INPUT}  # by vertex: the node whose map it has
    nodes: list[Node] = []
    for place, vertex in enumerate(graph):
        source = stands[vertex.source]
        if vertex.edge is None and not vertex.skips and not vertex.active:
            stands[place] = source
            continue
        reads = []
        if vertex.edge is not None:
            height, width, stride, filters = vertex.edge
            told = f"conv{height}x{width}" + (f"/{stride}" if stride > 1 else "")
            # a convolution whose map goes on linear has a bias
            nodes.append(Node((told, filters, *(() if vertex.active else ("bias",))), (source,)))
        elif vertex.skips:
            nodes.append(Node(("primary",), (source,)))
        if vertex.edge is not None or vertex.skips:
            source = len(nodes) - 1
        for read in vertex.skips:
            nodes.append(Node(("skip",), (stands[read],)))
            reads.append(len(nodes) - 1)
        if reads or vertex.active:
            nodes.append(Node(("normalised relu" if vertex.active else "sum",), (source, *reads)))
            source = len(nodes) - 1
        stands[place] = source
    return [*nodes, Node(("output",), (stands[len(graph) - 1],))]

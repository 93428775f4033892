"""What morphisms begin with, and the network that a graph stands for: itself, or a stack of cells of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from automl_spaces.morphism_graphs import IMAGE, Graph, Layer, graph
from automl_spaces.morphism_operators import Move


@dataclass(frozen=True)
class Template(ABC):
    """The first of all graphs, and what is built of any."""

    title: ClassVar[str] = "network"
    filters: tuple[int, ...]

    @abstractmethod
    def start(self) -> Graph:
        """Return the graph that morphisms begin with."""

    def whole(self, one: Graph) -> Graph:
        """Return the graph of the network that a graph stands for."""
        return one


class Chain(Template):
    """3 x 3 convolutions with pools between them."""

    def start(self) -> Graph:
        return graph(self._layers())

    def _layers(self) -> list[Layer]:
        layers: list[Layer] = []
        source = IMAGE
        for place, filters in enumerate(self.filters, 1):
            if place > 1:
                layers.append(Layer(f"pool{place - 1}", "pool", (source,)))
                source = layers[-1].name
            layers.append(Layer(f"conv{place}", "conv", (source,), 3, filters))
            source = layers[-1].name
        return layers


@dataclass(frozen=True)
class DenseChain(Chain):
    """The same, the mean of the last map, and a fully connected layer."""

    units: int

    def start(self) -> Graph:
        layers = self._layers()
        mean = Layer("mean", "mean", (layers[-1].name,))
        return graph([*layers, mean, Layer("dense1", "dense", ("mean",), width=self.units)])


@dataclass(frozen=True)
class Cells(Template):
    """A cell that is one 3 x 3 convolution; so many of it a stage, as much wider as the stages' filters are."""

    title = "cell"
    cells: int

    def start(self) -> Graph:
        return graph([Layer("conv1", "conv", (IMAGE,), 3, self.filters[0])])

    def whole(self, one: Graph) -> Graph:
        layers: list[Layer] = []
        source = IMAGE
        for stage, filters in enumerate(self.filters):
            if stage:
                layers.append(Layer(f"{stage}_pool", "pool", (source,)))
                source = layers[-1].name
            for cell in range(self.cells):
                names = {IMAGE: source, **{name: f"{stage}_{cell}_{name}" for name in one.layers}}
                layers += [
                    layer._replace(
                        name=names[layer.name],
                        reads=tuple(names[read] for read in layer.reads),
                        width=layer.width * filters // self.filters[0],
                    )
                    for layer in one.layers.values()
                ]
                source = layers[-1].name
        return graph(layers)


def own_name(name: str) -> str:
    """Return what a layer of a network is called in the graph that the network is made of."""
    return name.rpartition("_")[2]


class Morphed(NamedTuple):
    """The steps, whether each preserves the function, and the graphs: the start, and what each step led to."""

    template: Template
    moves: tuple[Move, ...]
    exact: tuple[bool, ...]
    graphs: tuple[Graph, ...]

    @property
    def graph(self) -> Graph:
        """What all steps led to."""
        return self.graphs[-1]

    def until(self, steps: int) -> Morphed:
        """Return what the first so many steps led to."""
        return Morphed(self.template, self.moves[:steps], self.exact[:steps], self.graphs[: steps + 1])

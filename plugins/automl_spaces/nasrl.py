"""The space of the first search by reinforcement: convolutions of any shape that read any earlier ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from annotated_types import Ge

from automl import BadInput, Choose, Options, Task
from automl_spaces.dags import INPUT, Node, canonical, edges
from automl_spaces.uniform import EachNetwork, tellings

if TYPE_CHECKING:
    from torch.nn import Module

_BITS = (False, True)


class Convolution(NamedTuple):
    """A layer: the kernel's height and width, the strides, the filters, and the earlier layers that were chosen."""

    height: int
    width: int
    stride_height: int
    stride_width: int
    filters: int
    reads: tuple[int, ...]


Layers = tuple[Convolution, ...]


@dataclass
class NASRL(EachNetwork[Layers]):
    """Convolutions, each with a kernel of its own shape and any earlier ones as its inputs (Zoph & Le, 2017).

    Each of the ``layers`` decides the height and the width of its kernel (``kernels``), with ``strides`` those of its
    steps, the number of its ``filters``, and for every earlier layer whether it reads it: the anchors of the paper. A
    layer that reads none is given the image. At the end all layers that no other reads are concatenated before the
    classifier. What is concatenated and differs in size gets zeros around it. After the layers of the numbers
    ``pools``, counted from 1, there is a maximum pool of 2 x 2. ``width`` multiplies the filters of what is built.

    The paper has ``filters=[24,36,48,64]``, begins with 6 layers and adds 2 after every 1,600 networks; the network it
    reports has 15, which is ``layers=15``, and one with two pools 39 of all kinds. The defaults suit small images.

    ``uniform`` says what random architectures are drawn uniformly from: the options of each decision, by which a
    network with several descriptions is drawn as many times as often, or all ``networks``: layers can be told in
    several orders.
    """

    layers: Annotated[int, Ge(1)] = 6
    kernels: tuple[Annotated[int, Ge(1)], ...] = (1, 3, 5, 7)
    filters: tuple[Annotated[int, Ge(1)], ...] = (8, 12, 16, 24)
    strides: tuple[Annotated[int, Ge(1)], ...] = (1,)
    pools: tuple[Annotated[int, Ge(1)], ...] = ()
    width: Annotated[int, Ge(1)] = 1
    uniform: Literal["decisions", "networks"] = "decisions"

    def __post_init__(self) -> None:
        self._kernels, self._filters, self._strides = (
            Options(values) for values in (self.kernels, self.filters, self.strides)
        )
        for name in ("kernels", "filters", "strides"):
            getattr(self, f"_{name}").check(f"space.{name}")
        if even := [kernel for kernel in self.kernels if kernel % 2 == 0]:
            raise BadInput(f"space.kernels has {even[0]}, which does not keep the size of a map: give odd ones")
        if beyond := [place for place in self.pools if place > self.layers]:
            raise BadInput(
                f"space.pools has {beyond[0]}, but there are {self.layers} layers: give 1 to {self.layers}, or more "
                "space.layers"
            )
        self._names = [
            (
                [f"layer{place}.{part}" for part in ("height", "width", "stride_height", "stride_width", "filters")],
                [f"layer{place}.reads{earlier}" for earlier in range(place)],
            )
            for place in range(self.layers)
        ]

    def describe(self, choose: Choose) -> Layers:
        kernels, strides, layers = self._kernels, self._strides, []
        for (height, width, stride_height, stride_width, filters), reads in self._names:
            layers.append(
                Convolution(
                    choose(height, kernels),
                    choose(width, kernels),
                    choose(stride_height, strides) if strides.count > 1 else strides.options[0],
                    choose(stride_width, strides) if strides.count > 1 else strides.options[0],
                    choose(filters, self._filters),
                    tuple([earlier for earlier, name in enumerate(reads) if choose(name, _BITS)]),
                )
            )
        return tuple(layers)

    def build(self, blueprint: Layers, task: Task) -> Module:
        from automl_spaces.nasrl_network import network

        wide = tuple(layer._replace(filters=self.width * layer.filters) for layer in blueprint)
        return network(wide, self.pools, task.input[0], task.outputs)

    def dag(self, blueprint: Layers) -> list[Node]:
        """Return the graph of the layers, completed: the last node concatenates what no other reads."""
        return completed(blueprint, self.pools)

    def canonical(self, blueprint: Layers) -> tuple[object, ...]:
        """Return one key for all orders in which the same layers with the same inputs can be told."""
        return canonical(self.dag(blueprint))

    def tellings(self, blueprint: Layers) -> int:
        """Return how many descriptions there are of the network: the orders of its layers, pooled ones in place."""
        return tellings(
            [
                ((layer._replace(reads=()), place + 1 in self.pools), [(read, "") for read in layer.reads])
                for place, layer in enumerate(blueprint)
            ],
            [place - 1 for place in self.pools],
        )

    def size(self) -> int:
        """Return the number of descriptions: a layer has kernels^2 strides^2 filters 2^(layers before it)."""
        shapes = (len(self.kernels) * len(self.strides)) ** 2 * len(self.filters)
        return int(shapes**self.layers * 2 ** (self.layers * (self.layers - 1) // 2))

    def exceeds(self, number: int) -> bool:
        return self.size() > number

    def graph(self, blueprint: Layers) -> dict[str, list[tuple[str, str, str]]]:
        """Return the edges (from, to, layer), for drawing it."""
        return {"network": edges(self.dag(blueprint))}


def completed(layers: Layers, pools: tuple[int, ...]) -> list[Node]:
    """Return the nodes of the layers, and one that concatenates what no other reads."""
    read = {earlier for layer in layers for earlier in layer.reads}
    nodes = []
    for place, layer in enumerate(layers):
        kernel, step = f"{layer.height}x{layer.width}", f"/{layer.stride_height}x{layer.stride_width}"
        told = f"conv{kernel}{step if step != '/1x1' else ''}"
        pooled = ("pool",) if place + 1 in pools else ()
        nodes.append(Node((told, layer.filters, *pooled), layer.reads or (INPUT,)))
    return [*nodes, Node(("concatenate",), tuple(place for place in range(len(layers)) if place not in read))]

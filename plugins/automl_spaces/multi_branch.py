"""The multi-branch space: layers of many kinds, and which earlier ones each reads, from a chain to a dense block."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from annotated_types import Ge

from automl import BadInput, Choose, Options, Space, Task
from automl.errors import near_miss
from automl_spaces.dags import INPUT, Node, canonical, edges
from automl_spaces.wirings import WIRINGS

if TYPE_CHECKING:
    from torch.nn import Module

CONVOLUTIONS = ("conv", "sepconv", "dilconv")
POOLS = ("maxpool", "avgpool")
BRANCH_OPERATIONS = (*CONVOLUTIONS, *POOLS, "identity")


class Layer(NamedTuple):
    """A layer: what it does, to which of the earlier ones, and how these are merged (not at all, if it is one).

    ``kernel`` is 0 for the identity, ``filters`` 0 for all that is no convolution: it keeps its channels.
    """

    op: str
    kernel: int
    filters: int
    stride: int
    reads: tuple[int, ...]
    merge: str = ""


Layers = tuple[Layer, ...]


@dataclass
class MultiBranch(Space[Layers]):
    """Layers that read the image and any earlier layers, added or concatenated (Elsken et al., 2019, section 2).

    There are 1 to ``depth`` layers; the last one's map is classified. Each decides its operation (``operations``),
    ``kernels``, ``filters`` where it is a convolution, and ``strides``. ``wiring`` says what it may read: "any" earlier
    ones, at least one, and how they are merged; "residual" the one before it, and one earlier added to it, or none;
    "dense" all, concatenated; "chain" the one before it. Layers that the last one does not depend on are left out.

    Maps that are merged have the smallest size of all. Where they are added, those of another size, or of fewer
    channels than the widest, go through a 1 x 1 convolution with strides and batch normalisation, whose parameters
    count; where they are concatenated, larger ones are averaged over 2 x 2 as often as it takes. ``width`` multiplies
    the filters of what is built.
    """

    depth: Annotated[int, Ge(1)] = 5
    wiring: Literal["any", "residual", "dense", "chain"] = "any"
    operations: tuple[str, ...] = BRANCH_OPERATIONS
    kernels: tuple[Annotated[int, Ge(1)], ...] = (1, 3, 5, 7)
    filters: tuple[Annotated[int, Ge(1)], ...] = (8, 16, 32)
    strides: tuple[Literal[1, 2], ...] = (1, 2)
    width: Annotated[int, Ge(1)] = 1

    def __post_init__(self) -> None:
        for name in self.operations:
            if name not in BRANCH_OPERATIONS:
                raise BadInput(
                    f"space.operations has {name!r}, which is no operation{near_miss(name, BRANCH_OPERATIONS)}: "
                    f"choose among {', '.join(BRANCH_OPERATIONS)}"
                )
        if even := [kernel for kernel in self.kernels if kernel % 2 == 0]:
            raise BadInput(f"space.kernels has {even[0]}, which does not keep the size of a map: give odd ones")
        self._operations, self._kernels = Options(self.operations), Options(self.kernels)
        self._filters, self._strides = Options(self.filters), Options[int](self.strides)
        for name in ("operations", "kernels", "filters", "strides"):
            getattr(self, f"_{name}").check(f"space.{name}")
        self._depths = range(1, self.depth + 1)
        self._wirings = [WIRINGS[self.wiring](place) for place in range(self.depth)]
        self._names = [
            [f"layer{place}.{part}" for part in ("op", "kernel", "filters", "stride")] for place in range(self.depth)
        ]

    def describe(self, choose: Choose) -> Layers:
        layers = []
        count = choose("layers", self._depths) if self.depth > 1 else 1
        for wiring, (op, kernel, filters, stride) in zip(self._wirings[:count], self._names, strict=False):
            kind = choose(op, self._operations)
            layers.append(
                Layer(
                    kind,
                    choose(kernel, self._kernels) if kind != "identity" else 0,
                    choose(filters, self._filters) if kind in CONVOLUTIONS else 0,
                    choose(stride, self._strides),
                    *wiring.decide(choose),
                )
            )
        return tuple(layers)

    def build(self, blueprint: Layers, task: Task) -> Module:
        from automl_spaces.multi_branch_network import network

        wide = tuple(layer._replace(filters=self.width * layer.filters) for layer in blueprint)
        return network(wide, task.input[0], task.outputs)

    def dag(self, blueprint: Layers) -> list[Node]:
        """Return the graph of the layers without those that do nothing, and the output after them."""
        stands: dict[int, int] = {INPUT: INPUT}  # by layer: the node whose map it has
        nodes: list[Node] = []
        for place, layer in enumerate(blueprint):
            op = "identity" if layer.kernel == 1 and layer.op in POOLS else layer.op
            if op == "dilconv" and layer.kernel == 1:
                op = "conv"
            reads = tuple(stands[read] for read in layer.reads)
            if op == "identity" and layer.stride == 1 and len(reads) == 1:
                stands[place] = reads[0]
                continue
            stands[place] = len(nodes)
            told = op if op == "identity" else f"{op}{layer.kernel}x{layer.kernel}"
            parts = (layer.filters,) if layer.filters else ()
            more = tuple(f"/{layer.stride}" for _ in range(layer.stride > 1))
            nodes.append(Node((told, *parts, *more, *([layer.merge] if layer.merge else [])), reads))
        return [*nodes, Node(("output",), (stands[len(blueprint) - 1],))]

    def canonical(self, blueprint: Layers) -> tuple[object, ...]:
        """Return one key for all orders in which layers can be told.

        Layers that lead nowhere have no say, nor have identities of one map. Kernels of 1 do the same pooled with any
        pool, and dilated or not.
        """
        return canonical(self.dag(blueprint))

    def size(self) -> int:
        """Return the number of descriptions: the sum over depths of the product of what each layer can be."""
        kernels, filters = len(self.kernels), len(self.filters)
        shapes = sum(
            kernels * filters if op in CONVOLUTIONS else kernels if op in POOLS else 1 for op in self.operations
        )
        return sum(accumulate((shapes * len(self.strides) * wiring.ways for wiring in self._wirings), mul))

    def exceeds(self, number: int) -> bool:
        return self.size() > number

    def graph(self, blueprint: Layers) -> dict[str, list[tuple[str, str, str]]]:
        """Return the edges (from, to, layer), for drawing it."""
        return {"network": edges(self.dag(blueprint))}

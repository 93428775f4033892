"""The space of NASBOT: graphs of convolutions, residual units, pools and linear layers, legal by image size."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING, Annotated, NamedTuple

from annotated_types import Ge

from automl import BadInput, Choose, Options, Space, Task
from automl_spaces.dags import INPUT, Node, canonical, edges

if TYPE_CHECKING:
    from torch.nn import Module

CONVOLUTIONS = ("conv3", "conv5", "conv7")
RESIDUALS = ("res3", "res5", "res7")
POOLS = ("maxpool", "avgpool")
KINDS = (*CONVOLUTIONS, *RESIDUALS, *POOLS, "fc")
_BITS = (False, True)
_STRIDES = (1, 2)
_VECTOR = -1  # the level of what has no image any more; others are how often the image was halved
_EDGES = 200  # at most
_COUNTED = 12  # layers up to which networks are counted one by one


class Layer(NamedTuple):
    """What a layer is, its units (0 for a pool), its stride, and the earlier layers it reads, the nearest first."""

    kind: str
    units: int
    stride: int
    parents: tuple[int, ...]


Layers = tuple[Layer, ...]


@dataclass
class NASBOT(Space[Layers]):
    """Graphs of layers, each with any earlier ones of one image size as parents (Kandasamy et al., 2018).

    There are ``least`` to ``most`` layers. A layer is a convolution or a residual unit, of kernel 3, 5 or 7 and stride
    1 or 2, a maximum or average pool of 2 x 2, or fully connected; all but pools have ``units``, one of those listed.
    The first layer is a convolution of the image. Every other decides its nearest parent, then which earlier layers of
    the same image size it reads too, concatenated, up to ``parents`` in all. Only fully connected layers read fully
    connected ones. Each layer that no other reads gets a softmax; the output is the mean of these. ``width``
    multiplies the units of what is built.

    The paper has 5 to 60 layers with the input, the output and each softmax, 8 to 1024 units, 5 parents and 200 edges
    at most; more edges are refused here too. The defaults suit small images and a search of minutes.
    """

    least: Annotated[int, Ge(1)] = 2
    most: Annotated[int, Ge(1)] = 7
    parents: Annotated[int, Ge(1)] = 3
    units: tuple[Annotated[int, Ge(1)], ...] = (8, 16, 32)
    width: Annotated[int, Ge(1)] = 1

    def __post_init__(self) -> None:
        if self.least > self.most:
            raise BadInput(
                f"space.least={self.least} is more than the space.most={self.most} layers that a network has at most: "
                f"give at most {self.most}, or space.most={self.least}"
            )
        if self.most * self.parents > _EDGES:
            raise BadInput(
                f"space.most={self.most} layers with space.parents={self.parents} may have more than {_EDGES} edges: "
                f"give space.parents={max(1, _EDGES // self.most)}, or space.most={_EDGES // self.parents}"
            )
        self._units = Options(self.units)
        self._units.check("space.units")
        self._counts = range(self.least, self.most + 1)
        self._names = [_Names(place) for place in range(self.most)]

    def describe(self, choose: Choose) -> Layers:
        count = choose("layers", self._counts) if len(self._counts) > 1 else self.most
        layers: list[Layer] = []
        levels: list[int] = []
        for place, names in enumerate(self._names[:count]):
            parents = self._parents(choose, names, levels) if place else (INPUT,)
            level = levels[parents[0]] if place else 0
            kind = "fc" if level == _VECTOR else choose(names.kind, KINDS if place else CONVOLUTIONS)
            units = 0 if kind in POOLS else choose(names.units, self._units)
            stride = 2 if kind in POOLS else 1 if kind == "fc" else choose(names.stride, _STRIDES)
            layers.append(Layer(kind, units, stride, parents))
            levels.append(_VECTOR if kind == "fc" else level + stride - 1)
        return tuple(layers)

    def build(self, blueprint: Layers, task: Task) -> Module:
        from automl_spaces.nasbot_network import network

        wide = tuple(layer._replace(units=self.width * layer.units) for layer in blueprint)
        return network(wide, task.input, task.outputs)

    def canonical(self, blueprint: Layers) -> tuple[object, ...]:
        """Return one key for all orders in which layers can be told."""
        return canonical(dag(blueprint))

    def size(self) -> int | float:
        """Return the number of descriptions, counted by how many layers there are of each image size.

        Where there may be more than 12 layers it is estimated.
        """
        if self.most > _COUNTED:
            return super().size()
        units = len(self.units)
        states: Counter[tuple[tuple[int, int], ...]] = (
            Counter()
        )  # (level, layers of it) of each level: in how many ways
        for level in (0, 1):
            states[((level, 1),)] = len(CONVOLUTIONS) * units
        total = sum(states.values()) if self.least == 1 else 0
        for count in range(2, self.most + 1):
            grown: Counter[tuple[tuple[int, int], ...]] = Counter()
            for state, ways in states.items():
                levels = dict(state)
                for level, layers in state:
                    wirings = ways * sum(
                        comb(earlier, more) for earlier in range(layers) for more in range(min(self.parents, layers))
                    )
                    made = {_VECTOR: units}
                    if level != _VECTOR:
                        working = (len(CONVOLUTIONS) + len(RESIDUALS)) * units
                        made |= {level: working, level + 1: working + len(POOLS)}
                    for reached, kinds in made.items():
                        after = {**levels, reached: levels.get(reached, 0) + 1}
                        grown[tuple(sorted(after.items()))] += wirings * kinds
            states = grown
            if count >= self.least:
                total += sum(states.values())
        return total

    def exceeds(self, number: int) -> bool:
        """Say whether chains of convolutions and residual units alone are more."""
        working = 2 * (len(CONVOLUTIONS) + len(RESIDUALS)) * len(self.units)
        return bool(len(CONVOLUTIONS) * working ** (self.most - 1) > number)

    def graph(self, blueprint: Layers) -> dict[str, list[tuple[str, str, str]]]:
        """Return the edges (from, to, layer), for drawing it."""
        return {"network": edges(dag(blueprint))}

    def _parents(self, choose: Choose, names: _Names, levels: list[int]) -> tuple[int, ...]:
        nearest = choose(names.parent, range(len(levels))) if len(levels) > 1 else 0
        parents = [nearest]
        for earlier in reversed(range(nearest)):
            is_legal = levels[earlier] == levels[nearest] and len(parents) < self.parents
            if is_legal and choose(names.also[earlier], _BITS):
                parents.append(earlier)
        return tuple(parents)


class _Names:
    """The names of a layer's decisions, made once."""

    def __init__(self, place: int) -> None:
        layer = f"layer{place}"
        self.parent, self.kind, self.units, self.stride = (
            f"{layer}.{part}" for part in ("parent", "kind", "units", "stride")
        )
        self.also = [f"{layer}.reads{earlier}" for earlier in range(place)]


def leaves(layers: Layers) -> list[int]:
    """Return the layers that no other reads."""
    read = {parent for layer in layers for parent in layer.parents}
    return [place for place in range(len(layers)) if place not in read]


def dag(layers: Layers) -> list[Node]:
    """Return the layers as a graph, with the mean of the softmaxes at its end."""
    nodes = [
        Node(
            (layer.kind, *([layer.units] if layer.units else []), *(["/2"] if layer.stride == 2 else [])),
            layer.parents,
        )
        for layer in layers
    ]
    return [*nodes, Node(("softmax",), tuple(leaves(layers)))]

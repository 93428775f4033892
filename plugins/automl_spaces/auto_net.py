"""The space of Auto-Net: fully connected layers whose settings depend on one another."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, NamedTuple

from annotated_types import Ge, Lt

from automl import BadInput, Choose, Integer, Options, Real, Space, Task
from automl.errors import near_miss
from automl_spaces.uniform import Uniform, weighed

if TYPE_CHECKING:
    from torch.nn import Module

ACTIVATIONS = ("sigmoid", "tanh", "scaled_tanh", "elu", "relu", "leaky_relu", "linear")
INITIALISATIONS = (
    "normal",
    "uniform",
    "glorot_uniform",
    "glorot_normal",
    "he_uniform",
    "he_normal",
    "orthogonal",
    "sparse",
)
_LEAKINESS = Real(0.01, 0.99)
_SCALE_IN = Real(0.5, 1.0)
_SCALE_OUT = Real(1.1, 3.0)
_DEVIATION = Real(1e-7, 0.1, log=True)
_WITH_NUMBERS = {"scaled_tanh", "leaky_relu"}  # activations
_PARTS = ("units", "activation", "leakiness", "scale_in", "scale_out", "dropout", "init", "deviation")


class Layer(NamedTuple):
    """A fully connected layer: its width, its activation with its numbers, dropout after it, its first weights."""

    units: int
    activation: str
    numbers: tuple[float, ...]  # the slope of a leaky ReLU; the scales inside and outside of a scaled tanh
    dropout: float
    init: str
    deviation: float  # of normal weights, else 0


Layers = tuple[Layer, ...]


@dataclass
class AutoNet(Space[Layers]):
    """One to ``layers`` fully connected layers, each with settings of its own (Mendoza et al., 2016, Auto-Net).

    A layer decides its ``units``, the least and the most, by their logarithm; its activation, one of ``activations``,
    and for a leaky ReLU its slope, for a scaled tanh a factor inside and one outside; its ``dropout``, from 0 to so
    much; how its weights begin, one of ``initialisations``, and for normal ones their deviation. So which decisions
    there are depends on others, two levels deep: what the space is good for.

    Images are taken pixel by pixel, or resized to ``resolution`` pixels a side before. The paper has 64 to 4096 units
    and dropout of up to 0.99, and decides the training as well (optimiser, learning rate and its policy, batch size,
    L2 penalty: 63 settings in all); here the training is the evaluator's. Constant weights, which the paper lists too,
    would keep all units of a layer equal, and are left out.

    ``uniform`` says what random architectures are drawn uniformly from: the options of each decision, by which short
    networks are common and units go by their logarithm, or all ``architectures``, of which most are long and wide; a
    real number counts as one there.
    """

    layers: Annotated[int, Ge(1)] = 6
    units: tuple[Annotated[int, Ge(1)], Annotated[int, Ge(1)]] = (16, 256)
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.5
    activations: tuple[str, ...] = ACTIVATIONS
    initialisations: tuple[str, ...] = INITIALISATIONS
    resolution: Annotated[int, Ge(1)] | None = None
    uniform: Uniform = "decisions"

    def __post_init__(self) -> None:
        for setting, known in (("activations", ACTIVATIONS), ("initialisations", INITIALISATIONS)):
            for name in getattr(self, setting):
                if name not in known:
                    raise BadInput(
                        f"space.{setting} has {name!r}, which is none{near_miss(name, known)}: choose among "
                        f"{', '.join(known)}"
                    )
        least, most = self.units
        if least > most:
            raise BadInput(f"space.units=[{least},{most}] has the most before the least: give [{most},{least}]")
        self._units = Integer(least, most, log=self.uniform == "decisions")
        depths, layer = range(1, self.layers + 1), self._units.count * len(self.activations) * len(self.initialisations)
        self._depths = weighed(self.uniform, depths, [layer**depth for depth in depths])
        self._dropout = Real(0.0, self.dropout)
        self._activations, self._initialisations = Options(self.activations), Options(self.initialisations)
        self._activations.check("space.activations")
        self._initialisations.check("space.initialisations")
        self._names = [[f"layer{place}.{part}" for part in _PARTS] for place in range(self.layers)]

    def describe(self, choose: Choose) -> Layers:
        count = choose("layers", self._depths) if self.layers > 1 else 1
        layers = []
        for units, activation, leakiness, scale_in, scale_out, dropout, init, deviation in self._names[:count]:
            width, kind = choose(units, self._units), choose(activation, self._activations)
            numbers: tuple[float, ...] = ()
            if kind == "leaky_relu":
                numbers = (choose(leakiness, _LEAKINESS),)
            elif kind == "scaled_tanh":
                numbers = (choose(scale_in, _SCALE_IN), choose(scale_out, _SCALE_OUT))
            rate = choose(dropout, self._dropout) if self.dropout else 0.0
            begins = choose(init, self._initialisations)
            spread = choose(deviation, _DEVIATION) if begins == "normal" else 0.0
            layers.append(Layer(width, kind, numbers, rate, begins, spread))
        return tuple(layers)

    def build(self, blueprint: Layers, task: Task) -> Module:
        from automl_spaces.auto_net_network import network

        return network(blueprint, self.resolution, task.input, task.outputs)

    def canonical(self, blueprint: Layers) -> Layers:
        """Return the layers: each description is a network of its own."""
        return blueprint

    def size(self) -> int | float:
        """Return the number of networks; endless where anything is decided over real numbers."""
        if self.dropout or "normal" in self.initialisations or _WITH_NUMBERS.intersection(self.activations):
            return math.inf
        layer = self._units.count * len(self.activations) * len(self.initialisations)
        return int(sum(layer**depth for depth in self._depths))

    def exceeds(self, number: int) -> bool:
        return self.size() > number

    def graph(self, blueprint: Layers) -> dict[str, list[tuple[str, str, str]]]:
        """Return the chain's edges (from, to, layer), for drawing it."""
        states = ["input", *map(str, range(1, len(blueprint) + 1)), "output"]
        told = [*(f"{layer.units} {layer.activation}" for layer in blueprint), "linear"]
        return {"network": [(*ends, one) for ends, one in zip(pairwise(states), told, strict=True)]}

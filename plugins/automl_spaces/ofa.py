"""The space of Once-for-all: a mobile network whose depth, kernels, widths inside and resolution are elastic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, NamedTuple

from annotated_types import Ge, Gt, Le, Lt, MinLen

from automl import Architecture, BadInput, Choose, Options, Task
from automl_networks.hand_designed import LEAST_MAP
from automl_spaces.counted import Counted
from automl_spaces.image_sizes import check_side

if TYPE_CHECKING:
    from torch.nn import Module

UNITS = 5  # of MobileNetV3's layers, each of elastic depth
SLOTS = 4  # layers a unit in the authors' notation


class Layer(NamedTuple):
    """An inverted residual: the side of its kernel, and how many times its inputs it is wide inside."""

    kernel: int
    expansion: int


class Elastic(NamedTuple):
    """One network: the share of the images' sides that it sees, and the layers of each unit."""

    scale: float
    units: tuple[tuple[Layer, ...], ...]


@dataclass
class OFA(Counted[Elastic]):
    """MobileNetV3's layers, elastic in depth, kernel, width and resolution (Cai et al., 2020, Once-for-all).

    Each of five units has as many layers as one of ``depths`` says, and each layer a kernel of ``kernels`` and a width
    inside of ``expansions`` times its inputs; layers beyond the depth have no decisions: (9^2 + 9^3 + 9^4)^5 = 2.2e19
    networks. ``scales`` are the sides of the images that networks see, as shares of the task's, a decision where there
    are several: they resize by themselves, in training as when shipped. Widths, squeeze and excite and activations of
    the units are those of MobileNetV3-Large (Howard et al., 2019); ``width`` multiplies every number of channels,
    which are then multiples of 8.

    With evaluator=supernet evaluator.elastic=true all networks share one set of weights: kernels are the middle,
    narrow layers the leading channels, short units the first layers of the largest. The paper trains that set from the
    largest network down; here a trial trains the network that it judges, or all are drawn alike.

    The paper has width=1.2 on ImageNet, and 25 resolutions from 128 to 224. Images below 96 pixels have no stride of
    the stem, then of the first units, so that 4 x 4 pixels or more are left at the smallest scale. The defaults suit
    small images and a search of minutes.
    """

    depths: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1)] = (2, 3, 4)
    kernels: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1)] = (3, 5, 7)
    expansions: Annotated[tuple[Annotated[int, Ge(2)], ...], MinLen(1)] = (3, 4, 6)
    scales: Annotated[tuple[Annotated[float, Gt(0), Le(1)], ...], MinLen(1)] = (1.0,)
    width: Annotated[float, Gt(0)] = 0.25
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.1

    def __post_init__(self) -> None:
        if even := [kernel for kernel in self.kernels if kernel % 2 == 0]:
            raise BadInput(f"space.kernels has {even[0]}, and only odd kernels have a middle: give 3, 5, 7 or the like")
        self._depths, self._kernels = Options(self.depths), Options(self.kernels)
        self._expansions, self._scales = Options(self.expansions), Options(self.scales)
        for name in ("depths", "kernels", "expansions", "scales"):
            getattr(self, f"_{name}").check(f"space.{name}")
        self._asked = [
            (
                f"unit{unit}.depth",
                [
                    (f"unit{unit}.layer{layer}.kernel", f"unit{unit}.layer{layer}.expansion")
                    for layer in range(max(self.depths))
                ],
            )
            for unit in range(UNITS)
        ]

    def describe(self, choose: Choose) -> Elastic:
        kernels, expansions = self._kernels, self._expansions
        scale = choose("scale", self._scales) if len(self.scales) > 1 else self.scales[0]
        units = []
        for depth, layers in self._asked:
            count = choose(depth, self._depths)
            units.append(
                tuple([Layer(choose(kernel, kernels), choose(wide, expansions)) for kernel, wide in layers[:count]])
            )
        return Elastic(scale, tuple(units))

    def build(self, blueprint: Elastic, task: Task) -> Module:
        from automl_spaces.ofa_network import network

        self.check(task)
        smallest = int(min(min(self.scales) * side + 0.5 for side in task.input[1:]))
        return network(blueprint, self.width, self.dropout, task.input, task.outputs, smallest)

    def check(self, task: Task) -> None:
        height, width = task.input[1:]
        sides = {scale: seen(scale, (height, width)) for scale in self.scales}
        if min(min(size) for size in sides.values()) < LEAST_MAP:
            least = next(side for side in range(1, 9_999) if min(seen(min(self.scales), (side, side))) >= LEAST_MAP)
            check_side("ofa", task, least, None if len(self.scales) == 1 else "larger space.scales")
        for (scale, size), (other, same) in pairwise(sorted(sides.items())):
            if size == same:
                raise BadInput(
                    f"space.scales has {scale} and {other}, which both make {size[0]} x {size[1]} of images of "
                    f"{height} x {width}: leave one out"
                )

    def canonical(self, blueprint: Elastic) -> Elastic:
        """Return the network itself: no two descriptions are of one."""
        return blueprint

    def size(self) -> int:
        """Return the number of networks: a unit has the sum over its depths of (kernels x expansions)^depth."""
        layer = len(self.kernels) * len(self.expansions)
        return int(len(self.scales) * sum(layer**depth for depth in self.depths) ** UNITS)

    def graph(self, blueprint: Elastic) -> dict[str, list[tuple[str, str, str]]]:
        """Return each unit's chain of layers as edges (from, to, layer) by the unit's name, for drawing it."""
        drawn = {}
        for unit, layers in enumerate(blueprint.units):
            states = ["input", *map(str, range(1, len(layers))), "output"]
            told = [f"{layer.expansion} x, {layer.kernel} x {layer.kernel}" for layer in layers]
            drawn[f"unit{unit}"] = [(*ends, layer) for ends, layer in zip(pairwise(states), told, strict=True)]
        return drawn

    def from_lists(
        self, ks: Sequence[int], e: Sequence[int], d: Sequence[int], scale: float | None = None
    ) -> Architecture:
        """Return the network that is written so in the notation of the paper's release.

        ``ks`` and ``e`` have four slots a unit, of which the first ``d`` of that unit count. Raises BadInput where it
        is none of this space.
        """
        if (len(ks), len(e), len(d)) != (UNITS * SLOTS, UNITS * SLOTS, UNITS) or max(d) > SLOTS:
            raise BadInput(
                f"a network of Once-for-all has {UNITS * SLOTS} kernels, as many expansions and {UNITS} depths of at "
                f"most {SLOTS}, and these are {len(ks)}, {len(e)} and {len(d)}: give as many"
            )
        values: dict[str, float] = {"scale": scale or max(self.scales)} if len(self.scales) > 1 else {}
        for unit, depth in enumerate(d):
            values[f"unit{unit}.depth"] = depth
            for layer in range(depth):
                values[f"unit{unit}.layer{layer}.kernel"] = ks[SLOTS * unit + layer]
                values[f"unit{unit}.layer{layer}.expansion"] = e[SLOTS * unit + layer]
        return self.read(values)


def seen(scale: float, image: tuple[int, int]) -> tuple[int, int]:
    """Return the height and width that a network of that scale sees of images of so many pixels."""
    height, width = image
    return int(scale * height + 0.5), int(scale * width + 0.5)

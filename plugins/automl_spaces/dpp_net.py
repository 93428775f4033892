"""The space of DPP-Net: a cell of densely connected layers, each a normalisation and a convolution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from automl import BadInput, Choose, Op, Options, Task
from automl.errors import near_miss
from automl_spaces.counted import Counted
from automl_spaces.image_sizes import check_stages
from automl_spaces.uniform import Uniform, weighed

if TYPE_CHECKING:
    from torch.nn import Module

CONVOLUTIONS = ("conv1x1", "conv3x3", "group1x1", "group3x3", "learned_group1x1", "depthwise3x3")
NORMALISATIONS = ("bn_relu", "bn", "none")
STAGES = 3

Layers = tuple[tuple[Op, Op], ...]  # of each layer the normalisation and the convolution


@dataclass
class DPPNet(Counted[Layers]):
    """One cell of layers that each read all before them, a normalisation and then a convolution (Dong et al., 2018).

    A cell has from ``least`` to ``layers`` layers, a decision where these differ; each has two slots of the paper, of
    which the second, the convolution, gives ``growth`` channels, doubled from stage to stage, to the concatenation. A
    depthwise convolution is followed by a 1 x 1 one, by which it gives as many. Groups are four, of which the learned
    ones are those of CondenseNet. A cell is expanded by ``enumerate({**values, "cell.layers": more})``.

    ``cells`` is the number of cells a stage, of which there are three with averages over 2 x 2 between them, and
    ``channels`` the width of the stem. The paper searches cells of four slots, layers=2, progressively. The defaults
    suit small images and a search of minutes.

    ``uniform`` says what random architectures are drawn uniformly from: the options of each decision, by which small
    cells are common, or all ``architectures``, of which most are large.
    """

    layers: Annotated[int, Ge(1)] = 4
    least: Annotated[int, Ge(1)] = 1
    cells: Annotated[int, Ge(1)] = 1
    channels: Annotated[int, Ge(1)] = 16
    growth: Annotated[int, Ge(1)] = 8
    normalisations: tuple[str, ...] = NORMALISATIONS
    convolutions: tuple[str, ...] = CONVOLUTIONS
    uniform: Uniform = "decisions"

    def __post_init__(self) -> None:
        if self.least > self.layers:
            raise BadInput(
                f"space.least={self.least} is more than the space.layers={self.layers} that a cell has at most: "
                f"give at most {self.layers}, or space.layers={self.least}"
            )
        self._normalisations = _offered("normalisations", self.normalisations, NORMALISATIONS, _normalisation)
        self._convolutions = _offered("convolutions", self.convolutions, CONVOLUTIONS, _convolution)
        for field, value in (("channels", self.channels), ("growth", self.growth)):
            if value % GROUPS and any("group" in name for name in self.convolutions):
                raise BadInput(
                    f"space.{field}={value} is no multiple of the {GROUPS} groups of grouped convolutions: "
                    f"give {GROUPS * max(1, round(value / GROUPS))}, or leave those out of space.convolutions"
                )
        counts, slots = range(self.least, self.layers + 1), len(self.normalisations) * len(self.convolutions)
        self._counts = weighed(self.uniform, counts, [slots**count for count in counts])
        self._asked = [(f"cell.norm{layer}", f"cell.conv{layer}") for layer in range(self.layers)]

    def describe(self, choose: Choose) -> Layers:
        count = choose("cell.layers", self._counts) if self._counts.count > 1 else self.layers
        norms, convs = self._normalisations, self._convolutions
        return tuple([(choose(norm, norms), choose(conv, convs)) for norm, conv in self._asked[:count]])

    def build(self, blueprint: Layers, task: Task) -> Module:
        from automl_spaces.dpp_net_network import network

        self.check(task)
        return network(blueprint, STAGES, self.cells, self.channels, self.growth, task.input[0], task.outputs)

    def check(self, task: Task) -> None:
        check_stages("dpp_net", task, STAGES)

    def canonical(self, blueprint: Layers) -> str:
        return ";".join(f"{norm.name},{conv.name}" for norm, conv in blueprint)

    def size(self) -> int:
        """Return the number of cells: the sum over their layers of (normalisations x convolutions)^layers."""
        return int(sum((len(self.normalisations) * len(self.convolutions)) ** count for count in self._counts))

    def graph(self, blueprint: Layers) -> dict[str, list[tuple[str, str, str]]]:
        """Return the cell's edges (from, to, operation) by its name, for drawing it."""
        names = ["input", *map(str, range(1, len(blueprint) + 1))]
        drawn = [
            (source, names[layer], f"{norm.name}, {conv.name}")
            for layer, (norm, conv) in enumerate(blueprint, start=1)
            for source in names[:layer]
        ]
        return {"cell": [*drawn, *((name, "output", "") for name in names)]}


GROUPS = 4


def _convolution(name: str, inputs: int, channels: int, stride: int) -> Module:
    from automl_spaces.dpp_net_network import convolution

    return convolution(name, inputs, channels)


def _normalisation(name: str, inputs: int, channels: int, stride: int) -> Module:
    from automl_spaces.dpp_net_network import normalisation

    return normalisation(name, inputs)


def _offered(field: str, names: tuple[str, ...], known: tuple[str, ...], make: Callable[..., Module]) -> Options[Op]:
    for name in names:
        if name not in known:
            raise BadInput(
                f"space.{field} has {name!r}, which is none{near_miss(name, known)}: choose among {', '.join(known)}"
            )
    options = Options([Op(name, partial(make, name)) for name in names])
    options.check(f"space.{field}")
    return options

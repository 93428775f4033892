"""The space of NAS-Bench-Macro: a chain of eight layers, each of three kinds."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from automl import Architecture, BadInput, Choose, Op, Options, Task
from automl.errors import printable
from automl_networks.vocabulary import VOCABULARY
from automl_spaces.counted import Counted
from automl_spaces.image_sizes import check_size

if TYPE_CHECKING:
    from torch.nn import Module

STAGES = (2, 3, 3)  # layers of each; the first halves the size and doubles the channels


def _identity(inputs: int, channels: int, stride: int) -> Module:
    from torch import nn

    from automl_networks.conv_norm import conv_norm

    return (
        nn.Identity() if stride == 1 and inputs == channels else conv_norm(inputs, channels, 1, stride, activation=None)
    )


_OPERATIONS = Options((Op("identity", _identity), VOCABULARY["mbconv3_3x3"], VOCABULARY["mbconv6_5x5"]))
_DECISIONS = tuple(f"layer{layer}.op" for layer in range(sum(STAGES)))

Layers = tuple[Op, ...]


@dataclass
class NASBenchMacro(Counted[Layers]):
    """Eight layers in three stages, each no layer or one of two inverted residuals (Su et al., 2021).

    An identity that halves the size is a 1 x 1 convolution. ``channels`` is the width of the stem, which each stage
    doubles; the last 1 x 1 convolution has forty times as many. The default is the benchmark's, so that what is built
    has the parameters and the multiply-adds that it counts.
    """

    channels: Annotated[int, Ge(1)] = 32

    def describe(self, choose: Choose) -> Layers:
        return tuple([choose(name, _OPERATIONS) for name in _DECISIONS])

    def build(self, blueprint: Layers, task: Task) -> Module:
        from torch import nn

        from automl_networks.classifier import Classifier, pooled_linear
        from automl_networks.conv_norm import conv_norm

        self.check(task)
        layers = iter(blueprint)
        channels, rows = self.channels, []
        for depth in STAGES:
            first, *others = [next(layers) for _ in range(depth)]
            inputs, channels = channels, 2 * channels
            rows.append(nn.Sequential(first(inputs, channels, 2), *(op(channels, channels, 1) for op in others)))
        head = 40 * self.channels
        rows.append(conv_norm(channels, head, activation=nn.ReLU6))
        stem = conv_norm(task.input[0], self.channels, 3, activation=nn.ReLU6)
        return Classifier(stem, rows, pooled_linear(head, task.outputs))

    def check(self, task: Task) -> None:
        check_size("nasbench_macro", task, len(STAGES), len(STAGES))

    def canonical(self, blueprint: Layers) -> str:
        """Return one key for all places of identities that are no layers: 3,969 of 6,561 differ."""
        layers = iter(blueprint)
        told = []
        for depth in STAGES:
            first, *others = [next(layers).name for _ in range(depth)]
            told.append(";".join([first, *(name for name in others if name != "identity")]))
        return "/".join(told)

    def size(self) -> int:
        return int(_OPERATIONS.count ** len(_DECISIONS))

    def graph(self, blueprint: Layers) -> dict[str, list[tuple[str, str, str]]]:
        """Return the chain's edges (from, to, operation) by its name, for drawing it."""
        states = ["input", *map(str, range(1, len(blueprint))), "output"]
        return {"chain": [(*ends, op.name) for ends, op in zip(pairwise(states), blueprint, strict=True)]}

    def arch(self, blueprint: Layers) -> str:
        """Return the network in the benchmark's notation: a digit a layer, 0 for identity, 1 and 2."""
        return "".join(str(_OPERATIONS.index(op)) for op in blueprint)

    def from_arch(self, text: str) -> Architecture:
        """Return the architecture that is written so in the benchmark's notation; raises BadInput for another text."""
        if len(text) != len(_DECISIONS) or not set(text) <= set("012"):
            raise BadInput(f"{printable(text)!r} is no network of NAS-Bench-Macro: write eight digits, each 0, 1 or 2")
        names = [_OPERATIONS.options[int(digit)].name for digit in text]
        return self.read(dict(zip(_DECISIONS, names, strict=True)))

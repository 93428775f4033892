"""A space of plain chains of convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from automl import BadInput, Choose, Op, Space, Task

if TYPE_CHECKING:
    from torch.nn import Module


def convolution(kernel: int, channels: int) -> Module:
    """Return a convolution that keeps the shape of its input."""
    from torch import nn

    layer = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(channels), nn.ReLU())


def skip(channels: int) -> Module:
    """Return what does nothing."""
    from torch import nn

    return nn.Identity()


# all keep the shape, so that one network may also hold them all: strategy=darts evaluator=supernet
OPERATIONS = (*(Op(f"conv{kernel}x{kernel}", partial(convolution, kernel)) for kernel in (1, 3, 5)), Op("skip", skip))


@dataclass
class Hello(Space[tuple[Op, ...]]):
    """Chains of one to ``depth`` layers, each a convolution of 1 x 1, 3 x 3 or 5 x 5, or left out."""

    depth: Annotated[int, Ge(1)] = 4  # the bound is checked where it is typed
    channels: Annotated[int, Ge(1)] = 16

    def describe(self, choose: Choose) -> tuple[Op, ...]:
        depth = choose("depth", range(1, self.depth + 1))
        return tuple([choose(f"layer.{number}", OPERATIONS) for number in range(depth)])

    def build(self, blueprint: tuple[Op, ...], task: Task) -> Module:
        from torch import nn

        stem = nn.Conv2d(task.input[0], self.channels, 3, stride=2, padding=1)
        layers = [operation(self.channels) for operation in blueprint]
        head = nn.Linear(self.channels, task.outputs)
        return nn.Sequential(stem, *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)

    def check(self, task: Task) -> None:
        if min(task.input[1:]) < 2:
            raise BadInput(f"space hello needs images of 2 x 2 pixels, and these are {task.input[1]} x {task.input[2]}")

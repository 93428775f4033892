"""A space of tiny networks."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from automl import BadInput, Space


@dataclass
class Toy(Space):
    """Chains of one to three small convolutions."""

    depth: Annotated[int, Ge(1)] = 3
    width: Annotated[int, Ge(1)] = 8
    single: bool = False

    def describe(self, choose):
        if self.single:
            return [(3, "relu", choose("only", ("a", "b")))]
        depth = choose("depth", range(1, self.depth + 1))
        return [
            (choose(f"layer.{i}.kernel", (1, 3)), choose(f"layer.{i}.activation", ("relu", "tanh", "silu")), None)
            for i in range(depth)
        ]

    def check(self, task):
        if min(task.input[1:]) < 2:
            raise BadInput(f"task.size={min(task.input[1:])} is too small for space toy: give at least 2")

    def build(self, blueprint, task):
        from torch import nn

        channels, layers = task.input[0], []
        for kernel, activation, _ in blueprint:
            layers += [
                nn.Conv2d(channels, self.width, kernel, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(self.width),
            ]
            layers.append({"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}[activation]())
            channels = self.width
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * self.width, task.outputs))

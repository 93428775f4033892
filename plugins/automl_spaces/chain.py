"""The chain-structured space: stages of a variable number of layers, each an operation of its own."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from automl import BadInput, Choose, Op, Options, Space, Task
from automl_spaces.image_sizes import check_stages
from automl_spaces.operations import SHORTCUTS, named
from automl_spaces.uniform import Uniform, weighed

if TYPE_CHECKING:
    from torch.nn import Module

CHAIN_OPERATIONS = ("mbconv3_3x3", "mbconv6_3x3", "mbconv3_5x5", "mbconv6_5x5", "sep3x3", "skip")

Stages = tuple[tuple[Op, ...], ...]  # the operation of each layer, stage by stage


@dataclass
class Chain(Space[Stages]):
    """One chain of layers in stages, searched layer by layer (Cai et al., 2019, ProxylessNAS; Wu et al., 2019, FBNet).

    Each of the ``stages`` has from ``least`` to ``depth`` layers, a decision where these differ, and each layer one of
    the ``operations``, which are of the vocabulary (``operations.OPERATIONS``). ``channels`` is the width of the first
    stage; the first layer of every other stage halves the size and doubles the channels. A skip in any other layer
    is no layer at all.

    Images of 96 pixels and more are halved twice more, by the stem and by the first layer of the first stage, where
    that leaves a pixel.

    ``uniform`` says what random architectures are drawn uniformly from: the options of each decision, by which short
    stages are common, or all ``architectures``, of which most are long.
    """

    stages: Annotated[int, Ge(1)] = 3
    depth: Annotated[int, Ge(1)] = 4
    least: Annotated[int, Ge(1)] = 1
    channels: Annotated[int, Ge(1)] = 16
    operations: tuple[str, ...] = CHAIN_OPERATIONS
    uniform: Uniform = "decisions"

    def __post_init__(self) -> None:
        if self.least > self.depth:
            raise BadInput(
                f"space.least={self.least} is more than the space.depth={self.depth} layers that a stage has at most: "
                f"give at most {self.depth}, or space.depth={self.least}"
            )
        if "none" in self.operations:
            raise BadInput(
                "space.operations has 'none', which would cut the chain in two: give skip, which leaves a layer out"
            )
        self._operations = Options(named(self.operations, self.channels))
        self._operations.check("space.operations")
        depths = range(self.least, self.depth + 1)
        self._depths = weighed(self.uniform, depths, [len(self.operations) ** depth for depth in depths])
        self._asked = [
            (f"stage{stage}.depth", [f"stage{stage}.layer{layer}.op" for layer in range(self.depth)])
            for stage in range(self.stages)
        ]

    def describe(self, choose: Choose) -> Stages:
        operations, depths = self._operations, self._depths
        chain = []
        for depth, layers in self._asked:
            count = choose(depth, depths) if depths.count > 1 else self.depth
            chain.append(tuple([choose(layer, operations) for layer in layers[:count]]))
        return tuple(chain)

    def build(self, blueprint: Stages, task: Task) -> Module:
        from automl_spaces.chain_network import network

        self.check(task)
        return network(blueprint, self.channels, task.input, task.outputs)

    def check(self, task: Task) -> None:
        check_stages("chain", task, self.stages, "fewer space.stages")

    def canonical(self, blueprint: Stages) -> str:
        """Return one key for all chains that differ only in skips that change nothing.

        The first layer of a stage counts even where it is a skip: it halves the size, in the first stage that of large
        images.
        """
        return "/".join(
            ";".join([first.name, *(op.name for op in others if op.name not in SHORTCUTS)])
            for first, *others in blueprint
        )

    def size(self) -> int:
        """Return the number of descriptions: a stage has the sum over its depths of operations^depth."""
        return int(sum(len(self.operations) ** depth for depth in self._depths) ** self.stages)

    def graph(self, blueprint: Stages) -> dict[str, list[tuple[str, str, str]]]:
        """Return each stage's edges (from, to, operation) by the stage's name, for drawing it."""
        drawn = {}
        for stage, layers in enumerate(blueprint):
            states = ["input", *map(str, range(1, len(layers))), "output"]
            drawn[f"stage{stage}"] = [(*ends, op.name) for ends, op in zip(pairwise(states), layers, strict=True)]
        return drawn

"""The factorised hierarchical space of MnasNet: blocks of equal layers, each block with decisions of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NamedTuple

from annotated_types import Ge, Gt, Lt

from automl import BadInput, Choose, Options, Task
from automl_networks.hand_designed import LEAST_MAP
from automl_networks.widths import make_divisible
from automl_spaces.counted import Counted
from automl_spaces.image_sizes import check_side

if TYPE_CHECKING:
    from torch.nn import Module

CONVOLUTIONS = Options(("conv", "separable", "mbconv3", "mbconv6"))
KERNELS = Options((3, 5))
SQUEEZES = Options((0.0, 0.25))
SKIPS = Options(("pool", "identity", "none"))
FACTORS = Options((0.75, 1.0, 1.25))
MORE, NOT_LESS = Options((-1, 0, 1)), Options((0, 1))  # layers than the skeleton's


class Block(NamedTuple):
    """Equal layers: the first has the stride and takes what channels there are."""

    conv: str
    kernel: int
    squeeze: float
    skip: str
    inputs: int
    outputs: int
    layers: int
    stride: int

    @property
    def skips(self) -> str:
        """What any of its layers adds of its input: only where it keeps the width, an identity the size too."""
        keeps = self.inputs == self.outputs and (self.stride == 1 or self.skip == "pool")
        return self.skip if keeps or self.layers > 1 else "none"


@dataclass
class MnasNetSearch(Counted[tuple[Block, ...]]):
    """Mobile networks in blocks of equal layers, as MnasNet was searched (Tan et al., 2019).

    Each block decides on the kind of its layers, their kernel, squeeze and excite as a share of their inputs, what
    they add of their input, and on more or less channels and layers than the skeleton has: 432 ways, or 288 where one
    layer can only become more. ``filters``, ``layers`` and ``strides`` are the skeleton's, by default MobileNetV2's
    after its first block; ``width`` multiplies every number of channels, which are then multiples of 8. What MnasNet's
    search found is the space mnasnet.

    The paper has width=1.0 on ImageNet. Images below 96 pixels have no stride of the stem, then of the first blocks, so
    that 4 x 4 pixels or more are left. The defaults suit small images and a search of minutes.
    """

    filters: tuple[Annotated[int, Ge(1)], ...] = (24, 32, 64, 96, 160, 320)
    layers: tuple[Annotated[int, Ge(1)], ...] = (2, 3, 4, 3, 3, 1)
    strides: tuple[Annotated[int, Ge(1)], ...] = (2, 2, 2, 1, 2, 1)
    width: Annotated[float, Gt(0)] = 0.25
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.2

    def __post_init__(self) -> None:
        lengths = {"filters": len(self.filters), "layers": len(self.layers), "strides": len(self.strides)}
        if len(set(lengths.values())) > 1 or not self.filters:
            shown = ", ".join(f"space.{name} has {length}" for name, length in lengths.items())
            raise BadInput(f"each block has filters, layers and a stride, but {shown}: give lists of one length")
        self._asked = [
            (
                tuple(f"block{block}.{part}" for part in ("conv", "kernel", "squeeze", "skip", "filters", "layers")),
                MORE if layers > 1 else NOT_LESS,
            )
            for block, layers in enumerate(self.layers)
        ]
        self._first = make_divisible(16 * self.width)

    def describe(self, choose: Choose) -> tuple[Block, ...]:
        inputs, blocks = self._first, []
        skeleton = zip(self.filters, self.layers, self.strides, strict=True)
        for ((conv, kernel, squeeze, skip, factor, more), depths), (filters, layers, stride) in zip(
            self._asked, skeleton, strict=True
        ):
            made = Block(
                conv=choose(conv, CONVOLUTIONS),
                kernel=choose(kernel, KERNELS),
                squeeze=choose(squeeze, SQUEEZES),
                skip=choose(skip, SKIPS),
                inputs=inputs,
                outputs=make_divisible(filters * choose(factor, FACTORS) * self.width),
                layers=layers + choose(more, depths),
                stride=stride,
            )
            blocks.append(made)
            inputs = made.outputs
        return tuple(blocks)

    def build(self, blueprint: tuple[Block, ...], task: Task) -> Module:
        from automl_spaces.mnasnet_search_network import network

        self.check(task)
        return network(blueprint, self.width, self.dropout, task.input, task.outputs)

    def check(self, task: Task) -> None:
        check_side("mnasnet_search", task, LEAST_MAP)

    def canonical(self, blueprint: tuple[Block, ...]) -> tuple[tuple[object, ...], ...]:
        """Return one key for all that comes to the same channels, and for skips that no layer can add."""
        return tuple(
            (block.conv, block.kernel, block.squeeze, block.skips, block.outputs, block.layers) for block in blueprint
        )

    def size(self) -> int:
        """Return the number of descriptions: 432 a block, 288 of a skeleton's single layer."""
        size = 1
        for _, depths in self._asked:
            size *= CONVOLUTIONS.count * KERNELS.count * SQUEEZES.count * SKIPS.count * FACTORS.count * depths.count
        return size

    def graph(self, blueprint: tuple[Block, ...]) -> dict[str, list[tuple[str, str, str]]]:
        """Return the chain of blocks as edges (from, to, operation) by its name, for drawing it."""
        names = ["input", *map(str, range(1, len(blueprint))), "output"]
        return {
            "chain": [
                (names[place], names[place + 1], f"{block.layers} x {block.conv} {block.kernel}, {block.outputs}")
                for place, block in enumerate(blueprint)
            ]
        }

"""What hand-designed networks have in common as search spaces: settings that may become decisions, and a size."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from annotated_types import Ge

from automl import BadInput, Choose, Integer, Options, Real, Space, Task

if TYPE_CHECKING:
    from torch.nn import Module

Image = tuple[int, int, int]  # channels, height, width
SMALL = 96  # pixels of a side below which images are small
LEAST_MAP = 4  # pixels of a side of the last map that small images are left with


class _Decidable:
    """Lets a setting be one value, or a list of values that makes it a decision."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        one = handler(source)
        several = core_schema.list_schema(one, min_length=1)
        return core_schema.union_schema([one, core_schema.no_info_after_validator_function(Options, several)])

    def __str__(self) -> str:
        return "or a list of them, which makes it a decision"


DECIDABLE = _Decidable()


@dataclass
class HandDesigned(Space["HandDesigned"]):
    """A network designed by hand.

    A setting that is marked DECIDABLE is one value or, as a list on the command line and as ``Options`` in Python,
    several: then it is a decision of that name. The blueprint is the space itself with one value for each.

    ``resolution`` is the side that images are resized to, inside the network; None: they are taken as they are.
    ``strides`` says what becomes of images much smaller than the published ones: "auto" leaves out strides and pools
    from the front of networks for images below 96 pixels until the last map has 4 x 4 or more, "published" never,
    "small" always. Leaving them out changes multiply-adds, never parameters.
    """

    resolution: Annotated[int, Ge(1), DECIDABLE] | None = None
    strides: Literal["auto", "published", "small"] = "auto"

    published: ClassVar[tuple[int, ...]] = (2, 2, 2, 2, 2)  # the strides, in order, by which maps become smaller
    smallest: ClassVar[int] = 32  # pixels of a side that the published strides need

    def __post_init__(self) -> None:
        for design in self.designs():
            design.check_design()

    def designs(self) -> list[Self]:
        """Return the space once for each combination of its settings' options; itself where it is none of a list."""
        if any(isinstance(getattr(self, field.name), Real) for field in fields(self)):
            return []  # there is no end of them
        return [architecture.blueprint for architecture in self.enumerate()]

    def describe(self, choose: Choose) -> HandDesigned:
        chosen: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Options | Real | Integer):
                chosen[field.name] = choose(field.name, value)
        return replace(self, **chosen) if chosen else self

    def build(self, blueprint: HandDesigned, task: Task) -> Module:
        from torch import nn

        from automl_networks.initialisation import initialise
        from automl_networks.resize import Resize

        image = blueprint.seen(task)
        blueprint.check_image(image)
        network = blueprint.network(image, task.outputs)
        initialise(network)
        return network if blueprint.resolution is None else nn.Sequential(Resize(blueprint.resolution), network)

    def check(self, task: Task) -> None:
        for design in self.designs():
            design.check_image(design.seen(task))

    @abstractmethod
    def network(self, image: Image, outputs: int) -> Module:
        """Return the network for images of that shape, every setting being one value; its weights are drawn later."""

    def check_design(self) -> None:
        """Raise BadInput for settings, each of one value, that make no network, naming the nearest that do."""

    def check_image(self, image: Image) -> None:
        """Raise BadInput for images too small for the strides, naming the least that works."""
        side = min(image[1:])
        least = LEAST_MAP if self.is_small(image) else self.smallest
        if side < least:
            other = "" if self.is_small(image) else " or space.strides=auto"
            raise BadInput(
                f"space {_name(self)} needs images of at least {least} x {least} pixels, and these are "
                f"{image[1]} x {image[2]}: give space.resolution={least}{other}"
            )

    def seen(self, task: Task) -> Image:
        """Return the shape of the images that the network's first layer sees."""
        channels, height, width = task.input
        side = self.resolution
        return (channels, height, width) if side is None else (channels, side, side)

    def is_small(self, image: Image) -> bool:
        """Return whether strides are left out for images of that shape."""
        return self.strides == "small" or (self.strides == "auto" and min(image[1:]) < SMALL)

    def steps(self, image: Image, published: Sequence[int] | None = None) -> list[int]:
        """Return the network's strides in order: as published, or with 1 in place of the first ones for small images.

        Where a stride is that of a pool, 1 says that the pool is left out.
        """
        steps = list(self.published if published is None else published)
        return shortened(steps, min(image[1:])) if self.is_small(image) else steps


def shortened(strides: Sequence[int], side: int) -> list[int]:
    """Return strides with 1 in place of the first ones, so that of a side LEAST_MAP pixels or more are left."""
    steps = list(strides)
    for place in range(len(steps)):
        left = side
        for step in steps:
            left = -(-left // step)
        if left >= LEAST_MAP:
            break
        steps[place] = 1
    return steps


def _name(space: HandDesigned) -> str:
    """Return the name that the space is registered by: that of its file."""
    return type(space).__module__.rpartition(".")[2]

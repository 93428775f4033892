"""What a component is: its source, its settings with defaults and bounds; of a space its decisions and a drawing."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import random
from contextlib import suppress
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from automl import measure
from automl.conditions import SAMPLES, conditions
from automl.decisions import Architecture
from automl.drawing import pictures
from automl.drawing.words import tell
from automl.errors import AutoMLError, BadInput, printable
from automl.joining import HYPERPARAMETERS
from automl.plugins import Kind, Registry, allowed, construct, settings
from automl.space import Space

if TYPE_CHECKING:
    from torch.nn import Module


def explain(kind: Kind, name: str, registry: Registry | None = None) -> str:
    """Return a page about a component; raises BadInput where none has that name."""
    registry = registry or Registry()
    component = registry.find(kind, name)
    loaded = registry.load(kind, name)
    lines = [
        f"{kind} {name}, of {component.package} {component.version}",
        "",
        inspect.cleandoc(loaded.__doc__ or "(it says nothing of itself)"),
    ]
    if found := rows(loaded):
        place = f"{kind}.{name}" if kind == "tracker" else kind  # of which there may be several
        lines += ["", "Settings (default, what is allowed):"]
        lines += [f"  {place}.{key}={default}    {what}" for key, default, what in found]
    if issubclass(loaded, Space):
        lines += ["", *decided(loaded)]
        if name != HYPERPARAMETERS:
            more = f"space.with_{HYPERPARAMETERS}=true decides the settings of its training, too"
            lines += ["", f"{more}: automl explain space {HYPERPARAMETERS}"]
    return "\n".join(lines)


def draw(kind: Kind, name: str, path: Path, registry: Registry | None = None) -> None:
    """Write a picture of one sampled architecture of a space: that which ``explain`` tells.

    Raises BadInput where it cannot be drawn, StorageError where it cannot be written.
    """
    loaded = (registry or Registry()).load(kind, name)
    if not issubclass(loaded, Space):
        raise BadInput(
            f"only spaces are drawn: leave out --picture, or type automl explain space NAME --picture {path}"
        )
    sample = example(loaded)
    try:
        found = sample.graphs()
    except _UNBUILT as error:
        raise BadInput(f"space {name} has no graph to draw, nor a network that can be built: {_line(error)}") from error
    pictures.write(path, found)


def rows(component_class: type[object]) -> list[tuple[str, str, str]]:
    """Return key, default and what is allowed of each setting of a component, in order."""
    if not dataclasses.is_dataclass(component_class):
        return []
    types = settings(component_class)
    fields = [field for field in dataclasses.fields(component_class) if field.init]
    return [(field.name, _default(field), allowed(types[field.name])) for field in fields]


def decided(space_class: type[Space[object]]) -> list[str]:
    """Return in lines how many architectures a space has by its defaults, and all that is told of one."""
    try:
        sample = example(space_class)
        size = sample.space.size()
    except (TypeError, AutoMLError) as error:
        return [f"Its decisions cannot be shown without settings: {error}"]
    lines = [f"Size: {count(size)} architecture{'s' * (size != 1)}", *decisions(sample.space, sample.architecture)]
    lines.append(f"That architecture, {sample.costs()}")
    with suppress(*_UNBUILT):
        lines += ["Its graph (drawn by --picture FILE.svg or FILE.png):", *tell(sample.graphs())]
    return lines


def decisions(space: Space[object], architecture: Architecture) -> list[str]:
    """Return in lines the decisions of an architecture, and when such are made, told of some hundreds of samples."""
    lines = []
    if architecture.values:
        lines.append("Decisions of one sampled architecture (answer, and what could be chosen):")
    lines += [f"  {name} = {value}    {architecture.domains[name]}" for name, value in architecture.to_json().items()]
    if found := conditions(space):
        lines.append(f"Conditions, as {2 * SAMPLES} sampled architectures show them:")
        lines += [f"  {names}    {reason}" for names, reason in found[:_CONDITIONS]]
        lines += [f"  and {len(found) - _CONDITIONS} more"] if len(found) > _CONDITIONS else []
    return lines


class Built(NamedTuple):
    """A network at rest, without weights, the shape of the images that it is for, and what it computes for one."""

    network: Module
    image: tuple[int, int, int]
    multiply_adds: int


class Sample:
    """A space by its defaults, and one architecture of it, whose network is built once."""

    def __init__(self, space: Space[object], architecture: Architecture) -> None:
        self.space = space
        self.architecture = architecture

    def graphs(self) -> pictures.Graphs:
        """Return the edges of each graph: what the space says, else those of the network's blocks.

        Raises what building or running the network does, where it must be and cannot.
        """
        from automl.drawing.blocks import blocks

        found = self.space.graph(self.architecture.blueprint)
        return found or {"network": blocks(self.built.network, self.built.image)}

    def costs(self) -> str:
        """Say how many parameters and multiply-adds the network has, for small images where these suffice."""
        try:
            network, image, products = self.built
        except _UNBUILT as error:
            return f"uncounted: {_line(error)}"
        size = f"{' x '.join(map(str, image))} and {_CLASSES} classes"
        return f"for images of {size}: {measure.parameters(network):,} parameters, {products:,} multiply-adds"

    @cached_property
    def built(self) -> Built:
        """The network for small images, or for ImageNet's; raises what it does for the small where neither can be."""
        import torch

        reason: Exception | None = None
        for side in _SIDES:
            images = _Images((3, side, side), _CLASSES)
            try:
                self.space.check(images)  # type: ignore[arg-type]
                with torch.device("meta"):  # which only counts
                    network = measure.strip(self.space.build(self.architecture.blueprint, images))  # type: ignore[arg-type]
                return Built(network, images.input, measure.multiply_adds(network, images.input))
            except _UNBUILT as error:
                reason = reason or error
        assert reason is not None
        raise reason


def example(space_class: type[Space[object]]) -> Sample:
    """Return one architecture of a space by its defaults, always the same, of middling length.

    Raises BadInput where the space has settings without a default.
    """
    space: Space[object] = construct(space_class, {}, "space")
    rng = random.Random(0)
    drawn = sorted((space.sample(rng) for _ in range(_DRAWN)), key=lambda one: len(one.values))
    return Sample(space, drawn[_DRAWN // 2])


def count(size: float) -> str:
    """Return a number of architectures in words: exactly, where it is known.

    >>> count(432), count(10**12), count(1.5e9), count(math.inf)
    ('exactly 432', 'exactly 1,000,000,000,000 (1.00e+12)', 'about 1.5e+09', 'endlessly many')
    """
    if size == math.inf:
        return "endlessly many"
    if not isinstance(size, int):
        return f"about {size:.3g}"
    short, digits = f"{Decimal(size):.2e}", Decimal(size).adjusted() + 1
    if digits > _DIGITS:
        return f"{short} (counted exactly, {digits:,} digits)"
    return f"exactly {size:,} ({short})" if digits > _SHORT else f"exactly {size:,}"


class _Images(NamedTuple):
    """All that a space may use of a task."""

    input: tuple[int, int, int]
    outputs: int


_UNBUILT = (AutoMLError, RuntimeError, ValueError, NotImplementedError)  # of a network on images of no use to it
_SIDES = 32, 224
_CLASSES = 10
_CONDITIONS = 20  # lines
_DIGITS, _SHORT = 100, 9  # of a number that is written out, and of one that is read at a glance
_DRAWN = 15  # architectures, of which one is shown


def _line(error: Exception) -> str:
    return printable(str(error).split("\n")[0])


def _default(field: dataclasses.Field[object]) -> str:
    if field.default is not dataclasses.MISSING:
        return json.dumps(field.default, default=str).strip('"')
    if field.default_factory is not dataclasses.MISSING:
        return str(field.default_factory())
    return "???"

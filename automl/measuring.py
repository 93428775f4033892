"""Measures the networks of a space, or of a run, as ``automl measure`` prints them: layer by layer, and timed."""

from __future__ import annotations

import json
import random
import re
import secrets
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from automl import config as configs
from automl import deploy, measure, runs
from automl.decisions import Architecture
from automl.errors import BadInput, TrialFailed, printable
from automl.final import load
from automl.joining import apart, joined, parts
from automl.layers import Guidelines, Layer, Profile, profile
from automl.plugins import Registry, check
from automl.space import Space

if TYPE_CHECKING:
    from torch.nn import Module

Image = tuple[int, int, int]
IMAGE: Image = (3, 224, 224)  # the customary figures are of such images, of so many classes
CLASSES = 1000
MOST = 16  # architectures that are all measured
WIDTH = 120  # of what is printed
_LARGEST = 4096  # pixels of a side


@dataclass(frozen=True)
class Measured:
    """One network. ``latency`` has, by runtime, what was measured, or a sentence that says why it was not."""

    decisions: Mapping[str, Any]
    profile: Profile
    guidelines: Guidelines
    latency: Mapping[str, measure.Latency | str]


@dataclass(frozen=True)
class Measurement:
    """The networks of one space, measured alike; ``chosen`` says which of its architectures they are.

    ``compressor`` is what made them smaller, None where nothing did.
    """

    space: str
    compressor: str | None
    chosen: str
    image: Image
    classes: int
    batch: int
    threads: int
    networks: Sequence[Measured]

    def as_json(self) -> str:
        """Return everything as one JSON object."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def as_text(self) -> str:
        """Return it for reading: one network layer by layer, several in a row each."""
        size = " x ".join(map(str, self.image))
        compressor = "" if self.compressor is None else f", compressor {printable(self.compressor)}"
        lines = [
            f"Space {printable(self.space)}{compressor}, {self.chosen}",
            f"Images of {size}, {self.classes:,} classes, batch {self.batch}",
        ]
        if len(self.networks) == 1:
            lines += _one(self.networks[0])
        else:
            lines += ["", *_several(self.networks)]
        return "\n".join(lines)


def measured_run(
    folder: Path, *, target: str | None = None, batch: int = 1, threads: int = 1, timed: bool = True
) -> Measurement:
    """Measure the final network of a run; raises BadInput where the folder has none.

    ``target`` is what made a network of one's own: see ``automl.load``.
    """
    deployed = load(folder, target=target)
    description = runs.read_json(folder / "architecture.json")
    task = _task(deployed.input, len(deployed.classes))
    network = _measured(deployed.network, description["decisions"], task, batch, threads, timed)
    chosen = f"the network of {printable(folder.name)}"
    return Measurement(*names(description["space"]), chosen, task.input, task.outputs, batch, threads, (network,))


def measured_space(
    words: Sequence[str],
    *,
    image: Image | None = None,
    classes: int | None = None,
    batch: int = 1,
    threads: int = 1,
    timed: bool = True,
) -> Measurement:
    """Measure the networks of the space that the words of a command line describe, untrained.

    With a compressor they are those made smaller, by the scores of weights that the seed draws where the space has
    none. They are for the task's images and classes where the words name a task, else for 3 x 224 x 224 and 1,000,
    unless told. All architectures are measured where they are at most sixteen, else one, drawn by the seed. Raises
    BadInput for what does not fit.
    """
    registry = Registry()
    values = configs.resolved(configs.compose(words, registry))
    seed = check(values.get("seed"), Annotated[int, Ge(0)] | None, "seed")
    seed = secrets.randbelow(1 << 31) if seed is None else seed
    space, task, settings = described(words, values, registry, image, classes, seed)
    whence = "" if _names_task(words) else "; where no task is named, --image gives the size"
    try:
        space.check(task)
        architectures, chosen = _choose(space, seed)
        with _fitting(task, batch):
            made = [(architecture, built(space, architecture, task, seed)) for architecture in architectures]
    except (BadInput, TrialFailed) as error:
        raise BadInput(f"{error}{whence if 'image' in str(error) else ''}") from error
    networks = [
        _measured(network, architecture.to_json(), task, batch, threads, timed) for architecture, network in made
    ]
    return Measurement(*names(settings), chosen, task.input, task.outputs, batch, threads, networks)


def described(
    words: Sequence[str],
    values: Mapping[str, Any],
    registry: Registry,
    image: Image | None,
    classes: int | None,
    seed: int,
) -> tuple[Space[Any], Any, dict[str, Any]]:
    """Return the space of a composed config, what its networks are built for, and the space's settings.

    They are for the task's images and classes where the words name a task, else for 3 x 224 x 224 and 1,000, unless
    told.
    """
    one = parts(values)
    space: Space[Any] = registry.build_space(one)
    settings = joined(one)
    if not _names_task(words):
        return space, _task(image or IMAGE, classes or CLASSES), settings
    given = registry.build("task", values["task"])
    given.prepare(seed)
    return space, _task(image or given.input, classes or given.outputs), settings


def _names_task(words: Sequence[str]) -> bool:
    return any(re.match(r"task[=.]", word) for word in words)


def image_of(text: str) -> Image:
    """Read channels, height and width, as in 3x224x224; raises BadInput for anything else."""
    sides = text.split("x")
    if len(sides) != 3 or not all(side.isdecimal() and 0 < int(side) <= _LARGEST for side in sides):
        raise BadInput(
            f"--image {text} is not channels x height x width, each from 1 to {_LARGEST:,}: type --image 3x224x224"
        )
    channels, height, width = map(int, sides)
    return channels, height, width


def _task(image: Image, classes: int) -> Any:
    """Return what a network is built for and shipped with, without data."""
    channels = image[0]
    names = [str(number) for number in range(classes)]
    return SimpleNamespace(input=image, outputs=classes, classes=names, mean=[0.0] * channels, std=[1.0] * channels)


def names(space: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the name of the space of these settings, and that of the compressor around it; None without one."""
    one = apart(space)
    return one.space["name"], None if one.compressor is None else one.compressor["name"]


def built(space: Space[Any], architecture: Architecture, task: Any, seed: int) -> Module:
    """Return the network, its weights drawn by the seed."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return space.build(architecture.blueprint, task)


def _choose(space: Space[Any], seed: int) -> tuple[list[Architecture], str]:
    """Return the architectures to measure, and which they are in words."""
    try:
        found = [] if space.exceeds(MOST) else list(islice(space.enumerate(), MOST + 1))
    except BadInput:  # a decision over real numbers, to which there is no end
        found = []
    if 0 < len(found) <= MOST:
        return found, "its only architecture" if len(found) == 1 else f"all of its {len(found)} architectures"
    return [space.sample(random.Random(seed))], f"one of more than {MOST} architectures, drawn by seed={seed}"


@contextmanager
def _fitting(task: Any, batch: int) -> Iterator[None]:
    """Say in a sentence where PyTorch refuses images of that size, or so many of them."""
    try:
        yield
    except (RuntimeError, ValueError, MemoryError) as error:
        size, reason = " x ".join(map(str, task.input)), printable(str(error).strip().split("\n")[0])[:200]
        raise BadInput(
            f"the network cannot take {_count(batch, 'image')} of {size} ({reason}): give others by --image, --classes "
            "or --batch"
        ) from error


def _measured(
    network: Module, decisions: Mapping[str, Any], task: Any, batch: int, threads: int, timed: bool
) -> Measured:
    measure.strip(network)
    with _fitting(task, batch):
        costs = profile(network, task.input, batch)
    latency: dict[str, measure.Latency | str] = {}
    if timed:
        latency["torch"] = measure.torch_latency(network, task.input, threads=threads, batch=batch)
        try:
            latency["onnxruntime"] = deploy.latency(network, task, threads=threads, batch=batch)
        except BadInput as error:
            latency["onnxruntime"] = str(error)
    return Measured(decisions, costs, costs.guidelines(), latency)


def _one(network: Measured) -> Iterator[str]:
    """Yield the lines on one network: decisions, layers, sums, guidelines, latency."""
    costs = network.profile
    if network.decisions:
        yield from textwrap.wrap(f"Decisions: {_decisions(network)}", WIDTH, subsequent_indent="  ")
    yield ""
    heading = ("layer", "kind", "output", "window", "parameters", "multiply-adds", "memory access", "kernels")
    rows = [heading, *map(_row, costs.layers)]
    sums = (costs.parameters, costs.multiply_adds, costs.memory_access, costs.kernels)
    rows.append(("total", "", "", "", *(f"{number:,}" for number in sums)))
    yield from _table(rows, 4)
    yield ""
    yield f"Memory access is in elements read and written; peak activations {costs.peak_activations:,} bytes"
    yield ""
    yield from _advice(network.guidelines)
    if network.latency:
        yield ""
        yield "Latency (median, 10th to 90th percentile)"
    for runtime, found in network.latency.items():
        if isinstance(found, str):
            yield f"  {runtime}: not measured, {printable(found)}"
        else:
            yield (
                f"  {found.runtime}: {found.median_ms:,.3f} ms ({found.p10_ms:,.3f} to {found.p90_ms:,.3f}), "
                f"{found.describe().removeprefix(f'{found.runtime}, ')}"
            )


def _several(networks: Sequence[Measured]) -> list[str]:
    """Return a row for each network."""
    timed = list(networks[0].latency)
    heading = ("decisions", "parameters", "multiply-adds", "memory access", "kernels", "peak bytes")
    rows = [(*heading, *(f"{runtime} ms" for runtime in timed))]
    for network in networks:
        costs = network.profile
        sums = (costs.parameters, costs.multiply_adds, costs.memory_access, costs.kernels, costs.peak_activations)
        latencies = [
            "none" if isinstance(found, str) else f"{found.median_ms:,.3f}" for found in network.latency.values()
        ]
        rows.append((_decisions(network), *(f"{number:,}" for number in sums), *latencies))
    return _table(rows, 1)


def _decisions(network: Measured) -> str:
    return ", ".join(f"{name}={value}" for name, value in network.decisions.items())


def _row(layer: Layer) -> tuple[str, ...]:
    sums = (layer.parameters, layer.multiply_adds, layer.memory_access, layer.kernels)
    return (layer.name, layer.kind, _by(layer.output[1:]), _window(layer), *(f"{number:,}" for number in sums))


def _window(layer: Layer) -> str:
    """Return kernel / stride, groups and dilation, as 3x3/2 depthwise."""
    if not layer.kernel:
        return ""
    words = [_by(layer.kernel)]
    if set(layer.stride) != {1}:
        words[0] += f"/{layer.stride[0]}" if len(set(layer.stride)) == 1 else f"/{_by(layer.stride)}"
    if layer.is_depthwise:
        words.append("depthwise")
    elif layer.groups > 1:
        words.append(f"{layer.groups} groups")
    if set(layer.dilation) != {1}:
        words.append(f"dilated {layer.dilation[0]}")
    return " ".join(words)


def _by(sides: Sequence[int]) -> str:
    return "x".join(map(str, sides))


def _advice(found: Guidelines) -> Iterator[str]:
    """Yield the lines on the four guidelines."""
    widths, groups, fragments, light = found.equal_widths, found.groups, found.fragmentation, found.element_wise
    yield "Guidelines (Ma et al., 2018)"
    if widths.convolutions:
        yield (
            f"  G1 equal widths   {_count(widths.convolutions, '1 x 1 convolution')}: "
            f"{widths.ratio:.2f} times the least memory access for as many multiply-adds"
        )
        worst = ", ".join(f"{printable(name)} {ratio:.2f}" for name, ratio in widths.worst)
        yield from textwrap.wrap(f"most: {worst}", WIDTH, initial_indent=" " * 20, subsequent_indent=" " * 20)
    else:
        yield "  G1 equal widths   no 1 x 1 convolution"
    if groups.convolutions:
        yield (
            f"  G2 groups         {_count(groups.convolutions, 'grouped convolution')}: "
            f"{groups.share:.1%} of memory access, {groups.ratio:.2f} times that without groups"
        )
    else:
        yield "  G2 groups         no grouped convolution but depthwise ones"
    blocks = fragments.blocks
    line = f"  G3 fragmentation  {_count(fragments.kernels, 'kernel')} in {_count(len(blocks), 'block')}"
    if blocks:
        most, wide = max(blocks, key=lambda b: b.kernels), max(blocks, key=lambda b: b.branches)
        line += f"; most {most.kernels} ({printable(most.name)}); side by side {wide.branches} ({printable(wide.name)})"
    yield line
    yield (
        f"  G4 element-wise   {light.share:.1%} of memory access; normalisation {light.normalisation:.1%}, "
        f"depthwise convolutions {light.depthwise:.1%}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _table(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Return aligned lines, the first columns to the left, the others to the right; the first is cut to fit."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    widths[0] = max(len(rows[0][0]), min(widths[0], WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1)))
    lines = []
    for row in rows:
        first = (
            row[0]
            if len(row[0]) <= widths[0]
            else f"{row[0][: widths[0] // 3]}…{row[0][-(widths[0] - widths[0] // 3 - 1) :]}"
        )
        cells = [printable(first), *map(printable, row[1:])]
        placed = [
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append("  ".join(placed).rstrip())
    return lines

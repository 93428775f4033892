"""The graph of a network that is built whole: its blocks, and what each makes of what, as an image passes through."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from automl.drawing.layout import Edge

_LISTS = (nn.ModuleList, nn.ModuleDict)
_FEW = 3  # blocks that tell nothing: they are looked into

Numbered = list[tuple[int, int, str]]


def blocks(network: nn.Module, image: tuple[int, int, int]) -> list[Edge]:
    """Return the edges (from, to, block) between what the blocks of a network at rest make of one image.

    A block is a module inside plain containers alone; a container of layers without parts of their own is one too.
    States are named by their shapes, colours x height x width. Blocks in a row that are alike, with outputs of one
    shape, are one edge; what normalises or activates, and changes no shape, is none. The image is made where the
    network's parameters are.
    """
    place = next(iter(network.parameters()), torch.empty(0)).device
    seen = _Seen(torch.zeros(1, *image, device=place))
    handles = [module.register_forward_hook(seen.note) for module in _found(network)]
    try:
        with torch.no_grad(), seen:
            seen.end(network(seen.image))
    finally:
        for handle in handles:
            handle.remove()
    return _named(_in_rows(seen.edges, seen.shapes), seen.shapes)


class _Seen(TorchFunctionMode):
    """Notes what is made of what: 0 is the image, each number after it the output of a block."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.image = image
        self.edges: Numbered = []
        self.shapes = [tuple(image.shape[1:])]
        self._alive: list[Tensor] = [image]  # so that no other takes the place of one, by which it is known
        self._sources: dict[int, tuple[int, ...]] = {id(image): (0,)}

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        made = function(*arguments, **(keywords or {}))
        sources = self._of((arguments, keywords))
        for tensor in _tensors(made):
            if sources and id(tensor) not in self._sources:
                self._keep(tensor, sources)
        return made

    def note(self, block: nn.Module, given: Any, made: Any) -> None:
        """Note a block that has run."""
        tensor, sources = next(_tensors(made), None), self._of(given)
        if tensor is None or not sources:
            return
        shape, number = tuple(tensor.shape[1:]), len(self.shapes)
        if not _layers(block) and {self.shapes[source] for source in sources} == {shape}:
            self._keep(tensor, sources)
            return
        self.shapes.append(shape)
        self.edges += [(source, number, _words(block)) for source in sources]
        self._keep(tensor, (number,))

    def end(self, made: Any) -> None:
        """Note what the network returned, where that is no block's."""
        sources = self._of(made)
        if len(sources) > 1:
            self.shapes.append(tuple(next(_tensors(made)).shape[1:]))
            self.edges += [(source, len(self.shapes) - 1, "") for source in sources]

    def _of(self, values: Any) -> tuple[int, ...]:
        found = [source for tensor in _tensors(values) for source in self._sources.get(id(tensor), ())]
        return tuple(dict.fromkeys(found))

    def _keep(self, tensor: Tensor, sources: tuple[int, ...]) -> None:
        self._alive.append(tensor)
        self._sources[id(tensor)] = sources


def _found(network: nn.Module) -> list[nn.Module]:
    found = [*_blocks(network)]
    while sum(bool(_layers(block)) for block in found) < _FEW and any(any(block.children()) for block in found):
        found = [part for block in found for part in (_blocks(block) if any(block.children()) else (block,))]
    return found


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        has_parts = any(any(part.children()) for part in child.children())
        if type(child) in _LISTS or (type(child) is nn.Sequential and has_parts):
            yield from _blocks(child)
        else:
            yield child


def _layers(block: nn.Module) -> list[nn.Module]:
    return [layer for layer in block.modules() if isinstance(layer, _ConvNd | nn.Linear)]


def _tensors(values: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def _words(block: nn.Module) -> str:
    """Return what a block is called: layers by their kind and kernel, any other by its class."""
    layers = _layers(block)
    if layers and (type(block) is nn.Sequential or not any(block.children())):
        kinds = Counter(map(_kind, layers))
        return " + ".join(_times(kind, count) for kind, count in kinds.items())
    named = type(next(block.children(), block) if type(block) is nn.Sequential else block).__name__
    named = re.sub(r"[123]d$", "", named.strip("_"))
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", named).lower()


def _kind(layer: nn.Module) -> str:
    if not isinstance(layer, _ConvNd):
        return "linear"
    kind = "conv" if layer.groups == 1 else "depthwise " if layer.groups == layer.in_channels else "grouped conv"
    return ("transposed " if layer.transposed else "") + kind + "x".join(map(str, layer.kernel_size))


def _times(words: str, count: int) -> str:
    return words if count == 1 else f"{words} \N{MULTIPLICATION SIGN}{count}"


def _in_rows(edges: Numbered, shapes: Sequence[tuple[int, ...]]) -> Numbered:
    """Have blocks in a row that are alike, with outputs of one shape, be one edge."""
    reads, gives = Counter(target for _, target, _ in edges), Counter(source for source, _, _ in edges)
    rows: dict[int, tuple[int, str, int]] = {}  # by the last state of a row: where it begins, its block, and how many
    kept: Numbered = []
    for source, target, words in edges:
        first, before, count = rows.get(source, (source, "", 0))
        goes_on = before == words and reads[source] == reads[target] == gives[source] == 1
        if goes_on and shapes[source] == shapes[target]:
            kept = [edge for edge in kept if edge[1] != source]
        else:
            first, count = source, 0
        rows[target] = (first, words, count + 1)
        kept.append((first, target, _times(words, count + 1)))
    return kept


def _named(edges: Numbered, shapes: Sequence[tuple[int, ...]]) -> list[Edge]:
    """Name each state by its shape, and by its number among those of that shape."""
    met: Counter[str] = Counter()
    names: dict[int, str] = {}
    for number in sorted({end for source, target, _ in edges for end in (source, target)}):
        shape = " x ".join(map(str, shapes[number]))
        met[shape] += 1
        names[number] = shape if met[shape] == 1 else f"{shape} ({met[shape]})"
    return [(names[source], names[target], words) for source, target, words in edges]

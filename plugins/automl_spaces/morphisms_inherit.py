"""How a network takes over the weights of one whose steps are the first of its own.

Each map of the child is told by where its channels come from: a map of the parent, and for every channel the one there
that it equals, or none (-1) for what is new and as yet read by zeros.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn

from automl_spaces.morphism_graphs import IMAGE, Layer
from automl_spaces.morphism_templates import own_name
from automl_spaces.morphism_weights import centred, columns, pass_on, separated, take

if TYPE_CHECKING:
    from automl_spaces.morphisms_network import Blend, Network


def inherited(child: Network, parent: Network, noise: float, generator: torch.Generator | None) -> None:
    """Set the child's weights, step by step. Raises ValueError where the list of steps does not go on the parent's."""
    from automl_spaces.morphisms_network import Network

    morphed, begun = child.morphed, len(parent.morphed.moves)
    same = morphed.template == parent.morphed.template and child.settings == parent.settings
    if not same or morphed.moves[:begun] != parent.morphed.moves:
        raise ValueError(
            "the network is no parent: the steps of the child have to begin with all of its steps, from the same start "
            "and for as many colours and outputs"
        )
    for steps in range(begun + 1, len(morphed.moves)):
        between = Network(morphed.until(steps), *child.settings).to(child.linear.weight)
        Inheritance(between, parent, noise, generator).run()
        parent = between
    Inheritance(child, parent, noise, generator).run()


def passing(child: Network, parent: Network) -> list[nn.BatchNorm2d]:
    """Return the normalisations of layers that the parent has not and that pass on what they are given."""
    moves = enumerate(child.morphed.moves[len(parent.morphed.moves) :], len(parent.morphed.moves))
    new = {f"step{place}" for place, move in moves if move.op == "deepen"}
    return [_parts(child, name)[2] for name in child.graph.layers if own_name(name) in new]


class Source(NamedTuple):
    """A map of the parent, and for each channel of the child's the one of it that it equals; -1 for none."""

    name: str
    channels: Tensor


class Inheritance:
    """The weights of a child of one step, or none, from its parent's, layer by layer in the order of the graph."""

    def __init__(self, child: Network, parent: Network, noise: float, generator: torch.Generator | None) -> None:
        self.child, self.parent, self.noise, self.generator = child, parent, noise, generator
        self.device = child.linear.weight.device
        self.sources = {IMAGE: Source(IMAGE, self._numbers(child.channels[IMAGE]))}
        moves = child.morphed.moves[len(parent.morphed.moves) :]
        self.branched = moves[0].where if moves and moves[0].op == "branch" else None

    def run(self) -> None:
        """Set all weights of the child."""
        layers, before = self.child.graph.layers, self.parent.graph.layers
        for name, layer in layers.items():
            old = before.get(name)
            if layer.width:
                self.sources[name] = self._kept(layer, old) if old else self._new(layer)
            elif len(layer.reads) > 1:
                self.sources[name] = self._merged(layer, old)
            else:  # a pool: it has no weights, and the parent has it too
                self.sources[name] = Source(name, self._read(layer, old or layer, 0))
        linear, was = self.child.linear, self.parent.linear
        linear.weight.copy_(columns(was.weight, self._from(next(reversed(layers)), next(reversed(before)))))
        linear.bias.copy_(was.bias)

    def _numbers(self, count: int) -> Tensor:
        return torch.arange(count, device=self.device)

    def _from(self, name: str, wanted: str) -> Tensor:
        """Return for each channel of the child's map that of a map of the parent; by number, if it has another one."""
        source = self.sources[name]
        if source.name == wanted:
            return source.channels
        numbers = self._numbers(self.child.channels[name])  # a layer between them was removed
        return numbers.where(numbers < self.parent.channels[wanted], -1)

    def _read(self, layer: Layer, old: Layer, place: int) -> Tensor:
        return self._from(layer.reads[place], old.reads[place])

    def _new(self, layer: Layer) -> Source:
        """Have a new layer pass on what it is given; one that branches off another has the latter half of that."""
        read = self.sources[layer.reads[0]]
        if self.branched is not None:
            sibling = self.parent.graph.layers[_beside(layer.name, self.branched)]
            count = self.parent.channels[sibling.name]
            return self._taken(layer, sibling, self._numbers(count)[count - self.child.channels[layer.name] :])
        _, convolution, norm = _parts(self.child, layer.name)
        convolution.weight.copy_(centred(torch.eye(len(read.channels))[..., None, None], convolution.weight))
        pass_on(norm)
        return read

    def _kept(self, layer: Layer, old: Layer) -> Source:
        """Have a layer do what it did in the parent, for more channels or fewer, and now perhaps separably."""
        weight, count = _parts(self.parent, old.name)[1].weight, self.child.channels[layer.name]
        if own_name(layer.name) == self.branched:
            return self._taken(layer, old, self._numbers(count))
        if count < len(weight):
            norms = weight.flatten(1).norm(dim=1)
            return self._taken(layer, old, torch.sort(norms.topk(count).indices).values)
        copies = torch.randint(len(weight), [count - len(weight)], generator=self.generator)
        return self._taken(layer, old, torch.cat([self._numbers(len(weight)), copies.to(self.device)]))

    def _taken(self, layer: Layer, old: Layer, rows: Tensor) -> Source:
        """Have a layer make those channels that a layer of the parent made."""
        depthwise, convolution, norm = _parts(self.child, layer.name)
        old_depthwise, old_convolution, old_norm = _parts(self.parent, old.name)
        read, weight = self._read(layer, old, 0), old_convolution.weight
        if depthwise is not None:
            filters, weight = separated(weight) if old_depthwise is None else (old_depthwise.weight, weight)
            depthwise.weight.copy_(centred(filters[read.clamp(min=0)], depthwise.weight))
        convolution.weight.copy_(centred(columns(weight[rows], read), convolution.weight))
        if self.noise:
            copies = convolution.weight[len(weight) :]
            drawn = torch.randn(copies.shape, generator=self.generator)
            copies.add_(drawn.to(copies) * self.noise * weight.std())
        take(norm, old_norm, rows)
        return Source(old.name, rows)

    def _merged(self, layer: Layer, old: Layer | None) -> Source:
        goes_on, skips = layer.reads
        if old is None:
            first, second = self.sources[goes_on], self.sources[skips]
            if layer.kind == "add":
                cast("Blend", self.child.layers[layer.name]).share.fill_(1.0)
                return first
            known = first.name == second.name  # parts of one map, where a layer has branched
            beside = second.channels if known else torch.full_like(second.channels, -1)
            return Source(first.name, torch.cat([first.channels, beside]))
        first_read, second_read = self._read(layer, old, 0), self._read(layer, old, 1)
        if layer.kind == "concat":
            beside = torch.where(second_read < 0, -1, second_read + self.parent.channels[old.reads[0]])
            return Source(layer.name, torch.cat([first_read, beside]))
        blend, was = (cast("Blend", network.layers[layer.name]) for network in (self.child, self.parent))
        blend.share.copy_(was.share)
        if layer.projected:
            self._project(blend.adapter, was.adapter if old.projected else None, first_read, second_read)
        return Source(layer.name, first_read)

    def _project(self, adapter: nn.Module, old: nn.Module | None, rows: Tensor, read: Tensor) -> None:
        """Have what skips to a sum meet the same channels as in the parent, where it was projected or not."""
        convolution, norm = _last(adapter)
        known = rows >= 0
        if old is None:
            channels = int(max(rows.max(), read.max())) + 1
            weight = torch.eye(channels, dtype=convolution.weight.dtype, device=self.device)[..., None, None]
        else:
            weight, old_norm = _last(old)[0].weight, _last(old)[1]
        convolution.weight[known] = columns(weight, read)[rows[known]]
        if old is None:
            pass_on(norm, known)
        else:
            take(norm, old_norm, rows[known], known)


def _beside(name: str, other: str) -> str:
    """Return the name of another layer in the same cell, if the network is made of cells."""
    cell, mark, _ = name.rpartition("_")
    return f"{cell}{mark}{other}"


def _parts(network: Network, name: str) -> tuple[nn.Conv2d | None, nn.Conv2d, nn.BatchNorm2d]:
    """Return a layer's depthwise convolution, if it has one, its other one, and its normalisation."""
    modules = list(network.layers[name].children())
    *depthwise, convolution = (module for module in modules if isinstance(module, nn.Conv2d))
    norm = next(module for module in modules if isinstance(module, nn.BatchNorm2d))
    return depthwise[0] if depthwise else None, convolution, norm


def _last(adapter: nn.Module) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    convolution, norm = list(adapter.children())[-1].children()
    return cast(nn.Conv2d, convolution), cast(nn.BatchNorm2d, norm)

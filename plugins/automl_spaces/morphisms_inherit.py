"""How a network takes over the weights of one whose steps are the first of its own.

Each map of the child is told by where its channels come from: a map of the parent, and for every channel the one there
that it equals, or none (-1) for what is new and as yet read by zeros.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn

from automl_spaces.morphism_graphs import IMAGE, Layer
from automl_spaces.morphism_weights import centred, columns, distinct, pass_on, separated, take

if TYPE_CHECKING:
    from automl_spaces.morphisms_network import Blend, Network


class Source(NamedTuple):
    """A map of the parent, and for each channel of the child's the one of it that it equals; -1 for none."""

    name: str
    channels: Tensor


class Inheritance:
    """The weights of a child from its parent's, layer by layer in the order of the graph."""

    def __init__(self, child: Network, parent: Network, noise: float, generator: torch.Generator | None) -> None:
        _check(child, parent)
        self.child, self.parent, self.noise, self.generator = child, parent, noise, generator
        self.device = child.linear.weight.device
        self.sources = {IMAGE: Source(IMAGE, self._numbers(child.channels[IMAGE]))}
        self.passing: list[nn.BatchNorm2d] = []

    def run(self) -> list[nn.BatchNorm2d]:
        """Set the child's weights, and return the normalisations of new layers, which pass on what they are given."""
        graph, before = self.child.morphed.graph, self.parent.morphed.graph
        for layer in graph.layers.values():
            old = before.layers.get(layer.name)
            if layer.width:
                self.sources[layer.name] = self._new(layer) if old is None else self._kept(layer, old)
            elif len(layer.reads) > 1:
                self.sources[layer.name] = self._merged(layer, old)
            else:  # a pool: it has no weights, and the parent has it too
                self.sources[layer.name] = Source(layer.name, self._read(layer, old, 0))
        linear, was = self.child.linear, self.parent.linear
        read = self._from(next(reversed(graph.layers)), next(reversed(before.layers)))
        linear.weight.copy_(columns(was.weight, read))
        linear.bias.copy_(was.bias)
        return self.passing

    def _numbers(self, count: int) -> Tensor:
        return torch.arange(count, device=self.device)

    def _from(self, name: str, wanted: str) -> Tensor:
        """Return for each channel of the child's map that of a map of the parent; by number, if it has another one."""
        source = self.sources[name]
        if source.name == wanted:
            return source.channels
        numbers = self._numbers(self.child.channels[name])  # a layer between them was removed
        return numbers.where(numbers < self.parent.channels[wanted], -1)

    def _read(self, layer: Layer, old: Layer | None, place: int) -> Tensor:
        return self._from(layer.reads[place], (old or layer).reads[place])

    def _new(self, layer: Layer) -> Source:
        """Have a new layer pass on what it is given; where that or the layer was widened since, copies are between."""
        read = self.sources[layer.reads[0]]
        depthwise, convolution, norm = _parts(self.child, layer)
        count = self.child.channels[layer.name]
        if count < len(read.channels):
            rows = distinct(read.channels)[:count].sort().values
        else:
            rows = self._with_copies(len(read.channels), count)
        if depthwise is not None:
            depthwise.weight.copy_(centred(torch.ones(len(read.channels), 1, 1, 1), depthwise.weight))
        passing = torch.eye(len(read.channels), device=self.device)[rows]
        convolution.weight.copy_(centred(passing[..., None, None], convolution.weight))
        self._disturb(convolution.weight, len(read.channels))
        pass_on(norm)
        self.passing.append(norm)
        return Source(read.name, read.channels[rows])

    def _kept(self, layer: Layer, old: Layer) -> Source:
        """Have a layer do what it did in the parent, with more channels or fewer, and now perhaps separably."""
        depthwise, convolution, norm = _parts(self.child, layer)
        old_depthwise, old_convolution, old_norm = _parts(self.parent, old)
        read = self._read(layer, old, 0)
        weight = old_convolution.weight
        rows = self._rows(weight, self.child.channels[layer.name])
        if depthwise is not None:
            if old_depthwise is not None:
                filters = old_depthwise.weight
            else:
                filters, weight = separated(weight)
            depthwise.weight.copy_(filters[read.clamp(min=0)])
        convolution.weight.copy_(columns(weight[rows], read))
        self._disturb(convolution.weight, len(weight))
        take(norm, old_norm, rows)
        return Source(layer.name, rows)

    def _merged(self, layer: Layer, old: Layer | None) -> Source:
        goes_on, skips = layer.reads
        if old is None:
            first = self.sources[goes_on]
            if layer.kind == "add":
                cast("Blend", self.child.layers[layer.name]).share.fill_(1.0)
                return first
            beside = torch.full([self.child.channels[skips]], -1, device=self.device)
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

    def _rows(self, weight: Tensor, count: int) -> Tensor:
        """Return which filters there are: all and copies of some, or those of the largest norm."""
        if count < len(weight):
            norms = weight.flatten(1).norm(dim=1)
            return torch.sort(norms.topk(count).indices).values
        return self._with_copies(len(weight), count)

    def _with_copies(self, before: int, count: int) -> Tensor:
        copies = torch.randint(before, [count - before], generator=self.generator)
        return torch.cat([self._numbers(before), copies.to(self.device)])

    def _disturb(self, weight: Tensor, before: int) -> None:
        """Add noise to the filters that are copies."""
        if self.noise and before < len(weight):
            copies = weight[before:]
            drawn = torch.randn(copies.shape, generator=self.generator).to(weight)
            copies.add_(self.noise * weight.std() * drawn)


def _check(child: Network, parent: Network) -> None:
    begun = child.morphed.moves[: len(parent.morphed.moves)]
    start = [(layer.kind, layer.width, layer.kernel) for layer in parent.morphed.start.layers.values()]
    own = [(layer.kind, layer.width, layer.kernel) for layer in child.morphed.start.layers.values()]
    shapes = [(network.channels[IMAGE], network.linear.out_features, network.width) for network in (child, parent)]
    if begun != parent.morphed.moves or start != own or shapes[0] != shapes[1]:
        raise ValueError(
            "the network is no parent: the steps of the child have to begin with all of its steps, from the same start "
            "and for as many colours and outputs"
        )


def _parts(network: Network, layer: Layer) -> tuple[nn.Conv2d | None, nn.Conv2d, nn.BatchNorm2d]:
    """Return a layer's depthwise convolution, if it has one, its other one, and its normalisation."""
    modules = list(network.layers[layer.name].children())
    *depthwise, convolution = (module for module in modules if isinstance(module, nn.Conv2d))
    norm = next(module for module in modules if isinstance(module, nn.BatchNorm2d))
    return depthwise[0] if depthwise else None, convolution, norm


def _last(adapter: nn.Module) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    convolution, norm = list(adapter.children())[-1].children()
    return cast(nn.Conv2d, convolution), cast(nn.BatchNorm2d, norm)

"""One cell as a module: the states of its blocks, from two maps to a third."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from automl.mixture import Mixture, mixed
from automl_networks.activation import PreActivated
from automl_networks.convolutions import convolution
from automl_networks.drop_path import ScheduledDropPath
from automl_networks.reductions import factorised_reduction
from automl_spaces.cells import NEWER, OLDER, Cell, unused
from automl_spaces.genotypes import Style
from automl_spaces.operations import SHORTCUTS


@dataclass(frozen=True)
class Map:
    """What flows between cells: a number of channels, and by how many halvings the image was made smaller."""

    channels: int
    halvings: int


class CellModule(nn.Module):
    """One cell of a network.

    ``newer`` and ``older`` are the maps that it is given, ``older`` None where h[k-2] is h[k-1] as it comes; a
    reduction cell halves the size. ``keep`` has the states to put out, None the unused ones. ``drop_path`` is the
    final probability to drop a path of the last cell, ``depth`` the share of the cells up to this one. ``output``
    is the map that it makes.
    """

    def __init__(
        self,
        cell: Cell,
        newer: Map,
        older: Map | None,
        channels: int,
        reduce: bool,
        style: Style,
        keep: Sequence[int] | None,
        drop_path: float,
        depth: float,
    ) -> None:
        super().__init__()
        widths, self.inputs = self._adapt(newer, older, channels, style)
        self.reads: list[tuple[int, bool]] = []  # by operation: which state, and whether after a ReLU
        self.sides = [len(block.sides) for block in cell]
        self.operations = nn.ModuleList()
        self.drops = nn.ModuleList()
        self.joins = nn.ModuleDict()  # by block, where what the operations make is concatenated
        for index, block in enumerate(cell):
            for state, op in block.sides:
                made = op(widths[state], channels, 2 if reduce and state <= OLDER else 1)
                self.reads.append((state, isinstance(made, PreActivated)))
                self.operations.append(made)
                dropped = drop_path > 0 and op.name not in SHORTCUTS
                self.drops.append(ScheduledDropPath(drop_path, depth) if dropped else nn.Identity())
            if block.combine == "concat":
                self.joins[str(index)] = convolution(2 * channels, channels, 1)
            widths.append(channels)
        self.keep = list(unused(cell) if keep is None else keep)
        self.outputs = nn.ModuleList()
        for state in self.keep:
            if reduce and state <= OLDER:
                self.outputs.append(factorised_reduction(widths[state], channels, activate=False))
            elif widths[state] != channels:
                self.outputs.append(
                    nn.Sequential(nn.Conv2d(widths[state], channels, 1, bias=False), nn.BatchNorm2d(channels))
                )
            else:
                self.outputs.append(nn.Identity())
        self.output = Map(len(self.keep) * channels, newer.halvings + reduce)

    def _adapt(self, newer: Map, older: Map | None, channels: int, style: Style) -> tuple[list[int], nn.ModuleList]:
        """Return the widths of the two first states and the modules that bring the cell's inputs there."""
        widths = [channels, channels]
        first: nn.Module = nn.Identity()
        if style.newer != "where needed" or newer.channels != channels:
            first = convolution(newer.channels, channels, 1)
        if style.newer == "both" and newer.channels != channels:
            first = nn.Sequential(first, convolution(channels, channels, 1))
        second: nn.Module = nn.Identity()
        if older is None:
            widths[OLDER] = newer.channels
        elif older.halvings < newer.halvings:
            second = factorised_reduction(older.channels, channels)
        elif style.older == "always" or older.channels != channels:
            second = convolution(older.channels, channels, 1)
        return widths, nn.ModuleList([first, second])

    def forward(self, newer: Tensor, older: Tensor) -> Tensor:
        states = [self.inputs[NEWER](newer), self.inputs[OLDER](older)]
        activated: dict[int, Tensor] = {}  # the states after a ReLU, computed once for all that read them so
        ready: dict[int, Tensor] = {}  # what mixtures make, of all that read a state at once
        sides: list[Tensor] = []
        for place, ((state, activates), operation, drop) in enumerate(
            zip(self.reads, self.operations, self.drops, strict=True)
        ):
            if activates:
                if state not in activated:
                    activated[state] = functional.relu(states[state])
                made = operation(activated[state], activated=True)
            elif isinstance(operation, Mixture):
                if place not in ready:
                    ready.update(self._mixed(state, states[state]))
                made = ready.pop(place)
            else:
                made = operation(states[state])
            sides.append(drop(made))
            if len(sides) == self.sides[len(states) - 2]:
                join = str(len(states) - 2)
                if join in self.joins:
                    states.append(self.joins[join](torch.cat(sides, dim=1)))
                else:
                    states.append(sum(sides[1:], sides[0]))
                sides = []
        kept = [module(states[state]) for state, module in zip(self.keep, self.outputs, strict=True)]
        return torch.cat(kept, dim=1) if len(kept) > 1 else kept[0]

    def _mixed(self, state: int, x: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield what each mixture that reads a state makes of it, with its place among the operations."""
        readers = {
            place: operation
            for place, ((read, _), operation) in enumerate(zip(self.reads, self.operations, strict=True))
            if read == state and isinstance(operation, Mixture)
        }
        yield from zip(readers, mixed(list(readers.values()), x), strict=True)

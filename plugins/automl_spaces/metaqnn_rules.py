"""The rules of MetaQNN's chains: what may follow what, in how many ways a chain goes on, and how it is written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from automl import BadInput
from automl.errors import printable

Layer = tuple[Any, ...]  # ("conv", filters, kernel), ("pool", kernel, stride), ("fc", width) or ("gap",)
Chain = tuple[Layer, ...]
_CONSECUTIVE = 2  # fully connected layers, at most
_SMALL = 8  # pixels of a side below which a layer may be fully connected


class State(NamedTuple):
    """What the next layer depends on: its place, the side of the map, and the layer before."""

    place: int
    side: int
    kind: str
    width: int = 0
    run: int = 0  # of fully connected layers, up to this one


def after(state: State, layer: Layer) -> State:
    """Return the state that a layer leads to."""
    place, side = state.place + 1, state.side
    if layer[0] == "conv":
        return State(place, side, "conv")
    if layer[0] == "pool":
        return State(place, (side - layer[1]) // layer[2] + 1, "pool")
    return State(place, 1, "gap") if layer[0] == "gap" else State(place, 1, "fc", layer[1], state.run + 1)


@dataclass
class Rules:
    """What is legal in each state, of what a space offers."""

    first: State
    limit: int
    filters: Sequence[int]
    kernels: Sequence[int]
    pools: Sequence[tuple[int, int]]
    widths: Sequence[int]
    _ways: dict[State, int] = field(default_factory=dict)

    def options(self, part: str, state: State) -> Sequence[Any]:
        """Return the legal options for a part of the next layer: its type, kernel, pool or width."""
        if part == "kernel":
            return [kernel for kernel in self.kernels if kernel <= state.side]
        if part == "pool":
            return [pool for pool in self.pools if pool[0] <= state.side]
        if part == "width":
            return [width for width in self.widths if state.kind != "fc" or width <= state.width]
        kinds = []
        if state.kind in ("image", "conv", "pool"):
            if self.options("kernel", state):
                kinds.append("conv")
            if state.kind == "conv" and self.options("pool", state):
                kinds.append("pool")
        is_small = state.kind in ("conv", "pool") and state.side < _SMALL
        if is_small or (state.kind == "fc" and state.run < _CONSECUTIVE):
            kinds.append("fc")
        if state.kind in ("image", "conv", "pool"):
            kinds.append("gap")
        return kinds if state.kind == "image" else [*kinds, "stop"]

    def layers(self, kind: str, state: State) -> list[Layer]:
        """Return all legal layers of a type; none, if it is the end."""
        if kind == "conv":
            return [(kind, count, kernel) for count in self.filters for kernel in self.options("kernel", state)]
        if kind == "pool":
            return [(kind, *pool) for pool in self.options("pool", state)]
        if kind == "fc":
            return [(kind, width) for width in self.options("width", state)]
        return [(kind,)] if kind == "gap" else []

    def ways(self, state: State) -> int:
        """Return the number of chains that begin as the state says."""
        if state.place == self.limit or state.kind == "gap":
            return 1
        if not self._ways:
            self._count()
        return self._ways[state]

    def through(self, part: str, state: State, option: Any) -> int:
        """Return in how many ways a chain goes on by an option for a part."""
        if option == "stop":
            return 1
        if part == "type":
            return sum(self.ways(after(state, layer)) for layer in self.layers(option, state))
        layers: dict[str, Layer] = {"kernel": ("conv", 1, option), "width": ("fc", option)}
        return self.ways(after(state, ("pool", *option) if part == "pool" else layers[part]))

    def _count(self) -> None:
        """Count from the last layer to the first, so that what follows a state is counted before it."""
        levels = [{self.first}]
        for _ in range(self.limit - 1):
            reached = {
                after(state, layer)
                for state in levels[-1]
                for kind in self.options("type", state)
                for layer in self.layers(kind, state)
            }
            levels.append({state for state in reached if state.kind != "gap"})
        for level in reversed(levels):
            for state in level:
                self._ways[state] = sum(self.through("type", state, kind) for kind in self.options("type", state))


def told(layer: Layer) -> str:
    """Return a layer as the paper writes it, such as C(64,3)."""
    kind, *numbers = layer
    letters = {"conv": "C", "pool": "P", "fc": "FC", "gap": "GAP"}[kind]
    return f"{letters}({','.join(map(str, numbers))})" if numbers else letters


def read(word: str) -> Layer:
    """Return the layer that is written so; raises BadInput for another word."""
    match = re.fullmatch(r"C\((\d+),(\d+)\)|P\((\d+),(\d+)\)|FC\((\d+)\)|(GAP)", word)
    if match is None:
        raise BadInput(f"{printable(word)!r} is no layer: write C(64,3), P(2,2), FC(128) or GAP, and SM at the end")
    numbers = [int(number) for number in match.groups()[:5] if number is not None]
    return ({"C": "conv", "P": "pool", "F": "fc", "G": "gap"}[word[0]], *numbers)

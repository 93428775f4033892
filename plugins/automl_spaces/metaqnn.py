"""The chain-structured space of MetaQNN: layers of any type, each legal by those before it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from annotated_types import Ge

from automl import Architecture, BadInput, Choose, Options, Space, Task
from automl.decisions import MISFIT, Domain
from automl.errors import printable

if TYPE_CHECKING:
    from torch.nn import Module

Layer = tuple[Any, ...]  # ("conv", filters, kernel), ("pool", kernel, stride), ("fc", width) or ("gap",)
Chain = tuple[Layer, ...]
_CONSECUTIVE = 2  # fully connected layers, at most
_SMALL = 8  # pixels of a side below which a layer may be fully connected


@dataclass
class MetaQNN(Space[Chain]):
    """A chain of layers of any type, as long as the next one is legal (Baker et al., 2017).

    Each layer is a convolution (``filters``, ``kernels``; the size is kept), a maximum pool (``pools``, pairs of kernel
    and stride), a fully connected layer (``widths``), a global average pool, or none: the end. There are at most
    ``limit`` layers. The first is no pool, nor is the one after a pool; kernels and pools are no larger than the map;
    fully connected layers come where a side is below 8 pixels, two at most, the second no wider, and nothing but the
    end comes after them or after the global pool. A pool leaves floor((side - kernel) / stride) + 1 pixels of a side.

    What is legal depends on the size of the maps, so ``resolution`` is the space's own: images are resized to it. The
    paper searches with 28 x 28 pixels and a limit of 12 (MNIST, SVHN), or 32 x 32 and 18 (CIFAR-10), and
    ``filters=[64,128,256,512] widths=[512,256,128]``; the defaults suit small images and a search of minutes.

    Dropout is no decision: it comes after every second convolution or pool and after each fully connected layer, the
    i-th of n with rate i / (2n). ``uniform`` says what random architectures are drawn uniformly from: the options of
    each decision, by which short chains are common, or all ``architectures``, of which most are long.
    """

    resolution: Annotated[int, Ge(1)] = 16
    limit: Annotated[int, Ge(1)] = 6
    filters: tuple[Annotated[int, Ge(1)], ...] = (8, 16, 32, 64)
    kernels: tuple[Annotated[int, Ge(1)], ...] = (1, 3, 5)
    pools: tuple[tuple[Annotated[int, Ge(1)], Annotated[int, Ge(1)]], ...] = ((5, 3), (3, 2), (2, 2))
    widths: tuple[Annotated[int, Ge(1)], ...] = (64, 32, 16)
    uniform: Literal["decisions", "architectures"] = "decisions"

    def __post_init__(self) -> None:
        self.pools = tuple((kernel, stride) for kernel, stride in self.pools)
        self._filters = Options(self.filters)
        self._filters.check("space.filters")
        for name, values in (("kernels", self.kernels), ("pools", self.pools), ("widths", self.widths)):
            Options(values).check(f"space.{name}")
        if even := [kernel for kernel in self.kernels if kernel % 2 == 0]:
            raise BadInput(f"space.kernels has {even[0]}, which does not keep the size of a map: give odd ones")
        if min(self.kernels) > self.resolution:
            raise BadInput(
                f"space.kernels are all larger than the images of space.resolution={self.resolution} pixels a side: "
                "give 1 or 3 among them"
            )
        self._names = [
            _Names(*(f"layer{place}.{part}" for part in _Names._fields)) for place in range(self.limit)
        ]  # made once
        self._domains: dict[tuple[str, State], Options[Any]] = {}
        self._completions: dict[State, int] = {}

    def describe(self, choose: Choose) -> Chain:
        state, layers = State(0, self.resolution, "image"), []
        for names in self._names:
            kind = self._chosen(choose, "type", names, state)
            if kind == "stop":
                break
            if kind == "conv":
                layer: Layer = (
                    kind,
                    choose(names.filters, self._filters),
                    self._chosen(choose, "kernel", names, state),
                )
            elif kind == "pool":
                layer = (kind, *self._chosen(choose, "pool", names, state))
            elif kind == "fc":
                layer = (kind, self._chosen(choose, "width", names, state))
            else:
                layer = (kind,)
            layers.append(layer)
            state = after(state, layer)
        return tuple(layers)

    def build(self, blueprint: Chain, task: Task) -> Module:
        from automl_spaces.metaqnn_network import network

        return network(blueprint, self.resolution, task.input[0], task.outputs)

    def canonical(self, blueprint: Chain) -> Chain:
        """Return the layers, without a global pool of maps of one pixel, which changes nothing."""
        state = reduce(after, blueprint[:-1], State(0, self.resolution, "image"))
        return blueprint[:-1] if len(blueprint) > 1 and blueprint[-1] == ("gap",) and state.side == 1 else blueprint

    def size(self) -> int:
        """Return the number of chains, counted from the last layer to the first."""
        return self._ways(State(0, self.resolution, "image"))

    def exceeds(self, number: int) -> bool:
        return self.size() > number

    def graph(self, blueprint: Chain) -> dict[str, list[tuple[str, str, str]]]:
        """Return the chain's edges (from, to, layer), for drawing it."""
        states = ["input", *map(str, range(1, len(blueprint))), "output"]
        return {"chain": [(*ends, told(layer)) for ends, layer in zip(pairwise(states), blueprint, strict=True)]}

    def from_text(self, text: str) -> Architecture:
        """Return the chain that is written as in the paper, such as ``C(64,3) P(2,2) FC(128) SM``.

        Raises BadInput for another text, and for a chain that is not of this space.
        """
        layers = [_read(word) for word in text.removesuffix("SM").split()]
        given = {f"layer{len(layers)}.type": "stop"}
        for place, (kind, *numbers) in enumerate(layers):
            parts = {"conv": ("filters", "kernel"), "pool": ("pool",), "fc": ("width",), "gap": ()}[kind]
            values = [tuple(numbers)] if kind == "pool" else numbers
            names = [f"layer{place}.{part}" for part in ("type", *parts)]
            given.update(zip(names, [kind, *values], strict=True))

        def follow(name: str, domain: Domain) -> Any:
            value = domain.fit(given.get(name))
            if value is MISFIT:
                raise BadInput(
                    f"the chain {printable(text)!r} has for {name} {given.get(name)}, but it must be {domain}"
                )
            return value

        architecture = self.make(follow)
        if list(architecture.blueprint) != layers:
            raise BadInput(
                f"the chain {printable(text)!r} goes on where space.limit={self.limit} and what is legal end it, after "
                f"{' '.join(map(told, architecture.blueprint))}: leave the rest out"
            )
        return architecture

    def _chosen(self, choose: Choose, part: str, names: _Names, state: State) -> Any:
        """Choose where there is more than one option."""
        domain = self._domains.get((part, state))
        if domain is None:
            domain = self._domains[part, state] = self._legal(part, state)
        return domain.options[0] if domain.count == 1 else choose(getattr(names, part), domain)

    def _legal(self, part: str, state: State) -> Options[Any]:
        options = self._options(part, state)
        if self.uniform == "decisions":
            return Options(options)
        ways = [self._through(part, state, option) for option in options]
        return Options(options, [number / sum(ways) for number in ways])  # of whole numbers, which may be no floats

    def _options(self, part: str, state: State) -> Sequence[Any]:
        """Return what is legal in a state."""
        if part == "kernel":
            return [kernel for kernel in self.kernels if kernel <= state.side]
        if part == "pool":
            return [pool for pool in self.pools if pool[0] <= state.side]
        if part == "width":
            return [width for width in self.widths if state.kind != "fc" or width <= state.width]
        kinds = []
        if state.kind in ("image", "conv", "pool"):
            if self._options("kernel", state):
                kinds.append("conv")
            if state.kind == "conv" and self._options("pool", state):
                kinds.append("pool")
        is_small = state.kind in ("conv", "pool") and state.side < _SMALL
        if is_small or (state.kind == "fc" and state.run < _CONSECUTIVE):
            kinds.append("fc")
        if state.kind in ("image", "conv", "pool"):
            kinds.append("gap")
        return kinds if state.kind == "image" else [*kinds, "stop"]

    def _through(self, part: str, state: State, option: Any) -> int:
        """Return in how many ways a chain goes on by an option."""
        if part == "type":
            return 1 if option == "stop" else sum(self._ways(after(state, layer)) for layer in self._of(option, state))
        layer = {"kernel": ("conv", 1, option), "pool": ("pool", option), "width": ("fc", option)}[part]
        return self._ways(after(state, ("pool", *option) if part == "pool" else layer))

    def _of(self, kind: str, state: State) -> list[Layer]:
        """Return all legal layers of a type."""
        if kind == "conv":
            return [("conv", count, kernel) for count in self.filters for kernel in self._options("kernel", state)]
        if kind == "pool":
            return [("pool", *pool) for pool in self._options("pool", state)]
        return [("fc", width) for width in self._options("width", state)] if kind == "fc" else [("gap",)]

    def _ways(self, state: State) -> int:
        """Return the number of chains that begin as the state says."""
        if state.place == self.limit or state.kind == "gap":
            return 1
        if not self._completions:
            levels = [{State(0, self.resolution, "image")}]
            for _ in range(self.limit - 1):
                levels.append({reached for before in levels[-1] for reached in self._next(before)})
            for level in reversed(levels):  # so that what follows a state is counted before it
                for one in level:
                    kinds = self._options("type", one)
                    self._completions[one] = sum(self._through("type", one, kind) for kind in kinds)
        return self._completions[state]

    def _next(self, state: State) -> set[State]:
        """Return the states that a layer leads to, but for those that end the chain."""
        kinds = self._options("type", state)
        reached = {after(state, layer) for kind in kinds if kind != "stop" for layer in self._of(kind, state)}
        return {one for one in reached if one.kind != "gap"}


class State(NamedTuple):
    """What the next layer depends on: its place, the side of the map, and the layer before."""

    place: int
    side: int
    kind: str
    width: int = 0
    run: int = 0  # of fully connected layers, up to this one


class _Names(NamedTuple):
    type: str
    filters: str
    kernel: str
    pool: str
    width: str


def after(state: State, layer: Layer) -> State:
    """Return the state that a layer leads to."""
    place, side = state.place + 1, state.side
    if layer[0] == "conv":
        return State(place, side, "conv")
    if layer[0] == "pool":
        return State(place, (side - layer[1]) // layer[2] + 1, "pool")
    return State(place, 1, "gap") if layer[0] == "gap" else State(place, 1, "fc", layer[1], state.run + 1)


def _read(word: str) -> Layer:
    """Return the layer that is written so."""
    match = re.fullmatch(r"C\((\d+),(\d+)\)|P\((\d+),(\d+)\)|FC\((\d+)\)|(GAP)", word)
    if match is None:
        raise BadInput(f"{printable(word)!r} is no layer: write C(64,3), P(2,2), FC(128) or GAP, and SM at the end")
    numbers = [int(number) for number in match.groups()[:5] if number is not None]
    return ({"C": "conv", "P": "pool", "F": "fc", "G": "gap"}[word[0]], *numbers)


def told(layer: Layer) -> str:
    """Return a layer as the paper writes it, such as C(64,3)."""
    kind, *numbers = layer
    letters = {"conv": "C", "pool": "P", "fc": "FC", "gap": "GAP"}[kind]
    return f"{letters}({','.join(map(str, numbers))})" if numbers else letters

"""The chain-structured space of MetaQNN: layers of any type, each legal by those before it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from annotated_types import Ge

from automl import Architecture, BadInput, Choose, Options, Space, Task
from automl.decisions import MISFIT, Domain
from automl.errors import printable
from automl_spaces.metaqnn_rules import Chain, Layer, Rules, State, after, read, told
from automl_spaces.uniform import Uniform, weighed

if TYPE_CHECKING:
    from torch.nn import Module


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
    uniform: Uniform = "decisions"

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
        first = State(0, self.resolution, "image")
        self._rules = Rules(first, self.limit, self.filters, self.kernels, self.pools, self.widths)

    def describe(self, choose: Choose) -> Chain:
        state, layers = self._rules.first, []
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
        state = reduce(after, blueprint[:-1], self._rules.first)
        return blueprint[:-1] if len(blueprint) > 1 and blueprint[-1] == ("gap",) and state.side == 1 else blueprint

    def size(self) -> int:
        """Return the number of chains, counted from the last layer to the first."""
        return self._rules.ways(self._rules.first)

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
        layers = [read(word) for word in text.removesuffix("SM").split()]
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
        options = self._rules.options(part, state)
        is_even = self.uniform == "decisions"  # then nothing needs be counted
        ways = () if is_even else [self._rules.through(part, state, option) for option in options]
        return weighed(self.uniform, options, ways)


class _Names(NamedTuple):
    type: str
    filters: str
    kernel: str
    pool: str
    width: str

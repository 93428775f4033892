"""The space of what morphisms reach: a small network, and the steps that make it deeper, wider and more connected."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from annotated_types import Ge

from automl import BadInput, Choose, Options, Space, Task
from automl_spaces.dags import canonical, edges
from automl_spaces.image_sizes import check_stages
from automl_spaces.morphism_graphs import IMAGE, Graph, Layer, dag, graph
from automl_spaces.morphism_operators import (
    Deepen,
    Move,
    Multiply,
    NextWidth,
    Operator,
    Prune,
    Remove,
    Separate,
    Skip,
)

if TYPE_CHECKING:
    from automl_spaces.morphisms_network import Network

_COUNTED = 4  # steps up to which lists of steps are counted
_STOP = "stop"


class Morphed(NamedTuple):
    """The start, the steps, and the graph that they lead to; ``exact`` says of each step if it preserves functions."""

    start: Graph
    moves: tuple[Move, ...]
    exact: tuple[bool, ...]
    graph: Graph


@dataclass
class Morphisms(Space[Morphed]):
    """Networks that function-preserving steps make of a small one, and the steps themselves.

    The start is a chain of 3 x 3 convolutions with batch normalisation and ReLU, as many as there are ``filters``,
    with maximum pools of 2 x 2 between them; its last map is averaged and classified. Each of up to ``steps`` steps
    decides an operator, or to stop, the layer where it is applied, and its argument. Of the family

    - "nash" (Elsken et al., 2018) "deepen" inserts a convolution of kernel 3 or 5 after a layer, "widen" multiplies
      filters by 2 or 4, "add" and "concat" have an earlier map skip to the end of a layer;
    - "lemonade" (Elsken et al., 2019) also shrinks: "remove" a convolution or a skip, "prune" a half or a quarter of
      the filters, "separate" a convolution into a depthwise and a 1 x 1 one. This is its space of whole networks;
    - "eas" (Cai et al., 2018) "widen" takes the next of ``widths``, or of ``units``, "deepen" inserts kernels of 1, 3
      or 5; the start ends in the mean of the map and a fully connected layer of the first of ``units``.

    No step makes a convolution of more than ``most`` filters. A sum is learned: s f + (1 - s) h, and a ReLU of it.
    What skips to it goes through a 1 x 1 convolution where it has not the channels, and is pooled where it is larger.

    A child whose list of steps begins with its parent's can inherit its weights: ``build`` returns a network with
    ``inherit``. The papers start with more filters and take tens of steps; the defaults suit small images and a search
    of minutes. ``width`` multiplies the filters of what is built.
    """

    family: Literal["nash", "lemonade", "eas"] = "nash"
    steps: Annotated[int, Ge(0)] = 4
    filters: tuple[Annotated[int, Ge(1)], ...] = (8, 16, 32)
    most: Annotated[int, Ge(1)] = 64
    widths: tuple[Annotated[int, Ge(1)], ...] = (4, 8, 12, 16, 20, 24, 28, 32, 36, 40)
    units: tuple[Annotated[int, Ge(1)], ...] = (32, 64, 128)
    width: Annotated[int, Ge(1)] = 1

    def __post_init__(self) -> None:
        if not self.filters:
            raise BadInput("space.filters has none, and the start has a convolution at least: give space.filters=[8]")
        if max(self.filters) > self.most:
            raise BadInput(
                f"space.filters has {max(self.filters)}, more than the space.most={self.most} filters of any "
                f"convolution: give space.most={max(self.filters)}"
            )
        for name in ("widths", "units"):
            widths = getattr(self, name)
            if not widths or list(widths) != sorted(set(widths)):
                raise BadInput(f"space.{name}={list(widths)} has to grow from the first to the last: sort it")
        self._operators = _FAMILIES[self.family](self)
        self._start = graph(self._layers())
        self._names = [_Names(*(f"step{place}.{part}" for part in _Names._fields)) for place in range(self.steps)]
        self._domains: dict[tuple[Any, ...], Options[Any]] = {}
        self._ways: dict[Hashable, int] = {}

    def describe(self, choose: Choose) -> Morphed:
        reached, moves = self._start, []
        for place, names in enumerate(self._names):
            places = {name: operator.places(reached) for name, operator in self._operators.items()}
            name = self._chosen(choose, names.op, [*(name for name in places if places[name]), _STOP])
            if name == _STOP:
                break
            operator = self._operators[name]
            where = self._chosen(choose, names.where, places[name])
            argument = self._chosen(choose, names.arg, operator.arguments(reached, where))
            moves.append(Move(name, where, argument))
            reached = operator.applied(reached, where, argument, f"step{place}")
        return Morphed(self._start, tuple(moves), tuple([self._operators[move.op].is_exact for move in moves]), reached)

    def build(self, blueprint: Morphed, task: Task) -> Network:
        from automl_spaces.morphisms_network import Network

        self.check(task)
        return Network(blueprint, task.input[0], task.outputs, self.width)

    def check(self, task: Task) -> None:
        check_stages("morphisms", task, len(self.filters))

    def canonical(self, blueprint: Morphed) -> tuple[object, ...]:
        """Return one key for all lists of steps that lead to one graph, whatever its layers are called."""
        return canonical(dag(blueprint.graph))

    def size(self) -> int | float:
        """Return the number of lists of steps, counted from the graphs that they lead to.

        Where there may be more than 4 steps it is estimated.
        """
        if self.steps > _COUNTED:
            return super().size()
        return self._counted(self._start, self.steps)

    def exceeds(self, number: int) -> bool:
        """Say whether lists of deepening steps alone are more, each of which leaves one place more for the next."""
        layers = 2 * len(self.filters) - 1
        ways = [2 * (layers + step) for step in range(self.steps)]  # of two kernels at least
        return prod(ways) > number or (self.steps <= _COUNTED and self.size() > number)

    def graph(self, blueprint: Morphed) -> dict[str, list[tuple[str, str, str]]]:
        """Return the edges (from, to, layer), for drawing it."""
        return {"network": edges(dag(blueprint.graph))}

    def _layers(self) -> list[Layer]:
        layers: list[Layer] = []
        source = IMAGE
        for place, filters in enumerate(self.filters, 1):
            if place > 1:
                layers.append(Layer(f"pool{place - 1}", "pool", (source,)))
                source = layers[-1].name
            layers.append(Layer(f"conv{place}", "conv", (source,), 3, filters))
            source = layers[-1].name
        if self.family == "eas":
            layers += [Layer("mean", "mean", (source,)), Layer("dense1", "dense", ("mean",), width=self.units[0])]
        return layers

    def _chosen(self, choose: Choose, name: str, options: Sequence[Any]) -> Any:
        """Choose where there is more than one option."""
        if len(options) == 1:
            return options[0]
        key = tuple(options)
        domain = self._domains.get(key)
        if domain is None:
            if len(self._domains) >= _KEPT:
                self._domains.clear()
            domain = self._domains[key] = Options(key)
        return choose(name, domain)

    def _counted(self, reached: Graph, left: int) -> int:
        """Return in how many ways a list goes on with so many steps left."""
        if left == 0:
            return 1
        key = (left, _shape(reached))
        if key not in self._ways:
            total = 1
            for operator in self._operators.values():
                for where in operator.places(reached):
                    arguments = operator.arguments(reached, where)
                    if left == 1:
                        total += len(arguments)
                        continue
                    for argument in arguments:
                        total += self._counted(operator.applied(reached, where, argument, f"new{left}"), left - 1)
            self._ways[key] = total
        return self._ways[key]


_KEPT = 10_000  # domains, made once and not for every sample


class _Names(NamedTuple):
    op: str
    where: str
    arg: str


def _nash(space: Morphisms) -> dict[str, Operator]:
    return {
        "deepen": Deepen((3, 5), space.most),
        "widen": Multiply((2, 4), space.most),
        "add": Skip("add"),
        "concat": Skip("concat"),
    }


def _lemonade(space: Morphisms) -> dict[str, Operator]:
    return {**_nash(space), "remove": Remove(), "prune": Prune((0.5, 0.25)), "separate": Separate()}


def _eas(space: Morphisms) -> dict[str, Operator]:
    most = min(space.most, space.widths[-1])
    widths = tuple(width for width in space.widths if width <= most)
    return {"deepen": Deepen((1, 3, 5), space.most), "widen": NextWidth(widths, space.units)}


_FAMILIES = {"nash": _nash, "lemonade": _lemonade, "eas": _eas}


def _shape(reached: Graph) -> Hashable:
    """Return what the steps that are possible, now and later, depend on: the graph without names and kernels."""
    numbers = {IMAGE: -1, **{name: place for place, name in enumerate(reached.layers)}}
    return tuple(
        [
            (kind, width, min(kernel, 2), reached.channels[name], *[numbers[read] for read in reads])
            for name, kind, reads, kernel, width, _ in reached.layers.values()
        ]
    )

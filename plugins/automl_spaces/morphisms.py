"""The space of what morphisms reach: a small network, and the steps that make it deeper, wider and more connected."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from math import prod
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from annotated_types import Ge

from automl import Architecture, BadInput, Choose, Options, Space, Task
from automl_spaces.dags import canonical, edges
from automl_spaces.image_sizes import check_stages
from automl_spaces.morphism_families import FAMILIES
from automl_spaces.morphism_graphs import Graph, dag, shape
from automl_spaces.morphism_operators import Move
from automl_spaces.morphism_templates import Morphed

if TYPE_CHECKING:
    from automl_spaces.morphisms_network import Network

_COUNTED = 4  # steps up to which lists of steps are counted
_KEPT = 10_000  # domains, made once and not for every sample
_STOP = "stop"


@dataclass
class Morphisms(Space[Morphed]):
    """Networks that function-preserving steps make of a small one; the steps are the decisions.

    The start is a chain of 3 x 3 convolutions with batch normalisation and ReLU, as many as there are ``filters``,
    with maximum pools of 2 x 2 between them; its last map is averaged and classified. Each of up to ``steps`` steps
    decides an operator, or to stop, the layer where it is applied, and its argument. Of the family

    - "nash" (Elsken et al., 2018) "deepen" inserts a convolution of kernel 3 or 5 after a layer, "widen" multiplies
      filters by 2 or 4, "add" and "concat" have an earlier map skip to the end of a layer;
    - "lemonade" (Elsken et al., 2019) also shrinks: "remove" a convolution or a skip, "prune" a half or a quarter of
      the filters, "separate" a convolution into a depthwise and a 1 x 1 one;
    - "lemonade_cells" has the same operators change a cell, at first one convolution, of which there are ``cells`` a
      stage, as much wider as the stages' ``filters`` are;
    - "eas" (Cai et al., 2018) "widen" takes the next of ``widths``, or of ``units``, "deepen" inserts kernels of 1, 3
      or 5; the start ends in the mean of the map and a fully connected layer of the first of ``units``;
    - "wistuba" (Wistuba, 2018) changes such a cell by "deepen", "branch" (two convolutions with the filters of one,
      concatenated), "add", "widen" (twice), "kernel" (a larger one) and "separate".

    No convolution has more than ``most`` filters. A sum is s f + (1 - s) h with a learned s, and a ReLU of it; what
    skips to it goes through a 1 x 1 convolution where it has not the channels. What skips is pooled where it is larger.

    A child whose list of steps begins with its parent's can inherit its weights (evaluator=morphism): ``build`` returns
    a network with ``inherit``. The papers start with more filters and take tens of steps; the defaults suit small
    images and a search of minutes. ``width`` multiplies the filters of what is built.
    """

    family: Literal["nash", "lemonade", "lemonade_cells", "eas", "wistuba"] = "nash"
    steps: Annotated[int, Ge(0)] = 4
    filters: tuple[Annotated[int, Ge(1)], ...] = (8, 16, 32)
    most: Annotated[int, Ge(1)] = 64
    cells: Annotated[int, Ge(1)] = 1
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
                raise BadInput(
                    f"space.{name} is {list(widths)}, but each has to be more than the one before: "
                    f"give {sorted(set(widths)) or [32]}"
                )
        self._template, self._operators = FAMILIES[self.family](self)
        self._start = self._template.start()
        self._alike_from = max(operator.alike_from for operator in self._operators.values())
        self._names = [_Names(*(f"step{place}.{part}" for part in _Names._fields)) for place in range(self.steps)]
        self._domains: dict[tuple[Any, ...], Options[Any]] = {}
        self._ways: dict[Hashable, int] = {}

    def describe(self, choose: Choose) -> Morphed:
        graphs, moves = [self._start], []
        for place, names in enumerate(self._names):
            places = {name: operator.places(graphs[-1]) for name, operator in self._operators.items()}
            name = self._chosen(choose, names.op, [*(name for name in places if places[name]), _STOP])
            if name == _STOP:
                break
            operator = self._operators[name]
            where = self._chosen(choose, names.where, places[name])
            arguments = operator.arguments(graphs[-1], where)
            argument = self._chosen(choose, names.arg, arguments) if arguments else None
            moves.append(Move(name, where, argument))
            graphs.append(operator.applied(graphs[-1], where, argument, f"step{place}"))
        exact = [self._operators[move.op].is_exact for move in moves]
        return Morphed(self._template, tuple(moves), tuple(exact), tuple(graphs))

    def build(self, blueprint: Morphed, task: Task) -> Network:
        from automl_spaces.morphisms_network import Network

        self.check(task)
        return Network(blueprint, task.input[0], task.outputs, self.width)

    def check(self, task: Task) -> None:
        check_stages("morphisms", task, len(self.filters))

    def mutate(self, architecture: Architecture, rng: Random, names: Collection[str] | None = None) -> Architecture:
        """Take one step more, as often as not; else change one that was taken, and what depends on it."""
        taken = len(architecture.blueprint.moves)
        if names is None and taken < self.steps and rng.random() < 0.5:
            following = self._names[taken].op
            if architecture.domains[following].count != 1:
                names = (following,)
        return super().mutate(architecture, rng, names)

    def kinship(self, child: Architecture, parent: Architecture) -> float | None:
        """Return what share of the child's steps its parent took; None unless those were the first of them."""
        steps, taken = child.blueprint.moves, parent.blueprint.moves
        return (1 + len(taken)) / (1 + len(steps)) if steps[: len(taken)] == taken else None

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
        places = len(self._operators["deepen"].places(self._start))
        ways = prod(range(places, places + self.steps))
        return ways > number or (self.steps <= _COUNTED and self.size() > number)

    def graph(self, blueprint: Morphed) -> dict[str, list[tuple[str, str, str]]]:
        """Return the edges (from, to, layer) of the network, or of its cell, for drawing it."""
        return {self._template.title: edges(dag(blueprint.graph))}

    def _chosen(self, choose: Choose, name: str, options: Sequence[Any]) -> Any:
        """Choose, from a domain that is made once for equal options."""
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
        key = (left, shape(reached, self._alike_from))
        if key not in self._ways:
            total = 1  # to stop
            for operator in self._operators.values():
                for where in operator.places(reached):
                    arguments = operator.arguments(reached, where) or (None,)
                    if left == 1:
                        total += len(arguments)
                        continue
                    for argument in arguments:
                        total += self._counted(operator.applied(reached, where, argument, f"new{left}"), left - 1)
            self._ways[key] = total
        return self._ways[key]


class _Names(NamedTuple):
    """The names of a step's decisions, made once."""

    op: str
    where: str
    arg: str

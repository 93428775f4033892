"""The macro space of ENAS: a chain of as many layers as told, and which earlier ones are added to each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from annotated_types import Ge

from automl import Architecture, BadInput, Choose, Op, Options, Space, Task
from automl.errors import near_miss, printable
from automl_spaces.image_sizes import check_side

if TYPE_CHECKING:
    from torch.nn import Module

_BITS = (0, 1)


def _make(kind: str, kernel: int, inputs: int, channels: int, stride: int) -> Module:
    from automl_spaces.enas_macro_network import operation

    return operation(kind, kernel, inputs, channels, stride)


OPERATIONS = {  # in the order of their numbers in arcs
    name: Op(name, partial(_make, kind, kernel))
    for name, kind, kernel in (
        ("conv3x3", "conv", 3),
        ("sep3x3", "sep", 3),
        ("conv5x5", "conv", 5),
        ("sep5x5", "sep", 5),
        ("avg3x3", "average", 3),
        ("max3x3", "maximum", 3),
    )
}


class Layer(NamedTuple):
    """An operation on the layer before, and the earlier states that skip to its end: 0 is the stem, 1 layer 0, ..."""

    op: Op
    skips: tuple[int, ...]


Layers = tuple[Layer, ...]


@dataclass
class ENASMacro(Space[Layers]):
    """A chain of ``layers``, each with one of the ``operations`` and skips from any layers before (Pham et al., 2018).

    Layer l reads layer l - 1, or the stem, and decides for the stem and each of the layers 0 to l - 2 whether it skips
    to it. ``join`` says how skips are joined with what the operation makes: "sum", followed by batch normalisation, by
    which all networks have parameters of one shape, so that they can be shared; or "concat", by a 1 x 1 convolution of
    all, as the paper's final network has it. Operations begin with a 1 x 1 convolution; the separable ones are really
    separable (in the paper's release, those of final networks are ordinary convolutions).

    ``reductions`` divide the layers into parts of equal length; at each the states that are still read are halved by
    factorised reductions, and ``channels`` multiplied by ``growth``. The paper searches with 12 layers of 36 channels,
    and trains what it finds with 24 or 12 layers of 96, ``join=concat growth=2``. The defaults suit small images.
    """

    layers: Annotated[int, Ge(1)] = 6
    channels: Annotated[int, Ge(1)] = 8
    reductions: Annotated[int, Ge(0)] = 2
    growth: Annotated[int, Ge(1)] = 1
    join: Literal["sum", "concat"] = "sum"
    operations: tuple[str, ...] = tuple(OPERATIONS)

    def __post_init__(self) -> None:
        for name in self.operations:
            if name not in OPERATIONS:
                raise BadInput(
                    f"space.operations has {name!r}, which is no operation{near_miss(name, OPERATIONS)}: "
                    f"choose among {', '.join(OPERATIONS)}"
                )
        if self.reductions >= self.layers:
            raise BadInput(
                f"space.reductions={self.reductions} divide {self.layers} layers into more parts than there are: give "
                f"at most {self.layers - 1}, or more space.layers"
            )
        self._operations = Options([OPERATIONS[name] for name in self.operations])
        self._operations.check("space.operations")
        self._names = [
            (f"layer{place}.op", [f"layer{place}.skip{state}" for state in range(place)])
            for place in range(self.layers)
        ]

    def describe(self, choose: Choose) -> Layers:
        operations = self._operations
        return tuple(
            [
                Layer(
                    choose(op, operations),
                    tuple([state for state, name in enumerate(skips) if choose(name, _BITS)]),
                )
                for op, skips in self._names
            ]
        )

    def build(self, blueprint: Layers, task: Task) -> Module:
        from automl_spaces.enas_macro_network import SkipNetwork

        self.check(task)
        places = [self.layers * (part + 1) // (self.reductions + 1) for part in range(self.reductions)]
        return SkipNetwork(blueprint, places, self.channels, self.growth, self.join, task.input[0], task.outputs)

    def check(self, task: Task) -> None:
        least = 2**self.reductions  # pixels of a side: one is left
        check_side(f"enas_macro with {self.reductions} reductions", task, least, "fewer space.reductions")

    def canonical(self, blueprint: Layers) -> str:
        """Return the layers as text: every layer counts, and their order is fixed by the chain."""
        return ";".join(" ".join([layer.op.name, *map(str, layer.skips)]) for layer in blueprint)

    def size(self) -> int:
        """Return the number of networks: operations^layers times 2 to the number of skips."""
        return int(len(self.operations) ** self.layers * 2 ** (self.layers * (self.layers - 1) // 2))

    def exceeds(self, number: int) -> bool:
        return self.size() > number

    def graph(self, blueprint: Layers) -> dict[str, list[tuple[str, str, str]]]:
        """Return the edges (from, to, operation), for drawing it."""
        states = ["input", *map(str, range(1, self.layers)), "output"]
        drawn = []
        for place, layer in enumerate(blueprint):
            drawn.append((states[place], states[place + 1], layer.op.name))
            drawn += [(states[state], states[place + 1], "skip") for state in layer.skips]
        return {"network": drawn}

    def arc(self, blueprint: Layers) -> str:
        """Return the network as the paper's release writes it: for each layer its operation's number and its bits."""
        numbers = {name: str(number) for number, name in enumerate(OPERATIONS)}
        return " ".join(
            " ".join([numbers[layer.op.name], *(str(int(state in layer.skips)) for state in range(place))])
            for place, layer in enumerate(blueprint)
        )

    def from_arc(self, text: str) -> Architecture:
        """Return the network that is written so in the paper's release; raises BadInput for another text."""
        words = text.split()
        names = list(OPERATIONS)
        length = self.layers * (self.layers + 1) // 2
        if len(words) != length or not all(word.isascii() and word.isdigit() for word in words):
            raise BadInput(
                f"{printable(text)!r} is no arc of {self.layers} layers: write {length} numbers, for each layer its "
                "operation and a 0 or 1 for each state that may skip to it"
            )
        values: dict[str, object] = {}
        left = iter(map(int, words))
        for op, skips in self._names:
            number = next(left)
            values[op] = names[number] if number < len(names) else number
            values.update({name: next(left) for name in skips})
        return self.read(values)

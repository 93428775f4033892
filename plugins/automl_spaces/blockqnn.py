"""The space of BlockQNN: a block as a list of layers, each naming what it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NamedTuple

from annotated_types import Ge

from automl import Choose, Options, Task
from automl_spaces.counted import Counted
from automl_spaces.graphs import Form
from automl_spaces.image_sizes import check_stages
from automl_spaces.operations import OPERATIONS
from automl_spaces.states import ADDED, FIRST, JOINED, State, alive, key, made_by
from automl_spaces.uniform import Uniform, weighed

if TYPE_CHECKING:
    from torch.nn import Module

KERNELS = {"conv": Options((1, 3, 5)), "max": Options((1, 3)), "avg": Options((1, 3))}
ONE = (*KERNELS, "identity")  # the types that read one layer
TWO = ("add", "concat")
TERMINAL = "terminal"
STAGES = 3


class Layer(NamedTuple):
    """A layer's code: its type, its kernel (0 where it has none), and the layers that it reads, the input as 0."""

    type: str
    kernel: int
    reads: tuple[int, ...]


Block = tuple[Layer, ...]


@dataclass
class BlockQNN(Counted[Block]):
    """One block by its network structure code, a list of layers that ends in a terminal (Zhong et al., 2018).

    Each layer decides on its type, its kernel and the earlier layers that it reads: two different ones to add or to
    concatenate, one otherwise. A block has at least one layer and at most ``layers``; what no layer reads is
    concatenated to its output. After a concatenation of several, a 1 x 1 convolution takes the width back to the
    block's, so that any two layers can be added.

    ``blocks`` is the number of blocks a stage, of which there are three with a maximum over 2 x 2 between them;
    ``channels`` the width of the first stage, which doubles after each. The paper has layers=23, channels=32 and up to
    blocks=4 on CIFAR-10, and searches by ``strategy=q_learning``. The defaults suit small images and a search of
    minutes.

    ``uniform`` says what random architectures are drawn uniformly from: the options of each decision, by which short
    blocks are common, or all ``architectures``, of which most are long.
    """

    layers: Annotated[int, Ge(1)] = 12
    blocks: Annotated[int, Ge(1)] = 1
    channels: Annotated[int, Ge(1)] = 8
    uniform: Uniform = "decisions"

    def __post_init__(self) -> None:
        self._layers = [range(place) for place in range(self.layers + 1)]
        self._others = {
            (place, one): Options([other for other in range(place) if other != one])
            for place in range(2, self.layers + 1)
            for one in range(place)
        }
        self._asked = {}
        for place, ways in enumerate(reversed(self._ways()), start=1):
            types = weighed(self.uniform, list(ways), list(ways.values()))
            names = (f"l{place}.type", f"l{place}.kernel", f"l{place}.pred1", f"l{place}.pred2")
            self._asked[place] = (types, *names)

    def describe(self, choose: Choose) -> Block:
        block: list[Layer] = []
        for place in range(1, self.layers + 1):
            types, kind, size, pred1, pred2 = self._asked[place]
            type_ = choose(kind, types)
            if type_ == TERMINAL:
                break
            kernel = choose(size, KERNELS[type_]) if type_ in KERNELS else 0
            read = (choose(pred1, self._layers[place]) if place > 1 else 0,)
            if type_ in TWO:
                others = self._others[place, read[0]]
                block.append(
                    Layer(type_, kernel, (*read, choose(pred2, others) if others.count > 1 else others.options[0]))
                )
            else:
                block.append(Layer(type_, kernel, read))
        return tuple(block)

    def build(self, blueprint: Block, task: Task) -> Module:
        from automl_spaces.blockqnn_network import network

        self.check(task)
        return network(written_out(blueprint), STAGES, self.blocks, self.channels, task.input[0], task.outputs)

    def check(self, task: Task) -> None:
        check_stages("blockqnn", task, STAGES)

    def canonical(self, blueprint: Block) -> Form:
        """Return one key for all orders of the layers and of what they read; identities are what they read."""
        return key(written_out(blueprint))

    def size(self) -> int:
        """Return the number of codes: of each length the product over its layers of their types, kernels and reads."""
        return sum(self._ways()[-1].values())

    def _ways(self) -> list[dict[str, int]]:
        """Return by the type of each place's layer, from the last to the first, in how many ways a code goes on."""
        found: list[dict[str, int]] = []
        for place in range(self.layers, 0, -1):
            ends = sum(found[-1].values()) if found else 1
            ways = {kind: (KERNELS[kind].count if kind in KERNELS else 1) * place * ends for kind in ONE}
            if place > 1:
                ways |= {**dict.fromkeys(TWO, place * (place - 1) * ends), TERMINAL: 1}
            found.append(ways)
        return found

    def graph(self, blueprint: Block) -> dict[str, list[tuple[str, str, str]]]:
        """Return the block's edges (from, to, type and kernel) by its name, for drawing it."""
        names = ["input", *map(str, range(1, len(blueprint) + 1))]
        drawn = [
            (names[read], names[place], f"{layer.type}{layer.kernel or ''}")
            for place, layer in enumerate(blueprint, start=1)
            for read in layer.reads
        ]
        return {"block": [*drawn, *((names[place], "output", "") for place in _unread(blueprint))]}

    def code(self, blueprint: Block) -> list[tuple[int, int, int, int, int]]:
        """Return the paper's code: (index, type, kernel, first and second layer read), types counted from 1."""
        types = (*ONE, *TWO, TERMINAL)
        told = [
            (place, types.index(layer.type) + 1, layer.kernel, layer.reads[0], layer.reads[1] if layer.reads[1:] else 0)
            for place, layer in enumerate(blueprint, start=1)
        ]
        return [*told, (len(blueprint) + 1, types.index(TERMINAL) + 1, 0, 0, 0)]


def written_out(block: Block) -> tuple[State, ...]:
    """Return the block's states, each after those it reads: the input first, the output last."""
    states, places = [FIRST], [0]  # of each layer its state
    for layer in block:
        read = tuple(places[source] for source in layer.reads)
        if layer.type in TWO:
            states.append(State(ADDED if layer.type == "add" else JOINED, read))
        elif layer.type == "identity" or (layer.type != "conv" and layer.kernel == 1):
            places.append(read[0])
            continue
        else:
            states.append(made_by(OPERATIONS[f"{layer.type}{layer.kernel}x{layer.kernel}"], read[0]))
        places.append(len(states) - 1)
    ends = [places[place] for place in _unread(block)]
    if len(ends) > 1:
        states.append(State(JOINED, tuple(ends)))
        ends = [len(states) - 1]
    return alive(states, ends[0])


def _unread(block: Block) -> list[int]:
    read = {source for layer in block for source in layer.reads}
    return [place for place in range(1, len(block) + 1) if place not in read]

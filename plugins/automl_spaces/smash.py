"""The space of SMASH: layers that read banks of a memory, convolve, and write to banks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, NamedTuple

from annotated_types import Ge

from automl import BadInput, Choose, Options, Space, Task
from automl_spaces.dags import INPUT, Node, canonical, edges
from automl_spaces.image_sizes import check_side

if TYPE_CHECKING:
    from torch.nn import Module

_BITS = (False, True)
# which of the four convolutions a layer has, in paths: 0 then 2, beside 1 then 3; and how probable that is
PATTERNS = {
    "0": ((0,),),
    "0+2": ((0, 2),),
    "0+1": ((0,), (1,)),
    "0+1+2": ((0, 2), (1,)),
    "0+1+2+3": ((0, 2), (1, 3)),
}
_PATTERNS = Options(tuple(PATTERNS), prior=(0.05, 0.1, 0.15, 0.25, 0.45))


class Convolution(NamedTuple):
    """Height and width of the kernel, dilation and groups."""

    height: int
    width: int
    dilation: int
    groups: int


class Layer(NamedTuple):
    """The banks read and written, the filters inside as a multiple of a bank's channels, and convolutions in paths."""

    reads: tuple[int, ...]
    writes: tuple[int, ...]
    filters: int
    paths: tuple[tuple[Convolution, ...], ...]


Blocks = tuple[tuple[Layer, ...], ...]


@dataclass
class SMASH(Space[Blocks]):
    """Blocks of layers that read some banks of a memory and add what they make to some (Brock et al., 2018).

    Each of the ``blocks`` has ``banks`` of ``channels`` channels, which a 1 x 1 convolution of all that the block is
    given fills; that of every block but the first halves the size. Each of a block's ``layers`` decides which banks it
    reads and which it writes, at least one each; how many filters the 1 x 1 convolution has that reads them: 1 to
    ``filters`` times ``channels``; which of four convolutions come then, two in a row on each of two paths, whose sum
    is written: one with probability 0.05, two in a row 0.1, two abreast 0.15, three 0.25, four 0.45; and for each of
    these the height and the width of the kernel (``kernels``), the dilation, up to ``dilation``, and the groups, which
    divide ``channels`` and are at most ``groups``. All of a block's banks are handed on.
    ``width`` multiplies the channels of what is built.

    The paper has 3 blocks with 12 layers in all, ``channels=8 filters=8``, kernels from 3 to 7, dilation up to 3 and
    groups up to 8. Its hypernetwork, which makes weights for any of these networks, is no part of the space.
    """

    blocks: Annotated[int, Ge(1)] = 3
    layers: Annotated[int, Ge(1)] = 2
    banks: Annotated[int, Ge(1)] = 4
    channels: Annotated[int, Ge(1)] = 4
    filters: Annotated[int, Ge(1)] = 4
    kernels: tuple[Annotated[int, Ge(1)], ...] = (3, 5, 7)
    dilation: Annotated[int, Ge(1)] = 3
    groups: Annotated[int, Ge(1)] = 4
    width: Annotated[int, Ge(1)] = 1

    def __post_init__(self) -> None:
        if even := [kernel for kernel in self.kernels if kernel % 2 == 0]:
            raise BadInput(f"space.kernels has {even[0]}, which does not keep the size of a map: give odd ones")
        self._kernels = Options(self.kernels)
        self._kernels.check("space.kernels")
        self._filters = range(1, self.filters + 1)
        self._dilations = range(1, self.dilation + 1)
        self._groups = tuple(
            number for number in range(1, min(self.groups, self.channels) + 1) if self.channels % number == 0
        )
        self._names = [
            [_Names(f"block{block}.layer{layer}", self.banks) for layer in range(self.layers)]
            for block in range(self.blocks)
        ]

    def describe(self, choose: Choose) -> Blocks:
        return tuple([tuple([self._layer(choose, names) for names in block]) for block in self._names])

    def build(self, blueprint: Blocks, task: Task) -> Module:
        from automl_spaces.smash_network import network

        self.check(task)
        return network(blueprint, self.banks, self.width * self.channels, task.input[0], task.outputs)

    def check(self, task: Task) -> None:
        least = 2 ** (self.blocks - 1)  # pixels of a side: one is left
        check_side(f"smash with {self.blocks} blocks", task, least, "fewer space.blocks")

    def canonical(self, blueprint: Blocks) -> tuple[object, ...]:
        """Return one key for all numberings of the banks, orders of layers that need none, and paths swapped."""
        return tuple([canonical(dag(block, self.banks)) for block in blueprint])

    def size(self) -> int:
        """Return the number of descriptions, to the power of all layers that of one."""
        shapes = len(self.kernels) ** 2 * len(self._dilations) * len(self._groups)
        convolutions = sum(shapes ** sum(map(len, paths)) for paths in PATTERNS.values())
        return int(((2**self.banks - 1) ** 2 * self.filters * convolutions) ** (self.blocks * self.layers))

    def exceeds(self, number: int) -> bool:
        return self.size() > number

    def graph(self, blueprint: Blocks) -> dict[str, list[tuple[str, str, str]]]:
        """Return each block's edges (from, to, what is there) by its name: banks as they are filled, layers, sums."""
        return {f"block{number}": edges(dag(block, self.banks)) for number, block in enumerate(blueprint)}

    def _layer(self, choose: Choose, names: _Names) -> Layer:
        reads, writes = _some(choose, names.reads), _some(choose, names.writes)
        filters = choose(names.filters, self._filters) if self.filters > 1 else 1
        paths = PATTERNS[choose(names.pattern, _PATTERNS)]
        return Layer(
            reads,
            writes,
            filters,
            tuple([tuple([self._convolution(choose, names.convolutions[one]) for one in path]) for path in paths]),
        )

    def _convolution(self, choose: Choose, names: tuple[str, ...]) -> Convolution:
        height, width, dilation, groups = names
        return Convolution(
            choose(height, self._kernels),
            choose(width, self._kernels),
            choose(dilation, self._dilations) if self.dilation > 1 else 1,
            choose(groups, self._groups) if len(self._groups) > 1 else 1,
        )


class _Names:
    """The names of a layer's decisions, made once."""

    def __init__(self, layer: str, banks: int) -> None:
        self.reads = [f"{layer}.reads{bank}" for bank in range(banks)]
        self.writes = [f"{layer}.writes{bank}" for bank in range(banks)]
        self.filters = f"{layer}.filters"
        self.pattern = f"{layer}.pattern"
        self.convolutions = [tuple(f"{layer}.conv{one}_{part}" for part in Convolution._fields) for one in range(4)]


def _some(choose: Choose, names: list[str]) -> tuple[int, ...]:
    """Choose banks, the last one where no other is."""
    chosen = [bank for bank, name in enumerate(names[:-1]) if choose(name, _BITS)]
    if not chosen or choose(names[-1], _BITS):
        chosen.append(len(names) - 1)
    return tuple(chosen)


def dag(block: tuple[Layer, ...], banks: int) -> list[Node]:
    """Return a block as a graph: what fills a bank, layers, what they write to one bank, and banks as they are read."""
    nodes = [Node(("bank",), (INPUT,)) for _ in range(banks)]
    filled = [[bank] for bank in range(banks)]  # the nodes whose sum each bank is
    sums: dict[tuple[int, ...], int] = {}

    def held(bank: int) -> int:
        key = tuple(filled[bank])
        if len(key) == 1:
            return key[0]
        if key not in sums:
            sums[key] = len(nodes)
            nodes.append(Node(("sum",), key))
        return sums[key]

    for layer in block:
        reads = tuple([held(bank) for bank in layer.reads])
        paths = sorted("-".join(f"{c.height}x{c.width}d{c.dilation}g{c.groups}" for c in path) for path in layer.paths)
        place = len(nodes)
        nodes.append(Node((f"{layer.filters}:{'+'.join(paths)}",), reads))
        for bank in layer.writes:
            filled[bank].append(len(nodes))
            nodes.append(Node(("part",), (place,)))
    last = tuple([held(bank) for bank in range(banks)])
    return [*nodes, Node(("banks",), last)]

"""The cell space of SpikeNAS-Bench, whose networks were trained before and are looked up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from automl import BadInput, Choose, Op, Options, Space, Task
from automl_spaces.dense_cells import EDGES, DenseCell, decide, edges

if TYPE_CHECKING:
    from torch.nn import Module

_REFUSAL = (
    "space spikenas is of spiking networks, which are not built here but looked up: "
    "search it with evaluator=tabular evaluator.table=spikenas"
)


def _unbuilt(*_: int) -> Module:
    raise BadInput(_REFUSAL)


_OPERATIONS = Options(
    [Op(name, _unbuilt) for name in ("none", "skip", "spike_0.5", "spike_1.0", "spike_1.5")],
)


@dataclass
class Spikenas(Space[DenseCell]):
    """One cell of four nodes; an edge has nothing, a skip, or spiking neurons and a convolution (Sun et al., 2024).

    The neurons of ``spike_0.5`` fire at a threshold of 0.5; a 3 x 3 convolution follows them.
    """

    def describe(self, choose: Choose) -> DenseCell:
        return decide(choose, _OPERATIONS)

    def build(self, blueprint: DenseCell, task: Task) -> Module:
        raise BadInput(_REFUSAL)

    def size(self) -> int:
        return int(_OPERATIONS.count ** len(EDGES))

    def graph(self, blueprint: DenseCell) -> dict[str, list[tuple[str, str, str]]]:
        """Return the cell's edges (from, to, operation) by its name, for drawing it."""
        return {"cell": edges(blueprint)}

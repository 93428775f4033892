"""AMC: the share of each layer is a decision that is described by the layer and by what was decided before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from automl import BadInput
from automl_compressors.pruning import Pruning, Share, Studied


@dataclass
class AMC(Pruning):
    """Channel pruning whose shares are decisions for an agent (He et al., 2018): ``strategy=ddpg``, or any other.

    Each layer's decision, ``keep.LAYER``, is described by the paper's eleven features: its place, channels out and in,
    height and width of its input, stride, kernel, its multiply-adds, the share of all that earlier layers are rid of,
    the share that later layers have, and the decision before; each scaled to [0, 1] over the layers. Its interval ends
    where the ``budget`` could no longer be met though all later layers were as narrow as can be, by exact count of the
    coupled layers; so every network that is asked for keeps to it, also rounded. Layers that an addition joins are one
    decision. Without a budget, errors and costs are weighed by the objective (objective=amc_flops or amc_parameters).

    Other settings are as of compressor pruning. Not as in the authors' release: the last bounded width is rounded down,
    not up, so that the budget is never exceeded; removed channels are removed, not set to zero, in the search too; and
    layers are reconstructed for what the network, as pruned before them, gives them, not for what the whole one does.
    """

    across: Literal["layers"] = "layers"  # the one way there is
    keep: tuple[Share, Share] = (0.2, 1.0)
    budget: Share | None = 0.5
    reconstruct: bool = True
    penalty: Literal[0] = 0
    sparse_epochs: Literal[0] = 0

    def __post_init__(self) -> None:
        if len(self.keep) != 2 or self.keep[0] >= self.keep[1]:
            raise BadInput(
                f"compressor.keep={list(self.keep)} leaves nothing to decide: give two bounds, as [0.2, 1.0]"
            )
        super().__post_init__()

    def context(self, studied: Studied, name: str, decided: Mapping[str, int]) -> Sequence[float]:
        reduced = 1 - studied.cost(decided) / studied.cost({})
        before = list(decided)[-1] if decided else None
        last = 1.0 if before is None else decided[before] / studied.steps[before].units
        return (*studied.features[name], reduced, studied.later[name], last)

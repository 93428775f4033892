"""Which channels stay, by their scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from automl_compressors.criteria import norms

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from automl_compressors.channels import Channels
    from automl_compressors.pruning import Studied

Kept = dict[str, list[int]]  # the units of each group, rising


def best(scores: Mapping[str, Tensor], widths: Mapping[str, int]) -> Kept:
    """Return so many units of each group, those of the highest scores; of equals the first."""
    return {name: _first(scores[name], width) for name, width in widths.items()}


def greedy(network: Module, channels: Channels, widths: Mapping[str, int]) -> Kept:
    """Return so many units of each group, those of the largest L1 norms, in the order of the network.

    Norms leave out the kernels that read channels which went before (Li et al., 2017).
    """
    heard, kept = channels.zeroed(network, {}), Kept()
    for name, width in widths.items():
        kept |= best({name: norms(heard, channels.groups[name], 1)}, {name: width})
        channels.silence(heard, {name: kept[name]})
    return kept


def ranked(scores: Mapping[str, Tensor], studied: Studied, share: float | None, raw: bool) -> Kept:
    """Return the units that are left when those of the lowest scores, of all groups together, go.

    Unless ``raw``, each group's scores are divided by their length. Gone is as much as leaves ``share`` of the
    channels, and more where the budget is not met; without a share, as little as meets it. No group loses more than
    its narrowest width.
    """
    names = list(studied.steps)
    normal = {name: scores[name] if raw else scores[name] / scores[name].norm().clamp_min(1e-300) for name in names}
    order = [(float(value), place, unit) for place, name in enumerate(names) for unit, value in enumerate(normal[name])]
    order.sort()
    sizes = [studied.channels.groups[name].size for name in names]
    total = sum(sizes[place] for _, place, _ in order)
    floors = [studied.steps[name].at(0.0) for name in names]

    def left(gone: int) -> dict[str, int]:
        """Return the widths after so many of the order went, rounded."""
        widths = [studied.steps[name].units for name in names]
        for _, place, _ in order[:gone]:
            widths[place] = max(widths[place] - 1, floors[place])
        return {
            name: studied.steps[name].at(width / studied.steps[name].units)
            for name, width in zip(names, widths, strict=True)
        }

    gone = 0
    if share is not None:
        removed = 0
        while gone < len(order) and removed + sizes[order[gone][1]] <= (1 - share) * total + 1e-9:
            removed += sizes[order[gone][1]]
            gone += 1
    budget = studied.budget
    if budget is not None and budget.cost(left(gone)) > budget.most:
        low, high = gone, len(order)
        while low < high:  # the fewest that meet it
            middle = (low + high) // 2
            if budget.cost(left(middle)) <= budget.most:
                high = middle
            else:
                low = middle + 1
        gone = low
    return best(normal, left(gone))


def _first(scores: Tensor, count: int) -> list[int]:
    order = scores.argsort(descending=True, stable=True)[:count]
    return sorted(int(unit) for unit in order)

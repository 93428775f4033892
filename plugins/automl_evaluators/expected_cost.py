"""What each option of a network of soft choices costs, so that the expected cost is linear in their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from automl.measure import at_rest, observe, products
from automl.mixture import Mixture

Costs = dict[str, float]


def option_costs(
    network: nn.Module, leaves: Mapping[str, Tensor], image: tuple[int, int, int]
) -> tuple[Costs, dict[str, dict[str, list[float]]]]:
    """Return what is always there, and by decision what each of its options costs, over all places that it has.

    Costs are parameters and multiply-adds, the latter for one image of channels x height x width.
    """
    counts = {name: len(leaf) for name, leaf in leaves.items()}
    options = {name: {"parameters": [0.0] * n, "multiply_adds": [0.0] * n} for name, n in counts.items()}
    within: list[tuple[str, int]] = []  # the option that runs
    handles = []
    inside: set[int] = set()
    for mixture in (module for module in network.modules() if isinstance(module, Mixture)):
        mixture.weights = torch.full_like(leaves[mixture.decision], 0.5).detach()
        for place, option in enumerate(mixture.options):
            mark = (mixture.decision, place)
            handles.append(option.register_forward_pre_hook(lambda *_, mark=mark: within.append(mark)))
            handles.append(option.register_forward_hook(lambda *_: within.pop() and None))
            own = [parameter for parameter in option.parameters() if id(parameter) not in inside]
            inside.update(map(id, own))
            options[mixture.decision]["parameters"][place] += sum(parameter.numel() for parameter in own)
    fixed: Costs = {
        "parameters": sum(p.numel() for p in network.parameters() if id(p) not in inside),
        "multiply_adds": 0,
    }

    def add(operation: Any, arguments: Any, keywords: Any, result: Any) -> None:
        cost = products(operation, arguments, keywords, result)
        if within:
            name, place = within[-1]
            options[name]["multiply_adds"][place] += cost
        else:
            fixed["multiply_adds"] += cost

    with at_rest(network):
        observe(network, image, 1, add)
    for handle in handles:
        handle.remove()
    return fixed, options

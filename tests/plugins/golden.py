"""Counts networks in two ways, for the tests that compare them with published figures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from automl import measure
from automl.plugins import Registry

REGISTRY = Registry()


def build(name: str, image=(3, 224, 224), outputs=1000, **settings: Any) -> nn.Module:
    """Return the network of a hand-designed space; ``settings`` are as on the command line."""
    space = REGISTRY.build("space", {"name": name, **settings})
    (architecture,) = space.enumerate()
    return space.build(architecture.blueprint, SimpleNamespace(input=image, outputs=outputs))


def counted(name: str, image=(3, 224, 224), outputs=1000, **settings: Any) -> tuple[int, int]:
    """Return parameters and multiply-adds, after two independent counters agreed on them; no tensor holds data."""
    with torch.device("meta"):
        network = build(name, image, outputs, **settings)
    return counts(network, image)


def counts(network: nn.Module, image: tuple[int, int, int]) -> tuple[int, int]:
    """Return parameters and multiply-adds of a module on the meta device, after two counters agreed on them."""
    found = measure.parameters(network), measure.multiply_adds(network, image)
    assert found == by_hooks(network, image)
    return found


def by_hooks(network: nn.Module, image: tuple[int, int, int]) -> tuple[int, int]:
    """Count by the card's table: convolutions, transposed convolutions and linear layers, one image."""
    total = 0

    def count(module: nn.Module, given: tuple[torch.Tensor, ...], made: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Linear):
            total += made.numel() * module.in_features
        elif isinstance(module, nn.ConvTranspose2d):
            total += given[0].numel() * module.weight[0].numel()
        else:
            total += made.numel() * module.weight[0].numel()

    hooks = [
        module.register_forward_hook(count)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)
    ]
    with measure.at_rest(network), torch.no_grad():
        network(torch.zeros(1, *image, device=next(network.parameters()).device))
    for hook in hooks:
        hook.remove()
    return sum(parameter.numel() for parameter in network.parameters()), total

"""The weights that a hand-designed network begins with."""

from __future__ import annotations

from torch import nn


def initialise(network: nn.Module) -> None:
    """Draw convolutions by Kaiming's rule for the outputs, linear layers with a deviation of 0.01; biases are zero.

    Batch normalisation begins as the identity, as torch makes it. A module that has a method ``initialise`` then
    draws its own (He et al., 2015).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    for module in network.modules():
        own = getattr(module, "initialise", None)
        if own is not None:
            own()

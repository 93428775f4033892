"""What each unit of channels is worth: scores, of which the lowest go first."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from automl import BadInput, Training

if TYPE_CHECKING:
    from automl_compressors.channels import Channels, Group

Scores = dict[str, Tensor]  # by group, one of each unit, float64 on the CPU


def scores(network: nn.Module, channels: Channels, criterion: str, training: Training | None, batches: int) -> Scores:
    """Return the scores of all units by a criterion, higher where a unit is worth more.

    Those that look at data are, without a training, all equal. Raises BadInput where a criterion does not apply.
    """
    if criterion in ("taylor", "taylor_weight"):
        if training is None:
            return {name: torch.zeros(group.units, dtype=torch.float64) for name, group in channels.groups.items()}
        by_data = _taylor if criterion == "taylor" else _taylor_of_weights
        return by_data(network, channels, training, batches)
    if criterion == "random":
        return {name: torch.rand(group.units, dtype=torch.float64) for name, group in channels.groups.items()}
    if criterion == "bn_scale":
        return {name: _scales(network, group) for name, group in channels.groups.items()}
    power = 1 if criterion == "l1" else 2
    return {name: norms(network, group, power) for name, group in channels.groups.items()}


def norms(network: nn.Module, group: Group, power: int) -> Tensor:
    """Return the norm of the weights that make each unit, summed over the layers that make it (Li et al., 2017)."""
    return _summed(network, group, lambda _, weight: weight.abs().pow(power)).pow(1 / power)


def _summed(network: nn.Module, group: Group, of: Callable[[str, Tensor], Tensor]) -> Tensor:
    """Return for each unit the sum of what is made of the weights that make it, element by element."""
    total = torch.zeros(group.units, dtype=torch.float64)
    for slot in group.slots:
        weight = network.get_parameter(slot.parameter) if slot.role == "makes" else None
        if weight is not None:
            rows = of(slot.parameter, weight.detach().double()).transpose(0, slot.dim).flatten(1).sum(1).cpu()
            total += rows[torch.from_numpy(slot.places)].sum(1)
    return total


def _scales(network: nn.Module, group: Group) -> Tensor:
    """Return the mean size of the scales in batch normalisation that each unit has (Liu et al., 2017)."""
    norms = {name: module for name, module in network.named_modules() if isinstance(module, _BatchNorm)}
    found = []
    for slot in group.slots:
        module, _, attribute = slot.parameter.rpartition(".")
        if module in norms and attribute == "weight":
            scale = norms[module].weight.detach().double().abs().cpu()
            found.append(scale[torch.from_numpy(slot.places)].mean(1))
    if not found:
        raise BadInput(
            f"compressor.criterion=bn_scale looks at the scales of batch normalisation, and {group.name!r} has none: "
            "give compressor.criterion=l1, or leave the layer whole by compressor.whole"
        )
    return torch.stack(found).mean(0)


def _taylor_of_weights(network: nn.Module, channels: Channels, training: Training, batches: int) -> Scores:
    """Return the square of the change of the loss to first order when a unit's weights go (Molchanov et al., 2019)."""
    totals = {name: torch.zeros(group.units, dtype=torch.float64) for name, group in channels.groups.items()}
    made = {slot.parameter for group in channels.groups.values() for slot in group.slots if slot.role == "makes"}
    parameters = {name: network.get_parameter(name) for name in made}
    with _differentiable(network, parameters.values()):
        for images, labels in training.batches(batches):
            loss = training.loss(network, images, labels)
            slopes = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))
            for name, group in channels.groups.items():
                change = _summed(network, group, lambda key, weight: weight * slopes[key].double())  # noqa: B023
                totals[name] += change.square() / batches
    return totals


def _taylor(network: nn.Module, channels: Channels, training: Training, batches: int) -> Scores:
    """Return the size of the change of the loss to first order when a unit's activation goes (Molchanov et al., 2017).

    That is the gradient of a gate of 1 by which the activation is multiplied, an image at a time: activation times
    gradient, averaged over the positions, of absolute value, averaged over the images. It is taken behind batch
    normalisation, where it follows; units that several layers make have the sum of theirs.
    """
    totals = {name: torch.zeros(group.units, dtype=torch.float64) for name, group in channels.groups.items()}
    gates = _gates(network, channels)
    seen: list[tuple[str, Tensor]] = []
    images_seen = 0

    def watch(module: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            seen.append((module, output))

        return hook

    with _differentiable(network, network.parameters()), ExitStack() as stack:
        for module in gates:
            handle = network.get_submodule(module).register_forward_hook(watch(module))
            stack.callback(handle.remove)
        for images, labels in training.batches(batches):
            seen.clear()
            loss = training.loss(network, images, labels) * len(labels)  # of the images' sum: each has its own gradient
            slopes = torch.autograd.grad(loss, [output for _, output in seen], allow_unused=True)
            images_seen += len(labels)
            for (module, output), slope in zip(seen, slopes, strict=True):
                if slope is not None:
                    for name, places in gates[module]:
                        totals[name] += _changes(output, slope, places)
    return {name: total / max(images_seen, 1) for name, total in totals.items()}


def _changes(output: Tensor, slope: Tensor, places: Tensor) -> Tensor:
    """Return for each unit the sum over the images of the change's size; channels lie along dimension 1."""
    products = (
        (output.detach() * slope).double().flatten(2) if output.dim() > 2 else (output.detach() * slope)[..., None]
    )
    each = products.double().mean(2).cpu()  # images x channels
    return each[:, places].sum(2).abs().sum(0)


def _gates(network: nn.Module, channels: Channels) -> dict[str, list[tuple[str, Tensor]]]:
    """Return by module behind which units are looked at: the groups there, and the channels of their units."""
    modules = dict(network.named_modules())
    gates: dict[str, list[tuple[str, Tensor]]] = {}
    for name, group in channels.groups.items():
        places = {slot.parameter.rpartition(".")[0]: slot for slot in group.slots if slot.parameter.endswith(".weight")}
        behind = [module for module in places if isinstance(modules[module], _BatchNorm)]
        makers = [slot.parameter.rpartition(".")[0] for slot in group.slots if slot.role == "makes"]
        for module in behind or makers:
            gates.setdefault(module, []).append((name, torch.from_numpy(places[module].places)))
    return gates


class _differentiable(ExitStack):  # noqa: N801 -- it is used as a function
    """The network at rest and its parameters wanting gradients inside, and both as they were after it."""

    def __init__(self, network: nn.Module, parameters: Any) -> None:
        super().__init__()
        self._network, self._parameters = network, list(parameters)

    def __enter__(self) -> _differentiable:
        for parameter in self._parameters:
            self.callback(parameter.requires_grad_, parameter.requires_grad)
            parameter.requires_grad_()
        self.callback(self._network.train, self._network.training)
        self._network.eval()
        self.enter_context(torch.enable_grad())
        return self

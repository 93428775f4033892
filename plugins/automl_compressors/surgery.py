"""Copies of a network in which other tensors stand in place of its own: smaller ones, or none that hold anything."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from automl import BadInput

# by parameter and dimension: the places that are kept; where groups share the dimension, those of each in a row
Kept = Mapping[str, Mapping[int, Tensor]]


def weightless(network: nn.Module) -> nn.Module:
    """Return a copy on the meta device."""
    return replaced(network, lambda name, tensor: torch.empty_like(tensor, device="meta"))


def weighty(network: nn.Module) -> nn.Module:
    """Return a copy that computes, with zeros on the CPU for what is on the meta device."""
    return replaced(network, lambda name, tensor: torch.zeros_like(tensor, device="cpu") if tensor.is_meta else None)


def pruned(network: nn.Module, kept: Kept) -> nn.Module:
    """Return a copy with only these places of its parameters and buffers, and layers that know their new sizes."""
    made = replaced(network, lambda name, tensor: sliced(tensor, kept[name]) if name in kept else None)
    changed = {id(tensor) for name, tensor in tensors(made) if name in kept}
    for module in made.modules():
        if any(id(tensor) in changed for tensor in (*module._parameters.values(), *module._buffers.values())):
            _recount(module)
    return made


def zeroed(network: nn.Module, kept: Kept) -> nn.Module:
    """Return a copy, as large, with zeros in all but these places of its parameters."""
    made = replaced(network, lambda name, tensor: tensor.detach().clone() if name in kept else None)
    silence(made, kept)
    return made


@torch.no_grad()
def silence(network: nn.Module, kept: Kept) -> None:
    """Fill all but these places of its parameters with zeros."""
    for name, tensor in tensors(network):
        for dim, places in kept.get(name, {}).items():
            for part, stay in _by_groups(tensor, places):
                gone = torch.ones(tensor.shape[dim], dtype=torch.bool, device="cpu")
                gone[stay] = False
                part.index_fill_(dim, gone.nonzero().flatten().to(tensor.device), 0)


def tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield every parameter and buffer once, by its first name."""
    yield from network.named_parameters()
    yield from network.named_buffers()


def replaced(network: nn.Module, change: Callable[[str, Tensor], Tensor | None]) -> nn.Module:
    """Return a copy of the network, where what is shared stays shared, with others for its parameters and buffers.

    ``change(name, tensor)`` returns the other one; None: an equal one. Raises BadInput for a network that cannot be
    copied.
    """
    memo: dict[int, Any] = {}
    for name, tensor in tensors(network):
        if nn.parameter.is_lazy(tensor):
            raise BadInput(f"the network's {name!r} has no shape yet: run the network once, and its lazy layers have")
        new = change(name, tensor)
        if new is not None and isinstance(tensor, nn.Parameter):
            new = nn.Parameter(new, tensor.requires_grad)
            new.__dict__.update(tensor.__dict__)
        if new is not None:
            memo[id(tensor)] = new
    try:
        return copy.deepcopy(network, memo)
    except Exception as error:
        raise BadInput(
            f"the network cannot be copied ({type(error).__name__}: {error}): "
            "keep only what copy.deepcopy takes in its attributes"
        ) from error


def sliced(tensor: Tensor, kept: Mapping[int, Tensor]) -> Tensor:
    """Return only these places along some dimensions, in the layout of the tensor, such as channels-last."""
    found = tensor.detach()
    for dim, places in sorted(kept.items(), reverse=True):  # before outputs go, each group has as many
        found = torch.cat([part.index_select(dim, stay.to(part.device)) for part, stay in _by_groups(found, places)])
    order = sorted(range(tensor.dim()), key=lambda dim: -tensor.stride()[dim])
    outermost_first = found.permute(order).clone(memory_format=torch.contiguous_format)
    return outermost_first.permute([order.index(dim) for dim in range(tensor.dim())])


def _by_groups(tensor: Tensor, places: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the outputs of each group with the places that it keeps; without groups, the tensor with all places."""
    rows = places.reshape(-1, places.shape[-1])
    return zip(tensor.chunk(len(rows)), rows, strict=True)


def _recount(module: nn.Module) -> None:
    """Make a layer's numbers of channels those of its tensors."""
    if isinstance(module, _ConvNd):
        first, second = module.weight.shape[:2]
        if 1 < module.groups == module.in_channels:
            module.groups = first if module.transposed else first * module.groups // module.out_channels
        ends = (first, second * module.groups)
        module.in_channels, module.out_channels = ends if module.transposed else ends[::-1]
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, _NormBase):
        module.num_features = len(module.weight if module.weight is not None else module.running_mean)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)
    elif isinstance(module, nn.GroupNorm):
        module.num_groups = module.num_groups * len(module.weight) // module.num_channels
        module.num_channels = len(module.weight)

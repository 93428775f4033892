"""Which channels of a network can go, together with what, what the rest costs, and the network without them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from automl import BadInput, measure
from automl.errors import near_miss
from automl_compressors import equality, surgery
from automl_compressors.calls import Layer, Place, Role
from automl_compressors.costs import Cost, Width
from automl_compressors.operations import RULES
from automl_compressors.tracing import Tracer, traced

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor
    from torch.nn import Module

Resource = Literal["multiply_adds", "parameters"]


@dataclass(frozen=True, eq=False)
class Slot:
    """Where a group is along one dimension of a parameter or buffer: the places of each unit, units x as many.

    The tensor "makes" the group's channels, "reads" them, or "follows" them: depthwise kernels, normalisation, biases.
    Where the inputs of a convolution are in several ``groups``, its places are those of all inputs, of which each group
    of outputs has its own share; otherwise there is one.
    """

    parameter: str
    dim: int
    role: Role
    groups: int
    places: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Group:
    """Channels of which any units can be kept, at least one.

    A unit is what has to go together: ``size`` channels of the first layer that makes them, and all that is added to
    these, follows or reads them. Layers, those that make and those that read, are in the order in which they run.
    """

    name: str
    units: int
    size: int
    layers: tuple[str, ...]
    consumers: tuple[str, ...]
    slots: tuple[Slot, ...]


class Channels:
    """The channels of one network that can go; those of the image and of the outputs cannot.

    ``groups`` by name are in the order of the forward pass, each named after the first layer that makes its channels;
    ``layers`` are all convolutions and linear layers by name, as ``Layer`` describes them.
    """

    def __init__(self, network: Module, image: tuple[int, int, int], tracer: Tracer) -> None:
        self.image = image
        self.layers: Mapping[str, Layer] = tracer.found
        self.groups: Mapping[str, Group] = _groups(tracer)
        self._roles = {place.parameter: role for place, role in tracer.roles.items() if place.dim == 0}
        self._shapes = {name: tensor.shape for name, tensor in surgery.tensors(network)}
        self._whole = np.array([group.units for group in self.groups.values()], dtype=np.int64)
        self._index = {name: (index, group) for index, (name, group) in enumerate(self.groups.items())}
        self._costs = {"multiply_adds": self._multiply_adds(network, tracer), "parameters": self._parameters(network)}

    @classmethod
    def of(cls, network: Module, image: tuple[int, int, int]) -> Channels:
        """Return the channels of a network that takes images of channels x height x width; it is left as it is.

        The network runs once as it does at rest, without its weights where it can, so that a large one on the meta
        device costs nothing. Raises BadInput, naming the module, for one that cannot be run or copied.
        """
        return cls(network, image, traced(network, image, RULES))

    def cost(self, widths: Mapping[str, int], resource: Resource) -> int:
        """Return the exact multiply-adds for one image, or parameters, of the network with so many units of groups.

        Groups that are not named are whole. They are what ``automl.measure`` would count, without anything being built.
        """
        return self._costs[resource].of(self.units(widths))

    def units(self, widths: Mapping[str, int]) -> NDArray[np.int64]:
        """Return how many units each group has, in order; those that are not named are whole."""
        units = self._whole.copy()
        for name, width in widths.items():
            index, group = self._index.get(name) or self._unknown(name)
            if not 1 <= width <= group.units:
                raise BadInput(f"group {name!r} was asked for {width} units: give 1 to {group.units}")
            units[index] = width
        return units

    def prune(self, network: Module, kept: Mapping[str, Sequence[int]]) -> Module:
        """Return a copy of the network, really smaller, with only these units of each group; others are whole.

        Units are numbers from 0 on, ascending. The network is the one that was studied, or one like it. What is
        trained, mode, dtype, device and layout are kept. Raises BadInput for groups and units that there are not.
        """
        return surgery.pruned(network, self._places(network, kept))

    def zeroed(self, network: Module, kept: Mapping[str, Sequence[int]]) -> Module:
        """Return a copy of the network, as large, in which nothing reads the channels that ``prune`` would remove."""
        return surgery.zeroed(network, self._places(network, kept, ("reads",)))

    def silence(self, network: Module, kept: Mapping[str, Sequence[int]]) -> None:
        """Make of the network, in place, what ``zeroed`` returns."""
        surgery.silence(network, self._places(network, kept, ("reads",)))

    def check(self, network: Module, kept: Mapping[str, Sequence[int]]) -> Module:
        """Prune the network, and return it if its outputs equal those of the one that ignores the same channels.

        They are compared to 1e-5 of their size, for random images, at rest, in the default dtype. Raises BadInput
        otherwise, naming the layer.
        """
        small = self.prune(network, kept)
        equality.demand(self.zeroed(network, kept), small, self.image, self.outputs(network, kept))
        return small

    def outputs(self, network: Module, kept: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, Tensor]]:
        """Return by layer the dimension of its outputs' channels, from the last, and which of them ``prune`` leaves."""
        places = self._places(network, kept)
        return {
            name: (
                -1 - len(layer.kernel),
                places.get(layer.weight, {}).get(0, torch.arange(layer.outputs, device="cpu")),
            )
            for name, layer in self.layers.items()
            if self._roles[layer.weight] != "reads"
        }

    def _places(
        self, network: Module, kept: Mapping[str, Sequence[int]], roles: Sequence[Role] = ("makes", "reads", "follows")
    ) -> surgery.Kept:
        """Return which places of which tensors stay, where not all do."""
        shapes = {name: tensor.shape for name, tensor in surgery.tensors(network)}
        for name, shape in self._shapes.items():
            if shapes.get(name) != shape:
                raise BadInput(
                    f"the network is not the one whose channels are known: {name!r} has the shape "
                    f"{tuple(shapes.get(name, ()))} and had {tuple(shape)}; study it by Channels.of"
                )
        stay: dict[str, dict[int, NDArray[np.bool_]]] = {}
        for name, units in kept.items():
            _, group = self._index.get(name) or self._unknown(name)
            gone = np.ones(group.units, dtype=bool)
            if not units or list(units) != sorted(set(units)) or not 0 <= units[0] <= units[-1] < group.units:
                raise BadInput(
                    f"group {name!r} was asked to keep the units {list(units)[:20]}: give some of 0 to "
                    f"{group.units - 1}, ascending, at least one"
                )
            gone[list(units)] = False
            for slot in group.slots if gone.any() else ():
                if slot.role in roles:
                    whole = np.ones((slot.groups, self._shapes[slot.parameter][slot.dim]), dtype=bool)
                    mask = stay.setdefault(slot.parameter, {}).setdefault(slot.dim, whole)
                    mask.reshape(-1)[slot.places[gone]] = False
        return {
            name: {
                dim: torch.from_numpy(mask.nonzero()[1].reshape(len(mask), -1)).squeeze(0) for dim, mask in dims.items()
            }
            for name, dims in stay.items()
        }

    def _unknown(self, name: str) -> Any:
        raise BadInput(
            f"the network has no group of channels {name!r}{near_miss(name, self.groups)}: it has "
            f"{', '.join(self.groups) or 'none'}"
        )

    def _widths(self) -> dict[Place, Width]:
        """Return how wide every dimension is that groups are a part of."""
        units: dict[Place, dict[int, int]] = {}
        for index, group in enumerate(self.groups.values()):
            for slot in group.slots:
                each = slot.places.shape[1] // slot.groups
                units.setdefault(Place(slot.parameter, slot.dim), {})[index] = each
        widths = {}
        for place, channels in units.items():
            lost = sum(number * int(self._whole[index]) for index, number in channels.items())
            widths[place] = Width(self._shapes[place.parameter][place.dim] - lost, channels)
        return widths

    def _parameters(self, network: Module) -> Cost[int]:
        counted = {id(parameter) for parameter in measure.counted(network)}
        widths, cost = self._widths(), Cost(int)
        for name, parameter in network.named_parameters():
            if id(parameter) in counted:
                follow = [widths[place] for dim in range(parameter.dim()) if (place := Place(name, dim)) in widths]
                rest = [size for dim, size in enumerate(parameter.shape) if Place(name, dim) not in widths]
                cost.add(math.prod(rest), *follow)
        return cost.close(len(self.groups))

    def _multiply_adds(self, network: Module, tracer: Tracer) -> Cost[int]:
        widths, cost = self._widths(), Cost(int)
        rest = tracer.multiply_adds - sum(layer.multiply_adds for layer in tracer.found.values())
        if rest and not any(tensor.is_meta for _, tensor in surgery.tensors(network)):
            # where the network is, other products may be done, as a recurrent layer's by a library
            rest += measure.multiply_adds(network, self.image) - tracer.multiply_adds
        for layer in tracer.found.values():
            shape = self._shapes[layer.weight]
            first, second = (widths.get(Place(layer.weight, dim), Width(shape[dim], {})) for dim in (0, 1))
            cost.add(layer.multiply_adds // (shape[0] * shape[1]), first, second)
        cost.add(rest)
        return cost.close(len(self.groups))


def _groups(tracer: Tracer) -> dict[str, Group]:
    """Return the units that are in the same dimensions of the same tensors as groups, in the order of the network."""
    unit = tracer.labels.settle()
    places = {place: unit[labels.numpy()] for place, labels in tracer.places.items()}
    signature = _signatures(places, int(unit.max(initial=-1)) + 1)
    group = np.full(len(signature), -1)
    number = np.zeros(len(signature), dtype=np.int64)
    names: list[str] = []
    for place, units in places.items():
        if tracer.roles[place] != "makes":
            continue
        found, first = np.unique(units[units >= 0], return_index=True)
        rising = found[np.argsort(first)]
        for one in dict.fromkeys(signature[rising[group[rising] == -1]].tolist()):
            members = rising[(signature[rising] == one) & (group[rising] == -1)]
            if len(members) > 1:  # one that is alone has to stay
                group[members], number[members] = len(names), np.arange(len(members))
                names.append(_unused(next(iter(tracer.layers[place.parameter])), names, tracer.found))
    slots: dict[int, list[Slot]] = {}
    for place, units in places.items():
        where = np.flatnonzero(units >= 0)
        where = where[group[units[where]] >= 0]
        owner, turn = group[units[where]], number[units[where]]
        for index in np.unique(owner):
            mine = owner == index
            ordered = where[mine][np.argsort(turn[mine], kind="stable")].reshape(turn[mine].max() + 1, -1)
            slots.setdefault(int(index), []).append(
                Slot(place.parameter, place.dim, tracer.roles[place], tracer.groups[place], ordered)
            )
    return {name: _group(name, slots[index], tracer) for index, name in enumerate(names)}


def _signatures(places: Mapping[Place, NDArray[np.int64]], number: int) -> NDArray[np.int64]:
    """Return a number for each unit, equal for units that are as often in the same places."""
    signature = np.zeros(number, dtype=np.int64)
    following = 1
    for units in places.values():
        found, times = np.unique(units[units >= 0], return_counts=True)
        if len(found):
            _, refined = np.unique(signature[found] * (times.max() + 1) + times, return_inverse=True)
            signature[found] = following + refined
            following += int(refined.max()) + 1
    return signature


def _group(name: str, slots: Sequence[Slot], tracer: Tracer) -> Group:
    layers, consumers = (
        tuple(dict.fromkeys(layer for slot in slots if slot.role == role for layer in tracer.layers[slot.parameter]))
        for role in ("makes", "reads")
    )
    units, size = next(slot.places.shape for slot in slots if slot.role == "makes")
    return Group(name, units, size, layers, consumers, tuple(slots))


def _unused(layer: str, names: Sequence[str], layers: Collection[str]) -> str:
    """Return the layer's name; where other channels of it have that, with the first number that is no name yet."""
    if layer not in names:
        return layer
    numbered = (f"{layer}_{number}" for number in count(2))
    return next(name for name in numbered if name not in names and name not in layers)

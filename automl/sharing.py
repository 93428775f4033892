"""One set of weights that all networks of a space share."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from automl.mixture import Mixture

_SIZES = re.compile(r"(\d+_)?\d+x\d+")  # a kernel in an operation's name, and a number before it


class Place(NamedTuple):
    """Where a parameter is: the module that owns it, by what attribute, and the key that it is shared by."""

    owner: nn.Module
    attribute: str
    key: str


def places(network: nn.Module, elastic: bool = False) -> Iterator[Place]:
    """Yield every parameter of a built network with the key by which networks of its space share it.

    Within a module that an ``Op`` made the key is the decision, the operation, how many such came before in the
    network, the place within, and the shape; elsewhere the place in the network and the shape. So an operation that
    is chosen twice for one place has one set of weights, whatever else was chosen.

    An ``elastic`` key holds the operation's ``family`` instead, and of the shape what must be equal for one parameter
    to be a window of another: the number of dimensions; of convolutions whether the sides of the kernel are odd, for
    an even one has its middle elsewhere, and where they are grouped the channels of a group. Parameters of three and
    more dimensions that are no convolution's keep their shape.
    """
    seen: set[tuple[int, str]] = set()
    for module, prefix, path in _owners(network, elastic):
        for attribute, parameter in module._parameters.items():
            if parameter is None or (id(module), attribute) in seen:
                continue
            seen.add((id(module), attribute))
            sides = _fixed(module, parameter) if elastic else parameter.shape
            yield Place(module, attribute, _key(prefix, path, attribute, sides))


def tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return every parameter and every buffer of a built network by a key as of ``places``, its shape included."""
    return {
        _key(prefix, path, attribute, tensor.shape): tensor
        for module, prefix, path in _owners(network)
        for attribute, tensor in (*module._parameters.items(), *module._buffers.items())
        if tensor is not None
    }


def _owners(network: nn.Module, elastic: bool = False) -> Iterator[tuple[nn.Module, str, str]]:
    """Yield every module, what the keys of its tensors begin with, and its path from there."""
    counts: Counter[tuple[str, str]] = Counter()
    prefixes: dict[str, tuple[str, int]] = {}  # by path of a marked module: its prefix, and where its own path begins
    for path, module in network.named_modules():
        mark = getattr(module, "automl_choice", None)
        if mark is not None and not isinstance(module, Mixture):
            operation = family(mark[1]) if elastic else mark[1]
            prefixes[path] = (f"{mark[0]}/{operation}/{counts[mark]}", len(path) + 1)
            counts[mark] += 1
        above = path
        while above and above not in prefixes:
            above = above.rpartition(".")[0]
        prefix, begin = prefixes.get(above, ("", 0))
        yield module, prefix, path[begin:]


def _key(prefix: str, path: str, attribute: str, sides: Sequence[object]) -> str:
    inner = ".".join(filter(None, (path, attribute)))
    return f"{prefix}/{inner}/{'x'.join(map(str, sides))}"


def family(operation: str) -> str:
    """Return an operation's name without the numbers of its kernel, nor one before them, as of an expansion.

    >>> family("mbconv3_3x3"), family("mbconv6_5x5"), family("conv1x3_3x1"), family("igcv1_l4")
    ('mbconvk', 'mbconvk', 'convk_k', 'igcv1_l4')
    """
    return _SIZES.sub("k", operation)


def _fixed(owner: nn.Module, parameter: Tensor) -> Sequence[object]:
    """Return of each dimension what is equal for all windows of one tensor; n where any side is."""
    shape = parameter.shape
    if len(shape) <= 1 or (len(shape) == 2 and not isinstance(owner, _ConvNd)):
        return ["n"] * len(shape)
    if not isinstance(owner, _ConvNd):
        return shape
    channels = ["n", "n"] if owner.groups == 1 else [f"{shape[0] // owner.groups}n", str(shape[1])]
    return [*channels, *("odd" if side % 2 else "even" for side in shape[2:])]


def window(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Return a view of that shape: the leading channels, in the first two dimensions, and the middle of the kernel.

    The tensor is at least as large in every dimension.
    """
    view = tensor.view_as(tensor)
    for axis, (side, whole) in enumerate(zip(shape, tensor.shape, strict=True)):
        if side < whole:
            view = view.narrow(axis, (whole - side) // 2 if axis > 1 else 0, side)
    return view


class SharedWeights:
    """One tensor for each key, put into every network that ``adopt`` is given."""

    def __init__(self) -> None:
        self.tensors: dict[str, nn.Parameter] = {}

    @property
    def drawn(self) -> int:
        """A number that grows whenever weights are drawn: of the tensors."""
        return len(self.tensors)

    def adopt(self, network: nn.Module, generator: torch.Generator | None = None) -> list[nn.Parameter]:
        """Put the shared parameters in the place of the network's own, which those that are new become.

        Returns the new ones. The generator, of the CPU, draws what tensors grow by.
        """
        new = []
        for owner, attribute, key in places(network):
            shared = self.tensors.get(key)
            if shared is None:
                parameter = owner._parameters[attribute]
                assert parameter is not None
                self.tensors[key] = parameter
                new.append(parameter)
            else:
                owner._parameters[attribute] = shared
        return new

    def refresh(self, network: nn.Module) -> None:
        """Have the network see the shared tensors as they are by now; they want gradients as these do."""

    def parameters_of(self, network: nn.Module) -> list[nn.Parameter]:
        """Return the shared tensors of a network, each once: what an optimiser moves."""
        return list(network.parameters())

    @contextmanager
    def frozen(self, network: nn.Module) -> Iterator[None]:
        """Have no parameter want a gradient inside, so that nothing is kept or computed for it."""
        parameters = [parameter for parameter in self.parameters_of(network) if parameter.requires_grad]
        for parameter in parameters:
            parameter.requires_grad_(False)
        self.refresh(network)
        try:
            yield
        finally:
            for parameter in parameters:
                parameter.requires_grad_()
            self.refresh(network)


class ElasticWeights(SharedWeights):
    """One tensor for each elastic key; a network's parameter is a ``window`` of it.

    Kernels are the middle of larger ones (Once-for-All; Cai et al., 2020, without the matrices that transform them),
    narrow layers the leading channels of wider ones (slimmable networks; Yu et al., 2019; BigNAS; Yu et al., 2020).

    A tensor is as large as was ever asked for. Where a network asks for more, it is replaced by a larger one that holds
    the old one bit for bit in its window, then what the network brought, and elsewhere numbers drawn among these, so
    that all is distributed as the network's author would have it. What a network sees are views, which gradients pass
    through to the tensors. Views of a tensor that was replaced are old: ``refresh`` a network before it runs.

    ``layout`` is that of tensors of four dimensions.
    """

    def __init__(self, layout: torch.memory_format = torch.contiguous_format) -> None:
        super().__init__()
        self.layout = layout

    @property
    def drawn(self) -> int:
        """A number that grows whenever weights are drawn: of the tensors' elements."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    def adopt(self, network: nn.Module, generator: torch.Generator | None = None) -> list[nn.Parameter]:
        known = set(self.tensors)
        windows = []
        for place in places(network, elastic=True):
            own = place.owner._parameters[place.attribute]
            assert own is not None
            shared = self.tensors.setdefault(place.key, own)
            if any(side > whole for side, whole in zip(own.shape, shared.shape, strict=True)):
                self.tensors[place.key] = self._grown(shared, own, generator)
            windows.append((place, own.shape))
        network.automl_windows = windows  # type: ignore[assignment]
        self.refresh(network)
        return [tensor for key, tensor in self.tensors.items() if key not in known]

    def refresh(self, network: nn.Module) -> None:
        for (owner, attribute, key), shape in getattr(network, "automl_windows", ()):
            # not by setattr, which takes Parameters alone; so parameters() goes on to yield them, as large as seen
            owner._parameters[attribute] = window(self.tensors[key], shape)

    def parameters_of(self, network: nn.Module) -> list[nn.Parameter]:
        keys = dict.fromkeys(place.key for place, _ in getattr(network, "automl_windows", ()))
        return [self.tensors[key] for key in keys]

    def _grown(self, small: Tensor, own: Tensor, generator: torch.Generator | None) -> nn.Parameter:
        shape = [max(sides) for sides in zip(small.shape, own.shape, strict=True)]
        drawn = torch.randint(own.numel(), (math.prod(shape),), generator=generator)
        large = own.detach().flatten()[drawn.to(own.device)].view(shape)
        if large.dim() == 4:
            # not by contiguous, which leaves the strides of a side of 1 alone, and kernels are chosen by them
            large = large.to(memory_format=self.layout)
        for part in (own, small):
            window(large, part.shape).copy_(part.detach())
        return nn.Parameter(large, small.requires_grad)

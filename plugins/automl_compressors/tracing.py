"""Runs a network once and follows its channels from the weights that make them to all that they reach."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from automl import BadInput, measure
from automl_compressors import surgery
from automl_compressors.calls import Call, Layer, Place, Role, Unfollowed
from automl_compressors.labels import Axis, Count, Labels, leaves, plain
from automl_compressors.running import Running, tensors_in

if TYPE_CHECKING:
    from torch.nn import Module

# what says something of a tensor that no pruning changes
_PASSIVE = {
    *("dim", "ndim", "ndimension", "dtype", "device", "layout", "names", "requires_grad", "requires_grad_", "grad_fn"),
    *("get_device", "element_size", "itemsize", "nbytes", "_set_grad_enabled", "__repr__", "__hash__", "__format__"),
}


Rule = Callable[["Tracer", Call], None]


class Tracer(TorchFunctionMode):
    """Sees every operation of a network, and has the rules follow the channels of what it is given.

    Every dimension of a weight that a rule meets has a label for each of its places. A tensor carries those of the
    channels that lie along one of its dimensions, and whatever does not is constant along them.
    """

    def __init__(self, network: Module, rules: Mapping[str, Rule]) -> None:
        super().__init__()
        self.labels = Labels()
        self.places: dict[Place, Tensor] = {}  # in the order in which they were met
        self.roles: dict[Place, Role] = {}
        self.groups: dict[Place, int] = {}  # how many share it
        self.layers: dict[str, dict[str, None]] = {}  # by parameter: the modules that use it, in order
        self.found: dict[str, Layer] = {}  # by name, in order
        self.multiply_adds = 0
        self._rules = rules
        self._depth = 0
        self._axes: dict[int, tuple[Tensor, Axis]] = {}  # with the tensor, so that its number is not used again
        self._running = Running(network)
        self._owned: dict[int, list[tuple[str, str]]] = {}  # of each parameter: owners, and the names they give it
        self._modules = dict(network.named_modules(remove_duplicate=False))
        for path, module in network.named_modules():
            for attribute, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is not None:
                    self._owned.setdefault(id(tensor), []).append((path, attribute))

    @property
    def path(self) -> str:
        """The module that runs."""
        return self._running.path

    def failure(self, error: BaseException) -> str:
        """Return which module raised what."""
        return self._running.failure(error)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        keywords = kwargs or {}
        name = getattr(func, "__name__", "")
        name = func.__self__.__name__ if name == "__get__" else name
        if name in _PASSIVE or name.startswith("is_"):
            return func(*plain(args), **plain(keywords))
        if name in ("shape", "size"):
            sizes = self.sizes(args[0])
            return sizes if len(args) + len(keywords) == 1 else sizes[plain((*args, *keywords.values()))[1]]
        if name in ("numel", "nelement"):
            return math.prod(self.sizes(args[0]))
        if "torch._ops" in str(getattr(func, "__module__", "")):
            name = ""  # somebody's own operation, which may be called as one of PyTorch's is
        self._depth += 1
        before = self.multiply_adds
        try:
            result = func(*plain(args), **plain(keywords))
            self._follow(Call(name, func, args, keywords, result, self.multiply_adds - before))
            return result
        finally:
            self._depth -= 1

    def _follow(self, call: Call) -> None:
        try:
            rule = self._rules.get(call.name)
            if rule is None:
                raise Unfollowed
            rule(self, call)
        except Exception:  # also what a rule does not expect: it is not followed
            for value in call.given:
                self.freeze(value)
            for tensor in (*call.tensors, *call.results):
                self._axes.pop(id(tensor), None)

    def see(self, operation: Any, arguments: Sequence[Any], keywords: Mapping[str, Any], result: Any) -> None:
        """Take down what an operation costs; what is given to one that no rule was shown must stay."""
        self.multiply_adds += measure.products(operation, arguments, keywords, result)
        if not self._depth:
            for value in leaves([*arguments, *keywords.values()]):
                self.freeze(value)

    def axis(self, tensor: Any) -> Axis | None:
        """Return where the channels of a tensor lie; None where it has none that could go."""
        if id(tensor) in self._axes:
            return self._axes[id(tensor)][1]
        if id(tensor) in self._owned:
            wide = [dim for dim, size in enumerate(tensor.shape) if size > 1]
            if len(wide) == 1:
                return Axis(wide[0], self.place(tensor, wide[0], "follows"))
            if wide:
                raise Unfollowed
        return None

    def along(self, tensor: Tensor, dim: int) -> Tensor:
        """Return the labels along a dimension, 0 for what stays; raises Unfollowed where channels lie elsewhere."""
        axis = self.axis(tensor)
        if axis is None:
            return torch.zeros(tensor.shape[dim], dtype=torch.int64, device="cpu")
        if axis.dim != dim % tensor.dim():
            raise Unfollowed
        return axis.labels

    def sizes(self, tensor: Tensor) -> torch.Size:
        """Return the shape, with a count where channels lie."""
        held = self._axes.get(id(tensor))
        if held is None:
            return tensor.shape
        dim, labels = held[1]
        count = Count(tensor.shape[dim], self.labels, ((labels, Fraction(1)),))
        return torch.Size([count if place == dim else size for place, size in enumerate(tensor.shape)])

    def label(self, tensor: Tensor, dim: int, labels: Tensor) -> None:
        """Note that these channels lie along a dimension of a tensor."""
        dim %= tensor.dim()
        if tensor.shape[dim] != len(labels):
            raise Unfollowed
        if len(labels) == 1:  # of size 1 it would be broadcast: where all others went, it stays
            self.labels.freeze(labels)
        if len(labels) == 1 or not labels.any():
            self._axes.pop(id(tensor), None)
        else:
            self._axes[id(tensor)] = (tensor, Axis(dim, labels))

    def place(self, parameter: Tensor, dim: int, role: Role, groups: int = 1) -> Tensor:
        """Return the labels of a parameter's dimension; raises Unfollowed for what is no parameter, nor a buffer.

        Where groups of channels share the dimension, it has labels for each of these.
        """
        owners = self._owned.get(id(parameter))
        if owners is None:
            raise Unfollowed
        name = ".".join(filter(None, owners[0]))
        place = Place(name, dim)
        if place not in self.places:
            self.places[place] = self.labels.new(parameter.shape[dim] * groups)
            self.roles[place] = role
            self.groups[place] = groups
        if self.groups[place] != groups and groups > 1:
            raise Unfollowed
        if self.roles[place] == "follows":
            self.roles[place] = role
        elif role not in ("follows", self.roles[place]):
            self.labels.freeze(self.places[place])  # shared by one layer's outputs and another's inputs
        self.layers.setdefault(name, {})[self._layer(parameter)] = None
        return self.places[place]

    def _layer(self, parameter: Tensor) -> str:
        """Return the module that runs, if it is its weight; else the name of the parameter."""
        if self.path and (self.path, "weight") in self._owned[id(parameter)]:
            return self.path
        return ".".join(filter(None, self._owned[id(parameter)][0])).removesuffix(".weight")

    def owner(self, parameter: Tensor) -> Module | None:
        """Return the module that is running, if the parameter is its own."""
        owners = [path for path, _ in self._owned.get(id(parameter), ())]
        return self._modules[self.path] if self.path in owners else None

    def freeze(self, value: Any) -> None:
        """Let all channels of a tensor, or all that a count counts, stay."""
        if isinstance(value, Count):
            value.fix()
        elif id(value) in self._axes:
            self.labels.freeze(self._axes[id(value)][1].labels)
        elif id(value) in self._owned:
            for dim, size in enumerate(value.shape):
                if size > 1:
                    self.labels.freeze(self.place(value, dim, "follows"))

    def record(self, call: Call, weight: Tensor, dim: int, groups: int) -> None:
        """Note a convolution or a linear layer, with its channels along that dimension, that is run."""
        name = self._layer(weight)
        if name in self.found:
            known = self.found[name]
            self.found[name] = replace(known, multiply_adds=known.multiply_adds + call.multiply_adds)
            return
        x, kernel = call.input, tuple(weight.shape[2:])
        height, width = (1, 1, *x.shape[dim + 1 :])[-2:]
        stride = call.get(3, "stride", 1) if kernel else ()
        self.found[name] = Layer(
            name,
            ".".join(filter(None, self._owned[id(weight)][0])),
            call.result.shape[dim],
            x.shape[dim],
            height,
            width,
            kernel,
            (stride,) * len(kernel) if isinstance(stride, int) else tuple(stride),
            groups,
            call.multiply_adds,
        )


def ruled(rule: Rule, names: str) -> dict[str, Rule]:
    """Return a rule for each of the operations named."""
    return dict.fromkeys(names.split(), rule)


def traced(network: Module, image: tuple[int, int, int], rules: Mapping[str, Rule]) -> Tracer:
    """Run a copy of the network on an image of zeros, channels x height x width, and return what was seen.

    It runs on the meta device, where nothing is computed; a network that looks at numbers runs where it is. Parameters
    that are not met so are looked for with other images, and in training, which may have further heads. Raises
    BadInput, naming the module, for a network that does not run.
    """
    reason = ""
    for copied, device in ((surgery.weightless, torch.device("meta")), (surgery.weighty, contextlib.nullcontext())):
        copy = copied(network)
        tracer = Tracer(copy, rules)
        try:
            with device, tracer:
                outputs = measure.observe(copy, image, 1, tracer.see)
        except Exception as error:
            reason = tracer.failure(error)
            continue
        for tensor in tensors_in(outputs):
            tracer.freeze(tensor)
        for training in (False, True):
            if any(name not in tracer.layers for name, _ in copy.named_parameters()):
                with device:
                    _run_again(copy.train(training), image, tracer)
        return tracer
    size = " x ".join(map(str, image))
    raise BadInput(f"the network cannot be run on an image of {size}: {reason}; give the size that it takes")


def _run_again(copy: Module, image: tuple[int, int, int], tracer: Tracer) -> None:
    """Follow what other images run in the mode that the copy is in; what fails there has no say."""
    device = next(copy.parameters()).device
    images = torch.randn(2, *image, generator=torch.Generator().manual_seed(0), device="cpu").to(device)
    with contextlib.suppress(Exception), torch.no_grad(), tracer:
        for tensor in tensors_in(copy(images)):
            tracer.freeze(tensor)

"""Cuts a network into the kernels that a runtime makes of it, each to be timed alone: operations, fused as is usual."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_leaves, tree_map

from automl import measure

_ANCHORS = {"convolution", "addmm", "mm", "bmm"}  # what an activation is fused into
_ACTIVATIONS = {"relu", "hardtanh", "clamp", "clamp_min", "sigmoid", "tanh", "leaky_relu", "hardsigmoid"}
_NORMALISATIONS = {"native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm"}
_COPIES = {"detach", "alias", "lift_fresh"}  # of the value itself
FILLED = {"zeros_like", "ones_like", "full_like"}  # with one number, by the shape of what they are given alone


class _Given(NamedTuple):
    """Stands in the arguments of a call for a tensor that comes from outside of its kernel."""

    place: int


class _Weight(NamedTuple):
    """Stands for a tensor that is always the same."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class _Made(NamedTuple):
    """Stands for the result of an earlier call of the kernel."""

    place: int


@dataclass(frozen=True)
class Kernel:
    """Operations that run as one, of given shapes; equal names take equally long.

    ``kind`` says of what sort it is: depthwise, pointwise, convolution, cat, add, ... ``shapes`` are those of what it
    is given, the batch first.
    """

    name: str
    kind: str
    multiply_adds: int
    elements: int  # read and written, weights included
    shapes: tuple[tuple[int, ...], ...] = field(repr=False)
    calls: tuple[tuple[Any, Any, Any], ...] = field(repr=False, compare=False)

    def module(self) -> nn.Module:
        """Return a module that does just this, its weights drawn from ``torch``'s generator."""
        return _Alone(self)


@dataclass(frozen=True)
class Placed:
    """A kernel in its network: the places, in order of execution, of those whose results it reads; -1 is the images."""

    kernel: Kernel
    reads: tuple[int, ...]


def cut(model: nn.Module, image: tuple[int, int, int], batch: int = 1) -> list[Placed]:
    """Return the kernels of one run of the model, at rest, where its weights are, in order of execution.

    The images are batch x channels x height x width. Fused as inference runtimes for processors do: batch
    normalisation into the convolution before it, then a sum with another map and an activation, where nothing else
    reads what is between (nn-Meter finds such rules by probing; Zhang et al., 2021). What is computed twice of the same
    values counts once, what nobody reads not at all, and views not: a kernel that reads a view makes it.
    """
    trace = _Trace(model)
    result = measure.observe(model, image, batch, trace.see)
    return trace.kernels([leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)])


def counts(placed: Sequence[Placed]) -> Counter[str]:
    """Return how often there is each kernel, by name."""
    return Counter(one.kernel.name for one in placed)


class _Alone(nn.Module):
    """The calls of a kernel, again."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self._calls = []
        for operation, arguments, keywords in kernel.calls:
            self._calls.append((operation, *tree_map(self._own, (arguments, keywords), is_leaf=_is_mark)))

    def _own(self, leaf: Any) -> Any:
        """Return the number of a new weight in the place of its shape."""
        if not isinstance(leaf, _Weight):
            return leaf
        name = f"weight{len(list(self.buffers()))}"
        # of a size that keeps the maps of a deep network as large as they are: denormal numbers take longer
        weight = torch.randn(leaf.shape) / math.sqrt(math.prod(leaf.shape[1:])) if len(leaf.shape) > 1 else None
        self.register_buffer(name, (torch.rand(leaf.shape) + 0.5 if weight is None else weight).to(leaf.dtype))
        return _Own(name)

    def forward(self, *given: Tensor) -> Any:
        made: list[Any] = []

        def value(leaf: Any) -> Any:
            if isinstance(leaf, _Given):
                return given[leaf.place]
            if isinstance(leaf, _Made):
                return made[leaf.place]
            return getattr(self, leaf.name) if isinstance(leaf, _Own) else leaf

        for operation, arguments, keywords in self._calls:
            arguments, keywords = tree_map(value, (arguments, keywords), is_leaf=_is_mark)
            result = operation(*arguments, **keywords)
            made.append(result[0] if isinstance(result, tuple) else result)
        return made[-1]


class _Own(NamedTuple):
    """Stands for a weight of the module."""

    name: str


def _is_mark(leaf: Any) -> bool:
    return isinstance(leaf, _Given | _Weight | _Made | _Own | _Value)


class _Value(NamedTuple):
    """Stands in the arguments of a call for the result of a step of the trace; -1 is the images."""

    step: int


@dataclass(eq=False)
class _Step:
    """One call: what it reads by step, the shapes of what it reads and makes."""

    operation: Any
    arguments: Any
    keywords: Any
    made: tuple[int, ...]
    is_view: bool
    multiply_adds: int
    readers: set[int] = field(default_factory=set)

    @property
    def name(self) -> str:
        return str(self.operation.overloadpacket.__name__)

    @property
    def reads(self) -> list[int]:
        leaves = tree_leaves((self.arguments, self.keywords), is_leaf=_is_mark)
        return [leaf.step for leaf in leaves if isinstance(leaf, _Value)]

    @property
    def weights(self) -> int:
        """How many elements are always the same."""
        leaves = tree_leaves((self.arguments, self.keywords), is_leaf=_is_mark)
        return sum(math.prod(leaf.shape) for leaf in leaves if isinstance(leaf, _Weight))


class _Trace:
    """Takes down the calls of one run by what they read of each other."""

    def __init__(self, model: nn.Module) -> None:
        self._fixed = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
        self._kept: list[Any] = []  # so that no id comes twice
        self._values: dict[int, int] = {}  # the step that made a tensor, by its id
        self._known: dict[Any, int] = {}  # the step of a call, by all that it rests on
        self._steps: list[_Step] = []
        self._shapes: dict[int, tuple[int, ...]] = {}

    def see(self, operation: Any, arguments: Sequence[Any], keywords: Mapping[str, Any], result: Any) -> None:
        """Take down a call; what rests on nothing that is given is a weight."""
        given = [leaf for leaf in tree_leaves((arguments, keywords)) if isinstance(leaf, Tensor)]
        self._kept += [*given, result]
        for tensor in given:
            if id(tensor) not in self._values and id(tensor) not in self._fixed:
                self._values[id(tensor)] = -1
                self._shapes[-1] = tuple(tensor.shape)
        first = result[0] if isinstance(result, tuple) else result
        name = operation.overloadpacket.__name__
        results = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if not results or "empty" in name or all(id(tensor) in self._fixed for tensor in given):
            self._fixed |= {id(tensor) for tensor in results}
            return
        if name.rstrip("_") in _COPIES:
            self._values[id(first)] = self._values[id(given[0])]
            return
        if isinstance(first, Sequence):  # of chunks, each is a view by itself
            for place, part in enumerate(first):
                self._take(operation, arguments, keywords, part, given, place)
            return
        self._take(operation, arguments, keywords, first, given, None)

    def _take(
        self, operation: Any, arguments: Any, keywords: Any, made: Tensor, given: Sequence[Tensor], part: int | None
    ) -> None:
        def mark(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            if id(leaf) in self._fixed:
                return _Weight(tuple(leaf.shape), leaf.dtype)
            return _Value(self._values[id(leaf)])

        marked = tree_map(mark, (tuple(arguments), dict(keywords)))
        pure = _pure(operation)
        fixed = tuple(id(tensor) for tensor in given if id(tensor) in self._fixed)
        key = (str(pure), repr(marked), fixed, part)
        if key not in self._known:
            storages = {_storage(tensor) for tensor in given}
            is_view = pure is operation and _storage(made) in storages
            cost = measure.products(operation, arguments, keywords, made)
            if part is not None:
                pure = _Part(pure, part)
            self._steps.append(_Step(pure, marked[0], marked[1], tuple(made.shape), is_view, cost))
            self._known[key] = len(self._steps) - 1
        self._values[id(made)] = self._known[key]

    def kernels(self, results: Sequence[Tensor]) -> list[Placed]:
        """Return the kernels of the calls that the results rest on."""
        alive = self._alive([self._values[id(tensor)] for tensor in results if id(tensor) in self._values])
        groups: dict[int, list[int]] = {}  # the calls of a kernel, by its last
        for number in alive:
            step = self._steps[number]
            if step.is_view:
                continue
            before = self._fused_into(step, groups)
            groups[number] = [*groups.pop(before), number] if before is not None else [number]
        order = {last: place for place, last in enumerate(sorted(groups))}
        return [self._placed(groups[last], order) for last in order]

    def _alive(self, last: Sequence[int]) -> list[int]:
        """Return in order the steps that the last ones rest on, and tell each who reads it."""
        waiting, seen = list(last), set(last)
        while waiting:
            number = waiting.pop()
            for read in self._steps[number].reads if number >= 0 else []:
                if read >= 0:
                    self._steps[read].readers.add(number)
                    if read not in seen:
                        seen.add(read)
                        waiting.append(read)
        return sorted(number for number in seen if number >= 0)

    def _fused_into(self, step: _Step, groups: Mapping[int, list[int]]) -> int | None:
        """Return the last call of the kernel that this one becomes a part of; None where it begins its own."""
        for read in sorted(set(step.reads), reverse=True):
            if read not in groups or len(self._steps[read].readers) > 1:
                continue
            names = [self._steps[number].name for number in groups[read]]
            if names[0] not in _ANCHORS or self._steps[read].made != step.made:
                continue
            if step.name in _NORMALISATIONS:
                fits = names == ["convolution"]
            elif step.name == "add":
                fits = names[-1] not in _ACTIVATIONS and "add" not in names
            else:
                fits = step.name in _ACTIVATIONS and names[-1] not in _ACTIVATIONS
            if fits:
                return read
        return None

    def _placed(self, group: Sequence[int], order: Mapping[int, int]) -> Placed:
        """Return the kernel of these calls, together with the views that they read."""
        inside: dict[int, int] = {}
        outside: dict[int, int] = {}
        calls: list[tuple[Any, Any, Any]] = []
        texts: list[str] = []

        def place(number: int) -> Any:
            if number in inside:
                return _Made(inside[number])
            if number >= 0 and self._steps[number].is_view:
                add(number)
                return _Made(inside[number])
            return _Given(outside.setdefault(number, len(outside)))

        def add(number: int) -> None:
            step = self._steps[number]
            if step.name in _NORMALISATIONS and calls:  # folded into the convolution's weights, which have a bias then
                inside[number] = inside[group[group.index(number) - 1]]
                return
            arguments, keywords = tree_map(
                lambda leaf: place(leaf.step) if isinstance(leaf, _Value) else leaf,
                (step.arguments, step.keywords),
                is_leaf=_is_mark,
            )
            if step.name == "convolution":
                data, weight, _, *rest = arguments
                arguments = (data, weight, _Weight((step.made[1],), weight.dtype), *rest)
            calls.append((step.operation, arguments, keywords))
            texts.append(_text(step.name, arguments, keywords))
            inside[number] = len(calls) - 1

        for number in group:
            add(number)
        shapes = tuple(self._shape(number) for number in outside)
        given = " ".join("x".join(map(str, shape)) for shape in shapes)
        steps = [self._steps[number] for number in group]
        elements = sum(map(math.prod, shapes)) + math.prod(steps[-1].made) + sum(step.weights for step in steps)
        costs = sum(step.multiply_adds for step in steps)
        kind = _kind(steps[0])
        name = f"{kind}: {' '.join(texts)} of {given}".rstrip()
        kernel = Kernel(name, kind, costs, elements, shapes, tuple(calls))
        return Placed(kernel, tuple(order.get(number, -1) for number in outside))

    def _shape(self, number: int) -> tuple[int, ...]:
        return self._steps[number].made if number >= 0 else self._shapes[-1]


class _Part:
    """One of the results of an operation that makes several."""

    def __init__(self, operation: Any, place: int) -> None:
        self.operation, self.place, self.overloadpacket = operation, place, operation.overloadpacket

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self.operation(*arguments, **keywords)[self.place]

    def __str__(self) -> str:
        return f"{self.operation}[{self.place}]"


def _storage(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


def _pure(operation: Any) -> Any:
    """Return the operation that makes a new tensor of what this one writes into its first argument."""
    packet = operation.overloadpacket.__name__
    if not packet.endswith("_") or packet.startswith("__"):
        return operation
    pure = getattr(torch.ops.aten, packet.rstrip("_"), None)
    return operation if pure is None else getattr(pure, operation._overloadname, operation)


def _kind(step: _Step) -> str:
    if step.name != "convolution":
        return step.name
    weight = step.arguments[1].shape
    groups = step.arguments[8]
    if groups > 1:
        return "depthwise" if weight[1] == 1 else "grouped"
    return "pointwise" if math.prod(weight[2:]) == 1 else "convolution"


def _text(name: str, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> str:
    """Return a call in short: weights by their shape, what is given or made before left to the shapes at the end."""

    def text(value: Any) -> str:
        if isinstance(value, _Weight):
            return "x".join(map(str, value.shape)) or "number"
        if isinstance(value, _Given):
            return f"i{value.place}"
        if isinstance(value, _Made):
            return f"r{value.place}"
        if isinstance(value, list | tuple):
            return f"[{' '.join(map(text, value))}]"
        return str(value)

    words = [*map(text, arguments), *(f"{key}={text(value)}" for key, value in sorted(keywords.items()))]
    return f"{name}({','.join(words)})"

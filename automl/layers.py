"""What a network costs, layer by layer: multiply-adds, memory access, kernels, and the activations that it holds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from torch import Tag, Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_leaves

from automl import measure

_OVERWRITES = {"copy_", "fill_", "zero_"}  # what they write into is not read
_UNTAGGED = {"hardswish", "hardswish_", "_prelu_kernel", "glu"}  # element-wise, though PyTorch does not say so
_NORMALISATION = ("batch_norm", "group_norm", "layer_norm")


@dataclass(frozen=True)
class Layer:
    """One call of a module without parts, or one operation in the forward of a module with parts: ``block (add)``.

    Shapes have the batch first. ``kernel``, ``stride`` and ``dilation``, a number a side, are of convolutions and
    pools, else empty. Memory access is in elements: those read, weights included, and those written.
    """

    name: str
    kind: str
    input: tuple[int, ...]
    output: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    parameters: int  # those that it is the first to read
    multiply_adds: int
    memory_access: int
    kernels: int  # operations that move data

    @property
    def is_convolution(self) -> bool:
        return bool(self.kernel) and self.multiply_adds > 0

    @property
    def is_depthwise(self) -> bool:
        return self.is_convolution and 1 < self.groups == self.input[1]

    @property
    def is_pointwise(self) -> bool:
        """Whether it is a convolution of 1 x 1 without groups."""
        return self.is_convolution and self.groups == 1 and math.prod(self.kernel) == 1

    @property
    def weights(self) -> int:
        """The number of weights of a convolution, biases left out."""
        return self.input[1] // self.groups * self.output[1] * math.prod(self.kernel)

    @property
    def bound(self) -> float:
        """The least memory access of a 1 x 1 convolution of as many multiply-adds on maps of the same sizes.

        It is 2 sqrt(hw B) + B / hw for B multiply-adds on maps of h x w, and met where both maps have equally many
        elements, without a stride by equal widths (Ma et al., 2018, equation 1).
        """
        before, after = (math.prod(shape) // shape[1] for shape in (self.input, self.output))
        return 2 * math.sqrt(before * self.multiply_adds) + self.multiply_adds / after


@dataclass(frozen=True)
class Block:
    """A part that networks repeat: its kernels, and how many of them need not wait for each other at most."""

    name: str
    kernels: int
    branches: int


@dataclass(frozen=True)
class EqualWidths:
    """G1: how much more the 1 x 1 convolutions access than the least for their multiply-adds; the worst first."""

    convolutions: int
    memory_access: int  # of inputs, outputs and weights
    bound: float
    ratio: float
    worst: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Groups:
    """G2: the grouped convolutions, depthwise ones left out.

    ``ratio`` compares with convolutions without groups of the same inputs and the same multiply-adds, which have fewer
    outputs.
    """

    convolutions: int
    share: float  # of the memory access of the network
    ratio: float


@dataclass(frozen=True)
class Fragmentation:
    """G3: into how many kernels the network falls, and its blocks."""

    kernels: int
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class ElementWise:
    """G4: the shares in memory access of operations with few multiply-adds."""

    share: float  # activations, sums, products, copies
    normalisation: float
    depthwise: float


@dataclass(frozen=True)
class Guidelines:
    """The four practical guidelines of ShuffleNet V2 (Ma et al., 2018), as figures of one network."""

    equal_widths: EqualWidths
    groups: Groups
    fragmentation: Fragmentation
    element_wise: ElementWise


@dataclass(frozen=True)
class Profile:
    """What one run at rest costs; everything but the parameters is of the whole batch."""

    layers: tuple[Layer, ...]  # in order of execution
    blocks: tuple[Block, ...]
    parameters: int
    multiply_adds: int
    memory_access: int
    kernels: int
    peak_activations: int  # bytes of all tensors but the weights, each freed after its last use
    element_wise: int  # memory access of element-wise operations
    normalisation: int  # and of normalisation

    def guidelines(self, worst: int = 3) -> Guidelines:
        """Return the network's figures for the guidelines, G1 with so many of the worst convolutions."""
        pointwise = [layer for layer in self.layers if layer.is_pointwise]
        grouped = [
            layer for layer in self.layers if layer.is_convolution and layer.groups > 1 and not layer.is_depthwise
        ]
        access, bound = sum(map(_access, pointwise)), sum(layer.bound for layer in pointwise)
        ratios = sorted(((layer.name, _access(layer) / layer.bound) for layer in pointwise), key=lambda pair: -pair[1])
        alone = sum(_access(layer, layer.groups) for layer in grouped)
        return Guidelines(
            EqualWidths(len(pointwise), access, bound, _ratio(access, bound), tuple(ratios[:worst])),
            Groups(
                len(grouped),
                self._share(sum(layer.memory_access for layer in grouped)),
                _ratio(sum(map(_access, grouped)), alone),
            ),
            Fragmentation(self.kernels, self.blocks),
            ElementWise(
                self._share(self.element_wise),
                self._share(self.normalisation),
                self._share(sum(layer.memory_access for layer in self.layers if layer.is_depthwise)),
            ),
        )

    def _share(self, access: int) -> float:
        return access / self.memory_access if self.memory_access else 0.0


def _access(layer: Layer, fewer_outputs: int = 1) -> int:
    """Return the memory access of a convolution without bias, with so many times fewer outputs at as many weights."""
    return math.prod(layer.input) + math.prod(layer.output) // fewer_outputs + layer.weights


def _ratio(access: float, bound: float) -> float:
    return access / bound if bound else 1.0


def profile(model: nn.Module, image: tuple[int, int, int], batch: int = 1) -> Profile:
    """Run the model once, at rest, where its weights are (the meta device is enough), and return what it costs.

    The images of zeros are batch x channels x height x width. Views cost nothing. Of an operation with several results
    the first counts: the others are indices, or statistics for training.
    """
    watcher = _Watcher(model)
    with watcher.following():
        result = measure.observe(model, image, batch, watcher.see)
    return watcher.profile(result)


@dataclass(eq=False)
class _Row:
    """A layer while the run goes on."""

    name: str
    kind: str
    input: tuple[int, ...]
    output: tuple[int, ...] = ()
    window: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int] | None = None
    reads: list[StorageWeakRef] = field(default_factory=list)
    multiply_adds: int = 0
    memory_access: int = 0
    kernels: int = 0


@dataclass(eq=False)
class _Call:
    """A module that is being called; the row is there from its first operation that moves data."""

    path: str
    kind: str
    is_leaf: bool
    block: str
    input: tuple[int, ...] = ()
    row: _Row | None = None


@dataclass
class _Life:
    """From which to which step a storage holds something."""

    bytes: int
    first: int
    last: int


class _Watcher:
    """Takes down what every operation moves, and for which module."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._blocks = set(_blocks(model))
        self._calls = [_Call("", type(model).__name__, False, type(model).__name__)]
        self._rows: list[_Row] = []
        self._lives: dict[StorageWeakRef, _Life] = {}  # weak, so that memory is freed and no name comes twice
        self._depths: dict[StorageWeakRef, tuple[str, int]] = {}  # how many kernels of its block came before
        self._kernels: dict[str, Counter[int]] = {}  # of each block, by depth
        self._step = 0
        self._totals: Counter[str] = Counter()

    @contextmanager
    def following(self) -> Iterator[None]:
        """Follow the calls of all modules."""
        handles = []
        for path, module in self._model.named_modules():
            handles.append(module.register_forward_pre_hook(self._entering(path)))
            handles.append(module.register_forward_hook(self._leave, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _entering(self, path: str) -> Any:
        def enter(module: nn.Module, given: tuple[Any, ...]) -> None:
            block = path if path in self._blocks else self._calls[-1].block
            call = _Call(path, type(module).__name__, next(module.children(), None) is None, block)
            call.input = next((tuple(tensor.shape) for tensor in _tensors(given)), ())
            if not path:
                for tensor in _tensors(given):
                    self._use(tensor)
            self._calls.append(call)

        return enter

    def _leave(self, module: nn.Module, given: Any, result: Any) -> None:
        row = self._calls.pop().row
        if row is not None and isinstance(result, Tensor):
            row.output = tuple(result.shape)

    def see(self, operation: Any, arguments: Sequence[Any], keywords: Mapping[str, Any], result: Any) -> None:
        """Take down an operation, unless it only makes a view or reserves memory."""
        name = operation.overloadpacket.__name__
        schema = operation._schema
        read = list(_tensors([*arguments, *keywords.values()]))
        known = {_storage(tensor) for tensor in read}
        results = list(_tensors(result[:1] if isinstance(result, tuple) else [result]))
        written = [tensor for tensor in results if schema.is_mutable or _storage(tensor) not in known]
        if not written or "empty" in name:
            return
        if name in _OVERWRITES:
            read = read[1:]
        self._step += 1
        for tensor in (*read, *written):
            self._use(tensor)
        moved = sum(tensor.numel() for tensor in (*read, *written))
        row = self._row(name, read)
        row.output = tuple(written[0].shape)
        window = _window({given.name: value for given, value in zip(schema.arguments, arguments, strict=False)})
        if window is not None and row.window is None:
            row.window, row.input = window, tuple(read[0].shape)
        row.reads += map(_storage, read)
        row.multiply_adds += measure.products(operation, arguments, keywords, result)
        row.memory_access += moved
        row.kernels += 1
        self._place([_storage(tensor) for tensor in read], [_storage(tensor) for tensor in written])
        if Tag.pointwise in operation.tags or name in _UNTAGGED:
            self._totals["element_wise"] += moved
        elif any(kind in name for kind in _NORMALISATION):
            self._totals["normalisation"] += moved

    def _row(self, operation: str, read: Sequence[Tensor]) -> _Row:
        """Return the row of a leaf module's call, or a new one for an operation of its own."""
        call = self._calls[-1]
        if call.row is not None:
            return call.row
        kind = call.kind if call.is_leaf else operation.strip("_")
        name = call.path or kind if call.is_leaf else f"{call.path} ({kind})".lstrip()
        row = _Row(name, kind, call.input if call.is_leaf else next((tuple(tensor.shape) for tensor in read), ()))
        self._rows.append(row)
        if call.is_leaf:
            call.row = row
        return row

    def _use(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        life = self._lives.setdefault(_storage(tensor), _Life(storage.nbytes(), self._step, self._step))
        life.last = self._step

    def _place(self, read: Iterable[StorageWeakRef], written: Iterable[StorageWeakRef]) -> None:
        """Count a kernel in its block, at the depth of what it has to wait for there."""
        block = self._calls[-1].block
        places = [self._depths[storage] for storage in read if storage in self._depths]
        depth = 1 + max((depth for where, depth in places if where == block), default=0)
        self._kernels.setdefault(block, Counter())[depth] += 1
        for storage in written:
            self._depths[storage] = (block, depth)

    def profile(self, result: Any) -> Profile:
        """Sum up, now that all weights are there."""
        for tensor in _tensors(tree_leaves(result)):
            self._use(tensor)
        unread: dict[StorageWeakRef, int] = Counter()
        for parameter in measure.counted(self._model):
            unread[_storage(parameter)] += parameter.numel()
        layers = []
        for row in self._rows:
            kernel, stride, dilation, groups = row.window or ((), (), (), 1)
            parameters = sum(unread.pop(storage, 0) for storage in row.reads)
            costs = (parameters, row.multiply_adds, row.memory_access, row.kernels)
            layers.append(Layer(row.name, row.kind, row.input, row.output, kernel, stride, dilation, groups, *costs))
        weights = {_storage(tensor) for tensor in (*self._model.parameters(), *self._model.buffers())}
        return Profile(
            tuple(layers),
            tuple(Block(name, kernels.total(), max(kernels.values())) for name, kernels in self._kernels.items()),
            measure.parameters(self._model),
            sum(layer.multiply_adds for layer in layers),
            sum(layer.memory_access for layer in layers),
            sum(layer.kernels for layer in layers),
            _peak([life for storage, life in self._lives.items() if storage not in weights]),
            self._totals["element_wise"],
            self._totals["normalisation"],
        )


def _blocks(model: nn.Module) -> Iterator[str]:
    """Yield the paths of the blocks: the parts of each of the ``stages``, and what stands beside these."""
    top, network = next(
        (found for found in model.named_modules() if isinstance(getattr(found[1], "stages", None), nn.Module)),
        ("", model),
    )
    for name, child in network.named_children():
        path = f"{top}.{name}".lstrip(".")
        if name == "stages":
            for step, stage in child.named_children():
                has_blocks = any(next(part.children(), None) is not None for part in stage.children())
                yield from _parts(f"{path}.{step}", stage) if has_blocks else [f"{path}.{step}"]
        else:
            yield from _parts(path, child) if isinstance(child, nn.ModuleList) else [path]


def _parts(path: str, module: nn.Module) -> Iterator[str]:
    return (f"{path}.{name}" for name, _ in module.named_children())


def _window(named: Mapping[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int] | None:
    """Return kernel, stride, dilation and groups of a convolution or a pool by its arguments; None for others."""
    if "groups" in named and "weight" in named:
        kernel = tuple(named["weight"].shape[2:])
    elif "kernel_size" in named:
        kernel = tuple(named["kernel_size"])
    else:
        return None
    stride, dilation = (tuple(named.get(name) or ()) for name in ("stride", "dilation"))
    return kernel, stride or kernel, dilation or (1,) * len(kernel), named.get("groups", 1)


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _storage(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


def _peak(lives: Iterable[_Life]) -> int:
    """Return the most bytes that are alive in one step."""
    changes: Counter[int] = Counter()
    for life in lives:
        changes[life.first] += life.bytes
        changes[life.last + 1] -= life.bytes
    return max(accumulate(changes[step] for step in sorted(changes)), default=0)

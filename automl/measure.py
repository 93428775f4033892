"""What a network costs: parameters, multiply-adds, and measured latency."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module, Parameter

os.environ.setdefault(
    "ORT_DISABLE_TELEMETRY", "1"
)  # onnxruntime's, which begins at its import and writes into the home


def strip(model: Module) -> Module:
    """Take out what only training needs (``training_only = True``), put the rest at rest, and return it.

    The model itself is changed: each such part becomes None, and the mode evaluation.
    """
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if getattr(child, "training_only", False):
                setattr(module, name, None)
    return model.eval()


def parameters(model: Module) -> int:
    """Return the number of parameters, shared ones once and frozen ones too, without those that only training needs."""
    return sum(parameter.numel() for parameter in counted(model))


def counted(model: Module) -> list[Parameter]:
    """Return the tensors that ``parameters`` counts."""
    import torch

    for_training = {
        id(parameter)
        for module in model.modules()
        if getattr(module, "training_only", False)
        for parameter in module.parameters()
    }
    return [
        parameter
        for parameter in model.parameters()
        if id(parameter) not in for_training and not isinstance(parameter, torch.nn.UninitializedParameter)
    ]


def multiply_adds(model: Module, image: tuple[int, int, int]) -> int:
    """Return the multiply-adds of all products of matrices and all convolutions, for one image of that shape.

    The image is channels x height x width. The model runs once, at rest, where its weights are.
    """
    total = 0

    def add(operation: Any, arguments: Sequence[Any], keywords: Mapping[str, Any], result: Any) -> None:
        nonlocal total
        total += products(operation, arguments, keywords, result)

    observe(model, image, 1, add)
    return total


def products(operation: Any, arguments: Sequence[Any], keywords: Mapping[str, Any], result: Any) -> int:
    """Return the multiply-adds of one operation of PyTorch: 0 for all but convolutions and products of matrices."""
    from torch.utils.flop_counter import flop_registry

    formula = flop_registry.get(operation.overloadpacket)
    # a multiply-add is counted as two operations
    return 0 if formula is None else int(formula(*arguments, **keywords, out_val=result)) // 2


def observe(model: Module, image: tuple[int, int, int], batch: int, see: Callable[..., None]) -> Any:
    """Run the model once, at rest, where its weights are, on images of zeros; return what it gives.

    ``see`` is told of each operation of PyTorch after it is done: the operation, its arguments, its keyword arguments
    and its result. Attention is done by products of matrices, which is not how a library may do it.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils._python_dispatch import TorchDispatchMode

    class Observer(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            see(func, args, kwargs or {}, result)
            return result

    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    images = torch.zeros(batch, *image, device=device)
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with at_rest(model), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), Observer():  # type: ignore[no-untyped-call]
            return model(images)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@contextmanager
def at_rest(model: Module) -> Iterator[Module]:
    """Put every part of the model into evaluation mode, and back into the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, mode in modes:
            module.training = mode


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one run: the median, and the spread from the tenth to the ninetieth percentile.

    ``threads`` is None where only the device knows.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    runs: int
    threads: int | None
    batch: int
    runtime: str

    def describe(self) -> str:
        """Return how it was measured: runtime, threads, batch and runs."""
        threads = [] if self.threads is None else [f"{self.threads} thread{'s' * (self.threads != 1)}"]
        runs = f"{self.runs} run{'s' * (self.runs != 1)}"
        return ", ".join([self.runtime, *threads, f"batch {self.batch}", runs])


def torch_latency(
    model: Module,
    image: tuple[int, int, int],
    *,
    runs: int = 30,
    seconds: float = 1.0,
    threads: int = 1,
    batch: int = 1,
    warm_up: int = 5,
) -> Latency:
    """Time the model at rest on the CPU in PyTorch: at most so many runs and seconds, after ``warm_up`` unseen."""
    import torch

    images = torch.rand(batch, *image, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with at_rest(model), torch.inference_mode():
            times = _time(lambda: model(images), runs, seconds, warm_up)
    finally:
        torch.set_num_threads(before)
    return Latency(*times, threads, batch, f"torch {torch.__version__}")


def onnx_latency(
    model: bytes,
    image: tuple[int, int, int],
    *,
    runs: int = 200,
    seconds: float = 2.0,
    threads: int = 1,
    batch: int = 1,
    warm_up: int = 5,
) -> Latency:
    """Time the bytes of an ONNX file in onnxruntime: at most so many runs and seconds, after ``warm_up`` unseen.

    The image is of channels x height x width, where the file does not say what its inputs are.
    """
    return onnx_timer(model, image, threads=threads, batch=batch)(runs, seconds, warm_up)


def onnx_timer(
    model: bytes, image: tuple[int, int, int], *, threads: int = 1, batch: int = 1, alone: bool = False
) -> Callable[[int, float, int], Latency]:
    """Return what times the bytes of an ONNX file as ``onnx_latency`` does, by runs, seconds and warm-up.

    ``alone`` counts, on one thread, only while that has a processor, so that a busy machine has less of a part in it.
    """
    import numpy as np
    import onnxruntime

    session = onnx_session(model, threads=threads)
    rng = np.random.default_rng(0)
    whole = (batch, *image)
    given = {}
    for value in session.get_inputs():
        sides = [side if isinstance(side, int) else whole[place] for place, side in enumerate(value.shape)]
        given[value.name] = rng.random(sides, dtype=np.float32)

    def take(runs: int, seconds: float, warm_up: int) -> Latency:
        clock = time.thread_time_ns if alone and threads == 1 else time.perf_counter_ns
        times = _time(lambda: session.run(None, given), runs, seconds, warm_up, clock)
        return Latency(*times, threads, batch, f"onnxruntime {onnxruntime.__version__}")

    return take


def onnx_session(model: bytes, threads: int = 0) -> Any:
    """Return an onnxruntime session on the CPU for the bytes of an ONNX file; 0 threads is all of them."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _time(
    run: Callable[[], Tensor | list[Any]],
    runs: int,
    seconds: float,
    warm_up: int,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> tuple[float, float, float, int]:
    """Run it a few times unseen, then time it again and again: median, percentiles 10 and 90, and number of runs."""
    import numpy as np

    started = time.perf_counter()
    for _ in range(warm_up):
        run()
    end = started + seconds
    times: list[float] = []
    while len(times) < runs and (len(times) < 5 or time.perf_counter() < end):
        before = clock()
        run()
        times.append((clock() - before) / 1e6)
    low, median, high = (float(value) for value in np.percentile(times, (10, 50, 90)))
    return median, low, high, len(times)

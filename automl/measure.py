"""What a network costs: parameters, multiply-adds, and measured latency."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

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
    """Return the number of trainable parameters, shared ones once, without those that only training needs."""
    import torch

    for_training = {
        id(parameter)
        for module in model.modules()
        if getattr(module, "training_only", False)
        for parameter in module.parameters()
    }
    return sum(
        parameter.numel()
        for parameter in model.parameters()
        if parameter.requires_grad
        and id(parameter) not in for_training
        and not isinstance(parameter, torch.nn.UninitializedParameter)
    )


def multiply_adds(model: Module, image: tuple[int, int, int]) -> int:
    """Return the multiply-adds of all products of matrices and all convolutions, for one image of that shape.

    The image is channels x height x width. The model runs once, at rest, where its weights are.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    with at_rest(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, *image, device=device))
    return int(counter.get_total_flops() // 2)  # a multiply-add is counted as two operations


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
    """Milliseconds of one run: the median, and the spread from the tenth to the ninetieth percentile."""

    median_ms: float
    p10_ms: float
    p90_ms: float
    runs: int
    threads: int
    runtime: str


def torch_latency(model: Module, image: tuple[int, int, int], *, runs: int = 30, seconds: float = 1.0) -> Latency:
    """Time the model at rest on the CPU in PyTorch: one image, one thread; at most so many runs and seconds."""
    import torch

    images = torch.rand(1, *image, generator=torch.Generator().manual_seed(0))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with at_rest(model), torch.inference_mode():
            return _time(lambda: model(images), runs, seconds, f"torch {torch.__version__}")
    finally:
        torch.set_num_threads(threads)


def onnx_latency(model: bytes, image: tuple[int, int, int], *, runs: int = 200, seconds: float = 2.0) -> Latency:
    """Time the bytes of an ONNX file in onnxruntime: one image, one thread; at most so many runs and seconds."""
    import numpy as np
    import onnxruntime

    session = onnx_session(model, threads=1)
    images = np.random.default_rng(0).random((1, *image), dtype=np.float32)
    given = {session.get_inputs()[0].name: images}
    return _time(lambda: session.run(None, given), runs, seconds, f"onnxruntime {onnxruntime.__version__}")


def onnx_session(model: bytes, threads: int = 0) -> Any:
    """Return an onnxruntime session on the CPU for the bytes of an ONNX file; 0 threads is all of them."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _time(run: Callable[[], Tensor | list[Any]], runs: int, seconds: float, runtime: str) -> Latency:
    """Run it a few times unseen, then time it again and again."""
    import numpy as np

    started = time.perf_counter()
    for _ in range(5):
        run()
    end = started + seconds
    times: list[float] = []
    while len(times) < runs and (len(times) < 5 or time.perf_counter() < end):
        before = time.perf_counter_ns()
        run()
        times.append((time.perf_counter_ns() - before) / 1e6)
    low, median, high = (float(value) for value in np.percentile(times, (10, 50, 90)))
    return Latency(median, low, high, len(times), 1, runtime)

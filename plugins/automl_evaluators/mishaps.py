"""What goes wrong in PyTorch on some machines, told apart from what is wrong with a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.nn import Module


def strides_single_pixels(network: Module) -> bool:
    """Return whether a network has what PyTorch 2.13 computes beyond its memory in the channels-last layout.

    That is the gradient of the weights of a strided 1 x 1 convolution, on the CPU with several threads, where the
    channels are no multiple of 16: batches of odd sizes crash.
    """
    from torch.nn import Conv2d

    return any(
        isinstance(module, Conv2d)
        and set(module.kernel_size) == {1}
        and max(module.stride) > 1
        and (module.in_channels % 16 or module.out_channels % 16)
        for module in network.modules()
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether it says so; out of memory is often a plain RuntimeError."""
    text = str(error)
    return isinstance(error, MemoryError) or "out of memory" in text or "DefaultCPUAllocator" in text


def free_memory() -> None:
    """Drop what failed frames held, and what the GPU's allocator kept of it."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

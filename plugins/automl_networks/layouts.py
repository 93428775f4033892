"""Which maps the blocks have quicker ways for."""

from __future__ import annotations

import torch
from torch import Tensor


def is_quick(x: Tensor) -> bool:
    """Say whether a map is on the CPU, channels-last, in float32 or float64, and no other precision is asked for."""
    return (
        x.is_cpu
        and x.dim() == 4
        and x.dtype in (torch.float32, torch.float64)
        and x.is_contiguous(memory_format=torch.channels_last)
        and not torch.is_autocast_enabled("cpu")
    )

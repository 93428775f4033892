"""Pooling that keeps the size, or halves it rounding up, with any kernel."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional


class Pool(nn.Module):
    """Average, maximum or minimum over kernel x kernel windows; pixels beyond the edge count for nothing."""

    is_pure = True

    def __init__(self, kind: Literal["average", "maximum", "minimum"], kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.kind = kind
        self.kernel = kernel
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride, padding = self.kernel, self.stride, (self.kernel - 1) // 2
        if kernel % 2 == 0 and stride == 1:  # the window that an even kernel lacks: the last pixel once more
            x = functional.pad(x, (0, 1, 0, 1), mode="replicate")
        even = kernel % 2 == 0 and stride > 1
        if self.kind == "maximum":
            return functional.max_pool2d(x, kernel, stride, padding, ceil_mode=even)
        if self.kind == "minimum":
            return -functional.max_pool2d(-x, kernel, stride, padding, ceil_mode=even)
        return functional.avg_pool2d(x, kernel, stride, padding, ceil_mode=even, count_include_pad=False)

    def extra_repr(self) -> str:
        return f"{self.kind}, kernel={self.kernel}, stride={self.stride}"

"""The operation that carries nothing."""

from __future__ import annotations

from torch import Tensor, nn


class Zero(nn.Module):
    """Zeros of the outputs' channels; the size becomes ceil(size / stride). What adds it up need not compute it."""

    is_pure = True
    is_nothing = True

    def __init__(self, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.outputs = outputs
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        height, width = (-(-side // self.stride) for side in x.shape[-2:])
        return x.new_zeros(x.shape[0], self.outputs, height, width)

    def extra_repr(self) -> str:
        return f"{self.outputs}, stride={self.stride}"

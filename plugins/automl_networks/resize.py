"""Images brought to another size inside the network, so that its resolution is its own."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Resize(nn.Module):
    """Bring images to side x side pixels: bilinear, and smoothed first where that makes them smaller."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        size = (self.side, self.side)
        if tuple(images.shape[-2:]) == size:
            return images
        smaller = images.shape[-1] > self.side or images.shape[-2] > self.side
        return functional.interpolate(images, size, mode="bilinear", antialias=smaller)

    def extra_repr(self) -> str:
        return f"side={self.side}"

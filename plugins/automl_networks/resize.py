"""Images brought to another size inside the network, so that its resolution is its own."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Resize(nn.Module):
    """Bring images to side x side pixels, or height x width: bilinear, smoothed first where that makes them smaller."""

    def __init__(self, height: int, width: int | None = None) -> None:
        super().__init__()
        self.size = (height, height if width is None else width)

    def forward(self, images: Tensor) -> Tensor:
        if tuple(images.shape[-2:]) == self.size:
            return images
        smaller = any(side > wanted for side, wanted in zip(images.shape[-2:], self.size, strict=True))
        return functional.interpolate(images, self.size, mode="bilinear", antialias=smaller)

    def extra_repr(self) -> str:
        return f"size={self.size}"

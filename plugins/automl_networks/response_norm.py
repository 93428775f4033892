"""Every channel divided by what its neighbours hold, as networks had it before batch normalisation."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class LocalResponseNorm(nn.Module):
    """Divide each channel by (k + alpha x the sum of squares of the ``size`` channels around it) ^ beta.

    The formula and the values of Krizhevsky et al. (2012). PyTorch's own divides alpha by ``size`` as well, and on
    the CPU has no bfloat16.
    """

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> None:
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, x: Tensor) -> Tensor:
        before = self.size // 2
        squares = functional.pad(x * x, (0, 0, 0, 0, before, self.size - 1 - before))
        around = squares[:, : x.shape[1]]
        for place in range(1, self.size):
            around = around + squares[:, place : place + x.shape[1]]
        return x / (self.k + self.alpha * around) ** self.beta

    def extra_repr(self) -> str:
        return f"size={self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"

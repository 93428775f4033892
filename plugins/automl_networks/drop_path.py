"""Scheduled drop-path: whole paths of a cell are dropped, more of them deeper and later."""

from __future__ import annotations

from torch import Tensor, nn


class ScheduledDropPath(nn.Module):
    """Zero the whole map of some images, and scale the others so that the mean stays (Zoph et al., 2018).

    ``final`` is the probability to drop at the last cell when training ends; ``depth`` in (0, 1] is the share of
    the cells up to this one. The identity in evaluation mode, and until ``on_progress`` is told that training is
    under way.
    """

    def __init__(self, final: float, depth: float = 1.0) -> None:
        super().__init__()
        self.final = final
        self.depth = depth
        self.probability = 0.0

    def on_progress(self, progress: float) -> None:
        """Take the share of the training done, in [0, 1]: the probability to drop grows with it."""
        self.probability = self.final * self.depth * progress

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0.0:
            return x
        keep = 1.0 - self.probability
        return x * x.new_empty(len(x), 1, 1, 1).bernoulli_(keep).div_(keep)

    def extra_repr(self) -> str:
        return f"final={self.final}, depth={self.depth:.3g}"

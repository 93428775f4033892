"""Channel shuffle: what one grouped convolution kept apart, the next one sees together."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Return the map with the first channels of all groups first, then the second ones (Zhang et al., 2018).

    Six channels in two groups become 0, 3, 1, 4, 2, 5. The inverse is the shuffle of channels / groups groups; the
    groups must divide the channels.
    """
    return torch.channel_shuffle(x, groups)  # which keeps the layout; a reshape of channels-last maps does not


class ChannelShuffle(nn.Module):
    """The shuffle of so many groups, as a layer."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        return shuffle(x, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"

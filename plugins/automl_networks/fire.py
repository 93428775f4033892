"""Fire modules: few channels are seen by the 3 x 3 kernels."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from automl_networks.branches import Branches

Bypass = Literal["none", "simple", "complex"]


class Fire(nn.Module):
    """Squeeze by 1 x 1, then expand by 1 x 1 and 3 x 3 side by side, all with biases and ReLU (Iandola et al., 2016).

    The outputs are expand1 + expand3 channels. A simple ``bypass`` adds the inputs to them where the channels are
    equal; a complex one does too, and elsewhere adds a 1 x 1 convolution of the inputs.
    """

    def __init__(self, inputs: int, squeeze: int, expand1: int, expand3: int, bypass: Bypass = "none") -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, squeeze, 1),
            nn.ReLU(inplace=True),
            Branches(nn.Conv2d(squeeze, expand1, 1), nn.Conv2d(squeeze, expand3, 3, padding=1)),
            nn.ReLU(inplace=True),
        )
        self.bypass: nn.Module | None = None
        if bypass != "none" and inputs == expand1 + expand3:
            self.bypass = nn.Identity()
        elif bypass == "complex":
            self.bypass = nn.Conv2d(inputs, expand1 + expand3, 1)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layers(x)
        return made if self.bypass is None else made + self.bypass(x)

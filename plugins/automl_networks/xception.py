"""Units of depthwise separable convolutions with a shortcut past them."""

from __future__ import annotations

from torch import Tensor, nn

from automl_networks.conv_norm import conv_norm
from automl_networks.pooling import Pool


def separable_norm(inputs: int, outputs: int, kernel: int = 3) -> nn.Sequential:
    """Return a depthwise and a 1 x 1 convolution with nothing between, then batch normalisation (Chollet, 2017)."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, kernel, padding=kernel // 2, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
    )


class XceptionBlock(nn.Module):
    """ReLU and a separable convolution, ``repeats`` times, then a pool if strided; the input is added (Chollet, 2017).

    The size becomes ceil(size / stride). The input passes a 1 x 1 convolution and batch normalisation where size or
    channels change. Channels change in the first convolution or, with ``grows_last``, in the last. ``activated`` says
    that the input had its ReLU already.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        repeats: int,
        stride: int = 1,
        *,
        grows_last: bool = False,
        activated: bool = False,
    ) -> None:
        super().__init__()
        widths = [inputs, *[inputs if grows_last else outputs] * (repeats - 1), outputs]
        layers: list[nn.Module] = []
        for place in range(repeats):
            if place or not activated:
                layers.append(nn.ReLU(inplace=place > 0))  # the shortcut too reads what the first is given
            layers.append(separable_norm(widths[place], widths[place + 1]))
        if stride > 1:
            layers.append(Pool("maximum", 3, stride))
        self.branch = nn.Sequential(*layers)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = conv_norm(inputs, outputs, 1, stride, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.branch(x) + self.shortcut(x)
        return added

"""Inverted residuals: wide inside, narrow and linear at their ends."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from automl_networks.conv_norm import conv_norm
from automl_networks.squeeze_excite import SqueezeExcite


class InvertedResidual(nn.Module):
    """Expand by 1 x 1, a depthwise convolution, project by 1 x 1 without activation (Sandler et al., 2018).

    The input is added where stride is 1 and the channels are equal, unless ``skip`` is False. ``expansion`` 1 has no
    first layer. ``squeeze`` is the width of squeeze and excite as a share of the *inputs* (Tan et al., 2019); 0 is
    none. ``hidden`` gives the width inside instead of expansion x inputs, ``weigh`` squeeze and excite, or what takes
    its place, of that width.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int = 1,
        expansion: float = 6,
        kernel: int = 3,
        squeeze: float = 0.0,
        skip: bool = True,
        activation: Callable[[], nn.Module] = nn.ReLU6,
        hidden: int | None = None,
        weigh: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        hidden = round(inputs * expansion) if hidden is None else hidden
        layers = [conv_norm(inputs, hidden, activation=activation)] if hidden != inputs else []
        layers.append(conv_norm(hidden, hidden, kernel, stride, groups=hidden, activation=activation))
        if weigh is not None:
            layers.append(nn.Sequential(weigh(hidden)))
        elif squeeze:
            layers.append(nn.Sequential(SqueezeExcite(hidden, max(1, int(inputs * squeeze)))))
        layers.append(conv_norm(hidden, outputs, activation=None))
        self.branch = nn.Sequential(*layers)
        self.adds = skip and stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.branch(x)
        return x + branch if self.adds else branch

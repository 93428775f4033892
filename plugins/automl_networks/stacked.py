"""A large kernel made of several 3 x 3 ones."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from automl import BadInput
from automl_networks.conv_norm import conv_norm


class StackedConv(nn.Sequential):
    """3 x 3 convolutions that see as far together as one large kernel (Simonyan & Zisserman, 2015).

    ``middle`` is the width between them; None: that of the outputs. Each is followed by batch normalisation if
    ``norm``, else it may have a ``bias``, and by the activation; None: by none. The last takes the stride, which makes
    the grid that of the large kernel: the size becomes ceil(size / stride). At equal widths two cost 18/25 of a 5 x 5,
    three 27/49 of a 7 x 7.
    """

    def __init__(
        self,
        inputs: int,
        middle: int | None,
        outputs: int,
        receptive_field: int,
        stride: int = 1,
        *,
        norm: bool = True,
        bias: bool = False,
        activation: Callable[[], nn.Module] | None = nn.ReLU,
    ) -> None:
        if receptive_field < 3 or receptive_field % 2 == 0:
            raise BadInput(
                f"3 x 3 convolutions were asked to see {receptive_field} x {receptive_field} pixels: "
                "give an odd number of 3 or more"
            )
        layers = receptive_field // 2
        widths = [inputs, *[outputs if middle is None else middle] * (layers - 1), outputs]
        units: list[nn.Module] = []
        for place in range(layers):
            ends = widths[place], widths[place + 1]
            step = stride if place == layers - 1 else 1
            if norm:
                units.append(conv_norm(*ends, 3, step, activation=activation))
            else:
                units.append(nn.Conv2d(*ends, 3, step, 1, bias=bias))
                units += [] if activation is None else [activation()]
        super().__init__(*units)

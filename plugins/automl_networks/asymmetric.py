"""A k x k convolution made of a 1 x k and a k x 1 one."""

from __future__ import annotations

from torch import nn

from automl import BadInput


def asymmetric(
    inputs: int, middle: int, outputs: int, kernel: int, stride: int = 1, *, bias: bool = True, norm: bool = False
) -> nn.Sequential:
    """Return a 1 x kernel and a kernel x 1 convolution, ``middle`` channels between; size becomes ceil(size / stride).

    They make any filter of rank 1 exactly, borders and all (Jaderberg et al., 2014); the first needs no bias, for the
    second's does as well. With ``norm`` batch normalisation and ReLU follow each, in place of the bias (Szegedy et
    al., 2016). They have kernel x middle (inputs + outputs) weights: at equal widths 2 / kernel of the square's.
    """
    if kernel < 3 or kernel % 2 == 0:
        raise BadInput(
            f"an asymmetric convolution was asked for with a kernel of {kernel}: give an odd one of 3 or more"
        )
    wide = nn.Conv2d(inputs, middle, (1, kernel), (1, stride), (0, kernel // 2), bias=False)
    high = nn.Conv2d(middle, outputs, (kernel, 1), (stride, 1), (kernel // 2, 0), bias=bias and not norm)
    if not norm:
        return nn.Sequential(wide, high)
    return nn.Sequential(
        wide, nn.BatchNorm2d(middle), nn.ReLU(inplace=True), high, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )

"""The layer that most networks are made of: a convolution, batch normalisation, an activation."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from automl_networks.convolutions import Subsample


def conv_norm(
    inputs: int,
    outputs: int,
    kernel: int | tuple[int, int] = 1,
    stride: int = 1,
    *,
    groups: int = 1,
    dilation: int = 1,
    padding: int | tuple[int, int] | None = None,
    activation: Callable[[], nn.Module] | None = nn.ReLU,
    eps: float = 1e-5,
) -> nn.Sequential:
    """Return a convolution without bias, batch normalisation and the activation; None: without one.

    By default padded by dilation (kernel - 1) / 2, so that odd kernels make ceil(size / stride) of a size.
    """
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    if padding is None:
        padding = (dilation * (height - 1) // 2, dilation * (width - 1) // 2)
    layers: list[nn.Module] = []
    if height == width == 1 and stride > 1:
        layers.append(Subsample(stride))
        stride = 1
    layers += [
        nn.Conv2d(inputs, outputs, (height, width), stride, padding, dilation, groups, bias=False),
        nn.BatchNorm2d(outputs, eps=eps),
    ]
    if activation is not None:
        active = activation()
        if isinstance(active, nn.ReLU | nn.ReLU6):
            active.inplace = True  # what was normalised is needed nowhere else
        layers.append(active)
    return nn.Sequential(*layers)

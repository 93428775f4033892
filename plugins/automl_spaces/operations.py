"""The vocabulary of cell-based spaces: what can stand between two states of a cell.

Each operation is made by ``op(inputs, channels, stride)``: the channels that come in, the cell's channels that
go out, and 2 where it reads an input of a reduction cell. The size becomes ceil(size / stride).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from automl import BadInput, Op
from automl.errors import near_miss
from automl_networks.vocabulary import MULTIPLES, VOCABULARY

if TYPE_CHECKING:
    from torch.nn import Module


Kind = Literal["average", "maximum", "minimum"]  # of pooling


def _identity(inputs: int, channels: int, stride: int) -> Module:
    if stride > 1 or inputs != channels:
        return _convolution(1, inputs, channels, stride)
    from torch.nn import Identity

    return Identity()


def _skip(inputs: int, channels: int, stride: int) -> Module:
    if stride == 1:
        return _identity(inputs, channels, stride)
    from automl_networks.reductions import factorised_reduction

    return factorised_reduction(inputs, channels)


def _none(inputs: int, channels: int, stride: int) -> Module:
    from automl_networks.zero import Zero

    return Zero(channels, stride)


def _pool(
    kind: Literal["average", "maximum", "minimum"], kernel: int, inputs: int, channels: int, stride: int
) -> Module:
    from torch import nn

    from automl_networks.pooling import Pool

    pool = Pool(kind, kernel, stride)
    if inputs == channels:
        return pool
    return nn.Sequential(pool, nn.Conv2d(inputs, channels, 1, bias=False), nn.BatchNorm2d(channels))


def _convolution(kernel: int, inputs: int, channels: int, stride: int, dilation: int = 1) -> Module:
    from automl_networks.convolutions import convolution

    return convolution(inputs, channels, kernel, stride, dilation)


def _factorised(length: int, inputs: int, channels: int, stride: int) -> Module:
    from automl_networks.convolutions import factorised_convolution

    return factorised_convolution(inputs, channels, length, stride)


def _bottleneck(kernels: tuple[tuple[int, int], ...], inputs: int, channels: int, stride: int) -> Module:
    from automl_networks.convolutions import bottleneck

    return bottleneck(inputs, channels, kernels, stride)


def _separable(kernel: int, inputs: int, channels: int, stride: int) -> Module:
    from automl_networks.separable import separable

    return separable(inputs, channels, kernel, stride)


def _separable_once(kernel: int, inputs: int, channels: int, stride: int) -> Module:
    from automl_networks.separable import separable

    return separable(inputs, channels, kernel, stride, repeats=1)


def _depthwise(kernel: int, inputs: int, channels: int, stride: int) -> Module:
    from automl_networks.separable import depthwise

    return depthwise(inputs, channels, kernel, stride)


def _dilated_separable(kernel: int, repeats: int, inputs: int, channels: int, stride: int) -> Module:
    from automl_networks.separable import separable

    return separable(inputs, channels, kernel, stride, dilation=2, repeats=repeats)


_ALL = (
    # the thirteen of NASNet (Zoph et al., 2018), in the paper's order
    Op("identity", _identity),
    Op("conv1x3_3x1", partial(_factorised, 3)),
    Op("conv1x7_7x1", partial(_factorised, 7)),
    Op("dilated3x3", partial(_convolution, 3, dilation=2)),
    Op("avg3x3", partial(_pool, "average", 3)),
    Op("max3x3", partial(_pool, "maximum", 3)),
    Op("max5x5", partial(_pool, "maximum", 5)),
    Op("max7x7", partial(_pool, "maximum", 7)),
    Op("conv1x1", partial(_convolution, 1)),
    Op("conv3x3", partial(_convolution, 3)),
    Op("sep3x3", partial(_separable, 3)),
    Op("sep5x5", partial(_separable, 5)),
    Op("sep7x7", partial(_separable, 7)),
    # those that published cells, and the supernets they were found in, use beside them
    Op("none", _none),
    Op("skip", _skip),
    Op("conv5x5", partial(_convolution, 5)),
    Op("avg2x2", partial(_pool, "average", 2)),
    Op("avg5x5", partial(_pool, "average", 5)),
    Op("max2x2", partial(_pool, "maximum", 2)),
    Op("min2x2", partial(_pool, "minimum", 2)),
    Op("dilsep3x3", partial(_dilated_separable, 3, 1)),
    Op("dilsep5x5", partial(_dilated_separable, 5, 1)),
    Op("dilsep7x7", partial(_dilated_separable, 7, 1)),
    Op("dilsep5x5_twice", partial(_dilated_separable, 5, 2)),
    Op("sep3x3_once", partial(_separable_once, 3)),
    Op("sep5x5_once", partial(_separable_once, 5)),
    Op("sep7x7_once", partial(_separable_once, 7)),
    Op("depthwise3x3", partial(_depthwise, 3)),
    Op("bottleneck3x3", partial(_bottleneck, ((3, 3),))),
    Op("bottleneck1x7_7x1", partial(_bottleneck, ((1, 7), (7, 1)))),
)

OPERATIONS: Mapping[str, Op] = {**{op.name: op for op in _ALL}, **VOCABULARY}
NASNET_OPERATIONS = tuple(op.name for op in _ALL[:13])
SHORTCUTS = ("identity", "skip")  # what drop-path leaves alone


def named(names: Sequence[str], narrowest: int) -> list[Op]:
    """Return the operations of these names; raises BadInput for one that is none, or needs other numbers of channels.

    ``narrowest`` is the least number of channels of a cell; all others are its multiples.
    """
    for name in names:
        if name not in OPERATIONS:
            raise BadInput(
                f"space.operations has {name!r}, which is no operation{near_miss(name, OPERATIONS)}: "
                f"choose among {', '.join(OPERATIONS)}"
            )
        multiple = MULTIPLES.get(name, 1)
        if narrowest % multiple:
            raise BadInput(
                f"space.operations has {name!r}, which needs channels that are a multiple of {multiple}, and the "
                f"narrowest cells have {narrowest}: give {multiple * max(1, round(narrowest / multiple))} there, "
                f"by space.channels, or leave it out"
            )
    return [OPERATIONS[name] for name in names]

"""Networks of Once-for-all: MobileNetV3's stem, first block and end around units of inverted residuals."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from automl_networks.classifier import Classifier
from automl_networks.conv_norm import conv_norm
from automl_networks.hand_designed import SMALL, Image, shortened
from automl_networks.inverted_residual import InvertedResidual
from automl_networks.resize import Resize
from automl_networks.squeeze_excite import SqueezeExcite
from automl_networks.widths import make_divisible
from automl_spaces.ofa import Elastic, seen


class Unit(NamedTuple):
    """What all layers of a unit have in common."""

    channels: int
    stride: int
    squeezes: bool
    activation: Callable[[], nn.Module]


_UNITS = (  # Howard et al., 2019, table 1, with four layers each
    Unit(24, 2, False, nn.ReLU),
    Unit(40, 2, True, nn.ReLU),
    Unit(80, 2, False, nn.Hardswish),
    Unit(112, 1, True, nn.Hardswish),
    Unit(160, 2, True, nn.Hardswish),
)
_FIRST, _MIXED, _LAST = 16, 960, 1280  # channels of the stem, before the mean, after it


def network(
    blueprint: Elastic, width: float, dropout: float, image: Image, outputs: int, smallest: int
) -> nn.Sequential:
    """Return images to logits, N x outputs; the strides are those for the ``smallest`` side that any network sees."""
    published = [2, *(unit.stride for unit in _UNITS)]
    first, *strides = shortened(published, smallest) if min(image[1:]) < SMALL else published
    channels = make_divisible(_FIRST * width)
    rows: list[nn.Module] = [InvertedResidual(channels, channels, 1, 1, activation=nn.ReLU)]
    for unit, layers, stride in zip(_UNITS, blueprint.units, strides, strict=True):
        outside, made = make_divisible(unit.channels * width), []
        for place, layer in enumerate(layers):
            made.append(
                InvertedResidual(
                    channels,
                    outside,
                    1 if place else stride,
                    kernel=layer.kernel,
                    activation=unit.activation,
                    hidden=make_divisible(channels * layer.expansion),
                    weigh=_squeeze_excite if unit.squeezes else None,
                )
            )
            channels = outside
        rows.append(nn.Sequential(*made))
    mixed, last = make_divisible(_MIXED * width), make_divisible(_LAST * width)
    rows.append(conv_norm(channels, mixed, activation=nn.Hardswish))
    head = [nn.AdaptiveAvgPool2d(1), nn.Conv2d(mixed, last, 1, bias=False), nn.Hardswish(), nn.Flatten()]
    head += [nn.Dropout(dropout)] if dropout else []
    stem = conv_norm(image[0], make_divisible(_FIRST * width), 3, first, activation=nn.Hardswish)
    classifier = Classifier(stem, rows, nn.Sequential(*head, nn.Linear(last, outputs)))
    # also where the size is the images' own: networks that share weights do so by the places of their layers
    return nn.Sequential(Resize(*seen(blueprint.scale, image[1:])), classifier)


def _squeeze_excite(channels: int) -> SqueezeExcite:
    return SqueezeExcite(channels, make_divisible(channels / 4), gate=nn.Hardsigmoid)

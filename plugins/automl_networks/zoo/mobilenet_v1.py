"""MobileNetV1: depthwise separable convolutions from end to end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

from annotated_types import Ge, Gt, Lt

from automl_networks.classifier import Classifier, pooled_linear
from automl_networks.conv_norm import conv_norm
from automl_networks.depthwise_separable import depthwise_separable
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image
from automl_networks.widths import make_divisible

_WIDTHS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
_STRIDES = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


@dataclass
class MobileNetV1(HandDesigned):
    """MobileNetV1 (Howard et al., 2017): 4,231,976 parameters, 568,740,352 multiply-adds at 224 x 224.

    ``width`` multiplies every number of channels, rounded to multiples of 8; ``dropout`` is before the linear layer.
    On small images the stem's stride, then the first layers', is left out.
    """

    width: Annotated[float, Gt(0), DECIDABLE] = 1.0
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.001

    def network(self, image: Image, outputs: int) -> Classifier:
        widths = [make_divisible(width * self.width) for width in _WIDTHS]
        return separable_network(image[0], outputs, widths, self.steps(image, _STRIDES), self.dropout)


def separable_network(
    colours: int, outputs: int, widths: Sequence[int], steps: Sequence[int] = _STRIDES, dropout: float = 0.0
) -> Classifier:
    """Return a MobileNetV1 of these 14 numbers of channels: the stem's, then the separable convolutions'."""
    stem = conv_norm(colours, widths[0], 3, steps[0])
    stages = [
        depthwise_separable(inputs, made, step)
        for (inputs, made), step in zip(pairwise(widths), steps[1:], strict=True)
    ]
    return Classifier(stem, stages, pooled_linear(widths[-1], outputs, dropout))

"""Xception: depthwise separable convolutions with shortcuts past them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Lt
from torch import nn

from automl_networks.classifier import Classifier, pooled_linear
from automl_networks.conv_norm import conv_norm
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image
from automl_networks.widths import make_divisible
from automl_networks.xception import XceptionBlock, separable_norm


@dataclass
class Xception(HandDesigned):
    """Xception (Chollet, 2017): 22,855,952 parameters, 8,357,403,496 multiply-adds at 299 x 299.

    ``width`` multiplies all channels, rounded to multiples of 8. On small images the two convolutions of the stem are
    padded, and the first strides are left out: the stem's, then the blocks' with their pools. The published strides
    need 71 pixels a side.
    """

    width: Annotated[float, Gt(0), DECIDABLE] = 1.0
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.5

    smallest = 71

    def network(self, image: Image, outputs: int) -> Classifier:
        padding = None if self.is_small(image) else 0
        steps = iter(self.steps(image))
        first, channels, *entry, exit_, last, features = (
            make_divisible(base * self.width) for base in (32, 64, 128, 256, 728, 1024, 1536, 2048)
        )
        stem = nn.Sequential(
            conv_norm(image[0], first, 3, next(steps), padding=padding),
            conv_norm(first, channels, 3, padding=padding),
        )
        stages: list[nn.Module] = []
        for width in entry:
            stages.append(XceptionBlock(channels, width, 2, next(steps), activated=not stages))
            channels = width
        stages += [XceptionBlock(channels, channels, 3) for _ in range(8)]
        stages.append(XceptionBlock(channels, exit_, 2, next(steps), grows_last=True))
        for inputs, width in ((exit_, last), (last, features)):
            stages.append(nn.Sequential(*separable_norm(inputs, width), nn.ReLU(inplace=True)))
        return Classifier(stem, stages, pooled_linear(features, outputs, self.dropout))

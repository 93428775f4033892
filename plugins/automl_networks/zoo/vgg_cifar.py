"""VGG for images of 32 x 32, as the papers on pruning have it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Gt
from torch import nn

from automl_networks.classifier import Classifier, pooled_linear
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image
from automl_networks.plain import CHANNELS, REPEATS, plain_stage
from automl_networks.widths import make_divisible


@dataclass
class VGGCifar(HandDesigned):
    """VGG with batch normalisation for small images (Simonyan & Zisserman, 2015; Li et al., 2017).

    For ten classes and 32 x 32, depth 16 with a ``hidden`` linear layer, normalised, before the last has 14,987,722
    parameters and 313,463,808 multiply-adds; depth 19 without it (Liu et al., 2017) 20,035,018 and 398,136,320.
    ``width`` multiplies every number of channels, rounded to multiples of 8. Below 16 x 16 the first pools are left
    out.
    """

    depth: Annotated[Literal[11, 13, 16, 19], DECIDABLE] = 16
    hidden: Annotated[bool, DECIDABLE] = True
    width: Annotated[float, Gt(0), DECIDABLE] = 1.0

    smallest: ClassVar[int] = 16

    def network(self, image: Image, outputs: int) -> Classifier:
        inputs, stages = image[0], []
        for base, repeats, stride in zip(CHANNELS, REPEATS[self.depth], self.steps(image), strict=True):
            channels = make_divisible(base * self.width)
            stages.append(plain_stage(inputs, channels, repeats, stride, norm=True, bias=False))
            inputs = channels
        if not self.hidden:
            return Classifier(stages[0], stages[1:], pooled_linear(inputs, outputs))
        normalised = (nn.BatchNorm1d(inputs), nn.ReLU(inplace=True), nn.Linear(inputs, outputs))
        return Classifier(stages[0], stages[1:], nn.Sequential(*pooled_linear(inputs, inputs), *normalised))

    def is_small(self, image: Image) -> bool:
        """Return whether pools are left out: it was made for images that are small to others."""
        return self.strides == "small" or (self.strides == "auto" and min(image[1:]) < self.smallest)

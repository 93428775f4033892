"""ResNeXt: residual networks whose bottlenecks are many narrow ones side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt

from automl_networks.classifier import Classifier, pooled_linear
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image
from automl_networks.residual import Residual, bottleneck, residual_stem, stages_of
from automl_networks.widths import make_divisible
from automl_networks.zoo.resnet import REPEATS


@dataclass
class ResNeXt(HandDesigned):
    """ResNeXt (Xie et al., 2017): 50-32x4d 25,028,904 parameters, 4,230,479,872 multiply-adds at 224 x 224.

    101-32x4d: 44,177,704 and 7,969,996,800; 101-32x8d: 88,791,336 and 16,414,015,488; 101-64x4d: 83,455,272 and
    15,460,270,080. ``cardinality`` is the number of groups of the 3 x 3 convolutions, ``base_width`` the channels of
    a group in the first stage; 1 and 64 make a ResNet. ``width`` multiplies every number of channels: the stem's
    64 is rounded to a multiple of 8, and the others follow; those of a group are rounded down. On small images the
    stem's stride, the pool, then the stages' strides are left out.
    """

    depth: Annotated[Literal[50, 101], DECIDABLE] = 50
    cardinality: Annotated[int, Ge(1), DECIDABLE] = 32
    base_width: Annotated[int, Ge(1), DECIDABLE] = 4
    width: Annotated[float, Gt(0), DECIDABLE] = 1.0

    def network(self, image: Image, outputs: int) -> Classifier:
        strides = self.steps(image)
        narrow = [make_divisible(64 * self.width) * growth for growth in (1, 2, 4, 8)]
        widths = [4 * channels for channels in narrow]
        stages = stages_of(self.unit, narrow[0], widths, REPEATS[self.depth], [1, *strides[2:]])
        return Classifier(residual_stem(image[0], narrow[0], strides), stages, pooled_linear(widths[-1], outputs))

    def unit(self, inputs: int, outputs: int, stride: int = 1) -> Residual:
        """Return a unit, whose groups have base_width channels for each 64 x 4 of the outputs, at least one."""
        hidden = max(1, outputs // 4 * self.base_width // 64) * self.cardinality
        return bottleneck(inputs, outputs, stride, hidden, self.cardinality)

"""Residual networks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from annotated_types import Gt
from torch import nn

from automl_networks.classifier import Classifier, pooled_linear
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image
from automl_networks.residual import basic, bottleneck, residual_stem, stages_of
from automl_networks.widths import make_divisible

REPEATS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


@dataclass
class ResNet(HandDesigned):
    """ResNet (He et al., 2016): with depth 50 25,557,032 parameters, 4,089,184,256 multiply-adds at 224 x 224.

    18: 11,689,512 and 1,814,073,344; 34: 21,797,672 and 3,663,761,408; 101: 44,549,160 and 7,801,405,440; 152:
    60,192,808 and 11,513,626,624. From depth 50 on the units are bottlenecks, whose stride is on the 3 x 3
    convolution, or, with ``stride_on`` "1x1", on the first 1 x 1 as in the paper (50: 3,857,973,248). ``width``
    multiplies every number of channels: the stem's 64 is rounded to a multiple of 8, and the others follow. On small
    images the stem's stride, the pool, then the stages' strides are left out.
    """

    depth: Annotated[Literal[18, 34, 50, 101, 152], DECIDABLE] = 50
    stride_on: Annotated[Literal["3x3", "1x1"], DECIDABLE] = "3x3"
    width: Annotated[float, Gt(0), DECIDABLE] = 1.0

    def network(self, image: Image, outputs: int) -> Classifier:
        strides = self.steps(image)
        stem, stages, widths = residual_body(image[0], self.depth, self.width, strides, self.stride_on)
        return Classifier(stem, stages, pooled_linear(widths[-1], outputs))


def residual_body(
    inputs: int, depth: int, width: float, strides: list[int], stride_on: Literal["1x1", "3x3"] = "3x3"
) -> tuple[nn.Sequential, list[nn.Sequential], list[int]]:
    """Return the stem (convolution and pool), the four stages, and how many channels each of those gives."""
    narrow = [make_divisible(64 * width) * growth for growth in (1, 2, 4, 8)]
    widths = [4 * channels for channels in narrow] if depth >= 50 else narrow
    unit = partial(bottleneck, stride_on=stride_on) if depth >= 50 else basic
    stages = stages_of(unit, narrow[0], widths, REPEATS[depth], [1, *strides[2:]])
    return residual_stem(inputs, narrow[0], strides), stages, widths

"""Inception-v3: large kernels factorised into small and asymmetric ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Lt
from torch import nn

from automl_networks.classifier import Classifier, pooled_linear
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image
from automl_networks.inception import (
    FORKED_KERNELS,
    REDUCTION_17,
    REDUCTION_35,
    Inception,
    asymmetric_kernels,
    normed,
    stacked_kernels,
)
from automl_networks.inception_heads import HeadedClassifier, head_v3
from automl_networks.pooling import Pool
from automl_networks.widths import make_divisible

# the branches of each block, and whether it takes a stride (Szegedy et al., 2016, table 1)
_BLOCKS = (
    *((stacked_kernels(pooled), False) for pooled in (32, 64, 64)),
    (REDUCTION_35, True),
    *((asymmetric_kernels(middle), False) for middle in (128, 160, 160, 192)),
    (REDUCTION_17, True),
    (FORKED_KERNELS, False),
    (FORKED_KERNELS, False),
)
_HEADED = 7  # the auxiliary head stands after the last block at 17 x 17


@dataclass
class InceptionV3(HandDesigned):
    """Inception-v3 (Szegedy et al., 2016): 23,834,568 parameters, 5,713,216,096 multiply-adds at 299 x 299.

    ``width`` multiplies all channels, rounded to multiples of 8. With ``auxiliary`` one more classifier learns while
    the network is trained (27,161,264 parameters with it). On small images every layer is padded, and the first
    strides are left out: the stem's, its two pools, then those of the two reductions. The published strides, without
    padding, need 75 pixels a side.
    """

    width: Annotated[float, Gt(0), DECIDABLE] = 1.0
    auxiliary: bool = False
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.5

    smallest = 75

    def network(self, image: Image, outputs: int) -> nn.Module:
        small = self.is_small(image)
        padding = None if small else 0
        steps = iter(self.steps(image))
        first, second, third, channels = (make_divisible(base * self.width) for base in (32, 64, 80, 192))
        stem = nn.Sequential(
            normed(image[0], first, 3, next(steps), padding=padding),
            normed(first, first, 3, padding=padding),
            normed(first, second, 3),
            _pool(next(steps), small),
            normed(second, third),
            normed(third, channels, 3, padding=padding),
            _pool(next(steps), small),
        )
        stages, heads = [], {}
        for index, (branches, strided) in enumerate(_BLOCKS):
            step = next(steps) if strided else 1
            block = Inception(channels, *branches, stride=step, padded=small, width=self.width)
            channels = block.outputs
            stages.append(block)
            if self.auxiliary and index == _HEADED:
                narrow, hidden = (make_divisible(base * self.width) for base in (128, 768))
                heads[index] = head_v3(channels, outputs, normed, narrow, hidden)
        classifier = Classifier(stem, stages, pooled_linear(channels, outputs, self.dropout))
        return HeadedClassifier(classifier, heads) if heads else classifier


def _pool(stride: int, padded: bool) -> nn.Module:
    """Return a maximum over windows of 3 x 3, padded or not; nothing where it is left out."""
    if stride == 1:
        return nn.Identity()
    return Pool("maximum", 3, stride) if padded else nn.MaxPool2d(3, stride)

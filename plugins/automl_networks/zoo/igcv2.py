"""IGCV2: interleaved structured sparse convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt
from torch import nn

from automl_networks.classifier import Classifier, pooled_linear
from automl_networks.conv_norm import conv_norm
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image
from automl_networks.interleaved import blocks_of_stage, structured_sparse
from automl_networks.widths import make_divisible


@dataclass
class IGCV2(HandDesigned):
    """IGCV2 (Xie et al., 2018): 111,754 parameters, 21,948,928 multiply-adds at 32 x 32 with 10 classes.

    The blocks are the paper's, the network of them is ours: a stem, three stages of (depth - 2) / 3 blocks of 64, 128
    and 256 channels, a classifier; its exact tables were not at hand. ``layers`` is how many grouped 1 x 1
    convolutions make a dense one, each of partitions near to channels^(1 / layers): 8 x 8, 8 x 16 and 16 x 16 for two
    (the paper's L is one more). One is the depthwise separable network.

    ``width`` multiplies the channels, rounded to multiples of 8 in the first stage. On small images the strides of the
    first stages are left out.
    """

    width: Annotated[float, Gt(0), DECIDABLE] = 1.0
    depth: Annotated[int, Ge(5), DECIDABLE] = 20
    layers: Annotated[int, Ge(1), DECIDABLE] = 2

    published: ClassVar[tuple[int, ...]] = (2, 2)
    smallest: ClassVar[int] = 16

    def check_design(self) -> None:
        blocks_of_stage(self.depth)

    def network(self, image: Image, outputs: int) -> Classifier:
        channels = made = make_divisible(64 * self.width)
        stem = conv_norm(image[0], made, 3)
        stages = []
        for stride in (1, *self.steps(image)):
            units = []
            for repeat in range(blocks_of_stage(self.depth)):
                units.append(structured_sparse(made, channels, stride if repeat == 0 else 1, self.layers))
                made = channels
            stages.append(nn.Sequential(*units))
            channels *= 2
        return Classifier(stem, stages, pooled_linear(made, outputs))

"""MnasNets: mobile networks that were searched for, their blocks differing from stage to stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from automl_networks.classifier import Classifier
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image
from automl_networks.mobile import Stage, mobile_network, scaled, strides
from automl_networks.widths import make_divisible

# channels of the stem; then repeats, kernel, stride, expansion, channels of each stage, and its squeeze
_GENOTYPES = {
    "a1": (
        32,
        (
            Stage(1, 3, 1, 1, 16, skip=False),
            Stage(2, 3, 2, 6, 24),
            Stage(3, 5, 2, 3, 40, 0.25),
            Stage(4, 3, 2, 6, 80),
            Stage(2, 3, 1, 6, 112, 0.25),
            Stage(3, 5, 2, 6, 160, 0.25),
            Stage(1, 3, 1, 6, 320),
        ),
    ),
    "b1": (
        32,
        (
            Stage(1, 3, 1, 1, 16, skip=False),
            Stage(3, 3, 2, 3, 24),
            Stage(3, 5, 2, 3, 40),
            Stage(3, 5, 2, 6, 80),
            Stage(2, 3, 1, 6, 96),
            Stage(4, 5, 2, 6, 192),
            Stage(1, 3, 1, 6, 320, skip=False),
        ),
    ),
    "small": (
        8,
        (
            Stage(1, 3, 1, 1, 8),
            Stage(1, 3, 2, 3, 16),
            Stage(2, 3, 2, 6, 16),
            Stage(4, 5, 2, 6, 32, 0.25),
            Stage(3, 3, 1, 6, 32, 0.25),
            Stage(3, 5, 2, 6, 88, 0.25),
            Stage(1, 3, 1, 6, 144),
        ),
    ),
}


@dataclass
class MnasNet(HandDesigned):
    """MnasNet (Tan et al., 2019), parameters and multiply-adds at 224 x 224 with 1,000 classes.

    ``genotype`` names what the search found: "a1" (3,887,038; 311.6 M), "b1", without squeeze and excite (4,383,312;
    314.4 M), or "small" (2,030,264; 68.3 M). ``width`` multiplies every number of channels but the last 1,280,
    rounded to multiples of 8. On small images the stem's stride, then the first stages', is left out.
    """

    genotype: Annotated[Literal["a1", "b1", "small"], DECIDABLE] = "a1"
    width: Annotated[float, Gt(0), DECIDABLE] = 1.0
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.2

    def network(self, image: Image, outputs: int) -> Classifier:
        stem, stages = _GENOTYPES[self.genotype]
        return mobile_network(
            image[0],
            outputs,
            scaled(stages, self.width),
            stem=make_divisible(stem * self.width),
            head=1280,
            steps=self.steps(image, strides(stages)),
            dropout=self.dropout,
        )

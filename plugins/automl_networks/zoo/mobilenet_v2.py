"""MobileNetV2: inverted residuals with linear bottlenecks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Lt
from torch import nn

from automl_networks.classifier import Classifier
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image
from automl_networks.mobile import Stage, mobile_network, scaled, strides
from automl_networks.widths import make_divisible

# repeats, kernel, stride, expansion, channels (Sandler et al., 2018, table 2)
_STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(3, 3, 2, 6, 32),
    Stage(4, 3, 2, 6, 64),
    Stage(3, 3, 1, 6, 96),
    Stage(3, 3, 2, 6, 160),
    Stage(1, 3, 1, 6, 320),
)


@dataclass
class MobileNetV2(HandDesigned):
    """MobileNetV2 (Sandler et al., 2018): 3,504,872 parameters, 300,774,272 multiply-adds at 224 x 224.

    ``width`` multiplies every number of channels, rounded to multiples of 8; the last 1,280 only where it is above 1.
    On small images the stem's stride, then the first stages', is left out.
    """

    width: Annotated[float, Gt(0), DECIDABLE] = 1.0
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.2

    def network(self, image: Image, outputs: int) -> Classifier:
        return mobile_network(
            image[0],
            outputs,
            scaled(_STAGES, self.width),
            stem=make_divisible(32 * self.width),
            head=make_divisible(1280 * max(1.0, self.width)),
            steps=self.steps(image, strides(_STAGES)),
            dropout=self.dropout,
            activation=nn.ReLU6,
        )

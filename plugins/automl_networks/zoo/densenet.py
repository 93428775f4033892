"""DenseNet: every layer reads all before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt

from automl_networks.classifier import Classifier, pooled_linear
from automl_networks.dense import dense_stages
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image
from automl_networks.residual import residual_stem
from automl_networks.widths import make_divisible

# growth, layers of each block (Huang et al., 2017, table 1)
_FORMS = {
    121: (32, (6, 12, 24, 16)),
    169: (32, (6, 12, 32, 32)),
    201: (32, (6, 12, 48, 32)),
    161: (48, (6, 12, 36, 24)),
}


@dataclass
class DenseNet(HandDesigned):
    """DenseNet (Huang et al., 2017): with depth 121 7,978,856 parameters, 2,834,161,664 multiply-adds at 224 x 224.

    169: 14,149,480 and 3,359,843,328; 201: 20,013,928 and 4,291,365,888; 161, whose layers add 48 channels instead of
    32: 28,681,000 and 7,727,907,072. ``width`` multiplies what a layer adds, rounded to multiples of 4, and with it
    every number of channels. On small images the stem's stride, its pool, then those of the transitions are left
    out.
    """

    depth: Annotated[Literal[121, 169, 201, 161], DECIDABLE] = 121
    width: Annotated[float, Gt(0), DECIDABLE] = 1.0

    def network(self, image: Image, outputs: int) -> Classifier:
        strides = self.steps(image)
        base, layers = _FORMS[self.depth]
        growth = make_divisible(base * self.width, 4)
        stages, channels = dense_stages(2 * growth, layers, growth, strides[2:], bottleneck=True, compression=0.5)
        return Classifier(residual_stem(image[0], 2 * growth, strides), stages, pooled_linear(channels, outputs))

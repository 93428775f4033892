"""VGG: plain stacks of 3 x 3 convolutions, three linear layers last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from automl_networks.classifier import Classifier
from automl_networks.fully_connected import FullyConnected
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image
from automl_networks.plain import CHANNELS, REPEATS, plain_stage
from automl_networks.widths import make_divisible


@dataclass
class VGG(HandDesigned):
    """VGG (Simonyan & Zisserman, 2015): with depth 16 138,357,544 parameters, 15,470,264,320 multiply-adds at 224.

    11: 132,863,336 and 7,609,090,048; 13: 133,047,848 and 11,308,466,176; 19: 143,667,240 and 19,632,062,464.
    ``batch_norm`` adds batch normalisation after each convolution. ``width`` multiplies every number of channels and
    of features, rounded to multiples of 8. On small images the first pools are left out; the last map, whatever its
    size, is averaged to 7 x 7.
    """

    depth: Annotated[Literal[11, 13, 16, 19], DECIDABLE] = 16
    batch_norm: Annotated[bool, DECIDABLE] = False
    width: Annotated[float, Gt(0), DECIDABLE] = 1.0
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.5

    def network(self, image: Image, outputs: int) -> Classifier:
        inputs, stages = image[0], []
        for base, repeats, stride in zip(CHANNELS, REPEATS[self.depth], self.steps(image), strict=True):
            channels = make_divisible(base * self.width)
            stages.append(plain_stage(inputs, channels, repeats, stride, norm=self.batch_norm))
            inputs = channels
        head = FullyConnected(inputs, 7, make_divisible(4096 * self.width), outputs, self.dropout)
        return Classifier(stages[0], stages[1:], head)

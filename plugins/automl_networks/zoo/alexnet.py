"""AlexNet: large kernels first, three linear layers last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Lt
from torch import nn

from automl_networks.classifier import Classifier
from automl_networks.fully_connected import FullyConnected
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image
from automl_networks.response_norm import LocalResponseNorm
from automl_networks.widths import make_divisible

_CHANNELS = {"grouped": (96, 256, 384, 384, 256), "single": (64, 192, 384, 256, 256)}
_CHANNELS["ungrouped"] = _CHANNELS["grouped"]
_GROUPS = (1, 2, 1, 2, 2)


@dataclass
class AlexNet(HandDesigned):
    """AlexNet (Krizhevsky et al., 2012): 60,965,224 parameters, 724,406,816 multiply-adds at 227 x 227.

    ``form`` "grouped" is that of 2012, with local response normalisation and three layers in the two groups of its
    two processors; "ungrouped" the same without groups (62,378,344; 1,135,256,096); "single" the one tower of
    Krizhevsky (2014), narrower and without normalisation (61,100,840; 714,188,480 at 224 x 224). ``width``
    multiplies every number of channels and of features, rounded to even ones. On small images the stem's stride,
    then pools are left out, and what stays is padded so that it makes ceil(size / stride); the last map, whatever its
    size, is averaged to 6 x 6.
    """

    form: Annotated[Literal["grouped", "ungrouped", "single"], DECIDABLE] = "grouped"
    width: Annotated[float, Gt(0), DECIDABLE] = 1.0
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.5

    published: ClassVar[tuple[int, ...]] = (4, 2, 2, 2)
    smallest: ClassVar[int] = 67

    def network(self, image: Image, outputs: int) -> Classifier:
        strides = self.steps(image)
        small = self.is_small(image)
        outer = 2 if self.form == "single" else 0
        kernels = ((11, strides[0], 5 if small else outer), (5, 1, 2), (3, 1, 1), (3, 1, 1), (3, 1, 1))
        pools = (strides[1], strides[2], 1, 1, strides[3])
        inputs, stages = image[0], []
        for place, (kernel, stride, padding) in enumerate(kernels):
            channels = self.scaled(_CHANNELS[self.form][place])
            groups = _GROUPS[place] if self.form == "grouped" else 1
            layers: list[nn.Module] = [nn.Conv2d(inputs, channels, kernel, stride, padding, groups=groups)]
            layers.append(nn.ReLU(inplace=True))
            if place < 2 and self.form != "single":
                layers.append(LocalResponseNorm())
            if pools[place] > 1:
                layers.append(nn.MaxPool2d(3, pools[place], padding=1 if small else 0))
            stages.append(nn.Sequential(*layers))
            inputs = channels
        return Classifier(stages[0], stages[1:], FullyConnected(inputs, 6, self.scaled(4096), outputs, self.dropout))

    def scaled(self, channels: int) -> int:
        """Return how many of so many channels or features the width leaves."""
        return make_divisible(channels * self.width, 2)

"""ShuffleNetV1: grouped 1 x 1 convolutions, and a shuffle so that the groups meet."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

from annotated_types import Gt
from torch import nn

from automl_networks.classifier import Classifier, pooled_linear
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image
from automl_networks.shuffle_units import REPEATS, ShuffleUnitV1, shuffle_stem, widening

_STAGE_2 = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}  # channels by groups; stages 3 and 4 have twice and four times them


@dataclass
class ShuffleNetV1(HandDesigned):
    """ShuffleNetV1 (Zhang et al., 2018): 1,865,728 parameters, 137,460,672 multiply-adds at 224 x 224 with 3 groups.

    ``groups`` are those of the 1 x 1 convolutions; more of them have more channels. ``width`` multiplies every number
    of channels, rounded to multiples of the groups. ``form`` is the paper's, or that of the authors' "release": no bias
    in the linear layer, and a stem that takes whole multiples of its width above 1. On small images the stem's stride
    and pool, then the first stages' strides, are left out.
    """

    groups: Annotated[Literal[1, 2, 3, 4, 8], DECIDABLE] = 3
    width: Annotated[float, Gt(0), DECIDABLE] = 1.0
    form: Literal["paper", "release"] = "paper"

    def network(self, image: Image, outputs: int) -> Classifier:
        convolution, pool, *others = self.steps(image)
        stem = int(self.width) if self.form == "release" and self.width > 1 else self.width
        stages = (_STAGE_2[self.groups] * times * self.width for times in (1, 2, 4))
        channels = widening([24 * stem, *stages], self.groups)
        return Classifier(
            shuffle_stem(image[0], channels[0], convolution, pool),
            [
                nn.Sequential(
                    ShuffleUnitV1(inputs, made, self.groups, step, thin=number == 0),
                    *(ShuffleUnitV1(made, made, self.groups) for _ in range(repeats - 1)),
                )
                for number, ((inputs, made), step, repeats) in enumerate(
                    zip(pairwise(channels), others, REPEATS, strict=True)
                )
            ],
            pooled_linear(channels[-1], outputs, bias=self.form == "paper"),
        )

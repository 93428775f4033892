"""ShuffleNetV2: half of the channels pass each unit, so that little memory is read and written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Lt

from automl_networks.classifier import Classifier, pooled_linear
from automl_networks.conv_norm import conv_norm
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image
from automl_networks.shuffle_units import Form, shuffle_stages, shuffle_stem, widening

# by width: channels of the stem, of the three stages, and of the last 1 x 1 (Ma et al., 2018, table 5)
_CHANNELS = {
    0.0: (0, 0, 0, 0, 0),
    0.5: (24, 48, 96, 192, 1024),
    1.0: (24, 116, 232, 464, 1024),
    1.5: (24, 176, 352, 704, 1024),
    2.0: (24, 244, 488, 976, 2048),
}


@dataclass
class ShuffleNetV2(HandDesigned):
    """ShuffleNetV2 (Ma et al., 2018): 2,278,604 parameters, 144,907,992 multiply-adds at 224 x 224.

    ``width`` 0.5, 1.0, 1.5 and 2.0 are as published; others lie between them, in multiples of 4 channels. ``form``
    "halves" gives the two paths of a unit with more outputs equal shares; the authors' "release" keeps the inputs'
    number on the first, and has no bias in the linear layer. On small images the stem's stride and pool, then the
    first stages' strides, are left out.
    """

    width: Annotated[float, Gt(0), DECIDABLE] = 1.0
    form: Form = "halves"
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0

    def network(self, image: Image, outputs: int) -> Classifier:
        convolution, pool, *others = self.steps(image)
        *wanted, last = _between(self.width)
        channels = widening(wanted, 4)
        features = max(4, round(last))
        return Classifier(
            shuffle_stem(image[0], channels[0], convolution, pool),
            [*shuffle_stages(channels, others, form=self.form), conv_norm(channels[-1], features)],
            pooled_linear(features, outputs, self.dropout, bias=self.form == "halves"),
        )


def _between(width: float) -> list[float]:
    """Return the channels on the lines between the published widths, and in proportion above the widest."""
    above = next((known for known in _CHANNELS if known >= width), max(_CHANNELS))
    below = above - 0.5 if width <= above else 0.0
    share = (width - below) / (above - below)
    return [low + share * (high - low) for low, high in zip(_CHANNELS[below], _CHANNELS[above], strict=True)]

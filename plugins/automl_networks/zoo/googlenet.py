"""GoogLeNet: twenty-two layers of Inception blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt
from torch import nn

from automl_networks.classifier import Classifier, pooled_linear
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image
from automl_networks.inception import Inception, biased, inception_v1, normed
from automl_networks.inception_heads import HeadedClassifier, head_v1
from automl_networks.pooling import Pool
from automl_networks.widths import make_divisible

# 1x1; 3x3 reduce, 3x3; 5x5 reduce, 5x5; pool (Szegedy et al., 2015, table 1), from 3a to 5b
_BLOCKS = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)
_POOLED = (2, 7)  # the blocks that a pool stands before: 4a, 5a
_HEADED = (2, 5)  # those that an auxiliary head stands after: 4a, 4d


@dataclass
class GoogLeNet(HandDesigned):
    """GoogLeNet, or Inception-v1 (Szegedy et al., 2015).

    Parameters and multiply-adds at 224 x 224 are, as the ``form``: paper, with biases and local response
    normalisation, 6,998,552 and 1,582,671,872; batch_norm, with batch normalisation in place of both, 7,005,832 and
    as many; batch_norm_3x3, that of a widely used release, which has 3 x 3 kernels in place of the 5 x 5,
    6,624,904 and 1,498,376,192. ``width`` multiplies all channels, rounded to multiples of 8.

    With ``auxiliary`` two more classifiers learn while the network is trained (13,378,280 and 13,004,888 parameters
    with them). Each image is answered by one of the two in turn, so that evaluator.auxiliary=0.6 gives each head the
    weight 0.3 of the paper.

    On small images the pools are padded and the first ones left out: the stem's stride, then its two pools, then those
    between the blocks. The published strides need 31 pixels a side.
    """

    form: Annotated[Literal["paper", "batch_norm", "batch_norm_3x3"], DECIDABLE] = "batch_norm"
    width: Annotated[float, Gt(0), DECIDABLE] = 1.0
    auxiliary: bool = False
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.4

    smallest = 31

    def network(self, image: Image, outputs: int) -> nn.Module:
        layer = biased if self.form == "paper" else normed
        small = self.is_small(image)
        steps = iter(self.steps(image))
        channels = make_divisible(64 * self.width)
        wide = make_divisible(192 * self.width)
        stem = nn.Sequential(
            layer(image[0], channels, 7, next(steps)),
            _pool(next(steps), small),
            self._response_norm(),
            layer(channels, channels),
            layer(channels, wide, 3),
            self._response_norm(),
            _pool(next(steps), small),
        )
        channels = wide
        stages, heads = [], {}
        for index, widths in enumerate(_BLOCKS):
            kernel = 3 if self.form == "batch_norm_3x3" else 5
            block = Inception(channels, *inception_v1(*widths, kernel=kernel), layer=layer, width=self.width)
            channels = block.outputs
            if index in _POOLED:
                window = 2 if index == 7 and self.form == "batch_norm_3x3" else 3
                stages.append(nn.Sequential(_pool(next(steps), small, window), block))
            else:
                stages.append(nn.Sequential(block))
            if self.auxiliary and index in _HEADED:
                narrow, hidden = (make_divisible(base * self.width) for base in (128, 1024))
                heads[index] = head_v1(channels, outputs, layer, narrow, hidden)
        classifier = Classifier(stem, stages, pooled_linear(channels, outputs, self.dropout))
        return HeadedClassifier(classifier, heads) if heads else classifier

    def _response_norm(self) -> nn.Module:
        return nn.LocalResponseNorm(5) if self.form == "paper" else nn.Identity()


def _pool(stride: int, padded: bool, window: int = 3) -> nn.Module:
    """Return a maximum over windows that is padded, or that ends beyond the edge; nothing where it is left out."""
    if stride == 1:
        return nn.Identity()
    return Pool("maximum", window, stride) if padded else nn.MaxPool2d(window, stride, ceil_mode=True)

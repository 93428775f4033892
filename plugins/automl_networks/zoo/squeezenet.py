"""SqueezeNet: the accuracy of AlexNet with fifty times fewer parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt
from torch import nn

from automl_networks.classifier import Classifier
from automl_networks.fire import Bypass, Fire
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image
from automl_networks.pooling import Pool

# version: channels and kernel of the stem; how many of the eight fire modules stand before each of the three pools
_VERSIONS = {"1.0": (96, 7, (0, 3, 7)), "1.1": (64, 3, (0, 2, 4))}


class _Unquoted:
    """Lets text that looks like a number be written like one."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(str, handler(source))

    def __str__(self) -> str:
        return "in quotes or not"


@dataclass
class SqueezeNet(HandDesigned):
    """SqueezeNet (Iandola et al., 2016): 1,248,424 parameters and 818,924,576 multiply-adds at 224 x 224 in version
    1.0; 1,235,496 and 349,151,936 in version 1.1, which pools earlier.

    Fire module i of 0 to 7 has ``base`` + ``increment`` floor(i / ``frequency``) channels, of which the share
    ``share_3x3`` sees 3 x 3 pixels; it squeezes to ``squeeze_ratio`` times as many. ``bypass`` adds inputs to outputs
    around the modules where both are equally many, or around all, with a 1 x 1 convolution elsewhere. ``width``
    multiplies all channels. On small images the stem and the pools are padded and the first ones left out: the stem's
    stride, then the pools from the front. The published strides need 21 pixels a side in version 1.0, 17 in 1.1.
    Without batch normalisation it learns at smaller rates than others, which evaluator.learning_rate=auto knows.
    """

    version: Annotated[Literal["1.0", "1.1"], _Unquoted(), DECIDABLE] = "1.1"
    width: Annotated[float, Gt(0), DECIDABLE] = 1.0
    base: Annotated[int, Ge(2), DECIDABLE] = 128
    increment: Annotated[int, Ge(0), DECIDABLE] = 128
    frequency: Annotated[int, Ge(1), DECIDABLE] = 2
    squeeze_ratio: Annotated[float, Gt(0), DECIDABLE] = 0.125
    share_3x3: Annotated[float, Gt(0), Lt(1), DECIDABLE] = 0.5
    bypass: Annotated[Bypass, DECIDABLE] = "none"
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.5

    published = (2, 2, 2, 2)

    @property
    def smallest(self) -> int:  # type: ignore[override]  # the versions differ in it
        return 21 if self.version == "1.0" else 17

    def network(self, image: Image, outputs: int) -> Classifier:
        first, kernel, pools = _VERSIONS[self.version]
        padded = self.is_small(image)
        step, *steps = self.steps(image)
        channels = max(1, round(first * self.width))
        convolution = nn.Conv2d(image[0], channels, kernel, step, kernel // 2 if padded else 0)
        stages = []
        for step, start, end in zip(steps, pools, (*pools[1:], 8), strict=True):
            stage: list[nn.Module] = []
            if step > 1:
                stage.append(Pool("maximum", 3, step) if padded else nn.MaxPool2d(3, step, ceil_mode=True))
            for index in range(start, end):
                squeeze, expand1, expand3 = self.fire(index)
                stage.append(Fire(channels, squeeze, expand1, expand3, self.bypass))
                channels = expand1 + expand3
            stages.append(nn.Sequential(*stage))
        stem = nn.Sequential(convolution, nn.ReLU(inplace=True))
        return Classifier(stem, stages, ConvolutionalHead(channels, outputs, self.dropout))

    def fire(self, index: int) -> tuple[int, int, int]:
        """Return the widths of a fire module, counted from 0: squeezed, then expanded by 1 x 1 and by 3 x 3."""
        expanded = (self.base + self.increment * (index // self.frequency)) * self.width
        channels = max(2, round(expanded))
        three = min(max(1, round(self.share_3x3 * channels)), channels - 1)
        return max(1, round(self.squeeze_ratio * expanded)), channels - three, three


class ConvolutionalHead(nn.Sequential):
    """Dropout, a 1 x 1 convolution to the classes, ReLU, the mean over the map."""

    def __init__(self, features: int, outputs: int, dropout: float) -> None:
        convolution = nn.Conv2d(features, outputs, 1)
        super().__init__(nn.Dropout(dropout), convolution, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def initialise(self) -> None:
        """Draw weights with a deviation of 0.01, and make every bias 1.

        Biases that are equal change no probability. From 0, the ReLU soon silences whole classes on small data.
        """
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                assert layer.bias is not None, "it was made with one"
                nn.init.ones_(layer.bias)

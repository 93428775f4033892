"""ESPNet: efficient spatial pyramids, which give every pixel its class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from automl import BadInput
from automl_networks.conv_norm import conv_norm
from automl_networks.esp import ESP, halved, norm_prelu
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image

_EPS = 1e-3  # of all batch normalisation
_BRANCHES = 5


@dataclass
class ESPNet(HandDesigned):
    """ESPNet (Mehta et al., 2018): with the decoder 365,109 parameters, 4,780,220,416 multiply-adds.

    That is at 512 x 1024 with 20 classes; without it, the paper's ESPNet-C, 349,449 and 3,470,155,776. ``alpha2`` and
    ``alpha3`` are the modules that keep the size of the map at 1/4 and 1/8; the paper's alpha3 are 3, 5 and 8.

    It segments: ``output`` "map" is outputs x height x width, at 1/8 of the image without the decoder, which brings it
    to the image's size. "classes", for the tasks that classify images, averages the map over all pixels (ours).

    ``width`` multiplies the 16, 64 and 128 channels. On small images the first strides are left out; other images
    have sides divisible by 8.
    """

    width: Annotated[float, Gt(0), DECIDABLE] = 1.0
    alpha2: Annotated[int, Ge(1), DECIDABLE] = 2
    alpha3: Annotated[int, Ge(1), DECIDABLE] = 8
    decoder: bool = False
    output: Literal["classes", "map"] = "classes"

    published: ClassVar[tuple[int, ...]] = (2, 2, 2)

    def check_image(self, image: Image) -> None:
        super().check_image(image)
        height, width = image[1:]
        if not self.is_small(image) and (height % 8 or width % 8):
            side = max(self.smallest, round(min(height, width) / 8) * 8)
            raise BadInput(
                f"space espnet needs images with sides divisible by 8, and these are {height} x {width}: "
                f"give space.resolution={side} or space.strides=small"
            )

    def network(self, image: Image, outputs: int) -> nn.Module:
        widths = [max(1, round(channels * self.width)) for channels in (16, 64, 128)]
        steps = self.steps(image)
        encoder = _Encoder(image[0], outputs, steps, widths, (self.alpha2, self.alpha3))
        decoder = _Decoder(outputs, encoder.kept, steps) if self.decoder else None
        return _Segmenter(encoder, decoder, self.output == "classes")


class _Encoder(nn.Module):
    """Images to the maps of three levels, the last with a channel for each class."""

    def __init__(
        self, colours: int, classes: int, steps: Sequence[int], widths: Sequence[int], repeats: tuple[int, int]
    ) -> None:
        super().__init__()
        first, second, third = widths
        self.kept = (first + colours, 2 * second + colours)  # channels of the first and second level
        prelu = partial(nn.PReLU, first)
        self.stem = conv_norm(colours, first, 3, steps[0], activation=prelu, eps=_EPS)
        self.pools = nn.ModuleList(halved(step) for step in steps[:2])
        self.down = nn.ModuleList(
            ESP(inputs, outputs, step, min(_BRANCHES, outputs), kernel=3, add=False)
            for inputs, outputs, step in zip(self.kept, (second, third), steps[1:], strict=True)
        )
        self.same = nn.ModuleList(
            nn.Sequential(*(ESP(outputs, outputs, branches=min(_BRANCHES, outputs)) for _ in range(times)))
            for outputs, times in zip((second, third), repeats, strict=True)
        )
        self.joins = nn.ModuleList(norm_prelu(channels, _EPS) for channels in (*self.kept, 2 * third))
        self.classify = nn.Conv2d(2 * third, classes, 1, bias=False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pooled = self.pools[0](images)
        one = self.joins[0](torch.cat([self.stem(images), pooled], dim=1))
        first = self.down[0](one)
        two = self.joins[1](torch.cat([self.same[0](first), first, self.pools[1](pooled)], dim=1))
        first = self.down[1](two)
        three = self.joins[2](torch.cat([first, self.same[1](first)], dim=1))
        return one, two, self.classify(three)

    def initialise(self) -> None:
        """Begin the classifier as the linear layers of other networks."""
        nn.init.normal_(self.classify.weight, std=0.01)


class _Decoder(nn.Module):
    """The maps of three levels to one of the images' size, a channel for each class."""

    def __init__(self, classes: int, kept: tuple[int, int], steps: Sequence[int]) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(classes, eps=_EPS)
        self.up = nn.ModuleList(nn.ConvTranspose2d(classes, classes, 2, step, bias=False) for step in reversed(steps))
        self.classify = nn.Conv2d(kept[1], classes, 1, bias=False)
        self.fuse = nn.Sequential(
            norm_prelu(2 * classes, _EPS), ESP(2 * classes, classes, branches=min(_BRANCHES, classes), add=False)
        )
        self.activate = norm_prelu(classes, _EPS)
        self.refine = conv_norm(classes + kept[0], classes, 3, activation=partial(nn.PReLU, classes), eps=_EPS)

    def forward(self, images: Tensor, one: Tensor, two: Tensor, x: Tensor) -> Tensor:
        x = _cropped(self.up[0](self.norm(x)), two)
        x = self.fuse(torch.cat([x, self.classify(two)], dim=1))
        x = self.activate(_cropped(self.up[1](x), one))
        refined = self.refine(torch.cat([x, one], dim=1))
        return _cropped(self.up[2](refined), images)


def _cropped(x: Tensor, like: Tensor) -> Tensor:
    """Return the map in the size of another: stride 1 and sides that are not even make it a pixel larger."""
    return x[..., : like.shape[-2], : like.shape[-1]]


class _Segmenter(nn.Module):
    """Images to a map of logits, or to its mean over the pixels."""

    def __init__(self, encoder: _Encoder, decoder: _Decoder | None, averages: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.averages = averages

    def forward(self, images: Tensor) -> Tensor:
        one, two, logits = self.encoder(images)
        if self.decoder is not None:
            logits = self.decoder(images, one, two, logits)
        answer: Tensor = logits.mean((-2, -1)) if self.averages else logits
        return answer

"""IGCV1: interleaved group convolutions, in a plain and in a residual network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.nn import functional

from automl import BadInput
from automl_networks.classifier import Classifier, pooled_linear
from automl_networks.conv_norm import conv_norm
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image
from automl_networks.interleaved import blocks_of_stage, interleaved


@dataclass
class IGCV1(HandDesigned):
    """IGCV1 (Zhang et al., 2017): 155,962 parameters, 28,755,840 multiply-adds at 32 x 32 with 10 classes.

    A block has ``partitions`` (the paper's L) of ``channels`` (M) each. The form "cifar" is plain, of three stages
    and ``depth`` 20 (where it is not given), 38 or 62, or any other 3 n + 2; "imagenet" has the 18 layers of ResNet-18
    (4 partitions of 32: 12,251,240 parameters, 1,944,641,536 multiply-adds at 224 x 224 with 1,000 classes). From
    stage to stage the width doubles by what ``doubles`` says; where it is the partitions, the stem makes one channel
    for each (100 of 2, imagenet: 8,637,900 and 1,264,780,800).

    ``width`` multiplies the larger of partitions and channels. On small images the stem's stride and pool, then the
    first stages' strides, are left out.
    """

    width: Annotated[float, Gt(0), DECIDABLE] = 1.0
    form: Literal["cifar", "imagenet"] = "cifar"
    depth: Annotated[int, Ge(5), DECIDABLE] | None = None
    partitions: Annotated[int, Ge(1), DECIDABLE] = 24
    channels: Annotated[int, Ge(1), DECIDABLE] = 2
    doubles: Literal["channels", "partitions"] = "channels"

    smallest: ClassVar[int] = 16

    def check_design(self) -> None:
        if self.depth is None:
            return
        if self.form == "imagenet":
            raise BadInput(f"space.depth={self.depth} is for space.form=cifar, and imagenet has 18: leave it out")
        blocks_of_stage(self.depth)

    def network(self, image: Image, outputs: int) -> Classifier:
        partitions, channels = self.partitions, self.channels
        if partitions > channels:
            partitions = max(1, round(partitions * self.width))
        else:
            channels = max(1, round(channels * self.width))
        made = partitions * channels if self.doubles == "channels" else partitions
        if self.form == "cifar":
            steps = self.steps(image, (2, 2))
            stem = conv_norm(image[0], made, 3)
            repeats = blocks_of_stage(self.depth or 20)
        else:
            first, pool, *steps = self.steps(image)
            stem = conv_norm(image[0], made, 7, first)
            if pool > 1:
                stem.append(nn.MaxPool2d(3, pool, 1))
            repeats = 2
        unit: Callable[..., nn.Module] = interleaved if self.form == "cifar" else _Residual
        stages = []
        for stride in (1, *steps):
            units = []
            for repeat in range(repeats):
                units.append(unit(made, partitions, channels, stride=stride if repeat == 0 else 1))
                made = partitions * channels
            stages.append(nn.Sequential(*units))
            if self.doubles == "channels":
                channels *= 2
            else:
                partitions *= 2
        return Classifier(stem, stages, pooled_linear(made, outputs))


class _Residual(nn.Module):
    """Two interleaved blocks and a shortcut, which is a grouped 1 x 1 convolution where the shape changes."""

    def __init__(self, inputs: int, partitions: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        outputs = partitions * channels
        self.branch = nn.Sequential(
            interleaved(inputs, partitions, channels, stride=stride),
            interleaved(outputs, partitions, channels, activation=None),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = conv_norm(inputs, outputs, 1, stride, groups=partitions, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.branch(x) + self.shortcut(x))

"""DenseNet for images of 32 x 32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt
from torch import nn

from automl import BadInput
from automl_networks.classifier import Classifier, pooled_linear
from automl_networks.dense import dense_stages
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image


@dataclass
class DenseNetCifar(HandDesigned):
    """DenseNet for small images (Huang et al., 2017): BC-100 with growth 12 has 769,162 parameters.

    For ten classes, and 287,929,692 multiply-adds at 32 x 32; BC-250 with 24: 15,324,406; BC-190 with 40: 25,624,430.
    ``form`` "bc" has bottlenecks, and transitions that halve the channels; "plain" neither: 40 with 12 has 1,019,722
    and 264,812,928; 100 with 12: 6,979,642; 100 with 24: 27,249,082. ``depth`` is three blocks of layers, of one
    convolution each or of two, and 4. ``width`` multiplies the channels of the stem and the ``growth``, what each
    layer adds. On images below 16 x 16 the pools of transitions are left out.
    """

    depth: Annotated[int, Ge(7), DECIDABLE] = 100
    growth: Annotated[int, Ge(1), DECIDABLE] = 12
    form: Annotated[Literal["bc", "plain"], DECIDABLE] = "bc"
    width: Annotated[float, Gt(0), DECIDABLE] = 1.0

    published: ClassVar[tuple[int, ...]] = (2, 2)
    smallest: ClassVar[int] = 8

    def check_design(self) -> None:
        step = 6 if self.form == "bc" else 3
        if (self.depth - 4) % step:
            below = 4 + max(step, (self.depth - 4) // step * step)
            raise BadInput(
                f"space densenet_cifar has depth={self.depth}, which is not 4 and a multiple of {step} as "
                f"form={self.form} has it: give space.depth={below} or {below + step}"
            )

    def network(self, image: Image, outputs: int) -> Classifier:
        compact = self.form == "bc"
        growth = max(1, round(self.growth * self.width))
        channels = 2 * growth if compact else max(1, round(16 * self.width))
        layers = (self.depth - 4) // (6 if compact else 3)
        stem = nn.Conv2d(image[0], channels, 3, padding=1, bias=False)
        stages, channels = dense_stages(
            channels, (layers,) * 3, growth, self.steps(image), bottleneck=compact, compression=0.5 if compact else 1.0
        )
        return Classifier(stem, stages, pooled_linear(channels, outputs))

"""The skeleton of mobile networks: a stem, stages of inverted residuals, a wide 1 x 1, a linear layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import nn

from automl_networks.classifier import Classifier, pooled_linear
from automl_networks.conv_norm import conv_norm
from automl_networks.inverted_residual import InvertedResidual
from automl_networks.widths import make_divisible


@dataclass(frozen=True)
class Stage:
    """Inverted residuals in a row; the first has the stride and takes what channels there are.

    ``squeeze`` is the width of squeeze and excite as a share of each unit's inputs; 0 is none. ``hidden`` is the width
    inside instead of expansion x inputs. Expansion 1 makes the units depthwise separable convolutions.
    """

    repeats: int
    kernel: int
    stride: int
    expansion: float
    outputs: int
    squeeze: float = 0.0
    skip: bool = True
    hidden: int | None = None


def scaled(stages: Sequence[Stage], width: float, divisor: int = 8) -> list[Stage]:
    """Return the stages with their outputs multiplied by a width, in multiples of the divisor."""
    return [replace(stage, outputs=make_divisible(stage.outputs * width, divisor)) for stage in stages]


def strides(stages: Sequence[Stage]) -> list[int]:
    """Return the strides in order: 2 of the stem, then the stages'."""
    return [2, *(stage.stride for stage in stages)]


def mobile_network(
    colours: int,
    outputs: int,
    stages: Sequence[Stage],
    *,
    stem: int,
    head: int,
    steps: Sequence[int] | None = None,
    dropout: float = 0.0,
    activation: Callable[[], nn.Module] = nn.ReLU,
    unit: Callable[[int, Stage, int], nn.Module] | None = None,
) -> Classifier:
    """Return a network with so many channels in its stem and before its linear layer; ``steps`` replace its strides.

    ``unit`` makes a unit of its inputs, its stage and its stride; None: an inverted residual.
    """

    def inverted(inputs: int, stage: Stage, stride: int) -> nn.Module:
        return InvertedResidual(
            inputs,
            stage.outputs,
            stride,
            stage.expansion,
            stage.kernel,
            stage.squeeze,
            stage.skip,
            activation,
            stage.hidden,
        )

    first, *others = strides(stages) if steps is None else steps
    channels, rows = stem, []
    for stage, step in zip(stages, others, strict=True):
        units = []
        for repeat in range(stage.repeats):
            units.append((unit or inverted)(channels, stage, step if repeat == 0 else 1))
            channels = stage.outputs
        rows.append(nn.Sequential(*units))
    rows.append(conv_norm(channels, head, activation=activation))
    return Classifier(
        conv_norm(colours, stem, 3, first, activation=activation), rows, pooled_linear(head, outputs, dropout)
    )

"""Networks of the chain-structured space: a stem, stages of layers one after the other, a head."""

from __future__ import annotations

from torch import nn

from automl_networks.classifier import Classifier, pooled_linear
from automl_networks.conv_norm import conv_norm
from automl_networks.hand_designed import SMALL, Image
from automl_spaces.chain import Stages


def network(chain: Stages, channels: int, image: Image, outputs: int) -> Classifier:
    """Return images to logits, N x outputs: stages of a width that doubles from stage to stage."""
    side = min(image[1:])
    step = 2 if side >= max(SMALL, 2 ** (len(chain) + 1)) else 1  # of the stem and of the first stage
    stem = conv_norm(image[0], channels, 3, step, activation=None)
    inputs, stages = channels, []
    for first, *others in chain:
        layers = [first(inputs, channels, step), *(op(channels, channels, 1) for op in others)]
        stages.append(nn.Sequential(*layers))
        inputs, channels, step = channels, 2 * channels, 2
    head = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), *pooled_linear(inputs, outputs))
    return Classifier(stem, stages, head)

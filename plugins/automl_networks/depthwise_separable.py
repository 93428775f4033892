"""Depthwise separable convolutions: each channel filtered by itself, then all of them mixed by 1 x 1."""

from __future__ import annotations

from torch import nn

from automl_networks.conv_norm import conv_norm


def depthwise_separable(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Return a depthwise and a 1 x 1 convolution, each with batch normalisation and ReLU (Howard et al., 2017).

    At the same size it needs 1 / outputs + 1 / kernel^2 of a dense convolution's multiply-adds.
    """
    return nn.Sequential(conv_norm(inputs, inputs, kernel, stride, groups=inputs), conv_norm(inputs, outputs))

"""Every block in one form: from so many channels to so many, the size becomes ceil(size / stride)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import nn

from automl_networks.asymmetric import asymmetric
from automl_networks.context import ContextModule
from automl_networks.conv_norm import conv_norm
from automl_networks.dense import DenseLayer, transition
from automl_networks.depthwise_separable import depthwise_separable
from automl_networks.esp import EESP, ESP
from automl_networks.fire import Fire
from automl_networks.inception import Inception, inception_v1
from automl_networks.interleaved import InterleavedResidual, interleaved, structured_sparse
from automl_networks.inverted_residual import InvertedResidual
from automl_networks.large_kernel import GlobalConvolution
from automl_networks.pooling import Pool
from automl_networks.residual import PreActivation, basic, bottleneck
from automl_networks.shuffle_units import ShuffleUnitV1, ShuffleUnitV2
from automl_networks.squeeze_excite import SqueezeExcite
from automl_networks.stacked import StackedConv
from automl_networks.xception import XceptionBlock

Unit = Callable[[int, int, int], nn.Module]


def _convolution(kernel: int, groups: int, dilation: int, inputs: int, outputs: int, stride: int) -> nn.Module:
    if inputs % groups:
        return nn.Sequential(
            conv_norm(inputs, outputs), _convolution(kernel, groups, dilation, outputs, outputs, stride)
        )
    return conv_norm(inputs, outputs, kernel, stride, groups=groups, dilation=dilation)


def _stacked(receptive_field: int, inputs: int, outputs: int, stride: int) -> nn.Module:
    return StackedConv(inputs, None, outputs, receptive_field, stride)


def _asymmetric(kernel: int, inputs: int, outputs: int, stride: int) -> nn.Module:
    return asymmetric(inputs, outputs, outputs, kernel, stride, norm=True)


def _mobile(kernel: int, inputs: int, outputs: int, stride: int) -> nn.Module:
    return depthwise_separable(inputs, outputs, stride, kernel)


def _inverted(expansion: int, kernel: int, squeeze: float, inputs: int, outputs: int, stride: int) -> nn.Module:
    return InvertedResidual(inputs, outputs, stride, expansion, kernel, squeeze)


def _fire(inputs: int, outputs: int, stride: int) -> nn.Module:
    squeezed, half = max(1, outputs // 8), outputs // 2
    return nn.Sequential(*_pooled(stride), Fire(inputs, squeezed, half, outputs - half))


def _large(kernel: int, inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(*_pooled(stride), GlobalConvolution(inputs, outputs, kernel), nn.BatchNorm2d(outputs))


def _dense(inputs: int, outputs: int, stride: int) -> nn.Module:
    growth = max(1, outputs // 4)
    return nn.Sequential(DenseLayer(inputs, growth), transition(inputs + growth, outputs, stride))


def _inception(inputs: int, outputs: int, stride: int) -> nn.Module:
    eighth = outputs // 8
    branches = inception_v1(2 * eighth, 2 * eighth, 4 * eighth, max(1, eighth // 2), eighth, eighth)
    return Inception(inputs, *branches, stride=stride, layer=conv_norm)


def _squeeze_excite(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(*_fitted(inputs, outputs, stride), SqueezeExcite(outputs, max(1, outputs // 4)))


def _context(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(*_fitted(inputs, outputs, stride), ContextModule(outputs))


def _resnext(groups: int, inputs: int, outputs: int, stride: int) -> nn.Module:
    return bottleneck(inputs, outputs, stride, hidden=outputs // 2, groups=groups)


def _xception(inputs: int, outputs: int, stride: int) -> nn.Module:
    return XceptionBlock(inputs, outputs, 2, stride)


def _shuffle_v1(groups: int, inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1:
        return nn.Sequential(*_fitted(inputs, outputs, 1), ShuffleUnitV1(outputs, outputs, groups))
    half = outputs // 2  # the unit puts its input, made smaller, beside what it computes
    return nn.Sequential(conv_norm(inputs, half), ShuffleUnitV1(half, outputs, groups, stride))


def _shuffle_v2(kernel: int, inputs: int, outputs: int, stride: int) -> nn.Module:
    return ShuffleUnitV2(inputs, outputs, stride, kernel)


def _interleaved(partitions: int, inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(
        *_fitted(inputs, outputs, 1), interleaved(outputs, partitions, outputs // partitions, stride=stride)
    )


def _sparse(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(*_fitted(inputs, outputs, 1), structured_sparse(outputs, outputs, stride))


def _interleaved_residual(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(*_fitted(inputs, outputs, 1), InterleavedResidual(outputs, outputs, stride))


def _esp(branches: int, inputs: int, outputs: int, stride: int) -> nn.Module:
    return ESP(inputs, outputs, stride, branches, eps=1e-5)


def _eesp(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(*_fitted(inputs, outputs, 1), EESP(outputs, outputs, stride))


def _pooled(stride: int) -> list[nn.Module]:
    """Return what makes a map smaller for a block that has no stride of its own."""
    return [Pool("maximum", 3, stride)] if stride > 1 else []


def _fitted(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    """Return what brings a map to the size and channels that a block with equal ends is given."""
    return [*_pooled(stride), *([conv_norm(inputs, outputs)] if inputs != outputs else [])]


UNITS: Mapping[str, Unit] = {
    "vgg3x3": partial(_convolution, 3, 1, 1),
    "vgg5x5": partial(_convolution, 5, 1, 1),
    "stacked5x5": partial(_stacked, 5),
    "stacked7x7": partial(_stacked, 7),
    "asymmetric3x3": partial(_asymmetric, 3),
    "asymmetric7x7": partial(_asymmetric, 7),
    "large7x7": partial(_large, 7),
    "large15x15": partial(_large, 15),
    "fire": _fire,
    "grouped3x3_g2": partial(_convolution, 3, 2, 1),
    "grouped3x3_g4": partial(_convolution, 3, 4, 1),
    "resnext_g4": partial(_resnext, 4),
    "mobile3x3": partial(_mobile, 3),
    "mobile5x5": partial(_mobile, 5),
    "xception": _xception,
    "dilated3x3_d4": partial(_convolution, 3, 1, 4),
    "context": _context,
    "residual": basic,
    "residual_bottleneck": bottleneck,
    "pre_activation": PreActivation,
    "dense": _dense,
    "inception": _inception,
    "squeeze_excite": _squeeze_excite,
    "shuffle_v1_g1": partial(_shuffle_v1, 1),
    "shuffle_v1_g2": partial(_shuffle_v1, 2),
    "shuffle_v1_g3": partial(_shuffle_v1, 3),
    "shuffle_v1_g4": partial(_shuffle_v1, 4),
    "shuffle_v1_g8": partial(_shuffle_v1, 8),
    "shuffle_v2_3x3": partial(_shuffle_v2, 3),
    "shuffle_v2_5x5": partial(_shuffle_v2, 5),
    "mbconv1_3x3": partial(_inverted, 1, 3, 0.0),
    "mbconv3_3x3": partial(_inverted, 3, 3, 0.0),
    "mbconv3_5x5": partial(_inverted, 3, 5, 0.0),
    "mbconv6_3x3": partial(_inverted, 6, 3, 0.0),
    "mbconv6_5x5": partial(_inverted, 6, 5, 0.0),
    "mbconv6_3x3_se": partial(_inverted, 6, 3, 0.25),
    "mbconv6_5x5_se": partial(_inverted, 6, 5, 0.25),
    "igcv1_l4": partial(_interleaved, 4),
    "igcv2": _sparse,
    "igcv3": _interleaved_residual,
    "esp_k4": partial(_esp, 4),
    "esp_k5": partial(_esp, 5),
    "eesp": _eesp,
}

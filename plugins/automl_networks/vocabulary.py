"""The vocabulary: every block as an operation that a search space may offer, without torch before one is made.

An operation is made by ``op(inputs, channels, stride)``; the size becomes ceil(size / stride).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from automl import Op

if TYPE_CHECKING:
    from torch.nn import Module

MULTIPLES: Mapping[str, int] = {  # by operation: its channels are a multiple of this
    "vgg3x3": 1,
    "vgg5x5": 1,
    "stacked5x5": 1,
    "stacked7x7": 1,
    "asymmetric3x3": 1,
    "asymmetric7x7": 1,
    "large7x7": 1,
    "large15x15": 1,
    "fire": 2,
    "grouped3x3_g2": 2,
    "grouped3x3_g4": 4,
    "resnext_g4": 8,
    "mobile3x3": 1,
    "mobile5x5": 1,
    "xception": 1,
    "dilated3x3_d4": 1,
    "context": 1,
    "residual": 1,
    "residual_bottleneck": 4,
    "pre_activation": 4,
    "dense": 1,
    "inception": 8,
    "squeeze_excite": 1,
    "shuffle_v1_g1": 4,
    "shuffle_v1_g2": 8,
    "shuffle_v1_g3": 12,
    "shuffle_v1_g4": 16,
    "shuffle_v1_g8": 32,
    "shuffle_v2_3x3": 2,
    "shuffle_v2_5x5": 2,
    "mbconv1_3x3": 1,
    "mbconv3_3x3": 1,
    "mbconv3_5x5": 1,
    "mbconv6_3x3": 1,
    "mbconv6_5x5": 1,
    "mbconv6_3x3_se": 1,
    "mbconv6_5x5_se": 1,
    "igcv1_l4": 4,
    "igcv2": 1,
    "igcv3": 2,
    "esp_k4": 4,
    "esp_k5": 5,
    "eesp": 16,
}


def _make(name: str, inputs: int, channels: int, stride: int) -> Module:
    from automl_networks.units import UNITS

    return UNITS[name](inputs, channels, stride)


VOCABULARY: Mapping[str, Op] = {name: Op(name, partial(_make, name)) for name in MULTIPLES}

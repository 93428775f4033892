"""Every block as an operation of a search space, against the card's table of what each costs."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from automl import BadInput
from automl.measure import multiply_adds
from automl.plugins import Registry
from automl_networks.units import UNITS
from automl_networks.vocabulary import MULTIPLES, VOCABULARY
from automl_spaces.operations import OPERATIONS

C = 240  # a multiple of everything
COSTS = {  # weights of convolutions, C to C at stride 1, which are the multiply-adds a position (the card, section 6)
    "vgg3x3": 9 * C * C,
    "vgg5x5": 25 * C * C,
    "stacked5x5": 18 * C * C,
    "stacked7x7": 27 * C * C,
    "asymmetric3x3": 3 * 2 * C * C,
    "asymmetric7x7": 7 * 2 * C * C,
    "large7x7": 2 * 7 * 2 * C * C,
    "large15x15": 2 * 15 * 2 * C * C,
    "fire": C * (C // 8) + (C // 8) * (C // 2) + 9 * (C // 8) * (C // 2),
    "grouped3x3_g2": 9 * C * C // 2,
    "grouped3x3_g4": 9 * C * C // 4,
    "resnext_g4": 2 * C * (C // 2) + 9 * (C // 2) ** 2 // 4,
    "mobile3x3": 9 * C + C * C,
    "mobile5x5": 25 * C + C * C,
    "xception": 2 * (9 * C + C * C),
    "dilated3x3_d4": 9 * C * C,
    "context": 64 * C * C,
    "residual": 18 * C * C,
    "residual_bottleneck": 2 * C * (C // 4) + 9 * (C // 4) ** 2,
    "pre_activation": 2 * C * (C // 4) + 9 * (C // 4) ** 2,
    "dense": C * C + 36 * (C // 4) ** 2 + (C + C // 4) * C,  # 4k C + 36 k^2, and back to C channels
    "inception": (C // 8) * C * (2 + 2 + 1) + (C // 16) * C + 9 * (C // 4) * (C // 2) + 25 * (C // 16) * (C // 8),
    "shuffle_v1_g1": 2 * C * (C // 4) + 9 * C // 4,
    "shuffle_v1_g2": 2 * C * (C // 4) // 2 + 9 * C // 4,
    "shuffle_v1_g3": 2 * C * (C // 4) // 3 + 9 * C // 4,
    "shuffle_v1_g4": 2 * C * (C // 4) // 4 + 9 * C // 4,
    "shuffle_v2_3x3": C * C // 2 + 9 * C // 2,
    "shuffle_v2_5x5": C * C // 2 + 25 * C // 2,
    "mbconv1_3x3": 9 * C + C * C,
    "mbconv3_3x3": 6 * C * C + 27 * C,
    "mbconv3_5x5": 6 * C * C + 75 * C,
    "mbconv6_3x3": 12 * C * C + 54 * C,
    "mbconv6_5x5": 12 * C * C + 150 * C,
    "igcv1_l4": 9 * C * C // 4 + C * 4,
    "igcv2": 9 * C + C * (15 + 16),
    "igcv3": 6 * C * C + 54 * C,
    "esp_k4": (C * C + 9 * C * C) // 4,
    "esp_k5": (C * C + 9 * C * C) // 5,
    "eesp": C * C // 16 + 9 * C + C * C // 4,
}
PER_IMAGE = {"squeeze_excite": 2 * C * C // 4}  # and not per position
names = pytest.mark.parametrize("name", sorted(VOCABULARY))


def channels(name):
    return MULTIPLES[name] * -(-8 // MULTIPLES[name])


def test_every_unit_is_in_the_vocabulary_and_the_vocabulary_in_the_operations():
    assert list(VOCABULARY) == list(UNITS)
    assert VOCABULARY.items() <= OPERATIONS.items()
    assert set(COSTS) | set(PER_IMAGE) | {"shuffle_v1_g8", "mbconv6_3x3_se", "mbconv6_5x5_se"} == set(VOCABULARY)


@pytest.mark.parametrize("name", sorted(COSTS))
def test_it_costs_what_the_table_says(name):
    with torch.device("meta"):
        module = VOCABULARY[name](C, C, 1)
    weights = sum(layer.weight.numel() for layer in module.modules() if isinstance(layer, nn.Conv2d))
    assert weights == COSTS[name]
    assert multiply_adds(module, (C, 16, 16)) == 256 * COSTS[name]


def test_squeeze_and_excite_costs_an_image_and_not_a_position():
    with torch.device("meta"):
        module = VOCABULARY["squeeze_excite"](C, C, 1)
        squeezed = VOCABULARY["mbconv6_3x3_se"](C, C, 1)
    assert multiply_adds(module, (C, 16, 16)) == PER_IMAGE["squeeze_excite"]
    assert multiply_adds(squeezed, (C, 16, 16)) == 256 * COSTS["mbconv6_3x3"] + 2 * 6 * C * (C // 4)


@names
def test_it_trains_all_its_parameters(name):
    wide = channels(name)
    module = VOCABULARY[name](wide, wide, 1)
    module(torch.randn(4, wide, 6, 6)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


@names
def test_it_takes_any_multiple_of_what_its_channels_must_be(name):
    for wide in (MULTIPLES[name], 3 * MULTIPLES[name]):
        for stride in (1, 2):
            made = VOCABULARY[name](wide, wide, stride).eval()(torch.randn(1, wide, 4, 4))
            assert made.shape[1] == wide


def test_a_cell_space_offers_the_vocabulary():
    registry = Registry()
    offered = [name for name in VOCABULARY if name not in ("shuffle_v1_g3", "esp_k5")]
    values = {"name": "nasnet", "blocks": 1, "channels": 32, "reductions": 1, "operations": offered}
    space = registry.build("space", values)
    task = SimpleNamespace(input=(3, 8, 8), outputs=4)
    chosen = set()
    for number in range(12):
        architecture = space.sample(random.Random(number))
        chosen |= {value.name for name, value in architecture.values.items() if ".op" in name}
        assert space.build(architecture.blueprint, task).eval()(torch.rand(2, 3, 8, 8)).shape == (2, 4)
    assert len(chosen) > 20


def test_a_cell_space_refuses_an_operation_that_does_not_fit_its_channels():
    registry = Registry()
    with pytest.raises(BadInput, match=r"'eesp', which needs channels that are a multiple of 16, .* have 8: give 16"):
        registry.build("space", {"name": "nasnet", "operations": ["eesp"], "channels": 8})
    with pytest.raises(BadInput, match=r"'shuffle_v1_g3', .* multiple of 12, .* have 30: give 24"):
        registry.build("space", {"name": "darts", "operations": ["shuffle_v1_g3"], "channels": 30})
    with pytest.raises(BadInput, match="narrowest cells have 8"):
        registry.build("space", {"name": "nasnet", "operations": ["eesp"], "channels": 32, "skeleton": "imagenet"})
    registry.build("space", {"name": "nasnet", "operations": ["eesp"], "channels": 64, "skeleton": "imagenet"})

"""AlexNet, against the figures of its paper and its formula for response normalisation."""

import pytest
import torch
from golden import build, counted

from automl_networks.fully_connected import FullyConnected
from automl_networks.initialisation import initialise
from automl_networks.response_norm import LocalResponseNorm


@pytest.mark.parametrize(
    ("form", "side", "parameters", "multiply_adds"),
    [
        ("grouped", 227, 60_965_224, 724_406_816),
        ("ungrouped", 227, 62_378_344, 1_135_256_096),
        ("single", 224, 61_100_840, 714_188_480),
    ],
)
def test_it_has_the_published_size(form, side, parameters, multiply_adds):
    assert counted("alexnet", (3, side, side), form=form) == (parameters, multiply_adds)


@pytest.mark.parametrize(
    ("form", "side", "sides"),
    [
        ("grouped", 227, [27, 13, 13, 13, 6]),
        ("single", 224, [27, 13, 13, 13, 6]),
        ("grouped", 67, [7, 3, 3, 3, 1]),
        ("grouped", 64, [32, 16, 16, 16, 8]),
        ("grouped", 33, [17, 9, 9, 9, 5]),
        ("single", 28, [14, 7, 7, 7, 4]),
        ("grouped", 8, [8, 8, 8, 8, 4]),
    ],
)
def test_its_maps_have_the_published_sizes_and_those_of_the_strides_on_small_images(form, side, sides):
    strides = "published" if side == 67 else "auto"
    network = build("alexnet", (3, side, side), 10, form=form, width=0.02, strides=strides).eval()
    maps = [network.stem(torch.rand(1, 3, side, side))]
    for stage in network.stages:
        maps.append(stage(maps[-1]))
    assert [x.shape[-1] for x in maps] == sides


def test_its_groups_see_half_the_channels():
    network = build("alexnet", width=0.05)
    assert [stage[0].groups for stage in (network.stem, *network.stages)] == [1, 2, 1, 2, 2]
    network = build("alexnet", width=0.05, form="single")
    assert {stage[0].groups for stage in (network.stem, *network.stages)} == {1}


def test_response_normalisation_is_the_formula_of_the_paper():
    x = 30 * torch.randn(2, 7, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.empty_like(x)
    for channel in range(7):
        around = x[:, max(0, channel - 2) : channel + 3]
        expected[:, channel] = x[:, channel] / (2 + 1e-4 * around.square().sum(1)) ** 0.75
    torch.testing.assert_close(LocalResponseNorm()(x), expected)
    assert LocalResponseNorm()(x.bfloat16()).dtype == torch.bfloat16


def test_its_head_lets_a_narrow_network_through_at_first():
    head = FullyConnected(8, 2, 64, 10, dropout=0.0)
    initialise(head)
    x = torch.randn(256, 8, 2, 2, generator=torch.Generator().manual_seed(0))
    hidden = head.hidden(x)
    assert 0.5 < hidden.square().mean() < 2
    assert head.last.weight.std() < 0.02

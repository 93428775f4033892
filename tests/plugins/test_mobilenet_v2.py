"""MobileNetV2, against the figures of its paper and releases."""

import pytest
import torch
from golden import build, counted

from automl_networks.inverted_residual import InvertedResidual


@pytest.mark.parametrize(
    ("width", "parameters", "multiply_adds"),
    [
        (1.4, 6_108_776, 582_195_824),
        (1.3, 5_386_792, 509_374_560),
        (1.0, 3_504_872, 300_774_272),
        (0.75, 2_636_424, 209_069_792),
        (0.5, 1_968_680, 97_131_840),
        (0.35, 1_677_128, 59_285_808),
        (0.25, 1_519_112, 37_201_312),
    ],
)
def test_it_has_the_published_size_at_each_width(width, parameters, multiply_adds):
    assert counted("mobilenet_v2", width=width) == (parameters, multiply_adds)


@pytest.mark.parametrize(
    ("side", "multiply_adds"), [(192, 221_316_608), (160, 154_083_200), (128, 99_074_048), (96, 56_289_152)]
)
def test_it_has_the_published_size_at_each_resolution(side, multiply_adds):
    assert counted("mobilenet_v2", (3, side, side)) == (3_504_872, multiply_adds)
    assert counted("mobilenet_v2", resolution=side) == (3_504_872, multiply_adds)


def test_it_has_ten_classes_with_the_published_parameters():
    assert counted("mobilenet_v2", outputs=10)[0] == 2_236_682


def test_its_maps_have_the_published_sizes():
    network = build("mobilenet_v2", width=0.25).eval()
    x = network.stem(torch.rand(1, 3, 224, 224))
    sides = [x.shape[-1]]
    for stage in network.stages:
        x = stage(x)
        sides.append(x.shape[-1])
    assert sides == [112, 112, 56, 28, 14, 14, 7, 7, 7]


def test_it_adds_ten_of_its_seventeen_bottlenecks():
    units = [module for module in build("mobilenet_v2").modules() if isinstance(module, InvertedResidual)]
    assert len(units) == 17
    assert sum(unit.adds for unit in units) == 10


def test_an_inverted_residual_is_identity_plus_branch_and_linear_at_its_end():
    unit = InvertedResidual(32, 32).eval()
    assert sum(parameter.numel() for parameter in unit.parameters()) == 14_848
    x = torch.randn(2, 32, 8, 8)
    assert torch.equal(unit(x), x + unit.branch(x))
    assert (unit.branch(x) < 0).any()
    assert not InvertedResidual(32, 32, stride=2).adds
    assert not InvertedResidual(32, 16).adds

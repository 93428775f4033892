"""VGG and its form for small images, against published figures."""

import pytest
import torch
from golden import build, counted
from timm_results import built_millions, published_millions
from torch import nn


@pytest.mark.parametrize(
    ("depth", "parameters", "multiply_adds"),
    [
        (11, 132_863_336, 7_609_090_048),
        (13, 133_047_848, 11_308_466_176),
        (16, 138_357_544, 15_470_264_320),
        (19, 143_667_240, 19_632_062_464),
    ],
)
def test_it_has_the_published_size_at_each_depth(depth, parameters, multiply_adds):
    assert counted("vgg", depth=depth) == (parameters, multiply_adds)


@pytest.mark.parametrize(("depth", "parameters"), [(16, 138_365_992), (19, 143_678_248)])
def test_it_has_the_published_size_with_batch_normalisation(depth, parameters):
    assert counted("vgg", depth=depth, batch_norm=True)[0] == parameters


@pytest.mark.parametrize(
    ("depth", "hidden", "parameters", "multiply_adds"),
    [(16, True, 14_987_722, 313_463_808), (19, False, 20_035_018, 398_136_320)],
)
def test_it_has_the_published_size_on_small_images(depth, hidden, parameters, multiply_adds):
    found = counted("vgg_cifar", (3, 32, 32), 10, depth=depth, hidden=hidden)
    assert found == (parameters, multiply_adds)


@pytest.mark.parametrize("depth", [11, 13, 16, 19])
@pytest.mark.parametrize("suffix", ["", "_bn"])
def test_it_has_the_size_of_timm(data, depth, suffix):
    found = built_millions("vgg", depth=depth, batch_norm=suffix == "_bn")
    assert found == published_millions(data, f"vgg{depth}{suffix}")


@pytest.mark.parametrize(
    ("name", "side", "sides"),
    [
        ("vgg", 224, [112, 56, 28, 14, 7]),
        ("vgg", 64, [64, 32, 16, 8, 4]),
        ("vgg", 33, [33, 33, 17, 9, 5]),
        ("vgg_cifar", 32, [16, 8, 4, 2, 1]),
        ("vgg_cifar", 28, [14, 7, 4, 2, 1]),
        ("vgg_cifar", 8, [8, 8, 8, 8, 4]),
    ],
)
def test_its_maps_halve_with_each_pool_rounding_up(name, side, sides):
    network = build(name, (3, side, side), 10, depth=11, width=0.1).eval()
    maps = [network.stem(torch.rand(1, 3, side, side))]
    for stage in network.stages:
        maps.append(stage(maps[-1]))
    assert [x.shape[-1] for x in maps] == sides


@pytest.mark.parametrize(
    ("depth", "convolutions"), [(11, [1, 1, 2, 2, 2]), (13, [2] * 5), (16, [2, 2, 3, 3, 3]), (19, [2, 2, 4, 4, 4])]
)
def test_its_stages_have_the_published_convolutions(depth, convolutions):
    network = build("vgg", depth=depth, width=0.05)
    stages = (network.stem, *network.stages)
    assert [sum(isinstance(layer, nn.Conv2d) for layer in stage) for stage in stages] == convolutions
    assert sum(convolutions) + 3 == depth

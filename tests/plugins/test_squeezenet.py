"""SqueezeNet, against the figures of its paper and releases."""

import pytest
import torch
from golden import REGISTRY, build, counted
from torch import nn

from automl import BadInput
from automl.measure import parameters
from automl_networks.fire import Fire
from automl_networks.initialisation import initialise
from automl_networks.zoo.squeezenet import ConvolutionalHead


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize(
    ("version", "parameters", "multiply_adds"), [("1.0", 1_248_424, 818_924_576), ("1.1", 1_235_496, 349_151_936)]
)
def test_it_has_the_published_size(version, parameters, multiply_adds):
    assert counted("squeezenet", version=version) == (parameters, multiply_adds)
    assert counted("squeezenet", version=version, bypass="simple") == (parameters, multiply_adds)


def test_it_has_ten_classes_with_the_published_parameters():
    assert counted("squeezenet", outputs=10)[0] == 727_626


@pytest.mark.parametrize(
    ("version", "side", "expected"),
    [
        ("1.0", 224, [109, 54, 27, 13]),
        ("1.1", 224, [111, 55, 27, 13]),
        ("1.0", 21, [8, 4, 2, 1]),
        ("1.1", 17, [8, 4, 2, 1]),
        ("1.1", 227, [113, 56, 28, 14]),
    ],
)
def test_its_maps_have_the_published_sizes(version, side, expected):
    assert (
        sides_of(build("squeezenet", (3, side, side), version=version, width=0.1, strides="published"), side)
        == expected
    )


@pytest.mark.parametrize(("side", "expected"), [(8, [8, 8, 8, 4]), (28, [28, 14, 7, 4]), (33, [33, 17, 9, 5])])
def test_its_maps_are_halved_rounding_up_on_small_images(side, expected):
    for version in ("1.0", "1.1"):
        assert sides_of(build("squeezenet", (3, side, side), version=version, width=0.1), side) == expected


def sides_of(network, side):
    x = network.eval().stem(torch.rand(1, 3, side, side))
    sides = [x.shape[-1]]
    for stage in network.stages:
        x = stage(x)
        sides.append(x.shape[-1])
    return sides


@pytest.mark.parametrize(("version", "least"), [("1.0", 21), ("1.1", 17)])
def test_its_published_strides_need_so_many_pixels(version, least):
    space = REGISTRY.build("space", {"name": "squeezenet", "version": version, "strides": "published"})
    space.check_image((3, least, least))
    with pytest.raises(BadInput, match=f"at least {least} x {least} pixels.*give space.resolution={least}"):
        space.check_image((3, least - 1, 300))


def test_its_version_may_be_written_as_a_number():
    assert counted("squeezenet", version=1.0) == counted("squeezenet", version="1.0")
    space = REGISTRY.build("space", {"name": "squeezenet", "version": [1.0, 1.1]})
    assert [architecture.values["version"] for architecture in space.enumerate()] == ["1.0", "1.1"]
    with pytest.raises(BadInput, match=r"version=1\.2 must be one of 1\.0, 1\.1, in quotes or not, or a list"):
        REGISTRY.build("space", {"name": "squeezenet", "version": 1.2})


def test_its_metaparameters_give_the_published_table():
    space = REGISTRY.build("space", {"name": "squeezenet"})
    pairs = [(16, 64, 64)] * 2 + [(32, 128, 128)] * 2 + [(48, 192, 192)] * 2 + [(64, 256, 256)] * 2
    assert [space.fire(index) for index in range(8)] == pairs
    settings = {"base": 64, "increment": 32, "frequency": 4, "squeeze_ratio": 0.5, "share_3x3": 0.25, "width": 2.0}
    space = REGISTRY.build("space", {"name": "squeezenet", **settings})
    assert [space.fire(index) for index in range(8)] == [(64, 96, 32)] * 4 + [(96, 144, 48)] * 4


# fire


@pytest.mark.parametrize(("inputs", "squeeze", "one", "three"), [(96, 16, 64, 64), (7, 3, 5, 2)])
def test_a_fire_module_has_the_parameters_of_its_formula(inputs, squeeze, one, three):
    formula = inputs * squeeze + squeeze + squeeze * one + one + 9 * squeeze * three + three
    assert parameters(Fire(inputs, squeeze, one, three)) == formula
    assert parameters(Fire(96, 16, 64, 64)) == 11_920


def test_a_fire_module_puts_one_by_one_before_three_by_three():
    fire = Fire(3, 2, 4, 5)
    x = torch.randn(2, 3, 6, 6)
    squeezed = torch.relu(fire.layers[0](x))
    one, three = (torch.relu(branch(squeezed)) for branch in fire.layers[2])
    assert torch.equal(fire(x), torch.cat([one, three], dim=1))
    assert (one.shape[1], three.shape[1]) == (4, 5)


def test_a_simple_bypass_adds_the_inputs_where_it_can():
    x = torch.randn(2, 8, 5, 5)
    fire = Fire(8, 2, 4, 4, "simple")
    assert torch.equal(fire(x), fire.layers(x) + x)
    assert Fire(6, 2, 4, 4, "simple").bypass is None
    assert Fire(8, 2, 4, 4).bypass is None


def test_a_complex_bypass_has_a_convolution_where_widths_differ():
    x = torch.randn(2, 6, 5, 5)
    fire = Fire(6, 2, 4, 4, "complex")
    assert torch.equal(fire(x), fire.layers(x) + fire.bypass(x))
    assert parameters(Fire(8, 2, 4, 4, "complex")) == parameters(Fire(8, 2, 4, 4))


def test_it_is_bypassed_around_every_second_module():
    for version in ("1.0", "1.1"):
        simple = build("squeezenet", bypass="simple", width=0.1, version=version).modules()
        assert [fire.bypass is not None for fire in simple if isinstance(fire, Fire)] == [False, True] * 4
        wide = build("squeezenet", bypass="complex", width=0.1, version=version).modules()
        assert [isinstance(fire.bypass, nn.Conv2d) for fire in wide if isinstance(fire, Fire)] == [True, False] * 4


def test_a_complex_bypass_costs_a_convolution_for_every_first_module():
    pairs = ((96, 128), (128, 256), (256, 384), (384, 512))
    added = sum(inputs * outputs + outputs for inputs, outputs in pairs)
    assert counted("squeezenet", version="1.0", bypass="complex")[0] == 1_248_424 + added


# head


def test_its_head_begins_with_every_logit_let_through():
    head = ConvolutionalHead(512, 10, 0.5)
    initialise(head)
    assert head[1].weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert (head.eval()(torch.rand(4, 512, 5, 5)) > 0).all()

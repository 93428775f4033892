"""Residual networks and their units, against the figures of their papers."""

import pytest
import torch
from golden import build, counted, counts
from timm_results import built_millions, published_millions
from torch import nn
from torch.nn import functional

from automl_networks.residual import PreActivation, ZeroPadded, basic, bottleneck


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize(
    ("depth", "parameters", "multiply_adds"),
    [
        (18, 11_689_512, 1_814_073_344),
        (34, 21_797_672, 3_663_761_408),
        (50, 25_557_032, 4_089_184_256),
        (101, 44_549_160, 7_801_405_440),
        (152, 60_192_808, 11_513_626_624),
    ],
)
def test_it_has_the_published_size_at_each_depth(depth, parameters, multiply_adds):
    assert counted("resnet", depth=depth) == (parameters, multiply_adds)


def test_it_has_the_published_size_with_the_stride_of_the_paper():
    assert counted("resnet", stride_on="1x1") == (25_557_032, 3_857_973_248)


def test_it_has_ten_classes_with_the_published_parameters():
    assert counted("resnet", depth=18, outputs=10)[0] == 11_181_642


@pytest.mark.parametrize(
    ("depth", "parameters", "multiply_adds"),
    [
        (20, 269_722, 40_551_040),
        (32, 464_154, 68_862_592),
        (44, 658_586, 97_174_144),
        (56, 853_018, 125_485_696),
        (110, 1_727_962, 252_887_680),
        (164, 1_703_258, 247_646_720),
    ],
)
def test_it_has_the_published_size_on_small_images(depth, parameters, multiply_adds):
    assert counted("resnet_cifar", (3, 32, 32), 10, depth=depth) == (parameters, multiply_adds)


def test_projections_add_2752_parameters_to_shortcuts_without():
    sizes = {kind: counted("resnet_cifar", (3, 32, 32), 10, depth=20, shortcut=kind)[0] for kind in "AB"}
    assert sizes == {"A": 269_722, "B": 269_722 + 2_752}


@pytest.mark.parametrize(
    ("settings", "parameters", "multiply_adds"),
    [
        ({"depth": 50}, 25_028_904, 4_230_479_872),
        ({"depth": 101}, 44_177_704, 7_969_996_800),
        ({"depth": 101, "base_width": 8}, 88_791_336, 16_414_015_488),
        ({"depth": 101, "cardinality": 64}, 83_455_272, 15_460_270_080),
        ({"cardinality": 1, "base_width": 64}, 25_557_032, 4_089_184_256),
    ],
)
def test_resnext_has_the_published_size(settings, parameters, multiply_adds):
    assert counted("resnext", **settings) == (parameters, multiply_adds)


@pytest.mark.parametrize(
    ("theirs", "name", "settings"),
    [(f"resnet{depth}", "resnet", {"depth": depth}) for depth in (18, 34, 50, 101, 152)]
    + [
        (f"resnext{depth}_{groups}x{width}d", "resnext", {"depth": depth, "cardinality": groups, "base_width": width})
        for depth, groups, width in ((50, 32, 4), (101, 32, 4), (101, 32, 8), (101, 64, 4))
    ],
)
def test_it_has_the_size_of_timm(data, theirs, name, settings):
    assert built_millions(name, **settings) == published_millions(data, theirs)


@pytest.mark.parametrize(
    ("name", "side", "sides"),
    [
        ("resnet", 224, [56, 56, 28, 14, 7]),
        ("resnext", 224, [56, 56, 28, 14, 7]),
        ("resnet", 64, [32, 32, 16, 8, 4]),
        ("resnet", 33, [33, 33, 17, 9, 5]),
        ("resnet", 28, [28, 28, 14, 7, 4]),
        ("resnet_cifar", 32, [32, 32, 16, 8]),
        ("resnet_cifar", 8, [8, 8, 8, 4]),
    ],
)
def test_its_maps_have_the_published_sizes_and_fewer_strides_on_small_images(name, side, sides):
    network = build(name, (3, side, side), 10, width=0.125).eval()
    maps = [network.stem(torch.rand(1, 3, side, side))]
    for stage in network.stages:
        maps.append(stage(maps[-1]))
    assert [x.shape[-1] for x in maps] == sides


def test_resnext_with_one_group_of_64_is_the_residual_network():
    wide = build("resnext", width=0.25, cardinality=1, base_width=64)
    network = build("resnet", width=0.25)
    wide.load_state_dict(network.state_dict())
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(wide.eval()(x), network.eval()(x))


# units


@pytest.mark.parametrize(("groups", "hidden", "parameters"), [(1, 64, 70_400), (32, 128, 71_168)])
def test_a_bottleneck_has_the_published_size(groups, hidden, parameters):
    with torch.device("meta"):
        unit = bottleneck(256, 256, hidden=hidden, groups=groups)
    weights = 2 * 256 * hidden + 9 * hidden**2 // groups
    assert counts(unit, (256, 14, 10)) == (parameters, 14 * 10 * weights)
    assert parameters == weights + 4 * hidden + 2 * 256


def test_a_grouped_convolution_is_many_narrow_ones_side_by_side():
    unit = bottleneck(32, 32, hidden=16, groups=8).eval().double()
    convolution = unit.branch[1][0]
    x = torch.randn(2, 16, 5, 5, dtype=torch.float64)
    apart = [
        functional.conv2d(part, weight, padding=1)
        for part, weight in zip(x.chunk(8, 1), convolution.weight.chunk(8), strict=True)
    ]
    torch.testing.assert_close(convolution(x), torch.cat(apart, 1), atol=1e-12, rtol=0)


def test_a_grouped_bottleneck_is_the_sum_of_its_paths():
    groups = 8
    unit = bottleneck(32, 32, hidden=16, groups=groups).eval().double()
    for module in unit.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    first, second, third = unit.branch
    x = torch.randn(2, 32, 5, 5, dtype=torch.float64)
    paths = torch.zeros_like(x)
    for group in range(groups):
        own = slice(2 * group, 2 * group + 2)
        path = functional.conv2d(x, first[0].weight[own])
        path = functional.relu(_normalised(path, first[1], own))
        path = functional.conv2d(path, second[0].weight[own], padding=1)
        path = functional.relu(_normalised(path, second[1], own))
        paths += functional.conv2d(path, third[0].weight[:, own])
    torch.testing.assert_close(unit(x), functional.relu(x + third[1](paths)), atol=1e-10, rtol=0)


def _normalised(x, norm, own):
    return functional.batch_norm(
        x, norm.running_mean[own], norm.running_var[own], norm.weight[own], norm.bias[own], eps=norm.eps
    )


@pytest.mark.parametrize("unit", [basic, bottleneck, PreActivation])
@pytest.mark.parametrize(("stride", "outputs"), [(1, 16), (2, 16), (1, 24), (2, 24)])
def test_a_unit_makes_its_outputs_and_the_size_by_its_stride_rounding_up(unit, stride, outputs):
    x = torch.randn(2, 16, 7, 8)
    before = x.clone()
    made = unit(16, outputs, stride)(x)
    assert made.shape == (2, outputs, -(-7 // stride), -(-8 // stride))
    assert torch.equal(x, before)


@pytest.mark.parametrize(("kind", "settings"), [(basic, {}), (bottleneck, {}), (bottleneck, {"groups": 2})])
def test_a_unit_is_the_relu_of_its_input_plus_branch(kind, settings):
    unit = kind(16, 16, **settings).eval()
    x = torch.randn(2, 16, 8, 8)
    assert torch.equal(unit(x), functional.relu(x + unit.branch(x)))


def test_a_pre_activated_unit_keeps_its_input_in_the_sum():
    unit = PreActivation(16, 16).eval()
    nn.init.zeros_(unit.branch[-1].weight)
    x = torch.randn(2, 16, 8, 8)
    assert torch.equal(unit(x), x)
    assert unit.project is None


def test_a_pre_activated_unit_that_changes_the_shape_projects_what_was_normalised():
    unit = PreActivation(16, 32, 2).eval()
    nn.init.zeros_(unit.branch[-1].weight)
    x = torch.randn(2, 16, 8, 8)
    expected = functional.conv2d(unit.activated(x)[..., ::2, ::2], unit.project[-1].weight)
    torch.testing.assert_close(unit(x), expected)
    assert not torch.allclose(expected, functional.conv2d(x[..., ::2, ::2], unit.project[-1].weight))


def test_the_stride_is_on_the_3x3_or_on_the_first_1x1():
    x = torch.randn(1, 16, 8, 8)
    for stride_on, side in (("3x3", 8), ("1x1", 4)):
        unit = bottleneck(16, 32, 2, stride_on=stride_on)
        assert unit.branch[0](x).shape[-1] == side
        assert unit(x).shape == (1, 32, 4, 4)


def test_a_shortcut_without_parameters_takes_every_second_pixel_and_adds_channels_of_zeros():
    x = torch.randn(2, 3, 7, 7)
    made = ZeroPadded(2, 2)(x)
    assert torch.equal(made[:, :3], x[..., ::2, ::2])
    assert not made[:, 3:].any()
    assert made.shape == (2, 5, 4, 4)
    assert sum(parameter.numel() for parameter in basic(3, 5, 2, "A").shortcut.parameters()) == 0

"""Interleaved group convolutions and their networks, against the figures of their papers and releases."""

from itertools import product
from math import prod

import pytest
import torch
from golden import REGISTRY, build, counted
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from automl import BadInput
from automl_networks.interleaved import (
    InterleavedResidual,
    balanced,
    check_complementary,
    interleaved,
    sparse_pointwise,
    structured_sparse,
)

CIFAR = (3, 32, 32)


@pytest.fixture(autouse=True, scope="module")
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def weights(module):
    return sum(layer.weight.numel() for layer in module.modules() if isinstance(layer, nn.Conv2d))


def paths(module, inputs):
    """Return how many paths lead from each input to each output: what comes of ones by kernels of ones."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.ones_(layer.weight)
    with torch.no_grad():
        return module(torch.eye(inputs)[:, :, None, None]).flatten(1)


def sides(network, image):
    x = network.stem(torch.rand(1, *image))
    found = [x.shape[-1]]
    for stage in network.stages:
        x = stage(x)
        found.append(x.shape[-1])
    return found


# IGCV1


@pytest.mark.parametrize(
    ("depth", "partitions", "channels", "parameters", "multiply_adds"),
    [
        (20, 24, 2, 155_962, 28_755_840),
        (38, 24, 2, 317_242, 57_067_392),
        (62, 24, 2, 532_282, 94_816_128),
        (20, 4, 8, 277_546, 42_370_304),
        (38, 4, 8, 575_914, None),
        (62, 4, 8, 973_738, None),
    ],
)
def test_igcv1_has_the_published_sizes_on_cifar(depth, partitions, channels, parameters, multiply_adds):
    found = counted("igcv1", CIFAR, 10, depth=depth, partitions=partitions, channels=channels)
    assert found[0] == parameters
    assert multiply_adds in (None, found[1])


@pytest.mark.parametrize(
    ("settings", "parameters", "multiply_adds"),
    [
        ({"partitions": 4, "channels": 32}, 12_251_240, 1_944_641_536),
        ({"partitions": 16, "channels": 16}, 13_528_296, 2_265_989_120),
        ({"partitions": 100, "channels": 2, "doubles": "partitions"}, 8_637_900, 1_264_780_800),
    ],
    ids=["L4M32", "L16M16", "L100M2"],
)
def test_igcv1_has_the_published_sizes_on_imagenet(settings, parameters, multiply_adds):
    assert counted("igcv1", form="imagenet", **settings) == (parameters, multiply_adds)


def test_igcv1_has_the_published_maps():
    assert sides(build("igcv1", CIFAR, 10, depth=5).eval(), CIFAR) == [32, 32, 16, 8]
    residual = build("igcv1", form="imagenet", partitions=4, channels=4).eval()
    assert sides(residual, (3, 224, 224)) == [56, 56, 28, 14, 7]


@pytest.mark.parametrize("doubles", ["channels", "partitions"])
@pytest.mark.parametrize("form", ["cifar", "imagenet"])
def test_igcv1_trains_every_parameter_in_each_form(form, doubles):
    network = build("igcv1", CIFAR, 10, form=form, doubles=doubles, partitions=6).train()
    network(torch.rand(4, *CIFAR)).square().sum().backward()
    assert all(parameter.grad.any() for parameter in network.parameters())
    widths = [layer.num_features for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert (min(widths), max(widths)) == (6 if doubles == "partitions" else 12, 48 if form == "cifar" else 96)


@pytest.mark.parametrize(("partitions", "channels", "expected"), [(24, 2, (12, 2)), (4, 8, (4, 4)), (3, 1, (2, 1))])
def test_the_width_of_igcv1_multiplies_the_larger_of_partitions_and_channels(partitions, channels, expected):
    network = build("igcv1", CIFAR, 10, partitions=partitions, channels=channels, width=0.5)
    primary, _, secondary, *_ = network.stages[0][0]
    assert (primary.groups, secondary.groups) == expected


def test_igcv1_refuses_depths_that_its_form_does_not_have():
    with pytest.raises(BadInput, match=r"space.depth=21 is no stem, .* classifier: give space.depth=20"):
        REGISTRY.build("space", {"name": "igcv1", "depth": 21})
    with pytest.raises(BadInput, match=r"space.depth=22 .* give space.depth=23"):
        REGISTRY.build("space", {"name": "igcv2", "depth": [20, 22]})
    with pytest.raises(BadInput, match=r"space.depth=20 is for space.form=cifar, and imagenet has 18: leave it out"):
        REGISTRY.build("space", {"name": "igcv1", "form": "imagenet", "depth": 20})


@pytest.mark.parametrize(("partitions", "channels"), [(2, 3), (24, 2), (4, 8), (1, 6), (6, 1)])
def test_an_interleaved_block_has_one_path_from_every_input_to_every_output(partitions, channels):
    width = partitions * channels
    primary_to_last_shuffle = interleaved(width, partitions, channels, kernel=1)[:4]
    assert torch.equal(paths(primary_to_last_shuffle, width), torch.ones(width, width))


def test_an_interleaved_block_without_its_shuffles_has_not():
    block = interleaved(6, 2, 3, kernel=1)
    assert not paths(nn.Sequential(block[0], block[2]), 6).all()


@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3, 5]))
def test_an_interleaved_block_has_the_weights_of_the_formula(partitions, channels, kernel):
    found = weights(interleaved(partitions * channels, partitions, channels, kernel))
    assert found == partitions * channels**2 * kernel**2 + channels * partitions**2


def test_an_interleaved_block_is_widest_for_its_weights_where_partitions_are_nine_times_the_channels():
    def cost(partitions, channels):
        return 9 * partitions * channels**2 + channels * partitions**2

    others = product(range(1, 200), range(1, 40))
    assert max(a * b for a, b in others if cost(a, b) <= cost(18, 2)) == 18 * 2


def test_an_interleaved_block_of_single_channels_is_the_depthwise_separable_unit():
    block = interleaved(8, 8, 1)
    depthwise, _, pointwise, *_ = block
    assert (depthwise.groups, pointwise.groups) == (8, 1)
    x = torch.randn(2, 8, 5, 5)
    torch.testing.assert_close(block[:4](x), pointwise(depthwise(x)))


def test_an_interleaved_block_of_one_partition_is_a_convolution_and_a_scale():
    block = interleaved(8, 1, 8)[:4]
    x = torch.randn(2, 8, 5, 5)
    torch.testing.assert_close(block(x), block[0](x) * block[2].weight.view(1, 8, 1, 1))


# IGCV2


def test_igcv2_has_the_size_of_our_reference():
    assert counted("igcv2", CIFAR, 10) == (111_754, 21_948_928)


def test_igcv2_has_the_published_maps_and_partitions():
    network = build("igcv2", CIFAR, 10).eval()
    assert sides(network, CIFAR) == [32, 32, 16, 8]
    pointwise = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)]
    mixed = [layer.weight.shape[1] for layer in pointwise]
    # a stage that is wider than the one before it begins by widening each channel by itself
    assert mixed == [8, 8] * 6 + [1] + [8, 16] * 6 + [1] + [16, 16] * 6


def test_igcv2_needs_fewest_weights_with_as_many_layers_as_the_balance_says():
    sizes = [counted("igcv2", CIFAR, 10, layers=layers)[0] for layers in (1, 2, 3)]
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize("sizes", [(8, 8), (8, 16), (16, 16), (4, 4, 4), (2, 3, 4), (6,), (3, 1, 2)], ids=str)
def test_sparse_layers_compose_to_a_dense_kernel_of_one_path_each(sizes):
    channels = prod(sizes)
    assert torch.equal(paths(sparse_pointwise(channels, sizes), channels), torch.ones(channels, channels))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_sparse_layers_of_any_sizes_compose_to_a_dense_kernel(sizes):
    channels = prod(sizes)
    layers = sparse_pointwise(channels, sizes)
    assert torch.equal(paths(layers, channels), torch.ones(channels, channels))
    assert weights(layers) == channels * sum(sizes)


def test_the_product_of_the_layers_support_matrices_is_all_ones():
    layers = sparse_pointwise(24, (2, 3, 4))
    product_of_supports = torch.eye(24)
    for place, size in enumerate((2, 3, 4)):
        support = paths(layers[2 * place : 2 * place + 2], 24)
        assert torch.equal(support.sum(0), torch.full((24,), float(size)))
        product_of_supports = product_of_supports @ support
    assert torch.equal(product_of_supports, torch.ones(24, 24))


@given(st.integers(1, 400), st.integers(1, 5))
def test_balanced_partitions_multiply_to_the_channels(channels, layers):
    sizes = balanced(channels, layers)
    assert prod(sizes) == channels
    assert len(sizes) <= layers
    assert sum(sizes) >= len(sizes) * channels ** (1 / len(sizes)) - 1e-9


def test_balanced_partitions_are_as_near_to_the_root_as_they_can_be():
    assert [balanced(channels, 2) for channels in (64, 128, 256, 24, 7)] == [(8, 8), (8, 16), (16, 16), (4, 6), (7,)]
    assert [balanced(64, layers) for layers in (1, 2, 3, 6, 9)] == [(64,), (8, 8), (4, 4, 4), (2,) * 6, (2,) * 6]


@pytest.mark.parametrize(
    ("channels", "sizes", "told"),
    [
        (128, (8, 8), r"\(8, 8\) multiply to 64, and there are 128 channels: give \(8, 16\) or \(16, 8\)"),
        (64, (4, 4, 2), r"multiply to 32, .* 64 channels: give \(4, 4, 4\) or "),
        (7, (2, 3), r"multiply to 6, .* 7 channels: give \(7,\)"),
        (16, (0, 4), r"multiply to 0, .* give \(2, 8\) or \(4, 4\)"),
    ],
)
def test_partitions_that_do_not_multiply_to_the_channels_are_refused(channels, sizes, told):
    with pytest.raises(BadInput, match=told):
        sparse_pointwise(channels, sizes)


@given(st.integers(2, 60), st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_what_the_refusal_of_partitions_names_is_accepted(channels, sizes):
    try:
        check_complementary(channels, sizes)
    except BadInput as refusal:
        for told in str(refusal).partition(": give ")[2].split(" or "):
            named = tuple(int(size) for size in told.strip("()").split(",") if size)
            check_complementary(channels, named)
    else:
        assert prod(sizes) == channels


def test_a_sparse_pointwise_part_has_a_quarter_of_the_dense_weights_at_64_channels():
    assert (weights(sparse_pointwise(64)), weights(sparse_pointwise(64, layers=1))) == (1_024, 4_096)
    assert weights(structured_sparse(64, 64)) == 9 * 64 + 64 * (8 + 8)


def test_one_layer_is_the_depthwise_separable_unit():
    depthwise, _, pointwise, *_ = structured_sparse(8, 8, layers=1)
    layer = pointwise[-1]
    assert (depthwise.groups, layer.groups, layer.weight.shape) == (8, 1, (8, 8, 1, 1))
    x = torch.randn(2, 8, 3, 3)
    assert torch.equal(pointwise(x), layer(x))


def test_a_sparse_unit_refuses_to_widen_by_a_part():
    with pytest.raises(BadInput, match=r"outputs=20 is no multiple of inputs=8, .*: give outputs=16"):
        structured_sparse(8, 20)


def test_sparse_layers_answer_alike_in_both_layouts():
    layers, x = sparse_pointwise(24, (2, 3, 4)), torch.randn(2, 24, 4, 5)
    there = layers(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(layers(x), there)


# IGCV3


@pytest.mark.parametrize(
    ("width", "parameters", "multiply_adds"),
    [
        (1.0, 3_491_688, 312_970_176),
        (0.75, 2_638_084, 189_889_232),
        (0.5, 1_985_528, 96_913_888),
        (0.25, 1_534_020, 34_044_144),
    ],
)
def test_igcv3_has_the_published_size_at_each_width(width, parameters, multiply_adds):
    assert counted("igcv3", width=width) == (parameters, multiply_adds)


def test_igcv3_has_ten_classes_with_the_published_parameters():
    assert counted("igcv3", outputs=10)[0] == 2_223_498


def test_igcv3_has_the_published_maps_and_twice_the_depth():
    network = build("igcv3", width=0.25).eval()
    assert sides(network, (3, 224, 224)) == [112, 112, 56, 28, 14, 14, 7, 7, 7]
    units = [module for module in network.modules() if isinstance(module, InterleavedResidual)]
    assert len(units) == 32
    assert sum(unit.adds for unit in units) == 25


def test_an_interleaved_residual_is_identity_plus_branch_and_linear_at_its_ends():
    unit = InterleavedResidual(8, 8).eval()
    x = torch.randn(2, 8, 5, 5)
    assert torch.equal(unit(x), x + unit.branch(x))
    assert (unit.branch(x) < 0).any()
    assert (unit.branch[0](x) < 0).any()


def test_an_interleaved_residual_joins_every_input_to_every_output_by_its_shuffle_alone():
    unit = InterleavedResidual(8, 8, stride=2).eval()
    assert paths(unit.branch, 8).all()
    unit.branch[1] = nn.Identity()
    expected = torch.block_diag(torch.ones(4, 4), torch.ones(4, 4))
    assert torch.equal((paths(unit.branch, 8) > 0).float(), expected)

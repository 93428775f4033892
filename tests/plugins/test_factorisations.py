"""Large kernels made of small ones, against the identities of their papers."""

import pytest
import torch
from golden import counts
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from automl import BadInput
from automl.measure import parameters
from automl_networks.asymmetric import asymmetric
from automl_networks.stacked import StackedConv

widths = st.integers(1, 12)
sides = st.integers(7, 17)
odd = st.sampled_from((3, 5, 7, 9))
strides = st.integers(1, 3)


def square(inputs, outputs, kernel, stride=1):
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


def linear(*shape, **settings):
    return StackedConv(*shape, norm=False, activation=None, **settings)


def filled(module):
    """Make every weight 1."""
    for parameter in module.parameters():
        nn.init.ones_(parameter)
    return module


# stacked


@given(inputs=widths, middle=widths, outputs=widths, height=sides, width=sides)
def test_two_layers_of_three_cost_nine_times_the_products_of_their_widths(inputs, middle, outputs, height, width):
    with torch.device("meta"):
        found = counts(linear(inputs, middle, outputs, 5), (inputs, height, width))
    weights = 9 * (inputs * middle + middle * outputs)
    assert found == (weights, weights * height * width)


@pytest.mark.parametrize(("receptive_field", "part", "whole"), [(3, 9, 9), (5, 18, 25), (7, 27, 49), (9, 36, 81)])
def test_layers_of_three_cost_the_published_part_of_one_large_kernel(receptive_field, part, whole):
    image = 64, 14, 14
    with torch.device("meta"):
        stacked = counts(linear(64, None, 64, receptive_field), image)
        large = counts(square(64, 64, receptive_field), image)
    assert [whole * cost for cost in stacked] == [part * cost for cost in large]


def test_two_layers_of_three_have_the_published_parameters():
    assert parameters(linear(64, 64, 64, 5)) == 73_728
    assert parameters(square(64, 64, 5)) == 102_400
    assert parameters(linear(64, 64, 64, 5, bias=True)) == 73_728 + 2 * 64
    assert parameters(StackedConv(64, 64, 64, 5)) == 73_728 + 2 * 2 * 64


@given(receptive_field=odd)
def test_an_impulse_reaches_exactly_the_receptive_field(receptive_field):
    module = filled(linear(1, 2, 1, receptive_field))
    impulse = torch.zeros(1, 1, 21, 21)
    impulse[..., 10, 10] = 1
    reach = receptive_field // 2
    expected = torch.zeros(21, 21, dtype=torch.bool)
    expected[10 - reach : 11 + reach, 10 - reach : 11 + reach] = True
    with torch.no_grad():
        assert torch.equal(module(impulse)[0, 0] > 0, expected)


@given(receptive_field=odd, stride=strides, height=sides, width=sides)
def test_a_strided_stack_looks_where_the_large_kernel_looks(receptive_field, stride, height, width):
    # the gradient of an output is where it looks; the first, the last and a middle one
    seen = []
    for module in (linear(1, 1, 1, receptive_field, stride), square(1, 1, receptive_field, stride)):
        image = torch.zeros(1, 1, height, width, requires_grad=True)
        made = filled(module)(image)
        assert made.shape == (1, 1, -(-height // stride), -(-width // stride))
        pixels = made.flatten()[[0, made.numel() // 2, -1]]
        seen.append([torch.autograd.grad(pixel, image, retain_graph=True)[0] > 0 for pixel in pixels])
    assert all(torch.equal(stacked, large) for stacked, large in zip(*seen, strict=True))


def test_every_layer_of_a_stack_has_its_normalisation_and_activation():
    kinds = [
        type(module) for module in StackedConv(3, 4, 5, 7, activation=nn.SiLU).modules() if not list(module.children())
    ]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.SiLU] * 3
    plain = linear(3, 4, 5, 7)
    assert [(layer.in_channels, layer.out_channels) for layer in plain] == [(3, 4), (4, 4), (4, 5)]


@pytest.mark.parametrize("receptive_field", [1, 4, 0, -3])
def test_a_stack_sees_an_odd_number_of_pixels(receptive_field):
    with pytest.raises(BadInput, match=f"see {receptive_field} x {receptive_field} pixels: give an odd number"):
        StackedConv(1, 1, 1, receptive_field)


# asymmetric


@given(inputs=widths, middle=widths, outputs=widths, kernel=odd, height=sides, width=sides)
def test_a_pair_costs_its_kernel_times_the_products_of_its_widths(inputs, middle, outputs, kernel, height, width):
    with torch.device("meta"):
        found = counts(asymmetric(inputs, middle, outputs, kernel, bias=False), (inputs, height, width))
    weights = kernel * middle * (inputs + outputs)
    assert found == (weights, weights * height * width)


@given(channels=widths, kernel=odd)
def test_a_pair_costs_two_parts_of_its_kernel_at_equal_widths(channels, kernel):
    pair = parameters(asymmetric(channels, channels, channels, kernel, bias=False))
    assert kernel * pair == 2 * parameters(square(channels, channels, kernel))


@given(kernel=odd, stride=strides, height=sides, width=sides, seed=st.integers(0, 2**32))
def test_a_pair_makes_any_filter_of_rank_one(kernel, stride, height, width, seed):
    random = torch.Generator().manual_seed(seed)
    high, wide = torch.randn(2, kernel, generator=random, dtype=torch.double)
    large = square(1, 1, kernel, stride).double()
    pair = asymmetric(1, 1, 1, kernel, stride, bias=False).double()
    images = torch.randn(2, 1, height, width, generator=random, dtype=torch.double)
    with torch.no_grad():
        large.weight[0, 0] = torch.outer(high, wide)
        pair[0].weight[0, 0, 0] = wide
        pair[1].weight[0, 0, :, 0] = high
        torch.testing.assert_close(pair(images), large(images), atol=1e-12, rtol=1e-12)


def test_only_the_second_of_a_pair_has_a_bias_and_it_is_split_in_stride():
    wide, high = asymmetric(2, 3, 4, 5, 2)
    assert wide.bias is None
    assert high.bias.shape == (4,)
    assert (wide.stride, high.stride) == ((1, 2), (2, 1))
    assert (wide.padding, high.padding) == ((0, 2), (2, 0))


def test_a_pair_as_a_design_is_normalised_twice_and_has_no_bias():
    layers = asymmetric(2, 3, 4, 5, 2, norm=True)
    assert [type(layer) for layer in layers] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 2
    assert parameters(layers) == 5 * 3 * (2 + 4) + 2 * (3 + 4)
    assert layers(torch.rand(2, 2, 9, 8)).shape == (2, 4, 5, 4)


@pytest.mark.parametrize("kernel", [1, 4, 0])
def test_a_pair_has_an_odd_kernel(kernel):
    with pytest.raises(BadInput, match=f"kernel of {kernel}: give an odd one of 3 or more"):
        asymmetric(1, 1, 1, kernel)

import subprocess
import sys
from itertools import product

import pytest
import torch

from automl_networks.activation import PreActivated
from automl_networks.auxiliary import AuxiliaryHead
from automl_networks.convolutions import convolution
from automl_networks.drop_path import ScheduledDropPath
from automl_networks.pooling import Pool
from automl_networks.reductions import Halves, factorised_reduction
from automl_networks.vocabulary import MULTIPLES
from automl_spaces.operations import NASNET_OPERATIONS, OPERATIONS, SHORTCUTS

SIZES = [(1, 1), (2, 2), (5, 7), (8, 8)]
WIDE = {name: multiple * -(-4 // multiple) for name, multiple in MULTIPLES.items()}  # of the others, 4 channels


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_there_are_the_thirteen_operations_of_nasnet():
    assert len(NASNET_OPERATIONS) == 13
    assert set(NASNET_OPERATIONS) < set(OPERATIONS)
    assert set(SHORTCUTS) < set(OPERATIONS)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_keeps_the_size_or_halves_it_rounding_up(name):
    wide = WIDE.get(name, 4)
    for stride, inputs in product((1, 2), (3, wide, 2 * wide)):
        module = OPERATIONS[name](inputs, wide, stride).eval()
        for height, width in SIZES:
            out = module(torch.randn(2, inputs, height, width))
            assert out.shape == (2, wide, -(-height // stride), -(-width // stride)), (height, width, stride, inputs)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_answers_alike_in_both_layouts_and_in_training(name):
    wide = WIDE.get(name, 4)
    for stride in (1, 2):
        module = OPERATIONS[name](wide, wide, stride)
        images = torch.randn(4, wide, 8, 8)
        answers, slopes = [], []
        for layout in (torch.contiguous_format, torch.channels_last):
            x = images.clone().to(memory_format=layout).requires_grad_()
            answers.append(module.to(memory_format=layout)(x))
            (slope,) = torch.autograd.grad(answers[-1].square().sum() + 0 * x.sum(), x)  # none reads nothing
            slopes.append(slope)
        torch.testing.assert_close(*answers, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(*slopes, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_leaves_its_input_as_it_was(name):
    wide = WIDE.get(name, 4)
    x = torch.randn(2, wide, 8, 8)
    before = x.clone()
    OPERATIONS[name](wide, wide, 1)(x)
    assert torch.equal(x, before)


def test_an_operation_marks_its_module_with_the_decision_that_chose_it():
    module = OPERATIONS["sep3x3"].chosen_by("normal.b0.op0")(4, 4, 1)
    assert module.automl_choice == ("normal.b0.op0", "sep3x3")


def test_the_identity_has_parameters_only_where_size_or_width_change():
    identity, skip = OPERATIONS["identity"], OPERATIONS["skip"]
    assert parameters(identity(8, 8, 1)) == parameters(skip(8, 8, 1)) == 0
    assert parameters(identity(8, 8, 2)) == parameters(identity(8, 8, 2)) == 8 * 8 + 16
    assert not isinstance(identity(8, 8, 2)[0], Halves)
    assert isinstance(skip(8, 8, 2)[0], Halves)


def test_separable_convolutions_are_applied_twice():
    assert parameters(OPERATIONS["sep5x5"](8, 16, 1)) == 25 * 8 + 8 * 16 + 32 + 25 * 16 + 16 * 16 + 32
    assert parameters(OPERATIONS["dilsep5x5"](8, 16, 1)) == 25 * 8 + 8 * 16 + 32


def test_a_shared_relu_is_the_same_as_its_own():
    module = OPERATIONS["conv3x3"](4, 4, 1).eval()
    assert isinstance(module, PreActivated)
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(module(x), module(torch.relu(x), activated=True))


def test_pooling_ignores_what_is_beyond_the_edge():
    ones = torch.ones(1, 1, 5, 5)
    for kernel, stride in product((2, 3, 5), (1, 2)):
        assert torch.equal(Pool("average", kernel, stride)(ones), torch.ones(1, 1, -(-5 // stride), -(-5 // stride)))
        assert torch.equal(Pool("maximum", kernel, stride)(-ones), -torch.ones(1, 1, -(-5 // stride), -(-5 // stride)))


@pytest.mark.parametrize("side", [4, 5])
def test_a_factorised_reduction_sees_every_other_pixel_and_those_between(side):
    halves = Halves(1, 2)
    with torch.no_grad():
        for parameter in halves.parameters():
            parameter.fill_(1.0)
    x = torch.arange(1.0, side * side + 1).reshape(1, 1, side, side)
    out = halves(x)
    assert torch.equal(out[0, 0], x[0, 0, ::2, ::2])
    between = torch.zeros_like(out[0, 1])
    inner = x[0, 0, 1::2, 1::2]
    between[: inner.shape[0], : inner.shape[1]] = inner
    assert torch.equal(out[0, 1], between)


def test_a_factorised_reduction_of_odd_width_gives_the_second_half_one_more():
    reduction = factorised_reduction(4, 7)
    assert reduction[0].here.out_channels == 3
    assert reduction[0].further.out_channels == 4
    assert factorised_reduction(4, 1)(torch.randn(2, 4, 6, 6)).shape == (2, 1, 3, 3)


# drop-path


def test_drop_path_is_the_identity_at_rest_and_before_training_is_under_way():
    drop = ScheduledDropPath(0.5)
    x = torch.randn(4, 2, 3, 3)
    assert drop(x) is x
    drop.on_progress(1.0)
    assert drop(x) is not x
    assert drop.eval()(x) is x


def test_drop_path_drops_whole_maps_and_keeps_the_mean():
    drop = ScheduledDropPath(0.4)
    drop.on_progress(1.0)
    out = drop(torch.ones(20_000, 2, 2, 2))
    assert set(out.flatten().tolist()) == {0.0, out.max().item()}
    assert out.max().item() == pytest.approx(1 / 0.6)
    assert torch.equal(out.amin((1, 2, 3)), out.amax((1, 2, 3)))
    assert out.mean().item() == pytest.approx(1.0, abs=0.02)  # four standard errors


def test_drop_path_grows_with_depth_and_with_progress():
    drop = ScheduledDropPath(0.4, depth=0.5)
    seen = []
    for progress in (0.0, 0.5, 1.0):
        drop.on_progress(progress)
        seen.append(drop.probability)
    assert seen == pytest.approx([0.0, 0.1, 0.2])


def test_drop_path_keeps_the_layout_and_the_precision():
    drop = ScheduledDropPath(0.4)
    drop.on_progress(1.0)
    out = drop(torch.randn(4, 2, 3, 3, dtype=torch.bfloat16).to(memory_format=torch.channels_last))
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last)


# the auxiliary head


@pytest.mark.parametrize("side", [*range(1, 15), 28, 56])
def test_an_auxiliary_head_fits_any_size(side):
    head = AuxiliaryHead(4, side, side + 1, 10)
    assert head.training_only
    assert head(torch.randn(2, 4, side, side + 1)).shape == (2, 10)


def test_an_auxiliary_head_has_the_published_windows_on_published_sizes():
    for side, stride in ((8, 3), (7, 2)):
        pool = AuxiliaryHead(4, side, side, 10).layers[1]
        assert (pool.kernel_size, pool.stride) == ((5, 5), (stride, stride))


def test_an_auxiliary_head_of_darts_has_the_published_number_of_parameters():
    assert parameters(AuxiliaryHead(576, 8, 8, 10)) == 476_426


@pytest.mark.parametrize("side", [7, 8])
def test_leaving_pixels_out_before_a_single_pixel_convolution_is_its_stride(side):
    layers = convolution(6, 4, 1, stride=2)
    strided = torch.nn.Conv2d(6, 4, 1, stride=2, bias=False)
    strided.weight = layers[1].weight
    x = torch.randn(3, 6, side, side)
    assert torch.equal(layers[1](layers[0](x)), strided(x))


def test_a_reduction_of_an_odd_batch_is_computed_within_its_memory():
    """In a process of its own: the strided convolutions that it replaces end it."""
    code = """
import torch
from automl_networks.convolutions import convolution
from automl_networks.reductions import factorised_reduction
torch.set_num_threads(2)
for layers in (convolution(8, 8, 1, stride=2), factorised_reduction(8, 16)):
    layers.to(memory_format=torch.channels_last)
    for _ in range(20):
        layers(torch.randn(55, 8, 28, 28).contiguous(memory_format=torch.channels_last)).sum().backward()
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0

"""DenseNet and its layers, against the figures of its paper."""

import pytest
import torch
from golden import REGISTRY, build, counted
from timm_results import built_millions, published_millions

from automl import BadInput
from automl_networks.dense import DenseLayer, dense_block, transition


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("depth", "parameters", "multiply_adds"),
    [
        (121, 7_978_856, 2_834_161_664),
        (169, 14_149_480, 3_359_843_328),
        (201, 20_013_928, 4_291_365_888),
        (161, 28_681_000, 7_727_907_072),
    ],
)
def test_it_has_the_published_size_at_each_depth(depth, parameters, multiply_adds):
    assert counted("densenet", depth=depth) == (parameters, multiply_adds)


@pytest.mark.parametrize(
    ("form", "depth", "growth", "parameters", "multiply_adds"),
    [
        ("plain", 40, 12, 1_019_722, 264_812_928),
        ("plain", 100, 12, 6_979_642, None),
        ("plain", 100, 24, 27_249_082, None),
        ("bc", 100, 12, 769_162, 287_929_692),
        ("bc", 250, 24, 15_324_406, None),
        ("bc", 190, 40, 25_624_430, None),
    ],
)
def test_it_has_the_published_size_on_small_images(form, depth, growth, parameters, multiply_adds):
    found = counted("densenet_cifar", (3, 32, 32), 10, form=form, depth=depth, growth=growth)
    assert found == (parameters, found[1] if multiply_adds is None else multiply_adds)


@pytest.mark.parametrize("depth", [121, 161, 169, 201])
def test_it_has_the_size_of_timm(data, depth):
    assert built_millions("densenet", depth=depth) == published_millions(data, f"densenet{depth}")


@pytest.mark.parametrize(
    ("name", "side", "sides"),
    [
        ("densenet", 224, [56, 56, 28, 28, 14, 14, 7, 7, 7]),
        ("densenet", 28, [28, 28, 14, 14, 7, 7, 4, 4, 4]),
        ("densenet_cifar", 32, [32, 32, 16, 16, 8, 8, 8]),
        ("densenet_cifar", 8, [8, 8, 8, 8, 4, 4, 4]),
    ],
)
def test_its_maps_have_the_published_sizes_and_fewer_strides_on_small_images(name, side, sides):
    settings = {"depth": 10} if name == "densenet_cifar" else {}
    network = build(name, (3, side, side), 10, width=0.125, **settings).eval()
    maps = [network.stem(torch.rand(1, 3, side, side))]
    for stage in network.stages:
        maps.append(stage(maps[-1]))
    assert [x.shape[-1] for x in maps] == sides


def test_its_blocks_and_transitions_have_the_published_channels():
    with torch.device("meta"):
        network = build("densenet")
    x = torch.empty(1, 64, 56, 56, device="meta")
    channels = []
    for stage in network.stages:
        x = stage(x)
        channels.append(x.shape[1])
    assert channels == [256, 128, 512, 256, 1024, 512, 1024, 1024]


def test_a_layer_keeps_its_input_and_adds_its_growth():
    for bottleneck in (False, True):
        layer = DenseLayer(10, 4, bottleneck)
        x = torch.randn(2, 10, 6, 6)
        before = x.clone()
        made = layer(x)
        assert made.shape == (2, 14, 6, 6)
        assert torch.equal(made[:, :10], before)
        assert torch.equal(x, before)
    assert parameters(DenseLayer(10, 4)) == 10 * 16 + 9 * 16 * 4 + 2 * (10 + 16)
    assert parameters(DenseLayer(10, 4, bottleneck=False)) == 9 * 10 * 4 + 2 * 10


def test_the_last_layer_of_a_block_reads_what_every_layer_added():
    block = dense_block(6, 3, 2).eval()
    x = torch.randn(1, 6, 5, 5).requires_grad_()
    assert [layer.branch[0].num_features for layer in block] == [6, 8, 10]
    made = block(x)
    (slope,) = torch.autograd.grad(made[:, -2:].square().sum(), block[0].branch[-1].weight)
    assert slope.any()
    assert made.shape == (1, 12, 5, 5)


def test_a_transition_averages_or_keeps_the_size():
    x = torch.randn(2, 6, 7, 8)
    assert transition(6, 3)(x).shape == (2, 3, 4, 4)
    assert transition(6, 3, stride=1)(x).shape == (2, 3, 7, 8)


@pytest.mark.parametrize(
    ("form", "depth", "below", "above"), [("bc", 101, 100, 106), ("bc", 7, 10, 16), ("plain", 41, 40, 43)]
)
def test_a_depth_that_no_three_blocks_make_is_refused(form, depth, below, above):
    with pytest.raises(BadInput) as refusal:
        REGISTRY.build("space", {"name": "densenet_cifar", "form": form, "depth": depth})
    assert str(refusal.value) == (
        f"space densenet_cifar has depth={depth}, which is not 4 and a multiple of {6 if form == 'bc' else 3} as "
        f"form={form} has it: give space.depth={below} or {above}"
    )
    for works in (below, above):
        REGISTRY.build("space", {"name": "densenet_cifar", "form": form, "depth": works})

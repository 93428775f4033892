"""Inception-v3, against the figures of its paper and releases."""

import csv
import gzip

import pytest
import torch
from golden import REGISTRY, build, counted
from torch import nn

from automl import BadInput
from automl.measure import parameters
from automl_networks.inception import FORKED_KERNELS, REDUCTION_17, REDUCTION_35, Inception, asymmetric_kernels


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_it_has_the_published_size():
    assert counted("inception_v3", (3, 299, 299)) == (23_834_568, 5_713_216_096)


def test_it_has_the_published_size_with_its_auxiliary_head():
    with torch.device("meta"):
        network = build("inception_v3", (3, 299, 299), auxiliary=True)
    assert sum(parameter.numel() for parameter in network.parameters()) == 27_161_264
    assert parameters(network) == 23_834_568


def test_it_has_the_size_that_timm_measured(data):
    with gzip.open(data / "timm_results/benchmark-infer-amp-nchw-pt240-cu124-rtx3090.csv.gz", "rt") as file:
        (row,) = [row for row in csv.DictReader(file) if row["model"] == "inception_v3"]
    side = int(row["infer_img_size"])
    parameters, multiply_adds = counted("inception_v3", (3, side, side))
    assert round(parameters / 1e6, 2) == float(row["param_count"])
    assert multiply_adds / 1e9 == pytest.approx(float(row["infer_gmacs"]), rel=0.005)  # theirs has more than products


def test_its_maps_have_the_published_shapes():
    network = build("inception_v3", (3, 299, 299)).eval()
    shapes = []
    with torch.inference_mode():
        x = torch.rand(1, 3, 299, 299)
        for part in (*network.stem, *network.stages):
            x = part(x)
            shapes.append(tuple(x.shape[1:3]))
    assert shapes == [
        *((32, 149), (32, 147), (64, 147), (64, 73), (80, 73), (192, 71), (192, 35)),
        *((256, 35), (288, 35), (288, 35), (768, 17), (768, 17), (768, 17), (768, 17), (768, 17)),
        *((1280, 8), (2048, 8), (2048, 8)),
    ]


def test_its_published_strides_need_75_pixels():
    network = build("inception_v3", (3, 75, 75), 10, strides="published", width=0.1).eval()
    sides = []
    network.head.register_forward_pre_hook(lambda _, given: sides.append(given[0].shape[-2:]))
    assert network(torch.rand(1, 3, 75, 75)).shape == (1, 10)
    assert sides == [(1, 1)]
    with pytest.raises(RuntimeError, match="size"):
        network(torch.rand(1, 3, 74, 74))
    space = REGISTRY.build("space", {"name": "inception_v3", "strides": "published"})
    with pytest.raises(BadInput, match="at least 75 x 75 pixels"):
        space.check_image((3, 74, 74))


@pytest.mark.parametrize(("side", "expected"), [(32, [16, 8, 4]), (95, [24, 12, 6]), (8, [8, 8, 4])])
def test_its_maps_are_halved_rounding_up_on_small_images(side, expected):
    network = build("inception_v3", (3, side, side), width=0.1).eval()
    x = network.stem(torch.rand(1, 3, side, side))
    sides = []
    for stage in network.stages:
        x = stage(x)
        sides.append(x.shape[-1])
    assert sides == [expected[0]] * 3 + [expected[1]] * 5 + [expected[2]] * 3


def test_its_normalisation_has_the_published_epsilon_and_its_head_too():
    norms = [m for m in build("inception_v3", auxiliary=True, width=0.1).modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 94 + 2
    assert {norm.eps for norm in norms} == {1e-3}


def test_its_auxiliary_head_trains_every_parameter():
    for side in (28, 96):  # padded, and as published
        network = build("inception_v3", (1, side, side), 10, auxiliary=True, width=0.1).train()
        logits, auxiliary = network(torch.rand(4, 1, side, side))
        assert logits.shape == auxiliary.shape == (4, 10)
        (logits.square().sum() + auxiliary.square().sum()).backward()
        assert [name for name, parameter in network.named_parameters() if not parameter.grad.any()] == []


# the blocks


@pytest.mark.parametrize(
    ("inputs", "branches", "outputs"),
    [
        (288, REDUCTION_35, 768),
        (768, asymmetric_kernels(160), 768),
        (768, REDUCTION_17, 1280),
        (1280, FORKED_KERNELS, 2048),
    ],
    ids=["reduction_35", "asymmetric", "reduction_17", "forked"],
)
def test_a_block_halves_its_map_inside_or_padded(inputs, branches, outputs):
    x = torch.rand(1, inputs, 7, 8)
    with torch.inference_mode():
        block = Inception(inputs, *branches).eval()
        assert block.outputs == outputs
        assert block(x).shape == (1, outputs, 7, 8)
        if branches in (REDUCTION_35, REDUCTION_17):
            assert Inception(inputs, *branches, stride=2).eval()(x).shape == (1, outputs, 4, 4)
            assert Inception(inputs, *branches, stride=2, padded=False).eval()(x).shape == (1, outputs, 3, 3)


def test_it_spends_what_asymmetric_kernels_say():
    middle = 128
    block = Inception(768, *asymmetric_kernels(middle))
    convolutions = 768 * (192 + middle + middle + 192) + 7 * middle * (middle + 192) + 7 * middle * (3 * middle + 192)
    norms = 2 * (192 + middle + middle + 192 + 4 * middle + 192 + 192)
    assert parameters(block) == convolutions + norms

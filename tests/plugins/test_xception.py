"""Xception, against the figures of its paper and releases."""

import csv
import gzip

import pytest
import torch
from golden import REGISTRY, build, counted
from torch import nn

from automl import BadInput
from automl.measure import parameters
from automl_networks.xception import XceptionBlock, separable_norm


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_it_has_the_published_size():
    assert counted("xception", (3, 299, 299)) == (22_855_952, 8_357_403_496)


def test_it_has_ten_classes_with_the_published_parameters():
    assert counted("xception", (3, 299, 299), 10)[0] == 20_827_442


def test_it_has_the_size_that_timm_measured(data):
    with gzip.open(data / "timm_results/benchmark-infer-amp-nchw-pt240-cu124-rtx3090.csv.gz", "rt") as file:
        (row,) = [row for row in csv.DictReader(file) if row["model"] == "legacy_xception"]
    side = int(row["infer_img_size"])
    parameters, multiply_adds = counted("xception", (3, side, side))
    assert round(parameters / 1e6, 2) == float(row["param_count"])
    assert multiply_adds / 1e9 == pytest.approx(float(row["infer_gmacs"]), rel=0.01)  # theirs has more than products


def test_its_maps_have_the_published_shapes():
    network = build("xception", (3, 299, 299)).eval()
    shapes = []
    with torch.inference_mode():
        x = torch.rand(1, 3, 299, 299)
        for part in (*network.stem, *network.stages):
            x = part(x)
            shapes.append(tuple(x.shape[1:3]))
    assert shapes == [
        *((32, 149), (64, 147), (128, 74), (256, 37), (728, 19)),
        *[(728, 19)] * 8,
        *((1024, 10), (1536, 10), (2048, 10)),
    ]


def test_its_published_strides_need_71_pixels():
    network = build("xception", (3, 71, 71), 10, strides="published", width=0.1).eval()
    assert network(torch.rand(1, 3, 71, 71)).shape == (1, 10)
    space = REGISTRY.build("space", {"name": "xception", "strides": "published"})
    with pytest.raises(BadInput, match="at least 71 x 71 pixels"):
        space.check_image((3, 70, 70))


@pytest.mark.parametrize(("side", "expected"), [(32, [32, 32, 16, 8, 8, 4]), (95, [95, 48, 24, 12, 12, 6])])
def test_its_maps_are_halved_rounding_up_on_small_images(side, expected):
    network = build("xception", (3, side, side), width=0.1).eval()
    x = network.stem(torch.rand(1, 3, side, side))
    sides = [x.shape[-1]]
    for stage in network.stages:
        x = stage(x)
        sides.append(x.shape[-1])
    assert sides == [*expected[:4], *[expected[4]] * 8, *[expected[5]] * 3]


def test_it_has_thirty_six_convolutions_of_features():
    network = build("xception", width=0.1)
    depthwise = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 3]
    assert 2 + len(depthwise) == 36


# the block


def test_a_separable_convolution_has_nothing_between_its_two():
    layers = separable_norm(8, 16)
    assert [type(layer) for layer in layers] == [nn.Conv2d, nn.Conv2d, nn.BatchNorm2d]
    assert parameters(layers) == 9 * 8 + 8 * 16 + 32


def test_a_block_adds_its_branch_and_leaves_its_input_as_it_was():
    block = XceptionBlock(8, 8, 3).eval()
    x = torch.randn(2, 8, 6, 6)
    before = x.clone()
    with torch.no_grad():
        assert torch.equal(block(x), x + block.branch(x))
    assert torch.equal(x, before)
    assert parameters(block) == 3 * (9 * 8 + 8 * 8 + 16)


def test_a_block_grows_first_or_last_and_has_a_shortcut_of_its_own():
    shortcut = 8 * 16 + 32
    first, last = XceptionBlock(8, 16, 2, 2), XceptionBlock(8, 16, 2, 2, grows_last=True)
    assert parameters(first) == 9 * 8 + 8 * 16 + 32 + 9 * 16 + 16 * 16 + 32 + shortcut
    assert parameters(last) == 9 * 8 + 8 * 8 + 16 + 9 * 8 + 8 * 16 + 32 + shortcut
    assert first(torch.randn(2, 8, 7, 6)).shape == (2, 16, 4, 3)


def test_a_block_leaves_out_a_relu_that_came_before():
    def count(**settings):
        return sum(isinstance(module, nn.ReLU) for module in XceptionBlock(8, 16, 2, 2, **settings).modules())

    assert (count(), count(activated=True)) == (2, 1)

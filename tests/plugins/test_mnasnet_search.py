import random

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from automl import BadInput
from automl.plugins import Registry
from automl_spaces.mnasnet_search import SKIPS, MnasNetSearch


class ImageNet:
    input = (3, 224, 224)
    outputs = 1000


class Images:
    input = (1, 8, 8)
    outputs = 3


A1 = {"filters": (24, 40, 80, 112, 160, 320), "layers": (2, 3, 4, 2, 3, 1)}
B1 = {"filters": (24, 40, 80, 96, 192, 320), "layers": (3, 3, 3, 2, 4, 1)}


def described(space, *blocks):
    """Return the architecture of blocks given as (convolution, kernel, squeeze, skip), their size the skeleton's."""
    values = {}
    for place, (conv, kernel, squeeze, skip) in enumerate(blocks):
        parts = {"conv": conv, "kernel": kernel, "squeeze": squeeze, "skip": skip, "filters": 1.0, "layers": 0}
        values.update({f"block{place}.{part}": value for part, value in parts.items()})
    return space.read(values)


def counted(space, architecture, task=ImageNet):
    with torch.device("meta"):
        network = space.build(architecture.blueprint, task).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, *task.input))
    return sum(tensor.numel() for tensor in network.parameters()), counter.get_total_flops() // 2


def test_a_block_has_432_ways():
    assert MnasNetSearch(filters=(24,), layers=(2,), strides=(2,)).size() == 432
    five = {"filters": (24, 32, 64, 96, 160), "layers": (2, 3, 4, 3, 3), "strides": (2, 2, 2, 1, 2)}
    assert MnasNetSearch(**five).size() == 432**5
    assert MnasNetSearch().size() == 432**5 * 288
    assert len(MnasNetSearch().sample(random.Random(0)).values) == 36


@pytest.mark.parametrize(
    ("fields", "blocks", "count", "millions"),
    [
        ({}, [("mbconv6", 3, 0.0, "identity")] * 6, 3_504_872, 300.774272),  # MobileNetV2
        (
            A1,
            [
                ("mbconv6", 3, 0.0, "identity"),
                ("mbconv3", 5, 0.25, "identity"),
                ("mbconv6", 3, 0.0, "identity"),
                ("mbconv6", 3, 0.25, "identity"),
                ("mbconv6", 5, 0.25, "identity"),
                ("mbconv6", 3, 0.0, "identity"),
            ],
            3_887_038,
            None,
        ),
        (
            B1,
            [
                ("mbconv3", 3, 0.0, "identity"),
                ("mbconv3", 5, 0.0, "identity"),
                ("mbconv6", 5, 0.0, "identity"),
                ("mbconv6", 3, 0.0, "identity"),
                ("mbconv6", 5, 0.0, "identity"),
                ("mbconv6", 3, 0.0, "none"),
            ],
            4_383_312,
            None,
        ),
    ],
)
def test_published_networks_are_of_the_space_of_their_skeleton(fields, blocks, count, millions):
    space = MnasNetSearch(width=1.0, **fields)
    parameters, multiply_adds = counted(space, described(space, *blocks))
    assert parameters == count
    if millions is None:
        name = {112: "a1", 96: "b1"}[fields["filters"][3]]
        found = Registry().build("space", {"name": "mnasnet", "genotype": name})
        assert (parameters, multiply_adds) == counted(found, found.sample(random.Random(0)))
    else:
        assert multiply_adds == pytest.approx(millions * 1e6, abs=1)


def test_layers_of_a_block_are_alike_and_its_first_alone_strides():
    space = MnasNetSearch()
    for seed in range(6):
        blocks = space.sample(random.Random(seed)).blueprint
        network = space.build(blocks, ImageNet)
        for block, row in zip(blocks, list(network.stages)[1:-1], strict=True):
            assert len(row) == block.layers
            counts = [sum(parameter.numel() for parameter in layer.parameters()) for layer in list(row)[1:]]
            assert len(set(counts)) <= 1
        with torch.no_grad():
            assert network.eval()(torch.randn(1, 3, 64, 64)).shape == (1, 1000)


def test_a_skip_that_no_layer_can_add_is_none():
    def keys(**fields):
        space = MnasNetSearch(layers=(1,), strides=(2,), width=1.0, **fields)
        return {skip: space.canonical(described(space, ("conv", 3, 0.0, skip)).blueprint) for skip in SKIPS}

    assert len(set(keys(filters=(24,)).values())) == 1  # of 16 channels
    equal = keys(filters=(16,))
    assert equal["identity"] == equal["none"] != equal["pool"]


def test_pooling_is_added_where_it_is_chosen():
    space = MnasNetSearch(filters=(8,), layers=(2,), strides=(1,))
    built = {}
    for skip in ("pool", "identity", "none"):
        torch.manual_seed(0)
        built[skip] = space.build(described(space, ("conv", 3, 0.0, skip)).blueprint, Images).eval().stages[1]
    x = torch.randn(2, 8, 5, 5)
    layer = built["none"][1](x)
    torch.testing.assert_close(built["identity"][1](x), layer + x)
    pooled = torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    torch.testing.assert_close(built["pool"][1](x), layer + pooled)


def test_widths_that_round_to_one_are_one_network():
    space = MnasNetSearch()  # a quarter of 24 channels is 8, more or less
    keys = {
        space.canonical(space.read({**space.sample(random.Random(0)).to_json(), "block0.filters": factor}).blueprint)
        for factor in (0.75, 1.0, 1.25)
    }
    assert len(keys) == 1


def test_a_skeleton_of_unequal_lists_and_images_too_small_are_refused():
    with pytest.raises(BadInput, match=r"space\.filters has 2, space\.layers has 6.*give lists of one length"):
        MnasNetSearch(filters=(24, 32))
    Images.input = (1, 3, 8)
    try:
        with pytest.raises(BadInput, match=r"at least 4 x 4 pixels, and these are 3 x 8: give task\.size=4"):
            MnasNetSearch().check(Images)
    finally:
        Images.input = (1, 8, 8)

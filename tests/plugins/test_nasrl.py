import math
import random

import pytest
import torch
from spaces_contract import Images, check_ergodic, check_recipe, check_training, samples

from automl import BadInput, measure
from automl.testing import check_space
from automl_spaces.dags import INPUT, Node
from automl_spaces.nasrl import NASRL, Convolution

SMALL = {"filters": (2, 4), "kernels": (1, 3)}


def layer(height, width, filters, *reads, strides=(1, 1)):
    return Convolution(height, width, *strides, filters, reads)


def test_the_contract_of_spaces_holds():
    check_space(NASRL(layers=3, **SMALL), Images(), samples=10)
    check_space(NASRL(layers=3, strides=(1, 2, 3), pools=(1,), **SMALL), Images(), samples=5)


def test_samples_read_earlier_layers_alone():
    for layers in samples(NASRL(layers=4)):
        assert all(read in range(place) for place, layer in enumerate(layers) for read in layer.reads)


def test_the_size_is_that_of_the_paper():
    space = NASRL(layers=15)
    assert space.size() == 64**15 * 2**105
    assert round(math.log10(space.size()), 1) == 58.7
    assert NASRL(layers=2, strides=(1, 2, 3)).size() == 576**2 * 2
    assert space.exceeds(10**58)


def test_mutation_reaches_every_network():
    check_ergodic(NASRL(layers=3, kernels=(1, 3), filters=(2,)), tries=100)
    check_ergodic(NASRL(layers=1, kernels=(1, 3), filters=(2, 4), strides=(1, 2)))


def test_what_is_left_open_is_completed():
    space = NASRL(layers=4)
    layers = (layer(3, 3, 8), layer(1, 5, 12, 0), layer(3, 3, 8), layer(3, 3, 16, 1))
    assert space.dag(layers) == [
        Node(("conv3x3", 8), (INPUT,)),
        Node(("conv1x5", 12), (0,)),
        Node(("conv3x3", 8), (INPUT,)),
        Node(("conv3x3", 16), (1,)),
        Node(("concatenate",), (2, 3)),
    ]
    network = space.build(layers, Images((3, 8, 8)))
    convolutions = 3 * 8 * 9 + 8 * 12 * 5 + 3 * 8 * 9 + 12 * 16 * 9
    assert measure.parameters(network) == convolutions + 2 * (8 + 12 + 8 + 16) + (8 + 16) * 10 + 10
    assert space.graph(layers)["network"][-1] == ("4", "output", "concatenate")


def test_maps_of_different_sizes_get_zeros_around_them():
    space = NASRL(layers=2, strides=(1, 3))
    layers = (layer(1, 1, 8), layer(1, 1, 8, strides=(3, 1)))
    network = space.build(layers, Images((1, 7, 7))).eval()
    maps = network[0](torch.randn(1, 1, 7, 7))
    assert maps.shape == (1, 16, 7, 7)
    rows = maps[0, 8:].abs().sum((0, 2)) > 0
    assert not rows[[0, 1, 5, 6]].any()  # three rows are left of seven, between two above and two below
    assert rows[2:5].any()


def test_the_order_in_which_layers_are_told_has_no_say():
    space = NASRL(layers=3)
    one = (layer(3, 3, 8), layer(1, 1, 12), layer(3, 5, 8, 0, 1))
    other = (layer(1, 1, 12), layer(3, 3, 8), layer(3, 5, 8, 0, 1))
    assert space.canonical(one) == space.canonical(other)
    assert space.canonical(one) != space.canonical((layer(3, 3, 8), layer(1, 1, 12), layer(5, 3, 8, 0, 1)))
    assert space.canonical(one) != space.canonical((layer(3, 3, 8), layer(1, 1, 12), layer(3, 5, 8, 1)))
    pooled = NASRL(layers=3, pools=(1,))
    assert pooled.canonical(one) != pooled.canonical(other)


def test_networks_train():
    check_training(NASRL(layers=4, strides=(1, 2), pools=(2,), **SMALL))


def test_children_take_each_layer_from_one_parent():
    space, rng = NASRL(layers=3), random.Random(0)
    a, b = space.sample(rng), space.sample(rng)
    for _ in range(50):
        child = space.cross(a, b, rng).blueprint
        assert all(one in (x, y) for one, x, y in zip(child, a.blueprint, b.blueprint, strict=True))


def test_bad_fields_are_refused():
    with pytest.raises(BadInput, match=r"space\.kernels has 4"):
        NASRL(kernels=(4,))
    with pytest.raises(BadInput, match=r"space\.pools has 7, but there are 6 layers"):
        NASRL(pools=(7,))


def test_the_recipe_lists_every_field_with_its_default():
    check_recipe(NASRL(), "nasrl")

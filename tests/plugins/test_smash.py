import random

import pytest
import torch
from spaces_contract import Images, check_ergodic, check_recipe, check_training, samples

from automl import BadInput, measure
from automl.testing import check_space
from automl_spaces.smash import SMASH, Convolution, Layer

SMALL = {"blocks": 2, "layers": 2, "banks": 2, "channels": 2, "filters": 2, "kernels": (1, 3), "dilation": 2}
TINY = {"blocks": 1, "layers": 1, "banks": 2, "filters": 1, "kernels": (3,), "dilation": 1, "groups": 1}
ONE = Convolution(3, 5, 1, 1)
OTHER = Convolution(3, 3, 2, 2)


def test_the_contract_of_spaces_holds():
    check_space(SMASH(**{**SMALL, "layers": 1}), Images(), samples=3)
    check_space(SMASH(**TINY, channels=1), Images((3, 1, 3)), samples=3)


def test_the_size_is_by_formula_what_enumeration_says():
    space = SMASH(**TINY)
    assert space.size() == len(set(space.enumerate())) == 3 * 3 * 5
    twice = SMASH(**{**TINY, "layers": 2})
    assert twice.size() == len(set(twice.enumerate())) == 45**2
    grouped = SMASH(**{**TINY, "groups": 2, "banks": 1})
    assert grouped.size() == len(set(grouped.enumerate())) == 2 + 4 + 4 + 8 + 16
    assert SMASH(layers=4, channels=8, filters=8, groups=8).exceeds(10**90)


def test_groups_divide_the_channels_of_a_bank():
    rng, space = random.Random(0), SMASH(channels=6, groups=4)
    groups = {
        convolution.groups
        for _ in range(50)
        for block in space.sample(rng).blueprint
        for layer in block
        for path in layer.paths
        for convolution in path
    }
    assert groups == {1, 2, 3}


def test_mutation_reaches_every_network():
    check_ergodic(SMASH(**TINY))


def test_samples_read_and_write_and_have_paths_as_often_as_told():
    lengths = {}
    for blocks in samples(SMASH(blocks=1, layers=1)):
        (layer,) = blocks[0]
        assert layer.reads
        assert layer.writes
        lengths[tuple(map(len, layer.paths))] = lengths.get(tuple(map(len, layer.paths)), 0) + 1
    expected = {(1,): 0.05, (2,): 0.1, (1, 1): 0.15, (2, 1): 0.25, (2, 2): 0.45}
    assert lengths.keys() == expected.keys()
    assert all(abs(lengths[key] / 10_000 - share) < 0.02 for key, share in expected.items())


def test_a_layer_reads_convolves_and_adds():
    layers = (
        Layer((0, 2), (1,), 2, ((ONE, OTHER), (OTHER,))),
        Layer((1,), (0, 2), 1, ((ONE,),)),
    )
    space = SMASH(blocks=1, banks=3, channels=4)
    network = space.build((layers,), Images()).eval()
    memory = network.stages[0][1]
    first = 8 * 8 + 16 + (8 * 8 * 15 + 16) + (8 * 4 * 9 // 2 + 8) + (8 * 4 * 9 // 2 + 8)
    second = 4 * 4 + 8 + (4 * 8 * 15 + 16)
    assert measure.parameters(memory) == first + second
    x = torch.randn(1, 12, 6, 6)
    banks = list(x.chunk(3, 1))
    banks[1] = banks[1] + memory.layers[0](torch.cat([banks[0], banks[2]], 1))
    made = memory.layers[1](banks[1])
    torch.testing.assert_close(memory(x), torch.cat([banks[0] + made[:, :4], banks[1], banks[2] + made[:, 4:]], 1))


def test_the_key_minds_neither_banks_nor_paths_nor_an_order_that_is_none():
    space = SMASH(blocks=1, banks=3)
    one, other = Layer((0,), (1,), 2, ((ONE, OTHER), (OTHER,))), Layer((2,), (2,), 1, ((ONE,),))
    key = space.canonical(((one, other),))
    assert key == space.canonical(((other, one),))
    assert key == space.canonical(((one._replace(paths=one.paths[::-1]), other),))
    assert key == space.canonical(((one._replace(reads=(2,)), other._replace(reads=(0,), writes=(0,))),))
    assert key != space.canonical(((one, other._replace(reads=(1,))),))
    assert key != space.canonical(((one, other._replace(writes=(1,))),))
    assert key != space.canonical(((one._replace(paths=((OTHER, ONE), (OTHER,))), other),))
    bound = other._replace(reads=(1,))  # reads what the other writes
    assert space.canonical(((one, bound),)) != space.canonical(((bound, one),))


def test_there_are_as_many_keys_as_networks_without_names_for_banks():
    """One layer of two banks: {0}, {1} or both read, and likewise written, up to a swap: 5 of 9; 5 patterns."""
    space = SMASH(**TINY)
    assert len({space.canonical(architecture.blueprint) for architecture in space.enumerate()}) == 5 * 5


def test_networks_train():
    check_training(SMASH(**SMALL), (2, 5, 8), 16)


def test_the_graph_has_blocks():
    space = SMASH(blocks=1, banks=2)
    graph = space.graph(((Layer((0,), (1,), 1, ((OTHER,),)),),))
    assert graph == {
        "block0": [
            ("input", "1", "bank"),
            ("input", "2", "bank"),
            ("1", "3", "1:3x3d2g2"),
            ("3", "4", "part"),
            ("2", "5", "sum"),
            ("4", "5", "sum"),
            ("1", "output", "banks"),
            ("5", "output", "banks"),
        ]
    }


def test_bad_fields_and_images_are_refused():
    with pytest.raises(BadInput, match=r"space\.kernels has 4"):
        SMASH(kernels=(4,))
    with pytest.raises(BadInput, match=r"at least 4 x 4 pixels, and these are 3 x 4: give task\.size=4"):
        SMASH().check(Images((1, 3, 4)))


def test_the_recipe_lists_every_field_with_its_default():
    check_recipe(SMASH(), "smash")

import random

import pytest
import torch
from spaces_contract import Images, check_ergodic, check_recipe, check_training, samples
from torch.nn import functional

from automl import BadInput, measure
from automl.testing import check_space
from automl_spaces.dags import INPUT
from automl_spaces.nasbot import CONVOLUTIONS, NASBOT, POOLS, Layer, leaves

CONV = Layer("conv3", 8, 1, (INPUT,))


def levels(layers):
    """Return for each layer how often its image was halved; None where it has none any more."""
    found = []
    for layer in layers:
        level = 0 if layer.parents == (INPUT,) else found[layer.parents[0]]
        found.append(None if layer.kind == "fc" else level + layer.stride - 1)
    return found


def test_the_contract_of_spaces_holds():
    check_space(NASBOT(least=1, most=4, units=(2, 4)), Images(), samples=10)
    check_space(NASBOT(least=2, most=2, parents=1, units=(2,)), Images((3, 1, 5)), samples=3)


def test_every_sample_meets_the_constraints():
    for layers in samples(NASBOT(most=10, parents=3)):
        assert 2 <= len(layers) <= 10
        assert layers[0].kind in CONVOLUTIONS
        assert layers[0].parents == (INPUT,)
        found = levels(layers)
        for place, layer in enumerate(layers[1:], 1):
            assert 1 <= len(layer.parents) <= 3
            assert list(layer.parents) == sorted(set(layer.parents), reverse=True)
            assert all(0 <= parent < place for parent in layer.parents)
            assert len({found[parent] for parent in layer.parents}) == 1
            assert layer.kind == "fc" or found[layer.parents[0]] is not None
            assert (layer.units == 0) == (layer.kind in POOLS)


def test_the_size_is_counted_and_enumerated():
    for fields in ({"most": 2}, {"least": 3, "most": 3}, {"least": 1, "most": 3, "parents": 1}):
        space = NASBOT(**{"least": 1, "units": (2,), **fields})
        assert space.size() == sum(1 for _ in space.enumerate())
    assert NASBOT(least=1, most=2, units=(2, 4)).size() == 12 + 12 * (6 * 2 * 2 + 2 + 2)
    assert NASBOT().size() > 10**9
    assert NASBOT().exceeds(10**9)
    assert not NASBOT(most=2).exceeds(NASBOT(most=2).size())


def test_the_number_of_parents_bounds_the_wirings():
    """Of the last of four layers that all keep the size: 7 sets of 3 layers, 6 of two at most, 3 of one."""
    for parents, sets in ((3, 7), (2, 6), (1, 3)):
        space = NASBOT(least=4, most=4, parents=parents, units=(2,))
        given = {f"layer{place}.kind": "conv3" for place in range(4)} | {
            f"layer{place}.stride": 1 for place in range(4)
        }
        found = {architecture.blueprint[3].parents for architecture in space.enumerate(given)}
        assert len(found) == sets


def test_mutation_reaches_every_network():
    check_ergodic(NASBOT(least=1, most=2, units=(2,)), tries=80)


def test_the_order_of_layers_has_no_say():
    space = NASBOT()
    one, other = Layer("conv5", 16, 1, (0,)), Layer("maxpool", 0, 2, (0,))
    key = space.canonical((CONV, one, other))
    assert key == space.canonical((CONV, other, one))
    assert key != space.canonical((CONV, one, other._replace(kind="avgpool")))
    assert key != space.canonical((CONV, one, other._replace(parents=(1,))))
    assert leaves((CONV, one, other)) == [1, 2]


def test_a_network_is_the_mean_of_its_softmaxes():
    layers = (
        CONV,
        Layer("res5", 16, 2, (0,)),
        Layer("avgpool", 0, 2, (0,)),
        Layer("fc", 4, 1, (2, 1)),
        Layer("conv3", 8, 1, (0,)),
    )
    network = NASBOT().build(layers, Images((1, 5, 7), 3)).eval()
    parts = [72 + 16, 8 * 16 * 25 + 32 + 16 * 16 * 25 + 32 + 8 * 16 + 32, 24 * 3 * 4 * 4 + 4, 8 * 8 * 9 + 16]
    assert measure.parameters(network) == sum(parts) + (4 * 3 + 3) + (8 * 3 + 3)
    x = torch.randn(2, 1, 5, 7)
    first, residual, pool, dense, last, _ = network.layers
    ends = network.merges[-1].adapters
    stem = first(x)
    vector = dense(torch.cat([pool(stem), residual(stem)], 1))
    chances = (functional.softmax(ends[0](vector), 1) + functional.softmax(ends[1](last(stem)), 1)) / 2
    torch.testing.assert_close(network(x).exp(), chances)


def test_networks_train():
    check_training(NASBOT(most=6, units=(2, 4)), (2, 9, 6))


def test_the_graph_has_the_edges():
    layers = (CONV, Layer("fc", 4, 1, (0,)), Layer("maxpool", 0, 2, (0,)))
    assert NASBOT().graph(layers) == {
        "network": [
            ("input", "1", "conv3 8"),
            ("1", "2", "fc 4"),
            ("1", "3", "maxpool /2"),
            ("2", "output", "softmax"),
            ("3", "output", "softmax"),
        ]
    }


def test_bad_fields_are_refused():
    with pytest.raises(BadInput, match=r"space\.least=9 is more than the space\.most=7"):
        NASBOT(least=9)
    with pytest.raises(BadInput, match=r"more than 200 edges: give space\.parents=3, or space\.most=40"):
        NASBOT(most=60, parents=5)


def test_more_layers_than_can_be_counted_are_estimated():
    size = NASBOT(least=13, most=13, units=(2,)).size()
    assert isinstance(size, float)
    assert size > 10**13


def test_sampling_is_as_fast_with_many_layers():
    rng, space = random.Random(0), NASBOT(least=40, most=40, parents=5)
    assert len(space.sample(rng).blueprint) == 40


def test_the_recipe_lists_every_field_with_its_default():
    check_recipe(NASBOT(), "nasbot")

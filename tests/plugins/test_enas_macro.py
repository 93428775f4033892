import random

import pytest
import torch
from spaces_contract import Images, check_ergodic, check_recipe, check_training, samples

from automl import BadInput, Op, measure
from automl.decisions import Soft
from automl.mixture import Mixture
from automl.sharing import places
from automl.testing import check_space
from automl_spaces.enas_macro import ENASMacro

SMALL = {"layers": 3, "channels": 4}


def test_the_contract_of_spaces_holds():
    check_space(ENASMacro(**SMALL), Images(), samples=8)
    check_space(ENASMacro(layers=1, channels=2, reductions=0, operations=("max3x3",)), Images((3, 2, 5)), samples=2)
    check_space(ENASMacro(join="concat", growth=2, channels=2, layers=4), Images(), samples=4)


def test_the_size_is_that_of_the_paper():
    space = ENASMacro(layers=12)
    assert space.size() == 6**12 * 2**66
    assert f"{space.size():.1e}" == "1.6e+29"
    assert space.exceeds(10**29)


def test_mutation_reaches_every_network():
    check_ergodic(ENASMacro(layers=3, operations=("conv3x3", "sep3x3")), tries=60)


def test_different_networks_have_different_keys():
    space = ENASMacro(layers=3, operations=("conv3x3", "sep3x3", "max3x3"))
    assert len({space.canonical(architecture.blueprint) for architecture in space.enumerate()}) == space.size()


def test_samples_skip_forward_past_a_layer():
    for layers in samples(ENASMacro()):
        assert all(state < place for place, layer in enumerate(layers) for state in layer.skips)


def test_arcs_are_written_and_read():
    space = ENASMacro(layers=4)
    architecture = space.from_arc("0 3 1 5 0 1 2 1 0 1")
    assert [(layer.op.name, layer.skips) for layer in architecture.blueprint] == [
        ("conv3x3", ()),
        ("sep5x5", (0,)),
        ("max3x3", (1,)),
        ("conv5x5", (0, 2)),
    ]
    assert space.arc(architecture.blueprint) == "0 3 1 5 0 1 2 1 0 1"
    rng = random.Random(0)
    for _ in range(50):
        one = space.sample(rng)
        assert space.from_arc(space.arc(one.blueprint)) == one
    for text, words in (
        ("0 3 1 5 0 1 2 1 0", "no arc of 4 layers: write 10 numbers"),
        ("0 3 x 5 0 1 2 1 0 1", "no arc"),
        ("9 3 1 5 0 1 2 1 0 1", "'layer0.op' is 9"),
        ("0 3 2 5 0 1 2 1 0 1", "'layer1.skip0' is 2"),
    ):
        with pytest.raises(BadInput, match=words):
            space.from_arc(text)


def test_a_network_computes_what_its_arc_says():
    space = ENASMacro(layers=3, channels=4, reductions=0)
    network = space.build(space.from_arc("0 3 1 5 1 1").blueprint, Images()).eval()
    x = torch.randn(2, 1, 8, 8)
    stem = network.stem(x)
    first = network.operations[0](stem)
    second = network.ends[1](network.operations[1](first) + stem)
    third = network.ends[2](network.operations[2](second) + stem + first)
    torch.testing.assert_close(network(x), network.head(third))
    concat = ENASMacro(layers=3, channels=4, reductions=0, join="concat")
    network = concat.build(concat.from_arc("0 3 1 5 1 1").blueprint, Images())
    assert [end[0].in_channels for end in list(network.ends)[1:]] == [8, 12]


def test_separable_convolutions_are_separable():
    def parameters(op):
        space = ENASMacro(layers=1, channels=8, reductions=0)
        return measure.parameters(space.build(space.from_arc(op).blueprint, Images()))

    assert parameters("0") - parameters("4") == 8 * 8 * 9 + 16
    assert parameters("1") - parameters("4") == 8 * 9 + 8 * 8 + 16
    assert parameters("3") - parameters("4") == 8 * 25 + 8 * 8 + 16
    assert parameters("4") == parameters("5")


def test_reductions_halve_what_is_still_read():
    space = ENASMacro(layers=6, channels=4, growth=2)
    architecture = space.from_arc("0 0 0 0 0 0 0 1 0 0 0 0 0 0 0 0 0 0 0 1 0")
    network = space.build(architecture.blueprint, Images((1, 9, 9)))
    # after layers 2 and 4; the stem skips to layer 3, the output of layer 2 to layer 5
    assert sorted(network.reductions) == ["2_0", "2_2", "4_3", "4_4"]
    assert network.head[-1].in_features == 16
    assert network(torch.randn(2, 1, 9, 9)).shape == (2, 10)


@pytest.mark.parametrize("join", ["sum", "concat"])
def test_networks_train(join):
    check_training(ENASMacro(layers=4, channels=4, growth=2, join=join), (2, 9, 5), 12)


def test_all_networks_share_their_parameters():
    space, rng = ENASMacro(layers=4, channels=4), random.Random(0)
    shapes = {}
    for _ in range(20):
        network = space.build(space.sample(rng).blueprint, Images())
        for place in places(network):
            shapes.setdefault(place.key, set()).add(tuple(place.owner._parameters[place.attribute].shape))
    assert all(len(found) == 1 for found in shapes.values())


def test_operations_can_be_had_all_at_once():
    space, rng = ENASMacro(layers=3, channels=4), random.Random(0)

    def answer(name, domain):
        is_op = isinstance(domain.options[0], Op)
        return Soft((1 / domain.count,) * domain.count) if is_op else domain.sample(rng.random)

    soft = space.make(answer)
    network = space.build(soft.blueprint, Images())
    for module in network.modules():
        if isinstance(module, Mixture):
            module.weights = torch.full((6,), 1 / 6)
    assert network(torch.randn(2, 1, 8, 8)).shape == (2, 10)


def test_the_graph_has_the_skips():
    space = ENASMacro(layers=3)
    assert space.graph(space.from_arc("0 3 1 5 0 1").blueprint) == {
        "network": [
            ("input", "1", "conv3x3"),
            ("1", "2", "sep5x5"),
            ("input", "2", "skip"),
            ("2", "output", "max3x3"),
            ("1", "output", "skip"),
        ]
    }


def test_bad_fields_and_images_are_refused():
    with pytest.raises(BadInput, match=r"'sep4x4', which is no operation"):
        ENASMacro(operations=("sep4x4",))
    with pytest.raises(BadInput, match=r"space\.reductions=2 divide 2 layers .* at most 1"):
        ENASMacro(layers=2)
    with pytest.raises(BadInput, match=r"at least 4 x 4 pixels, and these are 3 x 4: give task\.size=4"):
        ENASMacro().check(Images((1, 3, 4)))


def test_the_recipe_lists_every_field_with_its_default():
    check_recipe(ENASMacro(), "enas_macro")

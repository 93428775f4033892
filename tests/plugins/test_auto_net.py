import math
import random

import pytest
import torch
from spaces_contract import Images, check_ergodic, check_recipe, check_training, samples
from torch import nn

from automl import BadInput, measure
from automl.testing import check_space
from automl_spaces.auto_net import ACTIVATIONS, INITIALISATIONS, AutoNet, Layer

FINITE = {"dropout": 0, "activations": ("relu", "tanh"), "initialisations": ("he_normal", "sparse")}


def test_the_contract_of_spaces_holds():
    check_space(AutoNet(layers=3, units=(2, 16)), Images(), samples=15)
    check_space(AutoNet(layers=1, units=(4, 4), **FINITE), Images((3, 5, 7)), samples=2)


def test_decisions_depend_on_others():
    rng, space = random.Random(0), AutoNet()
    found = set()
    for _ in range(300):
        architecture = space.sample(rng)
        values = architecture.values
        assert sum(name.endswith(".units") for name in values) == values["layers"] == len(architecture.blueprint)
        for place in range(values["layers"]):
            layer = f"layer{place}"
            kind = values[f"{layer}.activation"]
            assert (f"{layer}.leakiness" in values) == (kind == "leaky_relu")
            assert (f"{layer}.scale_in" in values) == (f"{layer}.scale_out" in values) == (kind == "scaled_tanh")
            assert (f"{layer}.deviation" in values) == (values[f"{layer}.init"] == "normal")
        found |= {name.partition(".")[2] for name in values}
    assert len(found) == 8 + 1  # of a layer, and their number


def test_every_sample_is_legal():
    for layers in samples(AutoNet()):
        assert 1 <= len(layers) <= 6
        assert all(16 <= layer.units <= 256 and 0 <= layer.dropout <= 0.5 for layer in layers)


def test_the_size_is_endless_or_counted():
    assert AutoNet().size() == math.inf
    assert AutoNet().exceeds(10**30)
    for more in ({"dropout": 0.1}, {"activations": ("leaky_relu",)}, {"initialisations": ("normal",)}):
        assert AutoNet(**{**FINITE, **more}).size() == math.inf
    space = AutoNet(layers=2, units=(2, 4), **FINITE)
    assert space.size() == len(set(space.enumerate())) == 12 + 144


def test_mutation_reaches_every_network():
    check_ergodic(AutoNet(layers=2, units=(2, 3), **FINITE))


def test_every_description_has_a_key_of_its_own():
    space = AutoNet(layers=2, units=(2, 4), **FINITE)
    assert len({space.canonical(architecture.blueprint) for architecture in space.enumerate()}) == space.size()


def test_a_network_is_what_was_decided():
    layers = (
        Layer(5, "leaky_relu", (0.3,), 0.25, "normal", 0.01),
        Layer(4, "scaled_tanh", (0.5, 2.0), 0.0, "orthogonal", 0.0),
    )
    network = AutoNet().build(layers, Images((3, 4, 6), 7))
    assert measure.parameters(network) == (72 * 5 + 5) + (5 * 4 + 4) + (4 * 7 + 7)
    assert [type(module).__name__ for module in network] == [
        "Flatten",
        "Linear",
        "LeakyReLU",
        "Dropout",
        "Linear",
        "ScaledTanh",
        "Linear",
    ]
    assert network[3].p == 0.25
    x = torch.tensor([-2.0, 3.0])
    torch.testing.assert_close(network[2](x), torch.tensor([-0.6, 3.0]))
    torch.testing.assert_close(network[5](x), 2 * torch.tanh(0.5 * x))
    torch.testing.assert_close(network[4].weight @ network[4].weight.T, torch.eye(4))
    small = AutoNet(resolution=2).build(layers, Images((3, 4, 6), 7))
    assert measure.parameters(small) == (12 * 5 + 5) + (5 * 4 + 4) + (4 * 7 + 7)


@pytest.mark.parametrize(
    ("init", "deviation"),
    [
        ("normal", 0.02),
        ("uniform", 0.1 / math.sqrt(12)),
        ("glorot_uniform", math.sqrt(2 / 500)),
        ("glorot_normal", math.sqrt(2 / 500)),
        ("he_uniform", math.sqrt(2 / 400)),
        ("he_normal", math.sqrt(2 / 400)),
        ("orthogonal", 1 / math.sqrt(400)),
        ("sparse", math.sqrt(0.1 / 400)),
    ],
)
def test_weights_begin_with_the_deviation_of_their_rule(init, deviation):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = AutoNet().build((Layer(100, "relu", (), 0.0, init, 0.02),), Images((1, 20, 20)))
    linear = network[1]
    assert abs(linear.weight.std().item() / deviation - 1) < 0.03
    assert not linear.bias.any()
    if init == "sparse":
        assert ((linear.weight == 0).sum(1) == 360).all()  # of the 400 inputs of every unit


def test_every_activation_and_initialisation_is_built():
    for kind in ACTIVATIONS:
        for init in INITIALISATIONS:
            space = AutoNet(layers=1, units=(4, 4), activations=(kind,), initialisations=(init,))
            network = space.build(space.sample(random.Random(0)).blueprint, Images())
            assert isinstance(network[-1], nn.Linear)


def test_networks_train():
    check_training(AutoNet(units=(2, 16)), (2, 5, 6))


def test_the_graph_is_a_chain():
    layers = (Layer(5, "relu", (), 0.0, "he_normal", 0.0),)
    assert AutoNet().graph(layers) == {"network": [("input", "1", "5 relu"), ("1", "output", "linear")]}


def test_bad_fields_are_refused():
    with pytest.raises(BadInput, match=r"space\.activations has 'rely', which is none \(did you mean 'relu'\?\)"):
        AutoNet(activations=("rely",))
    with pytest.raises(BadInput, match=r"space\.initialisations has 'constant'"):
        AutoNet(initialisations=("constant",))
    with pytest.raises(BadInput, match=r"space\.units=\[8,4\] .*: give \[4,8\]"):
        AutoNet(units=(8, 4))


def test_the_recipe_lists_every_field_with_its_default():
    check_recipe(AutoNet(), "auto_net")

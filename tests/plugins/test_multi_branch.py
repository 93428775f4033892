import random

import pytest
import torch
from spaces_contract import Images, check_ergodic, check_recipe, check_training, samples
from torch import nn

from automl import BadInput, measure
from automl.testing import check_space
from automl_spaces.dags import INPUT
from automl_spaces.multi_branch import Layer, MultiBranch

SMALL = {"kernels": (1, 3), "filters": (2, 4)}
TINY = {"kernels": (3,), "filters": (2,), "strides": (1,), "operations": ("conv", "identity")}
WIRINGS = ("any", "residual", "dense", "chain")


@pytest.mark.parametrize("wiring", WIRINGS)
def test_the_contract_of_spaces_holds(wiring):
    check_space(MultiBranch(depth=3, wiring=wiring, **SMALL), Images(), samples=8)


@pytest.mark.parametrize(
    ("wiring", "size"), [("any", 2 + 16 + 352), ("residual", 2 + 8 + 48), ("dense", 14), ("chain", 14)]
)
def test_the_size_is_by_formula_what_enumeration_says(wiring, size):
    """A layer is one of 2; the i-th reads in 1, 4, 11 or 1, 2, 3 ways."""
    space = MultiBranch(depth=3, wiring=wiring, **TINY)
    described = {architecture.blueprint for architecture in space.enumerate()}
    assert space.size() == len(described) == size
    assert not space.exceeds(size)


def test_mutation_reaches_every_network():
    check_ergodic(MultiBranch(depth=3, **TINY), tries=100)
    check_ergodic(MultiBranch(depth=3, wiring="residual", **TINY), tries=100)
    check_ergodic(MultiBranch(depth=2, wiring="chain", kernels=(1, 3), filters=(2,), operations=("conv", "maxpool")))


def test_every_sample_reads_something_earlier():
    for layers in samples(MultiBranch()):
        for place, layer in enumerate(layers):
            assert layer.reads
            assert all(INPUT <= read < place for read in layer.reads)
            assert bool(layer.merge) == (len(layer.reads) > 1)
    residual = samples(MultiBranch(wiring="residual"), 500)
    assert all(layer.reads[-1] == place - 1 for layers in residual for place, layer in enumerate(layers))


def test_layers_that_read_the_one_before_are_a_chain_with_the_same_weights():
    chain, space = MultiBranch(wiring="chain"), MultiBranch()
    rng, images = random.Random(0), torch.randn(2, 3, 8, 8)
    for _ in range(5):
        layers = chain.sample(rng).blueprint
        values = {"layers": len(layers)}
        for place, layer in enumerate(layers):
            values |= {f"layer{place}.op": layer.op, f"layer{place}.stride": layer.stride}
            values |= {f"layer{place}.kernel": layer.kernel} if layer.kernel else {}
            values |= {f"layer{place}.filters": layer.filters} if layer.filters else {}
            values |= {f"layer{place}.reads_{'image' if j < 0 else j}": False for j in range(-1, place - 1)}
        same = space.read(values).blueprint
        torch.manual_seed(0)
        one = chain.build(layers, Images((3, 8, 8)))
        other = space.build(same, Images((3, 8, 8)))
        other.load_state_dict(one.state_dict())
        assert torch.equal(one.eval()(images), other.eval()(images))
        stack = nn.Sequential(*(one[0].layers), *one[1:])
        assert torch.equal(stack.eval()(images), one(images))
        assert chain.canonical(layers) == space.canonical(same)


def test_a_dense_network_grows_by_its_filters():
    space = MultiBranch(depth=6, wiring="dense", filters=(12,), operations=("conv",), strides=(1,))
    architecture = space.complete({"layers": 6}, random.Random(0))
    network = space.build(architecture.blueprint, Images((3, 8, 8)))
    inputs = [module.in_channels for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert inputs == [3 + place * 12 for place in range(6)]


def test_what_is_added_goes_through_projections_that_count():
    space = MultiBranch(depth=3)
    first, second = Layer("conv", 3, 4, 2, (INPUT,)), Layer("conv", 1, 8, 1, (INPUT,))
    layers = (first, second, Layer("identity", 0, 0, 1, (0, 1), "add"))
    network = space.build(layers, Images((1, 7, 9), 3)).eval()
    plain = 36 + 8 + 8 + 16 + 8 * 3 + 3
    assert measure.parameters(network) == plain + (4 * 8 + 16) + (8 * 8 + 16)
    assert network[0](torch.randn(1, 1, 7, 9)).shape == (1, 8, 4, 5)
    merged = layers[2]._replace(merge="concat")
    network = space.build((first, second, merged), Images((1, 7, 9), 3)).eval()
    assert measure.parameters(network) == plain + 4 * 3
    assert network[0](torch.randn(1, 1, 7, 9)).shape == (1, 12, 4, 5)


def test_what_does_nothing_has_no_say_in_the_key():
    space = MultiBranch()
    conv = Layer("conv", 3, 8, 1, (INPUT,))
    dead = Layer("sepconv", 5, 8, 1, (INPUT,))
    alone = space.canonical((conv,))
    assert alone == space.canonical((conv, Layer("identity", 0, 0, 1, (0,))))
    assert alone == space.canonical((Layer("maxpool", 1, 0, 1, (INPUT,)), conv._replace(reads=(0,))))
    assert alone == space.canonical((dead, conv))
    assert alone != space.canonical((conv, Layer("identity", 0, 0, 2, (0,))))
    assert space.canonical((conv._replace(kernel=1),)) == space.canonical((conv._replace(op="dilconv", kernel=1),))
    one = (conv, dead, Layer("conv", 3, 8, 1, (0, 1), "add"))
    assert space.canonical(one) == space.canonical((dead, conv, one[2]))
    assert space.canonical(one) != space.canonical((conv, dead, one[2]._replace(merge="concat")))
    assert space.canonical((Layer("identity", 0, 0, 1, (INPUT,)),)) == ((("output",), (INPUT,)),)


def test_networks_of_one_key_have_equal_costs():
    space = MultiBranch(depth=3, **SMALL)
    rng, costs = random.Random(0), {}
    for _ in range(300):
        layers = space.sample(rng).blueprint
        with torch.device("meta"):
            found = measure.parameters(space.build(layers, Images()))
        costs.setdefault(space.canonical(layers), set()).add(found)
    assert len(costs) > 100
    assert all(len(found) == 1 for found in costs.values())


@pytest.mark.parametrize("wiring", WIRINGS)
def test_networks_train(wiring):
    check_training(MultiBranch(depth=4, wiring=wiring, **SMALL), (2, 9, 7), 10)


def test_bad_fields_are_refused():
    with pytest.raises(BadInput, match=r"'convv', which is no operation \(did you mean 'conv'\?\): choose among conv"):
        MultiBranch(operations=("convv",))
    with pytest.raises(BadInput, match=r"space\.kernels has 2"):
        MultiBranch(kernels=(2,))


def test_the_recipe_lists_every_field_with_its_default():
    check_recipe(MultiBranch(), "multi_branch")

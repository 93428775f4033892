import random
from collections import Counter
from itertools import pairwise

import pytest
import torch
from spaces_contract import Images, check_ergodic, check_recipe, check_training, samples

from automl import BadInput, measure
from automl.testing import check_space
from automl_spaces.metaqnn import MetaQNN
from automl_spaces.metaqnn_rules import State, after, told

PAPER = {"filters": (64, 128, 256, 512), "widths": (512, 256, 128)}
SMALL = {"filters": (2, 4), "widths": (8, 4)}
PUBLISHED = {  # the five best on CIFAR-10, with the parameters that they have on images of 28 x 28
    "C(512,5) C(256,3) C(256,5) C(256,3) P(5,3) C(512,3) C(512,5) P(2,2) SM": 11_263_754,
    "C(128,1) C(512,3) C(64,1) C(128,3) P(2,2) C(256,3) P(2,2) C(512,3) P(3,2) SM": 2_218_954,
    "C(128,3) C(128,1) C(512,5) P(2,2) C(128,3) P(2,2) C(64,3) C(64,5) SM": 2_456_586,
    "C(256,3) C(256,3) P(5,3) C(256,1) C(128,3) P(2,2) C(128,3) SM": 1_126_154,
    "C(64,3) C(128,3) P(5,3) C(256,3) P(3,2) FC(512) FC(128) SM": 1_617_930,
}


def test_the_contract_of_spaces_holds():
    check_space(MetaQNN(resolution=9, limit=4, **SMALL), Images(), samples=15)
    check_space(MetaQNN(resolution=8, limit=3, uniform="architectures", **SMALL), Images(), samples=5)


def test_no_sample_is_illegal():
    space = MetaQNN()
    for chain in samples(space):
        state = State(0, 16, "image")
        assert 0 < len(chain) <= 6
        for layer in chain:
            side, (kind, *numbers) = state.side, layer
            assert state.kind != "gap"
            assert kind != "pool" or (state.kind == "conv" and numbers[0] <= side)
            assert kind != "conv" or (state.kind != "fc" and numbers[1] <= side)
            assert kind != "fc" or state.kind == "fc" or (side < 8 and state.kind in ("conv", "pool"))
            state = after(state, layer)
        widths = [layer[1] for layer in chain if layer[0] == "fc"]
        assert len(widths) <= 2
        assert all(one >= other for one, other in pairwise(widths))


@pytest.mark.parametrize(("limit", "size"), [(1, 13), (2, 205), (3, 2_977), (4, 43_153)])
def test_there_are_as_many_short_chains_as_counted(limit, size):
    space = MetaQNN(resolution=32, limit=limit, **PAPER)
    assert space.size() == size
    if limit < 4:
        assert len(set(space.enumerate())) == size


@pytest.mark.parametrize(("resolution", "limit", "size"), [(28, 12, "6.77e+13"), (32, 18, "4.17e+20")])
def test_the_papers_spaces_have_the_sizes_of_the_paper(resolution, limit, size):
    space = MetaQNN(resolution=resolution, limit=limit, **PAPER)
    assert f"{space.size():.2e}" == size
    assert space.exceeds(10**13)
    assert not space.exceeds(10**21)


def test_mutation_reaches_every_chain():
    check_ergodic(MetaQNN(resolution=7, limit=3, filters=(2,), kernels=(1, 3), pools=((3, 2), (2, 2)), widths=(4, 2)))


def test_random_chains_are_uniform_over_what_is_asked_for():
    rng = random.Random(0)
    fields = {"resolution": 7, "limit": 2, "filters": (2,), "kernels": (1, 3), "pools": ((2, 2),), "widths": (4, 2)}
    space = MetaQNN(uniform="architectures", **fields)
    counted = Counter(space.sample(rng) for _ in range(600 * space.size()))
    assert len(counted) == space.size()
    assert all(abs(number - 600) < 5 * 600**0.5 for number in counted.values())
    assert len(MetaQNN(limit=400, uniform="architectures").sample(rng).blueprint) <= 400
    lengths = Counter(len(MetaQNN(**fields).sample(rng).blueprint) for _ in range(1_000))
    assert lengths[1] > 1_000 / 2  # of 3 chains in 15


@pytest.mark.parametrize(("text", "parameters"), PUBLISHED.items())
def test_the_published_networks_have_the_published_parameters(text, parameters):
    space = MetaQNN(resolution=28, limit=12, **PAPER)
    architecture = space.from_text(text)
    assert " ".join(map(told, architecture.blueprint)) == text.removesuffix(" SM")
    with torch.device("meta"):
        network = space.build(architecture.blueprint, Images((3, 28, 28)))
    assert measure.parameters(network) == parameters


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("C(64,3) D(2) SM", r"'D\(2\)' is no layer: write C\(64,3\)"),
        ("P(2,2) SM", r"layer0\.type pool, but it must be one of conv, gap"),
        ("C(64,3) P(2,2) P(2,2) SM", r"layer2\.type pool"),
        ("C(64,3) FC(128) SM", r"layer1\.type fc"),
        ("C(65,3) SM", r"layer0\.filters 65, but it must be one of 64, 128"),
        ("C(64,3) GAP GAP SM", r"after C\(64,3\) GAP: leave the rest out"),
        ("C(64,1) " * 13 + "SM", r"space\.limit=12"),
        ("SM", r"layer0\.type stop"),
    ],
)
def test_other_chains_are_refused(text, words):
    with pytest.raises(BadInput, match=words):
        MetaQNN(resolution=28, limit=12, **PAPER).from_text(text)


def test_a_global_pool_of_one_pixel_changes_nothing():
    space = MetaQNN(resolution=3, limit=3)
    one = space.from_text("C(8,3) P(3,2) GAP").blueprint
    other = space.from_text("C(8,3) P(3,2) SM").blueprint
    assert space.canonical(one) == space.canonical(other)
    assert space.canonical(space.from_text("C(8,3) GAP").blueprint) != space.canonical(
        space.from_text("C(8,3) SM").blueprint
    )
    answers = []
    for blueprint in (one, other):
        torch.manual_seed(0)
        answers.append(space.build(blueprint, Images())(torch.ones(2, 1, 8, 8)))
    assert torch.equal(*answers)


def test_different_chains_have_different_keys():
    space = MetaQNN(resolution=32, limit=2)
    assert len({space.canonical(architecture.blueprint) for architecture in space.enumerate()}) == space.size()


def test_dropout_grows_with_depth():
    space = MetaQNN(resolution=7, limit=6)
    blueprint = space.from_text("C(8,3) C(8,3) P(2,2) C(8,3) FC(32) FC(16) SM").blueprint
    layers = space.build(blueprint, Images())
    rates = [module.p for module in layers if isinstance(module, torch.nn.Dropout)]
    assert rates == [1 / 8, 2 / 8, 3 / 8, 4 / 8]


def test_networks_train_on_images_of_any_size():
    check_training(MetaQNN(resolution=8, limit=5, **SMALL), (2, 5, 11))


def test_the_graph_is_a_chain():
    space = MetaQNN()
    assert space.graph(space.from_text("C(8,3) P(2,2) GAP").blueprint) == {
        "chain": [("input", "1", "C(8,3)"), ("1", "2", "P(2,2)"), ("2", "output", "GAP")]
    }


def test_bad_fields_are_refused():
    with pytest.raises(BadInput, match=r"space\.kernels has 2, which does not keep the size of a map"):
        MetaQNN(kernels=(1, 2))
    with pytest.raises(BadInput, match=r"all larger than the images of space\.resolution=4"):
        MetaQNN(resolution=4, kernels=(5,))
    with pytest.raises(BadInput, match="cannot be told apart"):
        MetaQNN(widths=(8, 8))


def test_the_recipe_lists_every_field_with_its_default():
    check_recipe(MetaQNN(), "metaqnn")

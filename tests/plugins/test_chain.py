import dataclasses
import json
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from spaces_contract import check_export
from torch.nn import functional

from automl import BadInput, Op
from automl.decisions import Soft
from automl.deploy import Deployed
from automl.mixture import Mixture
from automl.sharing import places
from automl.testing import check_space
from automl_networks.vocabulary import MULTIPLES
from automl_spaces.chain import CHAIN_OPERATIONS, Chain
from automl_spaces.operations import OPERATIONS

ROOT = Path(__file__).parents[2]
TWO = ("mbconv3_3x3", "skip")


@dataclasses.dataclass
class Images:
    """All that a space may use of a task."""

    input: tuple[int, int, int] = (1, 8, 8)
    outputs: int = 10


def chain(*stages):
    """Return a blueprint of the operations of these names."""
    return tuple(tuple(OPERATIONS[name] for name in stage.split()) for stage in stages)


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


# decisions


@pytest.mark.parametrize(
    "space",
    [
        Chain(channels=4),
        Chain(stages=1, depth=1, channels=4),
        Chain(stages=2, depth=3, least=3, channels=4, operations=("identity", "skip", "max3x3")),
        Chain(stages=4, depth=2, channels=4, operations=("shuffle_v2_3x3",)),
    ],
    ids=["default", "least", "fixed", "one operation"],
)
def test_the_contract_of_spaces_holds(space):
    check_space(space, Images(), samples=10)


def test_a_stage_decides_its_depth_and_then_its_layers():
    space = Chain(stages=2)
    values = {"stage0.depth": 1, "stage0.layer0.op": "skip", "stage1.depth": 2}
    values |= {"stage1.layer0.op": "sep3x3", "stage1.layer1.op": "mbconv6_5x5"}
    architecture = space.read(values)
    assert list(architecture.values) == list(values)
    assert list(architecture.domains["stage0.depth"].options) == [1, 2, 3, 4]
    assert [op.name for op in architecture.domains["stage1.layer1.op"]] == list(CHAIN_OPERATIONS)
    assert architecture.blueprint == chain("skip", "sep3x3 mbconv6_5x5")


def test_a_depth_that_is_given_is_no_decision():
    architecture = Chain(stages=2, depth=2, least=2).sample(random.Random(0))
    assert list(architecture.values) == [f"stage{stage}.layer{layer}.op" for stage in (0, 1) for layer in (0, 1)]


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"stages": 2, "depth": 2, "operations": TWO}, (2 + 4) ** 2),
        ({"stages": 1, "depth": 4, "least": 2, "operations": (*TWO, "sep3x3")}, 9 + 27 + 81),
        ({"stages": 3, "depth": 2, "least": 2, "operations": TWO}, 4**3),
    ],
    ids=["two stages", "one stage", "no depth"],
)
def test_the_size_is_the_number_of_descriptions(fields, size):
    space = Chain(**fields)
    assert space.size() == len(set(space.enumerate())) == size


def test_the_default_space_is_large():
    assert Chain().size() == (6 + 36 + 216 + 1296) ** 3


# one key for all tellings of one network


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("sep3x3", "sep3x3"), ("sep3x3", "sep3x3 skip")),
        (("sep3x3 mbconv3_3x3 skip", "skip"), ("sep3x3 skip mbconv3_3x3", "skip")),
        (("sep3x3", "skip identity max3x3"), ("sep3x3 skip", "skip max3x3 skip")),
    ],
    ids=["shorter", "moved", "identity"],
)
def test_skips_that_change_nothing_are_not_in_the_key(one, other):
    assert Chain().canonical(chain(*one)) == Chain().canonical(chain(*other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("sep3x3", "skip sep3x3"), ("sep3x3", "sep3x3 skip")),  # what strides
        (("skip sep3x3", "skip"), ("sep3x3 skip", "skip")),  # likewise on large images
        (("sep3x3", "skip"), ("sep3x3", "identity")),
        (("sep3x3 max3x3", "skip"), ("max3x3 sep3x3", "skip")),
        (("sep3x3 sep3x3", "skip"), ("sep3x3", "skip sep3x3")),
    ],
    ids=["stride", "first stage", "kind of skip", "order", "stage"],
)
def test_what_differs_otherwise_has_another_key(one, other):
    assert Chain().canonical(chain(*one)) != Chain().canonical(chain(*other))


def test_the_keys_are_as_many_as_chains_without_skips():
    space = Chain(stages=2, depth=3, operations=(*TWO, "sep3x3"))
    keys = {space.canonical(architecture.blueprint) for architecture in space.enumerate()}
    assert len(keys) == (3 * (1 + 2 + 4)) ** 2


@pytest.mark.parametrize("size", [8, 96])
def test_chains_of_one_key_compute_the_same(size):
    space, images = Chain(stages=2, depth=3, channels=4, operations=TWO), torch.randn(2, 1, size, size)
    answers = {}
    for architecture in space.enumerate({"stage0.depth": 3, "stage1.depth": 3}):
        torch.manual_seed(0)
        network = space.build(architecture.blueprint, Images((1, size, size))).eval()
        answers.setdefault(space.canonical(architecture.blueprint), []).append(network(images))
    assert len(answers) == (2 * 3) ** 2
    for alike in answers.values():
        for answer in alike:
            torch.testing.assert_close(answer, alike[0], rtol=0, atol=0)


# networks


@pytest.mark.parametrize(
    ("image", "sizes"),
    [
        ((1, 8, 8), [(8, 8), (8, 8), (4, 4), (2, 2)]),
        ((1, 28, 28), [(28, 28), (28, 28), (14, 14), (7, 7)]),
        ((3, 32, 32), [(32, 32), (32, 32), (16, 16), (8, 8)]),
        ((3, 95, 300), [(95, 300), (95, 300), (48, 150), (24, 75)]),
        ((3, 96, 96), [(48, 48), (24, 24), (12, 12), (6, 6)]),
        ((3, 224, 224), [(112, 112), (56, 56), (28, 28), (14, 14)]),
    ],
    ids=str,
)
def test_stages_halve_the_size_and_double_the_channels(image, sizes):
    space = Chain(channels=8)
    with torch.device("meta"):
        network = space.build(space.sample(random.Random(0)).blueprint, Images(image))
        x = network.stem(torch.empty(2, *image))
        shapes = [x.shape]
        for stage in network.stages:
            x = stage(x)
            shapes.append(x.shape)
        assert network.head(x).shape == (2, 10)
    channels = [8, 8, 16, 32]
    assert [tuple(shape) for shape in shapes] == [(2, c, *size) for c, size in zip(channels, sizes, strict=True)]


def test_large_images_are_halved_twice_more_only_where_that_leaves_a_pixel():
    space = Chain(stages=7, depth=1, channels=1)
    blueprint = chain(*["skip"] * 7)
    for side, left in ((64, 1), (128, 2), (256, 1)):
        with torch.device("meta"):
            network = space.build(blueprint, Images((1, side, side)))
            assert network.stages(network.stem(torch.empty(2, 1, side, side))).shape == (2, 64, left, left)


@pytest.mark.parametrize("image", [(1, 8, 8), (3, 28, 9)], ids=str)
def test_every_parameter_trains(image):
    space = Chain(channels=4)
    for number in range(4):
        network = space.build(space.sample(random.Random(number)).blueprint, Images(image))
        functional.cross_entropy(network(torch.randn(4, *image)), torch.tensor([0, 1, 2, 0])).backward()
        assert not [name for name, parameter in network.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - {"none"}))
def test_it_offers_every_operation_of_the_vocabulary(name):
    multiple = MULTIPLES.get(name, 1)
    space = Chain(stages=2, depth=2, least=2, channels=multiple * -(-8 // multiple), operations=(name,))
    (architecture,) = space.enumerate()
    network = space.build(architecture.blueprint, Images((1, 4, 4)))
    network(torch.randn(2, 1, 4, 4)).square().sum().backward()
    assert not [name for name, parameter in network.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize("image", [(1, 8, 8), (3, 96, 96)], ids=str)
def test_soft_answers_of_one_operation_are_that_network(image):
    space, rng = Chain(channels=4), random.Random(1)
    images = torch.randn(3, *image)
    for _ in range(3):
        hard = space.sample(rng)

        def answer(name, domain, hard=hard):
            value = hard.values[name]
            return Soft((1 / domain.count,) * domain.count) if isinstance(value, Op) else value

        soft = space.make(answer)
        assert list(soft.weights) == [name for name in hard.values if name.endswith(".op")]
        mixed, network = space.build(soft.blueprint, Images(image)), space.build(hard.blueprint, Images(image))
        shared = {place.key: place for place in places(mixed)}
        for place in places(network):
            source = shared[place.key]
            place.owner._parameters[place.attribute] = source.owner._parameters[source.attribute]
        for module in mixed.modules():
            if isinstance(module, Mixture):
                options = hard.domains[module.decision]
                module.weights = torch.eye(options.count)[options.index(hard.values[module.decision])]
        torch.testing.assert_close(mixed(images), network(images), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(mixed.eval()(images), network.eval()(images), rtol=1e-5, atol=1e-5)


def test_chains_of_every_depth_share_their_stem_and_head():
    space = Chain(stages=2, channels=4)
    keys = []
    for blueprint in (chain("skip", "skip"), chain("skip skip skip", "skip max3x3")):
        network = space.build(blueprint, Images())
        keys.append({place.key for place in places(network) if place.key.startswith(("/stem", "/head"))})
    assert keys[0] == keys[1]
    assert len(keys[0]) == 3 + 4


@pytest.mark.slow  # the exporter takes seconds
@pytest.mark.parametrize("image", [(1, 28, 28), (3, 96, 96)], ids=str)
def test_it_exports_with_equal_outputs_for_any_batch(image, tmp_path):
    space = Chain(stages=3, depth=3, least=2, channels=4)
    network = space.build(chain("sep3x3 skip", "skip mbconv6_5x5", "mbconv3_3x3 sep3x3 skip"), Images(image))
    network(torch.randn(8, *image))  # so that the statistics are not those of the beginning
    task = SimpleNamespace(mean=(0.3,), std=(0.4,), classes=list("abcdefghij"), input=image)
    images = np.random.default_rng(0).random((7, *image), dtype=np.float32)
    check_export(Deployed.of(network, task), torch.from_numpy(images), tmp_path)


# drawing, bad input, the recipe


def test_the_graph_is_a_chain_for_each_stage():
    graph = Chain().graph(chain("skip", "sep3x3 skip max3x3"))
    assert graph == {
        "stage0": [("input", "output", "skip")],
        "stage1": [("input", "1", "sep3x3"), ("1", "2", "skip"), ("2", "output", "max3x3")],
    }
    json.dumps(graph)


def test_bad_fields_and_images_are_refused():
    with pytest.raises(BadInput, match=r"least=5 is more than the space\.depth=4 .* at most 4, or space\.depth=5"):
        Chain(least=5)
    with pytest.raises(BadInput, match=r"'sep3x4', which is no operation \(did you mean 'sep3x3'\?\)"):
        Chain(operations=("sep3x4",))
    with pytest.raises(BadInput, match=r"'none', which would cut the chain in two: give skip"):
        Chain(operations=("none", "sep3x3"))
    with pytest.raises(BadInput, match=r"'eesp', .* multiple of 16, .* have 8: give 16"):
        Chain(operations=("eesp",), channels=8)
    with pytest.raises(BadInput, match=r"space\.operations"):
        Chain(operations=())
    with pytest.raises(BadInput, match=r"cannot be told apart"):
        Chain(operations=("skip", "skip"))
    with pytest.raises(BadInput, match=r"5 stages .* at least 16 x 16 .* are 15 x 28: give task\.size=16 or fewer"):
        Chain(stages=5).check(Images((1, 15, 28)))
    Chain(stages=5).check(Images((1, 16, 16)))


def test_nothing_but_building_imports_torch():
    program = (
        "import random, sys\n"
        "from automl_spaces.chain import Chain\n"
        "space, rng = Chain(), random.Random(0)\n"
        "space.canonical(space.mutate(space.sample(rng), rng).blueprint)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_recipe_lists_every_field_with_its_default():
    recipe = yaml.safe_load((ROOT / "conf" / "space" / "chain.yaml").read_text())
    recipe["operations"] = tuple(recipe["operations"])
    assert list(recipe.items()) == [("name", "chain"), *dataclasses.asdict(Chain()).items()]

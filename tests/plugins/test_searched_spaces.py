"""What every space of cells has to show: legal samples, networks that train, a size, mutation that reaches all."""

import dataclasses
import json
import random
import re
from pathlib import Path

import pytest
import torch
import yaml
from spaces_contract import printed

from automl import BadInput
from automl.plugins import Registry
from automl.testing import check_space

ROOT = Path(__file__).parents[2]
REGISTRY = Registry()
FEW = ("sep3x3", "identity")
CELLS = {"blocks": 2, "reductions": 0, "operations": FEW}
SPACES = {  # by name: the fields of the smallest scale, and those of a small instance to run through
    "amoebanet": ({"channels": 4}, CELLS),
    "enas_micro": ({"channels": 2}, CELLS),
    "blockqnn": ({"channels": 2, "layers": 8}, {"layers": 2}),
    "choice_blocks": (
        {"channels": 2},
        {"blocks": 2, "inputs": 2, "paths": 2, "operations": ("identity",), "channels": 2},
    ),
    "cgp": ({"widths": (2, 3)}, {"rows": 1, "columns": 2, "levels_back": 2, "widths": (2,)}),
    "dpp_net": ({"channels": 4, "growth": 4}, {"layers": 2, "channels": 4, "growth": 4}),
    "hierarchical": ({"channels": 2}, {"nodes": (3, 3), "motifs": (2,), "operations": ("depthwise3x3",)}),
    "mnasnet_search": ({"width": 0.1}, {"filters": (16,), "layers": (2,), "strides": (1,)}),
    "nao": ({"channels": 2}, {"blocks": 1, "reductions": 1, "operations": FEW}),
    "nasbench101": ({"channels": 4}, {"vertices": 4, "edges": 4}),
    "nasbench_macro": ({"channels": 2}, {"channels": 2}),
    "tree_cell": ({"channels": 8}, {"depth": 2, "channels": 4, "operations": ("identity",)}),
    "ofa": ({"width": 0.05}, {"depths": (1, 2), "kernels": (3,), "expansions": (2,)}),
    "pnas": ({"channels": 2}, {"blocks": 2, "operations": FEW}),
}


@dataclasses.dataclass
class Images:
    """All that a space may use of a task."""

    input: tuple[int, int, int] = (1, 8, 8)
    outputs: int = 10


def make(name, **fields):
    return REGISTRY.build("space", {"name": name, **fields})


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("name", SPACES)
def test_the_contract_of_spaces_holds(name):
    smallest, small = SPACES[name]
    check_space(make(name), samples=1)
    check_space(make(name, **smallest), Images(), samples=1)
    check_space(make(name, **small), samples=2)


@pytest.mark.parametrize("name", SPACES)
def test_ten_thousand_samples_are_legal_and_can_be_read_back(name):
    space, rng = make(name), random.Random(0)
    seen = set()
    for number in range(10_000):
        architecture = space.sample(rng)
        seen.add(architecture)
        if number % 100 == 0:
            assert space.read(json.loads(json.dumps(architecture.to_json()))) == architecture
            hash(space.canonical(architecture.blueprint))
            json.dumps(space.graph(architecture.blueprint))
    assert len(seen) > min(3_000, space.size() // 2)


@pytest.mark.parametrize("name", SPACES)
def test_random_networks_of_the_smallest_scale_train(name):
    space, rng = make(name, **SPACES[name][0]), random.Random(0)
    for number in range(24):
        task = Images((1 + number % 3, 8, 8 + number % 2), 3)
        space.check(task)
        network = space.build(space.sample(rng).blueprint, task)
        logits = network(torch.randn(2, *task.input))
        assert logits.shape == (2, 3)
        logits.square().sum().backward()
        for parameter, tensor in network.named_parameters():
            assert tensor.grad is not None, f"{parameter} is not used"
            assert tensor.grad.isfinite().all()


@pytest.mark.parametrize("name", SPACES)
def test_images_too_small_are_refused_with_the_least_size_that_works(name):
    space = make(name, **SPACES[name][0])
    least = 1
    try:
        space.check(Images((1, 1, 1)))
    except BadInput as error:
        least = int(re.search(rf"space {name} .*and these are 1 x 1: give task\.size=(\d+)", str(error))[1])
        with pytest.raises(BadInput, match=f"these are {least - 1} x {least + 3}"):
            space.check(Images((1, least - 1, least + 3)))
    for seed in range(4):
        network = space.build(space.sample(random.Random(seed)).blueprint, Images((1, least, least))).eval()
        assert network(torch.randn(2, 1, least, least)).shape == (2, 10)


@pytest.mark.parametrize("name", SPACES)
def test_mutation_reaches_all_of_a_small_space_and_nothing_else(name):
    space, rng = make(name, **SPACES[name][1]), random.Random(0)
    everything = set(space.enumerate())
    assert len(everything) == space.size()
    assert space.exceeds(len(everything) - 1)
    assert not space.exceeds(len(everything))
    architecture = space.sample(rng)
    left = everything - {architecture}
    for _ in range(60 * len(everything)):
        architecture = space.mutate(architecture, rng)
        assert architecture in everything
        left.discard(architecture)
        if not left:
            break
    assert not left


@pytest.mark.parametrize("name", SPACES)
def test_networks_of_one_key_have_as_many_parameters(name):
    smallest, small = SPACES[name]
    space, rng, task = make(name, **{**smallest, **small}), random.Random(0), Images()
    by_key = {}
    for architecture in list(space.enumerate()):
        by_key.setdefault(space.canonical(architecture.blueprint), []).append(architecture)
    several = [alike for alike in by_key.values() if len(alike) > 1]
    assert len(by_key) > 1
    for alike in rng.sample(several, min(4, len(several))):
        counts = set()
        for architecture in alike[:4]:
            with torch.device("meta"):
                network = space.build(architecture.blueprint, task)
            counts.add(sum(tensor.numel() for tensor in network.parameters()))
        assert len(counts) == 1


def test_keys_are_the_same_in_every_process_and_none_needs_torch():
    program = (
        "import random, sys\n"
        "from automl.plugins import Registry\n"
        "registry = Registry()\n"
        f"for name in {sorted(SPACES)}:\n"
        "    space, rng = registry.build('space', {'name': name}), random.Random(0)\n"
        "    for _ in range(5):\n"
        "        one = space.sample(rng)\n"
        "        one = space.cross(one, space.mutate(one, rng), rng)\n"
        "        print(name, space.canonical(one.blueprint), space.size())\n"
        "assert 'torch' not in sys.modules\n"
    )
    assert printed(program)


@pytest.mark.parametrize("name", SPACES)
def test_the_recipe_lists_every_field_with_its_default(name):
    recipe = yaml.safe_load((ROOT / "conf" / "space" / f"{name}.yaml").read_text())
    assert recipe.pop("name") == name
    final = recipe.pop("final", {})
    space = make(name)
    fields = {field.name: getattr(space, field.name) for field in dataclasses.fields(space)}
    assert list(recipe) == list(fields)
    assert {key: tuple(value) if isinstance(value, list) else value for key, value in recipe.items()} == fields
    dataclasses.replace(space, **final)

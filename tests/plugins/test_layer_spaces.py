"""What holds for every space whose decisions are layers, beyond the tests of each."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from spaces_contract import Images, check_export, printed

from automl import measure
from automl.deploy import Deployed
from automl.plugins import Registry

REGISTRY = Registry()
WIDENED = ("nasrl", "genetic_cnn", "multi_branch", "smash", "unstructured", "nasbot", "morphisms")
SPACES = ("metaqnn", "enas_macro", "auto_net", *WIDENED)


def test_keys_are_equal_in_other_processes_and_nothing_but_building_imports_torch():
    """Under another seed of Python's hashes."""
    program = (
        "import random, sys\n"
        "from automl.plugins import Registry\n"
        f"for name in {SPACES}:\n"
        "    space, rng = Registry().build('space', {'name': name}), random.Random(7)\n"
        "    for _ in range(5):\n"
        "        print(space.canonical(space.mutate(space.sample(rng), rng).blueprint))\n"
        "    space.size(), space.graph(space.sample(rng).blueprint)\n"
        "assert 'torch' not in sys.modules\n"
    )
    assert len(printed(program).splitlines()) == 5 * len(SPACES)


@pytest.mark.parametrize("name", WIDENED)
def test_width_makes_what_is_built_wider_and_changes_no_decision(name):
    narrow, wide = (REGISTRY.build("space", {"name": name, "width": width}) for width in (1, 2))
    rng, wider = random.Random(0), 0
    for _ in range(10):
        architecture = narrow.sample(rng)
        same = wide.read(architecture.to_json())
        assert same.values == architecture.values
        with torch.device("meta"):
            before = measure.parameters(narrow.build(architecture.blueprint, Images()))
            after = measure.parameters(wide.build(same.blueprint, Images()))
        assert after >= before
        wider += after > before
    assert wider > 3  # pools alone have no width


@pytest.mark.parametrize("name", SPACES)
def test_the_graph_leads_from_the_input_to_the_output(name):
    space, rng = REGISTRY.build("space", {"name": name}), random.Random(0)
    for _ in range(20):
        for edges in space.graph(space.sample(rng).blueprint).values():
            reached = {"input"}
            for source, target, _ in edges:
                assert source in reached
                reached.add(target)
            assert "output" in reached


@pytest.mark.slow  # the exporter takes seconds
@pytest.mark.parametrize("name", ["nasrl", "unstructured", "nasbot"])
def test_graphs_export_with_equal_outputs_for_any_batch(name, tmp_path):
    """Of those that pad, take nearest pixels, or add up probabilities."""
    image = (3, 9, 12)
    space = REGISTRY.build("space", {"name": name, **({"strides": [1, 2]} if name == "nasrl" else {})})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = space.build(space.sample(random.Random(3)).blueprint, Images(image))
        network(torch.randn(8, *image))  # so that the statistics are not those of the beginning
    task = SimpleNamespace(mean=(0.3,) * 3, std=(0.4,) * 3, classes=list("abcdefghij"), input=image)
    images = np.random.default_rng(0).random((7, *image), dtype=np.float32)
    check_export(Deployed.of(network, task), torch.from_numpy(images), tmp_path)

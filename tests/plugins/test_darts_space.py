import dataclasses
import json
import random
from itertools import permutations, product
from pathlib import Path

import pytest
import torch
import yaml

from automl import BadInput, measure
from automl.testing import check_space
from automl_spaces.darts import DARTS, DARTS_OPERATIONS
from automl_spaces.genotypes import GENOTYPES

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass
class Images:
    """All that a space may use of a task."""

    input: tuple[int, int, int] = (1, 8, 8)
    outputs: int = 10


CIFAR = Images((3, 32, 32), 10)
MOBILE = Images((3, 224, 224), 1000)


def test_the_contract_of_spaces_holds():
    check_space(DARTS(), Images(), samples=10)
    check_space(DARTS(nodes=2, reductions=0, drop_path=0.2), Images(), samples=10)


def test_a_node_decides_on_two_states_and_an_operation_on_each():
    architecture = DARTS().sample(random.Random(0))
    expected = []
    for cell, node in product(("normal", "reduce"), range(4)):
        name = f"{cell}.n{node}"
        read = architecture.values.get(f"{name}.inputs", (0, 1))
        expected += [f"{name}.inputs"] * (node > 0) + [f"{name}.op{state}" for state in read]
    assert list(architecture.values) == expected
    assert [op.name for op in architecture.domains["normal.n0.op0"]] == list(DARTS_OPERATIONS)
    assert not [name for name in DARTS(reductions=0).sample(random.Random(0)).values if name.startswith("reduce")]


def test_ten_thousand_samples_are_legal_and_different():
    space, rng = DARTS(), random.Random(0)
    architectures = [space.sample(rng) for _ in range(10_000)]
    assert len(set(architectures)) == 10_000
    for architecture in architectures:
        for cell in architecture.blueprint:
            assert all(0 <= block.in0 < block.in1 < node + 2 for node, block in enumerate(cell))


def test_the_size_is_the_formula_of_the_paper():
    assert DARTS(reductions=0).size() == 1_037_664_180
    assert DARTS().size() == 1_037_664_180**2
    assert f"{DARTS().size():.2e}" == "1.08e+18"
    space = DARTS(nodes=2, reductions=1, operations=("skip", "sep3x3"))
    assert space.size() == len(set(space.enumerate())) == (2**2 * 3 * 2**2) ** 2


def swapped(cell):
    return [block._replace(in0=block.in1, in1=block.in0, op0=block.op1, op1=block.op0) for block in cell]


def test_the_key_is_the_same_for_both_orders_of_two_inputs_and_all_orders_of_the_nodes():
    space, rng = DARTS(), random.Random(0)
    told = 0
    for _ in range(40):
        blueprint = space.sample(rng).blueprint
        key = space.canonical(blueprint)
        assert space.canonical(blueprint._replace(normal=swapped(blueprint.normal))) == key
        assert space.canonical(blueprint._replace(reduce=swapped(blueprint.reduce))) == key
        for order in permutations(range(4)):
            places = {0: 0, 1: 1, **{old + 2: new + 2 for new, old in enumerate(order)}}
            cell = [blueprint.normal[old] for old in order]
            cell = [block._replace(in0=places[block.in0], in1=places[block.in1]) for block in cell]
            if all(max(block.in0, block.in1) < node + 2 for node, block in enumerate(cell)):
                told += 1
                assert space.canonical(blueprint._replace(normal=cell)) == key
    assert told > 50


def test_the_key_tells_inputs_operations_and_cells_apart():
    space = DARTS(nodes=2, reductions=0, operations=("skip", "sep3x3"))
    keys = {}
    for architecture in space.enumerate():
        keys.setdefault(space.canonical(architecture.blueprint), []).append(architecture)
    # of two nodes that read the cell's inputs alone, either can come first
    for alike in keys.values():
        if len(alike) > 1:
            assert len(alike) == 2
            assert {architecture.values["normal.n1.inputs"] for architecture in alike} == {(0, 1)}
    assert len(keys) == 4 * 2 * 4 + (4 * 4 + 4) // 2
    blueprint = DARTS().published("darts_v2").blueprint
    assert DARTS().canonical(blueprint) != DARTS().canonical(blueprint._replace(normal=blueprint.reduce))


# networks


def build(name, task, **fields):
    space = DARTS(**fields)
    with torch.device("meta"):
        return space.build(space.published(name).blueprint, task)


@pytest.mark.parametrize(
    ("name", "task", "cells", "channels", "skeleton", "count"),
    [
        ("darts_v1", CIFAR, 6, 36, "cifar", 3_169_414),
        ("darts_v2", CIFAR, 6, 36, "cifar", 3_349_342),
        ("darts_v2", MOBILE, 4, 48, "imagenet", 4_718_752),
    ],
)
def test_a_published_network_has_its_number_of_parameters(name, task, cells, channels, skeleton, count):
    network = build(name, task, cells=cells, channels=channels, skeleton=skeleton)
    assert len(network.cells) == 3 * cells + 2
    assert measure.parameters(network) == count


def test_the_auxiliary_head_has_the_published_parameters_and_counts_for_nothing():
    network = build("darts_v1", CIFAR, cells=6, channels=36, auxiliary=True, drop_path=0.2)
    assert measure.parameters(network) == 3_169_414
    assert sum(parameter.numel() for parameter in network.parameters()) == 3_169_414 + 476_426


def test_a_network_trains():
    space = DARTS(auxiliary=True, drop_path=0.3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = space.build(space.sample(random.Random(1)).blueprint, Images())
        logits, auxiliary = network(torch.randn(4, 1, 8, 8))
    (logits + auxiliary).square().sum().backward()
    assert not [name for name, parameter in network.named_parameters() if parameter.grad is None]


def test_published_cells_are_architectures_of_the_space():
    space = DARTS()
    for name in ("darts_v1", "darts_v2"):
        architecture = space.published(name)
        assert space.read(json.loads(json.dumps(architecture.to_json()))) == architecture
        cells = GENOTYPES[name].cells()
        assert space.canonical(architecture.blueprint) == space.canonical(cells)
    assert space.published("darts_v2").to_json()["normal.n3.inputs"] == [1, 2]  # skip(0) + dilsep3x3(2), older first
    assert DARTS(reductions=0).published("darts_v1").blueprint.reduce is None


def test_published_cells_of_another_space_are_refused():
    with pytest.raises(BadInput, match="genotype amoebanet_a has a node that reads one state twice"):
        DARTS().published("amoebanet_a")
    with pytest.raises(BadInput, match=r"did you mean 'darts_v"):
        DARTS().published("darts_v3")


def test_the_graph_has_all_edges_and_puts_out_all_nodes():
    space = DARTS()
    architecture = space.published("darts_v1")
    graph = space.graph(architecture.blueprint)
    assert set(graph) == {"normal", "reduce"}
    for edges in graph.values():
        assert len([edge for edge in edges if edge[1] != "output"]) == 8
        assert [source for source, target, _ in edges if target == "output"] == ["0", "1", "2", "3"]
    assert ("h[k-2]", "1", "skip") in graph["normal"]
    json.dumps(graph)


def test_bad_fields_and_images_are_refused():
    with pytest.raises(BadInput, match=r"'sep3x4', which is no operation \(did you mean 'sep3x3'\?\)"):
        DARTS(operations=("sep3x4",))
    with pytest.raises(BadInput, match=r"space\.operations"):
        DARTS(operations=())
    with pytest.raises(BadInput, match=r"at least 8 x 8 pixels, and these are 7 x 9: give task\.size=8"):
        DARTS().check(Images((1, 7, 9)))
    with pytest.raises(BadInput, match=r"at least 32 x 32 pixels.*task\.size=32 or fewer space\.reductions"):
        DARTS(skeleton="imagenet").check(Images((1, 31, 31)))


def test_the_recipe_lists_every_field_with_its_default():
    recipe = yaml.safe_load((ROOT / "conf" / "space" / "darts.yaml").read_text())
    assert recipe.pop("name") == "darts"
    final = recipe.pop("final")
    fields = {field.name: getattr(DARTS(), field.name) for field in dataclasses.fields(DARTS)}
    assert list(recipe) == list(fields)
    assert {**recipe, "operations": tuple(recipe["operations"])} == fields
    assert dataclasses.replace(DARTS(), **final).channels == 16

import csv
import dataclasses
import gzip
import json
import math
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch.nn import functional

from automl import BadInput, measure
from automl.testing import check_space
from automl_spaces.dense_cells import EDGES
from automl_spaces.nasbench201 import NASBench201
from automl_spaces.nasbench201_network import DenseCellModule
from automl_spaces.spikenas import Spikenas

ROOT = Path(__file__).parents[2]
SPACE = NASBench201()
BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"


@dataclasses.dataclass
class Images:
    """All that a space may use of a task."""

    input: tuple[int, int, int] = (3, 8, 8)
    outputs: int = 10


CIFAR = Images((3, 32, 32), 10)


@pytest.fixture(scope="module")
def cells():
    return [architecture.blueprint for architecture in SPACE.enumerate()]


@pytest.fixture(scope="module")
def rows(data):
    path = data / "nasbench201" / "nb201.csv.gz"
    if not path.exists():
        pytest.skip(f"no {path}")
    with gzip.open(path, "rt") as file:
        return list(csv.DictReader(file))


def cell(*names):
    return SPACE.read(dict(zip((f"edge{a}{b}.op" for a, b in EDGES), names, strict=True))).blueprint


def counts(blueprint):
    names = [op.name for op in blueprint]
    return names.count("nor_conv_1x1"), names.count("nor_conv_3x3")


# decisions


def test_the_contract_of_spaces_holds():
    check_space(NASBench201(cells=1, channels=4), Images(), samples=10)
    check_space(Spikenas(), samples=10)


def test_six_edges_have_one_of_five_operations_each(cells):
    assert SPACE.size() == len(set(cells)) == 15_625
    assert Spikenas().size() == sum(1 for _ in Spikenas().enumerate()) == 15_625
    assert list(SPACE.sample(random.Random(0)).values) == [
        "edge01.op",
        "edge02.op",
        "edge12.op",
        "edge03.op",
        "edge13.op",
        "edge23.op",
    ]


def test_a_child_of_two_cells_can_take_each_edge_from_either():
    a, b = SPACE.from_arch(BEST), SPACE.from_arch("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
    rng = random.Random(0)
    assert len({SPACE.cross(a, b, rng) for _ in range(600)}) == 2**6


def test_the_notation_of_the_benchmark_is_written_and_read(cells):
    assert SPACE.arch(SPACE.from_arch(BEST).blueprint) == BEST
    for blueprint in cells[::97]:
        assert SPACE.from_arch(SPACE.arch(blueprint)).blueprint == blueprint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BEST.replace("nor_conv_1x1", "nor_conv_1x2"), r"'nor_conv_1x2' \(did you mean 'nor_conv_1x1'\?\)"),
        (BEST[:-20], "is no cell of NAS-Bench-201"),
        (BEST.replace("~2", "~1"), "is no cell of NAS-Bench-201"),
        ("", r"write \|op~0\|\+\|op~0\|op~1\|"),
        (BEST + BEST, "is no cell of NAS-Bench-201"),
    ],
)
def test_another_text_is_refused(text, words):
    with pytest.raises(BadInput, match=words):
        SPACE.from_arch(text)


def test_the_graph_leaves_out_edges_that_carry_nothing():
    blueprint = cell("nor_conv_3x3", "none", "skip_connect", "none", "none", "avg_pool_3x3")
    graph = SPACE.graph(blueprint)
    assert graph == {
        "cell": [("input", "1", "nor_conv_3x3"), ("1", "2", "skip_connect"), ("2", "output", "avg_pool_3x3")]
    }
    json.dumps(graph)
    assert SPACE.graph(cell(*["none"] * 6)) == {"cell": []}


# one key for all tellings of one network


def test_the_benchmark_has_its_classes(cells):
    assert len({SPACE.isomorph(blueprint) for blueprint in cells}) == 6_466


def test_the_classes_are_those_of_the_table(rows):
    keys, classes = {}, {}
    for row in rows:
        key = SPACE.isomorph(SPACE.from_arch(row["arch"]).blueprint)
        keys.setdefault(key, set()).add(row["isomorph"])
        classes.setdefault(row["isomorph"], set()).add(key)
    assert all(len(found) == 1 for found in (*keys.values(), *classes.values()))
    assert len(classes) == 6_466


def value(blueprint, x=0.7):
    """Return what a cell computes of a number, all operations of one name sharing one function."""
    functions = {
        "none": lambda _: 0.0,
        "skip_connect": lambda x: x,
        "nor_conv_1x1": lambda x: math.sin(1.3 * x),
        "nor_conv_3x3": lambda x: math.tanh(2.1 * x),
        "avg_pool_3x3": lambda x: x / (1.7 + x * x),
    }
    nodes = [x, 0.0, 0.0, 0.0]
    for (source, target), op in zip(EDGES, blueprint, strict=True):
        nodes[target] += functions[op.name](nodes[source])
    return nodes[-1]


def test_cells_of_one_key_compute_the_same(cells):
    values = {}
    for blueprint in cells:
        values.setdefault(SPACE.canonical(blueprint), []).append(value(blueprint))
    assert len(values) == 5_425
    assert all(max(found) - min(found) < 1e-12 for found in values.values())


def test_a_result_read_twice_is_not_two_results():
    shared = cell("nor_conv_1x1", "avg_pool_3x3", "skip_connect", "avg_pool_3x3", "skip_connect", "skip_connect")
    separate = cell("skip_connect", "avg_pool_3x3", "nor_conv_1x1", "avg_pool_3x3", "nor_conv_1x1", "skip_connect")
    assert counts(shared) == (1, 0)
    assert counts(separate) == (2, 0)
    assert SPACE.isomorph(shared) == SPACE.isomorph(separate)
    assert SPACE.canonical(shared) != SPACE.canonical(separate)


def test_the_order_of_nodes_and_what_leads_nowhere_do_not_matter():
    none, skip, one, three = "none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3"
    first = SPACE.canonical(cell(one, three, none, none, skip, skip))
    assert first == SPACE.canonical(cell(three, one, none, none, skip, skip))
    assert first == SPACE.canonical(cell(skip, one, none, none, three, skip))
    assert first != SPACE.canonical(cell(one, one, none, none, skip, skip))
    alone = SPACE.canonical(cell(one, none, none, none, skip, none))
    assert alone == SPACE.canonical(cell(one, three, three, none, skip, none))  # node 2 leads nowhere
    assert alone == SPACE.canonical(cell(none, skip, one, one, three, none))  # nothing leads to node 1


# networks


def on_meta(blueprint, task, space=SPACE):
    with torch.device("meta"):
        return space.build(blueprint, task).eval()


def multiply_adds(network, task):
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        assert network(torch.empty(1, *task.input)).shape == (1, task.outputs)
    return counter.get_total_flops() // 2


def test_the_formula_is_the_table_for_every_cell(rows):
    for row in rows:
        ones, threes = counts(SPACE.from_arch(row["arch"]).blueprint)
        assert round(float(row["c10_params_m"]) * 1e6) == 73_306 + 28_000 * ones + 243_040 * threes
        assert round(float(row["c10_flops_m"]) * 1e6) == 7_783_050 + 3_932_160 * ones + 35_389_440 * threes
        assert round(float(row["c100_params_m"]) * 1e6) == 73_306 + 90 * 65 + 28_000 * ones + 243_040 * threes


@pytest.mark.parametrize("place", [0, 4_321, 9_999, 15_624])
def test_a_network_has_the_parameters_and_the_multiply_adds_of_the_formula(cells, place):
    ones, threes = counts(cells[place])
    network = on_meta(cells[place], CIFAR)
    assert measure.parameters(network) == 73_306 + 28_000 * ones + 243_040 * threes
    # the benchmark counts the classifier's bias
    assert multiply_adds(network, CIFAR) + 10 == 7_783_050 + 3_932_160 * ones + 35_389_440 * threes


def test_a_network_for_a_hundred_classes_has_the_counts_of_the_table(rows):
    hundred = Images((3, 32, 32), 100)
    row = rows[6_111]
    assert row["arch"] == BEST
    network = on_meta(SPACE.from_arch(row["arch"]).blueprint, hundred)
    assert measure.parameters(network) == round(float(row["c100_params_m"]) * 1e6)
    assert multiply_adds(network, hundred) + 100 == round(float(row["c100_flops_m"]) * 1e6)


def test_a_cell_adds_up_what_its_edges_bring(cells):
    rng = random.Random(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x = torch.randn(2, 4, 5, 5)
        for blueprint in rng.sample(cells, 20):
            module = DenseCellModule(blueprint, 4)
            states = [x, *[torch.zeros_like(x)] * 3]
            for (source, target), operation in zip(EDGES, module.operations, strict=True):
                states[target] = states[target] + operation(states[source])
            torch.testing.assert_close(module(x), states[3])


def test_pooling_does_not_count_what_is_beyond_the_edge():
    blueprint = cell("none", "none", "none", "avg_pool_3x3", "none", "none")
    pooled = DenseCellModule(blueprint, 1)(torch.ones(1, 1, 4, 4))
    torch.testing.assert_close(pooled, torch.ones(1, 1, 4, 4))
    x = torch.arange(9.0).view(1, 1, 3, 3)
    expected = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    torch.testing.assert_close(DenseCellModule(blueprint, 1)(x), expected)


@pytest.mark.parametrize("arch", [BEST, "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"])
def test_a_network_trains_on_images_of_an_odd_size(arch):
    space, task = NASBench201(cells=2, channels=4), Images((1, 9, 7), 3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = space.build(space.from_arch(arch).blueprint, task)
        logits = network(torch.randn(4, 1, 9, 7))
    assert logits.shape == (4, 3)
    functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert bool(without) == (arch != BEST)  # what comes before a cell of nothing


def test_images_too_small_for_three_stages_are_refused():
    with pytest.raises(BadInput, match=r"at least 4 x 4 pixels, and these are 3 x 8: give task\.size=4"):
        SPACE.check(Images((1, 3, 8)))
    assert NASBench201(cells=1, channels=2).build(cell(*["skip_connect"] * 6), Images((1, 4, 4))) is not None


def test_a_spiking_network_is_not_built():
    space = Spikenas()
    blueprint = space.sample(random.Random(0)).blueprint
    with pytest.raises(BadInput, match=r"evaluator=tabular evaluator\.table=spikenas"):
        space.build(blueprint, Images())
    with pytest.raises(BadInput, match="not built here"):
        blueprint[0](4, 4, 1)
    assert all(edge[2] != "none" for edge in space.graph(blueprint)["cell"])


def test_nothing_but_building_imports_torch():
    program = (
        "import random, sys\n"
        "from automl_spaces.nasbench201 import NASBench201\n"
        "space, rng = NASBench201(), random.Random(0)\n"
        "space.canonical(space.mutate(space.sample(rng), rng).blueprint)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("space", [NASBench201(), Spikenas()])
def test_the_recipe_lists_every_field_with_its_default(space):
    name = type(space).__name__.lower()
    recipe = yaml.safe_load((ROOT / "conf" / "space" / f"{name}.yaml").read_text())
    assert list(recipe.items()) == [("name", name), *dataclasses.asdict(space).items()]

import random
from collections import Counter
from functools import cache

import numpy as np
import pytest
import torch

from automl import BadInput
from automl_networks.conv_norm import conv_norm
from automl_spaces import nasbench101_network
from automl_spaces.graphs import canonical
from automl_spaces.nasbench101 import NASBench101, alive
from automl_spaces.nasbench101_network import GraphCell, widths

NAMES = {1: "input", 2: "conv1x1-bn-relu", 3: "conv3x3-bn-relu", 4: "maxpool3x3", 5: "output"}


class Cifar:
    input = (3, 32, 32)
    outputs = 10


@pytest.fixture(scope="module")
def cells(data):
    """The benchmark's cells of a published list, as matrix and names, with their parameters."""
    with np.load(data / "nasbench101_cells" / "nb101_7v_energy.npz", allow_pickle=False) as file:
        adjacency, ops, params = file["adjacency"], file["ops"], file["params"]
    rows = []
    for matrix, kinds, count in zip(adjacency, ops, params, strict=True):
        size = int((kinds > 0).sum())
        rows.append((matrix[:size, :size].tolist(), [NAMES[kind] for kind in kinds[:size].tolist()], int(count)))
    return rows


@cache
def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def parameters(graph):
    """Return the parameters at the benchmark's scale: of three stages of three cells of really built modules."""
    with torch.device("meta"):
        stem, linear = conv_norm(3, 128, 3), torch.nn.Linear(512, 10)
        total = count(stem) + count(linear)
        for inputs, outputs, times in [(128, 128, 3), (128, 256, 1), (256, 256, 2), (256, 512, 1), (512, 512, 2)]:
            cell = GraphCell(graph, inputs, outputs)
            total += times * sum(map(count, [*cell.projections.values(), *cell.operations]))
    return total


@pytest.mark.parametrize("step", [30, pytest.param(1, marks=pytest.mark.slow)])
def test_cells_have_the_parameters_of_the_benchmark(cells, monkeypatch, step):
    once = cache(conv_norm)  # modules of one shape are made once, and counted as often as they are used
    monkeypatch.setattr(nasbench101_network, "conv_norm", once)
    monkeypatch.setattr("automl_networks.conv_norm.conv_norm", once)
    space = NASBench101()
    assert len(cells) == 4310
    for matrix, names, expected in cells[::step]:
        assert parameters(alive(space.from_matrix(matrix, names).blueprint)) == expected


def test_a_whole_network_has_the_parameters_of_the_benchmark(cells):
    space = NASBench101(cells=3, channels=128)
    matrix, names, expected = cells[0]
    with torch.device("meta"):
        network = space.build(space.from_matrix(matrix, names).blueprint, Cifar())
    assert count(network) == expected == 8_992_394


def test_the_cells_of_up_to_five_vertices_are_as_many_as_the_benchmark_has():
    space = NASBench101(vertices=5)
    keys = {space.canonical(architecture.blueprint) for architecture in space.enumerate()}
    assert Counter(map(len, keys)) == {2: 1, 3: 6, 4: 84, 5: 2_441}


def test_no_sample_has_too_many_edges_or_no_path():
    space, rng = NASBench101(), random.Random(0)
    assert space.size() == 18_766_576
    sizes = Counter()
    for _ in range(5_000):
        reads, operations = space.sample(rng).blueprint
        edges = sum(map(len, reads))
        assert edges <= 9
        assert len(operations) == len(reads) - 2 <= 5
        assert all(reads[vertex] and max(reads[vertex]) < vertex for vertex in range(1, len(reads)))
        sizes[len(reads), edges] += 1
    assert {vertices for vertices, _ in sizes} == set(range(2, 8))
    assert max(edges for _, edges in sizes) == 9


def test_a_cell_of_the_benchmark_is_read_whatever_its_order_and_dead_vertices(cells):
    space, rng = NASBench101(), random.Random(0)
    for matrix, names, _ in cells[::80]:
        architecture = space.from_matrix(matrix, names)
        assert space.read(architecture.to_json()) == architecture
        size = len(names)
        direct = [(names[j], tuple(i for i in range(j) if matrix[i][j])) for j in range(size)]
        if all(read for _, read in direct[1:]) and len(alive(architecture.blueprint).reads) == size:
            assert space.canonical(architecture.blueprint) == canonical(direct)
        order = [0, *rng.sample(range(1, size - 1), size - 2), size - 1]
        moved = [[matrix[i][j] for j in order] for i in order]
        if not any(moved[i][j] for i in range(size) for j in range(i)):
            other = space.from_matrix(moved, [names[old] for old in order])
            assert space.canonical(other.blueprint) == space.canonical(architecture.blueprint)
    dead = [[0, 1, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]  # the third vertex reads nothing
    names = ["input", "maxpool3x3", "conv3x3-bn-relu", "output"]
    assert len(space.from_matrix(dead, names).blueprint.operations) == 1


def test_widths_are_shared_by_what_the_output_reads():
    space = NASBench101()
    wide = [[0, 1, 1, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]
    names = ["input", *["conv1x1-bn-relu"] * 3, "output"]
    graph = alive(space.from_matrix(wide, names).blueprint)
    assert widths(graph, 64, 128) == [64, 43, 43, 42, 128]
    cell = GraphCell(graph, 6, 8)
    assert cell(torch.randn(2, 6, 4, 4)).shape == (2, 8, 4, 4)


@pytest.mark.parametrize(
    ("matrix", "names", "why"),
    [
        ([[0, 0], [0, 0]], ["input", "output"], "no path from the input"),
        ([[0, 1], [1, 0]], ["input", "output"], "an earlier one"),
        ([[0, 1, 0], [0, 0, 1], [0, 0, 0]], ["input", "conv", "output"], "give input, conv3x3-bn-relu"),
        (np.triu(np.ones((5, 5), int), 1).tolist(), ["input", *["maxpool3x3"] * 3, "output"], "at most 7 and 9"),
    ],
)
def test_what_is_no_cell_is_refused(matrix, names, why):
    with pytest.raises(BadInput, match=why):
        NASBench101().from_matrix(matrix, names)


def test_too_few_edges_are_refused():
    with pytest.raises(BadInput, match=r"space\.edges=5 are too few .*: give at least 6"):
        NASBench101(edges=5)

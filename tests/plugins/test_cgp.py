import random

import pytest
import torch

from automl import BadInput
from automl_spaces.cgp import CGP, Node
from automl_spaces.cgp_network import Concat, GridNetwork, Residual, Shrink, Sum


def test_the_grid_of_the_paper_has_its_genes():
    space = CGP(rows=5, columns=30, levels_back=10, widths=(32, 64, 128))
    architecture = space.sample(random.Random(0))
    domains = architecture.domains
    assert domains["node1.fn"].count == 10
    assert "node1.in0" not in domains  # it reads the input
    assert list(domains["node6.in0"]) == [0, 1, 2, 3, 4, 5]
    assert list(domains["node46.in1"]) == list(range(46))  # column 9: the last that reads the input
    assert list(domains["node51.in0"]) == list(range(1, 51))
    assert list(domains["node56.in0"]) == list(range(6, 56))
    assert list(domains["output.in"]) == list(range(101, 151))
    assert len(domains) == 150 + 2 * 145 + 1
    readable = [5 * column + 1 for column in range(10)] + [50] * 20
    expected = 50
    for count in readable:
        expected *= (10 * count**2) ** 5
    assert space.size() == expected


def test_silent_genes_change_nothing_and_forced_mutation_changes_what_is_active():
    space, rng = CGP(), random.Random(0)
    for _ in range(100):
        one = space.sample(rng)
        active = space.active(one)
        silent = [gene for gene in one.values if gene not in active]
        neutral = space.mutate(one, rng, [rng.choice(silent)])
        assert neutral != one
        assert neutral.blueprint == one.blueprint
        mutant = space.mutate(one, rng)
        changed = [gene for gene in one.values if one.values[gene] != mutant.values[gene]]
        assert len(changed) == 1
        assert changed[0] in active


def test_every_active_gene_can_change_the_network():
    space, rng = CGP(rows=2, columns=3, levels_back=2), random.Random(0)
    for _ in range(20):
        one = space.sample(rng)
        for gene in space.active(one):
            assert any(space.mutate(one, rng, [gene]).blueprint != one.blueprint for _ in range(20))


def test_the_key_knows_other_places_and_both_orders_of_a_sum_alone():
    key = CGP().canonical
    start, conv, pool = Node("input", ()), Node("convolution3x3_8", (0,)), Node("max_pool", (0,))
    one = (start, conv, pool, Node("sum", (1, 2)))
    other = (start, pool, conv, Node("sum", (1, 2)))
    concat = (start, conv, pool, Node("concat", (1, 2)))
    turned = (start, conv, pool, Node("concat", (2, 1)))
    moved = (start, pool, conv, Node("concat", (2, 1)))
    assert key(one) == key(other)
    assert key(concat) == key(moved)
    assert len({key(nodes) for nodes in (one, concat, turned)}) == 3
    twice = (start, conv, Node("sum", (1, 1)))
    two = (start, conv, conv, Node("sum", (1, 2)))
    assert key(twice) != key(two)


def test_maps_of_other_sizes_and_widths_are_joined():
    x, y = torch.randn(2, 3, 9, 9), torch.randn(2, 5, 2, 2)
    small = torch.nn.functional.max_pool2d(torch.nn.functional.max_pool2d(x, 2), 2)
    assert torch.equal(Concat()(x, y), torch.cat([small, y], dim=1))
    assert torch.equal(Concat()(y, x), torch.cat([y, small], dim=1))
    expected = y.clone()
    expected[:, :3] += small
    assert torch.equal(Sum()(x, y), expected.relu())
    assert torch.equal(Sum()(y, x), expected.relu())
    point = torch.randn(2, 3, 1, 4)
    assert Shrink(average=True)(point) is point


def test_a_residual_block_fills_up_the_narrower_by_zeros():
    for inputs, width in ((3, 8), (8, 3), (4, 4)):
        block = Residual(inputs, width, 3).eval()
        x = torch.randn(2, inputs, 4, 4)
        made, branch = block(x), block.branch(x)
        assert made.shape[1] == max(inputs, width)
        both = min(inputs, width)
        torch.testing.assert_close(made[:, :both], (x[:, :both] + branch[:, :both]).relu())


def test_only_active_nodes_have_weights():
    nodes = (Node("input", ()), Node("convolution3x3_8", (0,)), Node("concat", (1, 0)), Node("avg_pool", (2,)))
    network = GridNetwork(nodes, (3, 8, 8), 10)
    weights = 3 * 8 * 9 + 2 * 8 + (8 + 3) * 10 + 10
    assert sum(parameter.numel() for parameter in network.parameters()) == weights
    assert network(torch.randn(2, 3, 8, 8)).shape == (2, 10)


def test_levels_beyond_the_columns_are_refused():
    with pytest.raises(BadInput, match=r"space\.levels_back=5 goes further back than space\.columns=4: give at most 4"):
        CGP(columns=4)
    assert CGP(block="residual").sample(random.Random(0)).domains["node1.fn"].options[0] == "residual3x3_8"

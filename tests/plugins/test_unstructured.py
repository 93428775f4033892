import random
from collections import Counter

import pytest
import torch
from spaces_contract import Images, check_ergodic, check_recipe, check_training, samples

from automl import BadInput, measure
from automl.testing import check_space
from automl_spaces.dags import INPUT
from automl_spaces.unstructured import Convolution, Unstructured, Vertex
from automl_spaces.unstructured_mutations import filters_before, inserted, removed

SMALL = {"vertices": 4, "kernel": 3, "filters": 4}
TINY = {"vertices": 2, "kernel": 1, "stride": 1, "filters": 1}
CONV = Vertex(INPUT, Convolution(3, 5, 2, 6), (), True)


def test_the_contract_of_spaces_holds():
    check_space(Unstructured(**SMALL), Images(), samples=6)
    check_space(Unstructured(**TINY), Images((3, 1, 2)), samples=6)


def test_the_size_is_by_formula_what_enumeration_says():
    space = Unstructured(**TINY)
    assert space.size() == len(set(space.enumerate())) == 1 + 4 + 4 * 16
    wider = Unstructured(vertices=1, kernel=3, stride=4, filters=5)
    assert wider.size() == len(set(wider.enumerate())) == 1 + 2 * (1 + 4 * 3 * 5)
    assert Unstructured().exceeds(10**20)


def test_mutation_reaches_every_network():
    check_ergodic(Unstructured(**TINY))


def test_every_sample_is_acyclic():
    for graph in samples(Unstructured()):
        for place, vertex in enumerate(graph):
            assert INPUT <= vertex.source < place
            assert all(INPUT <= read < place and read != vertex.source for read in vertex.skips)


def test_evolution_begins_with_a_linear_network():
    space = Unstructured()
    first = space.complete({"vertices": 0}, random.Random(0))
    assert first.blueprint == ()
    network = space.build(first.blueprint, Images((3, 8, 8)))
    assert measure.parameters(network) == 3 * 10 + 10
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(network(x), network[-1](x.mean((2, 3))))


def test_other_maps_are_brought_to_the_shape_of_the_primary_one():
    graph = (CONV, Vertex(INPUT, None, (0,), False), Vertex(0, None, (INPUT, 1), False))
    network = Unstructured().build(graph, Images((2, 4, 4))).eval()
    x = torch.randn(1, 2, 4, 4)
    maps = network[0]
    first = maps.layers[0](maps.merges[0].edge(x))
    assert first.shape == (1, 6, 2, 2)
    second = x + first[:, :2].repeat_interleave(2, 2).repeat_interleave(2, 3)
    third = first.clone()
    third[:, :2] += x[..., ::2, ::2] + second[..., ::2, ::2]
    torch.testing.assert_close(maps(x), third)


def test_what_does_nothing_has_no_say_in_the_key():
    space = Unstructured()
    alone = space.canonical((CONV,))
    assert alone == space.canonical((CONV, Vertex(0, None, (), False)))
    assert alone == space.canonical((Vertex(INPUT, Convolution(1, 1, 1, 1), (), True), CONV))
    assert alone != space.canonical((CONV, Vertex(0, None, (), True)))
    assert alone != space.canonical((CONV._replace(active=False),))
    assert alone != space.canonical((CONV._replace(edge=Convolution(5, 3, 2, 6)),))
    assert space.canonical(()) == space.canonical((Vertex(INPUT, None, (), False),))


def test_the_primary_edge_is_told_from_skips_and_orders_are_not():
    space = Unstructured()
    other = Vertex(INPUT, Convolution(1, 1, 1, 4), (), True)
    key = space.canonical((CONV, other, Vertex(0, None, (1,), True)))
    assert key == space.canonical((other, CONV, Vertex(1, None, (0,), True)))
    assert key != space.canonical((CONV, other, Vertex(1, None, (0,), True)))


def test_networks_of_one_key_have_equal_costs():
    space, rng, costs = Unstructured(vertices=3, kernel=1, stride=1, filters=2), random.Random(0), {}
    for _ in range(400):
        graph = space.sample(rng).blueprint
        with torch.device("meta"):
            found = measure.parameters(space.build(graph, Images()))
        costs.setdefault(space.canonical(graph), set()).add(found)
    assert len(costs) > 100
    assert all(len(found) == 1 for found in costs.values())


def test_networks_train():
    check_training(Unstructured(**SMALL), (2, 9, 6))


def test_the_graph_has_edges_and_vertices():
    assert Unstructured().graph((CONV, Vertex(0, None, (INPUT,), False))) == {
        "network": [
            ("input", "1", "conv3x5/2 6"),
            ("1", "2", "normalised relu"),
            ("2", "3", "primary"),
            ("input", "4", "skip"),
            ("3", "5", "sum"),
            ("4", "5", "sum"),
            ("5", "output", "output"),
        ]
    }


def test_bad_fields_are_refused():
    with pytest.raises(BadInput, match=r"space\.kernel=4 is not odd, as all are here: give 5"):
        Unstructured(kernel=4)
    with pytest.raises(BadInput, match=r"space\.stride=3 is not a power of two, as all are here: give 4"):
        Unstructured(stride=3)


def test_the_recipe_lists_every_field_with_its_default():
    check_recipe(Unstructured(), "unstructured")


def test_graphs_told_are_read_back():
    space, rng = Unstructured(), random.Random(0)
    for _ in range(200):
        one = space.sample(rng)
        assert space.complete(space.told(one.blueprint), random.Random(1)) == one


def test_a_vertex_is_inserted_on_an_edge_and_removed_again():
    wide = Convolution(3, 3, 1, 4)
    graph = (CONV, Vertex(0, wide, (INPUT,), True), Vertex(INPUT, None, (0, 1), False))
    new = Vertex(INPUT, Convolution(3, 3, 1, 2), (), True)
    longer = inserted(graph, 1, new)
    assert longer == (CONV, new._replace(source=0), Vertex(1, wide, (INPUT,), True), Vertex(INPUT, None, (0, 2), False))
    assert removed(longer, 1) == graph
    assert removed(graph, 0) == (Vertex(INPUT, wide, (), True), Vertex(INPUT, None, (0,), False))
    assert inserted((), 0, new) == (new,)
    assert inserted(graph, 3, new)[3].source == 2
    assert filters_before(graph, 2) is None
    assert filters_before(graph, 1) == CONV.edge.filters


def test_mutations_insert_remove_and_change():
    space, rng = Unstructured(vertices=4), random.Random(0)
    by_growth = Counter()
    for _ in range(600):
        one = space.complete({"vertices": 2}, rng)
        mutant = space.mutate(one, rng)
        assert mutant != one
        by_growth[len(mutant.blueprint) - 2] += 1
        if len(mutant.blueprint) == 3 and mutant.blueprint[:2] == one.blueprint:
            assert mutant.blueprint[2].source in (INPUT, 0, 1)
    assert by_growth[1] > 100
    assert by_growth[-1] > 40
    assert by_growth[0] > 250

import random

import pytest
import torch
from spaces_contract import Images, check_ergodic, check_recipe, check_training, samples

from automl import BadInput, measure
from automl.testing import check_space
from automl_spaces.dags import INPUT, Node
from automl_spaces.genetic_cnn import GeneticCNN, pairs, stage


def test_the_contract_of_spaces_holds():
    check_space(GeneticCNN(filters=(2, 3, 4), hidden=8), Images(), samples=10)
    check_space(GeneticCNN(nodes=(1, 2), filters=(2, 2), hidden=4), Images((3, 4, 9)), samples=5)


def test_every_sample_is_legal():
    assert len(set(samples(GeneticCNN()))) > 9_000


def test_the_sizes_are_those_of_the_paper():
    assert GeneticCNN().size() == 2**19 == 524_288
    mnist = GeneticCNN(nodes=(3, 5), filters=(8, 16))
    assert mnist.size() == 8_192
    assert mnist.exceeds(8_191)
    assert not mnist.exceeds(8_192)


def test_different_bits_may_be_one_network():
    """As many are different as there are acyclic graphs without labels (Robinson, 1977)."""
    for count, networks in ((1, 1), (2, 2), (3, 6), (4, 31), (5, 302)):
        space = GeneticCNN(nodes=(count,), filters=(4,))
        described = [architecture.blueprint for architecture in space.enumerate()]
        assert len(described) == space.size()
        assert len({space.canonical(bits) for bits in described}) == networks
    space = GeneticCNN(nodes=(3, 4), filters=(4, 4))
    assert len({space.canonical(architecture.blueprint) for architecture in space.enumerate()}) == 6 * 31


def test_mutation_reaches_every_network():
    check_ergodic(GeneticCNN(nodes=(3, 3), filters=(2, 2)), tries=80)


def test_stages_are_crossed_whole():
    space, rng = GeneticCNN(), random.Random(0)
    a, b = space.sample(rng), space.sample(rng)
    children = {space.cross(a, b, rng).blueprint for _ in range(100)}
    assert len(children) == 2**3
    for child in children:
        assert all(bits in (a.blueprint[place], b.blueprint[place]) for place, bits in enumerate(child))


def test_a_stage_is_completed_by_its_first_and_last_convolution():
    assert pairs(3) == [(1, 2), (1, 3), (2, 3)]
    conv = ("conv3x3",)
    assert stage((0, 0, 0), 3) == [Node(conv, (INPUT,))]
    assert stage((1, 0, 1), 3) == [Node(conv, (INPUT,)), Node(conv, (0,)), Node(conv, (1,)), Node(conv, (2,))]  # VGG
    with_skip = [Node(conv, (INPUT,)), Node(conv, (0,)), Node(conv, (0, 1)), Node(conv, (2,))]  # a residual network's
    assert stage((1, 1, 1), 3) == with_skip
    assert stage((0, 1, 0), 3) == [Node(conv, (INPUT,)), Node(conv, (0,)), Node(conv, (1,))]  # 2 is isolated


def test_the_nodes_sum_what_they_read():
    space = GeneticCNN(nodes=(2,), filters=(4,), hidden=8)
    network = space.build(((0,),), Images()).eval()
    assert measure.parameters(network) == 36 + 8 + 144 + 8 + 4 * 16 * 8 + 8 + 8 * 10 + 10
    graph = GeneticCNN(nodes=(3,), filters=(4,)).build(((0, 1, 1),), Images()).eval().stages[0][1]
    x = torch.randn(1, 4, 8, 8)
    first, second, third, last = graph.layers
    torch.testing.assert_close(graph(x), last(third(first(x) + second(x))))


def test_networks_train():
    check_training(GeneticCNN(filters=(2, 3, 4), hidden=8, dropout=0))


def test_the_graph_has_the_edges():
    assert GeneticCNN(nodes=(3, 2), filters=(4, 4)).graph(((0, 1, 1), (0,))) == {
        "stage0": [
            ("input", "1", "conv3x3"),
            ("input", "2", "conv3x3"),
            ("1", "3", "conv3x3"),
            ("2", "3", "conv3x3"),
            ("3", "output", "conv3x3"),
        ],
        "stage1": [("input", "output", "conv3x3")],
    }


def test_bad_fields_and_images_are_refused():
    with pytest.raises(BadInput, match=r"has 2 stages and space\.filters=\[8\] 1"):
        GeneticCNN(nodes=(3, 4), filters=(8,))
    with pytest.raises(BadInput, match=r"at least 8 x 8 pixels, and these are 7 x 9: give task\.size=8"):
        GeneticCNN().check(Images((1, 7, 9)))


def test_the_recipe_lists_every_field_with_its_default():
    check_recipe(GeneticCNN(), "genetic_cnn")

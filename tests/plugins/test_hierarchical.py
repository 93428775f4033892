import random

import pytest
import torch

from automl import BadInput
from automl_spaces.hierarchical import NONE, Hierarchical
from automl_spaces.operations import OPERATIONS


class Images:
    input = (1, 8, 8)
    outputs = 3


CHAIN = {"l3.m0.e0_1": 1, "l3.m0.e1_2": 2, "l3.m0.e2_3": 3, "l3.m0.e3_4": 4}


def described(space, **values):
    """Return the architecture of these decisions in which all other edges carry nothing."""
    architecture = space.sample(random.Random(0))
    nothing = {name: 0 if name.startswith("l3") else "none" for name in architecture.values}
    return space.read(nothing | {name.replace("__", "."): value for name, value in values.items()})


def test_there_are_46_decisions_between_seven_labels():
    space = Hierarchical()
    architecture = space.sample(random.Random(0))
    assert len(architecture.values) == 46
    assert {domain.count for domain in architecture.domains.values()} == {7}
    assert space.size() == 7**46
    assert Hierarchical(nodes=(11,), motifs=()).size() == 7**55


def test_motifs_of_one_identity_make_the_cell_a_graph_of_operations():
    """Each motif is one edge from its input to its output: the cell is the flat graph of the same labels."""
    operations = ("conv1x1", "depthwise3x3", "sep3x3_once", "max3x3", "avg3x3", "identity")
    space, flat = Hierarchical(), Hierarchical(nodes=(5,), motifs=())
    rng = random.Random(0)
    single = {f"l2.m{motif}.e0_3": name for motif, name in enumerate(operations)}
    names = {0: "none", **dict(enumerate(operations, start=1))}
    for _ in range(50):
        labels = {f"l3.m0.e{i}_{j}": rng.randrange(7) for j in range(5) for i in range(j)}
        one = described(space, **single, **labels)
        other = flat.read({name.replace("l3", "l2"): names[label] for name, label in labels.items()})
        assert space.canonical(one.blueprint) == flat.canonical(other.blueprint)


def test_dead_nodes_and_unused_motifs_are_left_out():
    space = Hierarchical()
    chain = {f"l2.m{motif}.e0_3": "conv1x1" for motif in range(4)}
    one = described(space, **CHAIN, **chain)
    assert [state.reads for state in space.written_out(one.blueprint)] == [(), (0,), (1,), (2,), (3,)]
    more = [
        {"l2.m5.e0_3": "max3x3"},  # a motif that no edge uses
        {"l2.m0.e1_2": "max3x3"},  # an edge between nodes that nothing reaches
        {"l2.m0.e0_1": "max3x3"},  # a node that nothing reads
        {"l3.m0.e0_4": 6},  # a motif without a path
    ]
    for extra in more:
        assert space.canonical(described(space, **{**CHAIN, **chain, **extra}).blueprint) == space.canonical(
            one.blueprint
        )
    other = described(space, **CHAIN, **chain, **{"l2.m5.e0_3": "max3x3", "l3.m0.e0_4": 6})
    assert space.canonical(other.blueprint) != space.canonical(one.blueprint)


def test_a_motif_used_twice_has_two_sets_of_weights():
    space = Hierarchical(channels=4)
    once = described(space, **{"l3.m0.e0_4": 1, "l2.m0.e0_3": "conv1x1"})
    twice = described(space, **{"l3.m0.e0_1": 1, "l3.m0.e1_4": 1, "l2.m0.e0_3": "conv1x1"})
    states = [len(space.written_out(one.blueprint)) for one in (once, twice)]
    assert states == [2, 3]
    built = [sum(p.numel() for p in space.build(one.blueprint, Images()).parameters()) for one in (once, twice)]
    assert built[1] - built[0] == sum(c * c + 2 * c for c in (4, 8, 16))


def test_the_key_knows_other_orders_of_motifs_and_of_nodes():
    space, rng = Hierarchical(), random.Random(0)
    for _ in range(20):
        motifs, (cell,) = space.sample(rng).blueprint
        key = space.canonical((motifs, (cell,)))
        order = rng.sample(range(6), 6)
        labels = {0: 0, **{old + 1: new + 1 for new, old in enumerate(order)}}
        moved = tuple(motifs[old] for old in order), (tuple(labels[label] for label in cell),)
        assert space.canonical(moved) == key
        e01, e02, e03, e12, e13, e23 = motifs[0]
        if e12 == NONE:  # then the two inner nodes may change places
            assert space.canonical((((e02, e01, e03, NONE, e23, e13), *motifs[1:]), (cell,))) == key


def test_a_cell_without_a_path_hands_its_input_on():
    space = Hierarchical(channels=2)
    nothing = described(space)
    assert len(space.written_out(nothing.blueprint)) == 1
    network = space.build(nothing.blueprint, Images())
    assert network(torch.randn(2, 1, 8, 8)).shape == (2, 3)
    identity = described(space, **{"l3.m0.e0_4": 1, "l2.m0.e0_3": "identity"})
    assert space.canonical(identity.blueprint) == space.canonical(nothing.blueprint)


def test_levels_without_motifs_are_refused():
    with pytest.raises(BadInput, match=r"space\.nodes has 3 levels and space\.motifs 1: give motifs for each level"):
        Hierarchical(nodes=(4, 4, 5))
    with pytest.raises(BadInput, match=r"at least 4 x 4 pixels, and these are 3 x 8: give task\.size=4"):
        Images.input = (1, 3, 8)
        try:
            Hierarchical().check(Images())
        finally:
            Images.input = (1, 8, 8)


def test_a_depthwise_operation_keeps_each_channel_by_itself():
    operation = OPERATIONS["depthwise3x3"](4, 4, 1)
    assert sum(parameter.numel() for parameter in operation.parameters()) == 4 * 9 + 2 * 4


def test_random_networks_can_be_made_by_mutations_of_the_trivial_one():
    space, rng = Hierarchical(mutations=0), random.Random(0)
    trivial = space.sample(rng)
    graphs = space.graph(trivial.blueprint)
    assert graphs["l2.m3"] == [("input", "1", "identity"), ("1", "2", "identity"), ("2", "output", "identity")]
    assert [label for *_, label in graphs["cell"]] == ["l2.m0"] * 4
    assert space.canonical(trivial.blueprint) == (("input", ()), ("output", (0,)))
    few = Hierarchical(mutations=3).sample(rng)
    assert 1 <= sum(few.values[name] != value for name, value in trivial.values.items()) <= 3
    many = [Hierarchical(mutations=1_000).sample(rng) for _ in range(60)]
    changed = [sum(one.values[name] != value for name, value in trivial.values.items()) for one in many]
    assert 36 < sum(changed) / len(changed) < 43, "six labels of seven differ"
    with pytest.raises(BadInput, match=r"add identity, or give space\.mutations=null"):
        Hierarchical(operations=("conv1x1",), mutations=10)


def test_each_level_is_mutated_as_often():
    space, rng = Hierarchical(), random.Random(0)
    one = space.sample(rng)
    cells = 0
    for _ in range(400):
        mutant = space.mutate(one, rng)
        changed = [name for name, value in one.values.items() if mutant.values[name] != value]
        assert len(changed) == 1
        cells += changed[0].startswith("l3.")
    assert 150 < cells < 250

import random

import pytest
import torch

from automl import BadInput
from automl_spaces.operations import OPERATIONS
from automl_spaces.tree_cell import TREE_OPERATIONS, Branch, Node, TreeCell
from automl_spaces.tree_cell_network import Tree

A, B, SAME = OPERATIONS["max3x3"], OPERATIONS["avg3x3"], OPERATIONS["identity"]


def node(merge, *branches):
    """Return a node of branches given as an operation, or as an operation and a node."""
    return Node(merge, tuple(Branch(*branch) if type(branch) is tuple else Branch(branch, None) for branch in branches))


def published():
    """Return the decisions of TreeCell-A."""
    values = {}

    def tell(path, merge, *branches):
        values[f"{path}.merge"] = merge
        for place, (op, *inner) in enumerate(branches):
            values[f"{path}.{place}.op"] = op
            if path.count(".") < 2:
                values[f"{path}.{place}.expand"] = int(bool(inner))
            if inner:
                tell(f"{path}.{place}", *inner)

    tell(
        "root",
        "add2",
        (
            "grouped3x3_g2",
            "add2",
            ("conv1x1", "concat2", ("avg3x3",), ("sep7x7_once",)),
            ("max3x3", "add2", ("sep3x3_once",), ("sep5x5_once",)),
        ),
        (
            "grouped3x3_g2",
            "add2",
            ("sep5x5_once", "add3", ("sep5x5_once",), ("avg3x3",), ("avg3x3",)),
            ("sep3x3_once", "add2", ("avg3x3",), ("sep3x3_once",)),
        ),
    )
    return values


def test_the_published_cell_is_of_the_space_with_its_grouped_convolutions():
    space = TreeCell(operations=(*TREE_OPERATIONS, "grouped3x3_g2"))
    architecture = space.read(published())
    tree = Tree(architecture.blueprint, 16)
    assert tree(torch.randn(2, 16, 6, 6)).shape == (2, 16, 6, 6)

    def separable(kernel, width):
        return kernel**2 * width + width**2 + 2 * width

    expected = 2 * (16 * 8 * 9 + 32)  # the grouped convolutions
    expected += 16 * 16 + 32 + separable(7, 8) + separable(3, 16) + separable(5, 16)
    expected += 2 * separable(5, 16) + separable(3, 16) + separable(3, 16)
    assert sum(parameter.numel() for parameter in tree.parameters()) == expected
    assert space.canonical(architecture.blueprint) == (
        "grouped3x3_g2(conv1x1([avg3x3()|sep7x7_once()])+max3x3(sep3x3_once()+sep5x5_once()))"
        "+grouped3x3_g2(sep3x3_once(avg3x3()+sep3x3_once())+sep5x5_once(avg3x3()+avg3x3()+sep5x5_once()))"
    )


def test_the_size_is_counted_from_the_leaves():
    assert TreeCell(depth=1).size() == 2 * 7**2 + 7**3 == 441
    branch = 7 * (1 + 442)
    assert TreeCell(depth=2).size() == 2 * branch**2 + branch**3
    small = TreeCell(depth=2, operations=("identity",))
    assert small.size() == len(set(small.enumerate())) == 2 * 5**2 + 5**3


def test_no_tree_is_deeper_than_asked():
    def depth(tree):
        return 1 + max((depth(branch.node) for branch in tree.branches if branch.node), default=0)

    space, rng = TreeCell(), random.Random(0)
    assert {depth(space.sample(rng).blueprint) for _ in range(500)} == {1, 2, 3}


def test_the_key_knows_orders_of_sums_and_sums_in_sums():
    key = TreeCell().canonical
    assert key(node("add2", A, B)) == key(node("add2", B, A))
    assert key(node("add3", A, B, B)) == key(node("add2", A, (SAME, node("add2", B, B))))
    assert key(node("concat2", A, B)) != key(node("concat2", B, A))
    assert key(node("add2", A, B)) != key(node("add2", A, A))
    assert key(node("add2", SAME, (A, node("add2", B, B)))) != key(node("add3", SAME, (A, node("add2", B, B)), B))
    assert key(node("add2", SAME, (SAME, node("concat2", A, B)))) != key(node("add2", SAME, (A, node("concat2", A, B))))


def test_cells_of_one_key_compute_the_same():
    """Without weights, on all cells of a depth that pool or pass on."""
    space = TreeCell(depth=2, channels=4, operations=("identity", "max3x3"))
    rng, x = random.Random(0), torch.randn(2, 4, 5, 5)
    outputs = {}
    for _ in range(400):
        blueprint = space.sample(rng).blueprint
        made = Tree(blueprint, 4)(x)
        torch.testing.assert_close(made, outputs.setdefault(space.canonical(blueprint), made))
    assert len(outputs) < 350


def test_concatenation_deals_the_channels_out():
    x = torch.randn(2, 4, 5, 5)
    made = Tree(node("concat2", A, SAME), 4)(x)
    assert torch.equal(made[:, 2:], x[:, 2:])
    assert torch.equal(made[:, :2], torch.nn.functional.max_pool2d(x[:, :2], 3, 1, 1))


def test_widths_that_cannot_be_halved_so_often_are_refused():
    with pytest.raises(BadInput, match=r"space\.channels=12 cannot be halved space\.depth=3 times.*: give 16"):
        TreeCell(channels=12)
    assert TreeCell(channels=12, depth=2).channels == 12

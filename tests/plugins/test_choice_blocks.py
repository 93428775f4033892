import random

import torch

from automl_spaces.choice_blocks import ChoiceBlock, ChoiceBlocks
from automl_spaces.choice_blocks_network import ChoiceCell
from automl_spaces.operations import OPERATIONS

A, B, SAME = OPERATIONS["max3x3"], OPERATIONS["avg3x3"], OPERATIONS["identity"]


def test_the_size_is_counted_block_by_block():
    sets = (3, 7, 15, 31)
    expected = 1
    for count in sets:
        expected *= count * 6 * 7
    assert ChoiceBlocks().size() == expected
    assert ChoiceBlocks(blocks=1, inputs=1, paths=1).size() == 2 * 6
    assert ChoiceBlocks(blocks=2, inputs=2, paths=1, operations=("sep3x3",)).size() == 3 * 6


def test_a_block_reads_earlier_states_and_has_an_operation():
    space, rng = ChoiceBlocks(inputs=3), random.Random(0)
    for _ in range(2_000):
        for place, block in enumerate(space.sample(rng).blueprint):
            assert 1 <= len(set(block.reads)) == len(block.reads) <= 3
            assert max(block.reads) < place + 2
            assert 1 <= len(block.operations) <= 2


def test_the_key_knows_orders_of_blocks_and_of_operations():
    key = ChoiceBlocks().canonical
    one = (ChoiceBlock((0,), (A, B)), ChoiceBlock((0, 1), (A,)), ChoiceBlock((1, 2, 3), (B,)))
    other = (ChoiceBlock((0, 1), (A,)), ChoiceBlock((0,), (B, A)), ChoiceBlock((1, 3, 2), (B,)))
    assert key(one) == key(other)
    changed = (ChoiceBlock((1,), (A, B)), *one[1:])
    assert key(changed) != key(one)
    assert key((ChoiceBlock((0,), (A, A)),)) != key((ChoiceBlock((0,), (A,)),))
    for reads in ((0,), (0, 1)):
        first = ChoiceBlock(reads, (SAME,))  # the sum itself: reading it is reading what it adds
        assert key((first, ChoiceBlock((2,), (A,)))) == key((first, ChoiceBlock(reads, (A,))))


def test_a_block_adds_its_inputs_and_what_its_operations_make():
    cell = ChoiceCell((ChoiceBlock((0, 1), (A, SAME)), ChoiceBlock((2,), (B,))), 3, 5, 4).eval()
    newer, older = torch.randn(2, 3, 6, 6), torch.randn(2, 5, 6, 6)
    total = cell.inputs["0"](newer) + cell.inputs["1"](older)
    first = torch.nn.functional.max_pool2d(total, 3, 1, 1) + total
    second = torch.nn.functional.avg_pool2d(first, 3, 1, 1, count_include_pad=False)
    torch.testing.assert_close(cell(newer, older), torch.cat([first, second], dim=1))


def test_all_operations_at_once_are_those_of_one():
    """Soft answers of one operation alone give the network that this operation makes."""
    from automl.decisions import Soft, takes_soft

    space = ChoiceBlocks(blocks=1, paths=1, operations=("max3x3", "avg3x3"))

    def everything(name, domain):
        return Soft((0.0, 1.0)) if takes_soft(domain) else domain.options[0]

    soft = ChoiceCell(space.make(everything).blueprint, 4, 4, 4).eval()
    hard = ChoiceCell((ChoiceBlock((0,), (B,)),), 4, 4, 4).eval()
    hard.load_state_dict(soft.state_dict())
    for mixture in soft.blocks[0].operations:
        mixture.weights = torch.tensor([0.0, 1.0])
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(soft(x, x), hard(x, x))

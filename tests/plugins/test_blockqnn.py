import random

import torch

from automl_spaces.blockqnn import BlockQNN, Layer, written_out


class Images:
    input = (1, 8, 8)
    outputs = 3


def test_layers_are_coded_as_in_the_paper():
    space, rng = BlockQNN(layers=23), random.Random(0)
    kernels = {1: {1, 3, 5}, 2: {1, 3}, 3: {1, 3}, 4: {0}, 5: {0}, 6: {0}, 7: {0}}
    lengths = set()
    for _ in range(5_000):
        *layers, terminal = space.code(space.sample(rng).blueprint)
        lengths.add(len(layers))
        assert terminal == (len(layers) + 1, 7, 0, 0, 0)
        for place, (index, kind, kernel, first, second) in enumerate(layers, start=1):
            assert index == place
            assert kernel in kernels[kind]
            assert kind != 7
            assert first < index
            assert second < index
            assert first != second if kind in (5, 6) else second == 0
    assert min(lengths) == 1
    assert max(lengths) == 23


def test_the_size_is_counted_layer_by_layer():
    assert BlockQNN(layers=1).size() == 8
    assert BlockQNN(layers=2).size() == 8 + 8 * 20 == len(set(BlockQNN(layers=2).enumerate()))
    assert BlockQNN(layers=3).size() == 8 + 8 * 20 + 8 * 20 * 36


def test_identities_are_what_they_read_and_what_is_unread_is_put_out():
    plain = (Layer("conv", 3, (0,)), Layer("max", 3, (1,)))
    with_identity = (Layer("conv", 3, (0,)), Layer("identity", 0, (1,)), Layer("max", 3, (2,)))
    pooled = (Layer("conv", 3, (0,)), Layer("avg", 1, (1,)), Layer("max", 3, (2,)))
    apart = (Layer("conv", 3, (0,)), Layer("max", 3, (0,)))
    swapped = (Layer("max", 3, (0,)), Layer("conv", 3, (0,)))
    explicit = (*apart, Layer("concat", 0, (2, 1)))
    added = (*apart, Layer("add", 0, (1, 2)))
    beside = (*plain, Layer("identity", 0, (1,)))  # the convolution is put out too
    key = BlockQNN().canonical
    assert key(plain) == key(with_identity) == key(pooled)
    assert key(apart) == key(swapped) == key(explicit)
    assert len({key(block) for block in (plain, apart, added, beside)}) == 4
    assert [state.label for state in written_out(beside)] == ["input", "conv3x3", "max3x3", "joined"]


def test_the_key_knows_other_orders():
    space, rng = BlockQNN(), random.Random(0)
    told = 0
    for _ in range(300):
        block = space.sample(rng).blueprint
        if len(block) < 3:
            continue
        place = rng.randrange(len(block) - 1)
        if place + 1 in block[place + 1].reads:
            continue
        names = {place + 1: place + 2, place + 2: place + 1}
        moved = [*block[:place], block[place + 1], block[place], *block[place + 2 :]]
        moved = [layer._replace(reads=tuple(names.get(read, read) for read in layer.reads)) for layer in moved]
        assert space.canonical(tuple(moved)) == space.canonical(block)
        told += 1
    assert told > 50


def test_a_block_that_adds_computes_the_sum():
    block = (Layer("max", 3, (0,)), Layer("avg", 3, (0,)), Layer("add", 0, (1, 2)))
    made = BlockQNN(channels=4).build(block, Images()).stages[0][0]
    x = torch.randn(2, 4, 6, 6)
    maximum = torch.nn.functional.max_pool2d(x, 3, 1, 1)
    average = torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    torch.testing.assert_close(made(x), maximum + average)
    identity = BlockQNN(channels=4).build((Layer("identity", 0, (0,)),), Images()).stages[0][0]
    assert torch.equal(identity(x), x)

import random
from dataclasses import dataclass

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from automl import BadInput
from automl.testing import check_space
from automl_spaces.cells import edges, unused
from automl_spaces.genotypes import GENOTYPES, genotype
from automl_spaces.nasnet import NASNet


@dataclass
class Images:
    """All that a space may use of a task."""

    input: tuple[int, int, int]
    outputs: int


CIFAR = Images((3, 32, 32), 10)
MOBILE = Images((3, 224, 224), 1000)
LARGE = Images((3, 331, 331), 1000)


def build(name, task, **fields):
    space = NASNet(genotype=name, **fields)
    with torch.device("meta"):
        return space.build(space.sample(random.Random(0)).blueprint, task).eval()


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "task", "cells", "channels", "skeleton", "count"),
    [
        # published, and verified by building the releases
        ("nasnet_a", CIFAR, 6, 32, "cifar", 3_346_538),
        ("nasnet_a", MOBILE, 4, 44, "imagenet", 5_289_978),
        ("nasnet_a", LARGE, 6, 168, "imagenet_large", 88_753_150),
        ("pnasnet_5", CIFAR, 3, 48, "cifar", 3_189_082),
        ("pnasnet_5", MOBILE, 3, 54, "imagenet", 5_064_487),
        ("pnasnet_5", LARGE, 4, 216, "imagenet_large", 86_057_668),
        ("amoebanet_a", CIFAR, 6, 32, "cifar", 2_567_754),
        ("amoebanet_a", CIFAR, 6, 36, "cifar", 3_218_266),
        ("amoebanet_a", MOBILE, 4, 50, "imagenet", 5_086_930),
        ("amoebanet_a", LARGE, 6, 190, "imagenet_large", 86_739_341),
        ("amoebanet_a", LARGE, 6, 204, "imagenet_large", 99_647_298),
        ("amoebanet_a", LARGE, 6, 448, "imagenet_large", 468_196_624),
        ("amoebanet_b", CIFAR, 6, 36, "cifar", 2_839_186),
        ("amoebanet_b", CIFAR, 6, 128, "cifar", 34_874_506),
        ("amoebanet_b", MOBILE, 3, 62, "imagenet", 5_258_700),
        ("amoebanet_c", MOBILE, 4, 50, "imagenet", 6_353_815),
        ("amoebanet_c", LARGE, 6, 228, "imagenet_large", 155_296_987),
        ("darts_v1", CIFAR, 6, 36, "cifar", 3_169_414),
        ("darts_v2", CIFAR, 6, 36, "cifar", 3_349_342),
        ("darts_v2", MOBILE, 4, 48, "imagenet", 4_718_752),
        ("naonet_ws", CIFAR, 5, 36, "cifar", 2_466_252),
        # not the published figures, but what the releases' cells come to
        ("nasnet_a", CIFAR, 7, 96, "cifar", 32_590_954),
        ("nasnet_a", CIFAR, 6, 96, "cifar", 28_213_546),
        ("amoebanet_b", LARGE, 6, 190, "imagenet_large", 79_023_908),
        ("amoebanet_b", LARGE, 6, 196, "imagenet_large", 83_976_717),
        ("enas", CIFAR, 5, 36, "cifar", 3_894_372),
    ],
)
def test_a_published_network_has_its_number_of_parameters(name, task, cells, channels, skeleton, count):
    network = build(name, task, cells=cells, channels=channels, skeleton=skeleton)
    assert parameters(network) == count


@pytest.mark.parametrize(
    ("name", "task", "cells", "channels", "skeleton", "millions"),
    [
        ("nasnet_a", CIFAR, 6, 32, "cifar", 544.3),
        ("nasnet_a", MOBILE, 4, 44, "imagenet", 563.6),
        ("nasnet_a", LARGE, 6, 168, "imagenet_large", 23_780),
        ("pnasnet_5", MOBILE, 3, 54, "imagenet", 587.3),
        ("pnasnet_5", LARGE, 4, 216, "imagenet_large", 24_940),
        ("amoebanet_a", MOBILE, 4, 50, "imagenet", 554.7),
        ("amoebanet_a", LARGE, 6, 190, "imagenet_large", 23_390),
        ("amoebanet_b", MOBILE, 3, 62, "imagenet", 555.1),
        ("amoebanet_c", MOBILE, 4, 50, "imagenet", 676.9),  # not the published 570
        ("darts_v1", CIFAR, 6, 36, "cifar", 501.0),
        ("darts_v2", CIFAR, 6, 36, "cifar", 528.4),
    ],
)
def test_a_published_network_has_its_number_of_multiply_adds(name, task, cells, channels, skeleton, millions):
    network = build(name, task, cells=cells, channels=channels, skeleton=skeleton)
    with FlopCounterMode(display=False) as counter, torch.device("meta"):
        logits = network(torch.empty(1, *task.input))
    assert logits.shape == (1, task.outputs)
    assert counter.get_total_flops() / 2e6 == pytest.approx(millions, rel=1e-3)


def shapes(network, task):
    seen = []
    for module in (network.stem.first, *network.cells):
        module.register_forward_hook(lambda module, given, made: seen.append(tuple(made.shape[1:])))
    with torch.device("meta"):
        network(torch.empty(1, *task.input))
    return seen


def test_nasnet_a_has_the_published_shapes():
    assert shapes(build("nasnet_a", CIFAR, cells=6, channels=32), CIFAR) == [
        (96, 32, 32),
        *[(192, 32, 32)] * 6,
        (256, 16, 16),
        *[(384, 16, 16)] * 6,
        (512, 8, 8),
        *[(768, 8, 8)] * 6,
    ]
    mobile = shapes(build("nasnet_a", MOBILE, cells=4, channels=44, skeleton="imagenet"), MOBILE)
    assert (mobile[0], mobile[2], mobile[-1]) == ((32, 111, 111), (88, 28, 28), (1056, 7, 7))
    large = shapes(build("nasnet_a", LARGE, cells=6, channels=168, skeleton="imagenet_large"), LARGE)
    assert (large[0], large[2], large[-1]) == ((96, 165, 165), (336, 42, 42), (4032, 11, 11))


@pytest.mark.parametrize("name", GENOTYPES)
def test_a_genotype_is_a_legal_space_of_one_network_that_trains(name):
    task = Images((1, 8, 8), 10)
    space = NASNet(genotype=name, channels=4, auxiliary=True, drop_path=0.3)
    check_space(space, task, samples=2)
    assert space.size() == 1
    assert not space.sample(random.Random(0)).values
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = space.build(space.sample(random.Random(0)).blueprint, task)
        logits, auxiliary = network(torch.randn(2, 1, 8, 8))
    (logits + auxiliary).square().sum().backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert not without


@pytest.mark.parametrize("name", GENOTYPES)
def test_a_genotype_reads_earlier_states_and_keeps_those_that_nobody_reads(name):
    published = genotype(name)
    for cell, keep in zip(published.cells(), (published.keep, published.keep_reduce), strict=True):
        for index, block in enumerate(cell):
            assert max(block.in0, block.in1) < index + 2
        kept = unused(cell) if keep is None else keep
        assert list(kept) == sorted(kept)
        assert {state for state in unused(cell) if state > 1} <= set(kept)


def test_a_genotype_of_darts_counts_the_older_input_as_0():
    normal = genotype("darts_v2").cells().normal
    assert [(block.in0, block.in1) for block in normal] == [(1, 0), (1, 0), (0, 1), (1, 2)]
    assert edges(normal)[:2] == [("h[k-2]", "0", "sep3x3"), ("h[k-1]", "0", "sep3x3")]


def test_nasnet_a_concatenates_what_its_release_does():
    published = genotype("nasnet_a")
    assert [edge for edge in edges(published.cells().normal, published.keep) if edge[1] == "output"] == [
        (state, "output", "") for state in ("h[k-2]", "0", "1", "2", "3", "4")
    ]


def test_an_unknown_genotype_is_answered_with_the_nearest_and_all():
    with pytest.raises(BadInput) as error:
        NASNet(genotype="nasnet_b")
    assert str(error.value).startswith("space.genotype=nasnet_b names no published cells (did you mean 'nasnet_a'?)")
    assert all(name in str(error.value) for name in GENOTYPES)

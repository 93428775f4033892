"""ShuffleNetV1 and V2, and the shuffle, against the figures of their papers and releases."""

from itertools import pairwise

import pytest
import torch
from golden import build, counted
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from automl import BadInput
from automl_networks.shuffle import ChannelShuffle, shuffle
from automl_networks.shuffle_units import ShuffleUnitV1, ShuffleUnitV2

GROUPED = st.tuples(st.integers(1, 8), st.integers(1, 8))  # groups, channels of each


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def numbered(channels):
    return torch.arange(float(channels)).reshape(1, channels, 1, 1)


def test_the_shuffle_takes_the_first_channels_of_all_groups_first():
    assert shuffle(numbered(12), 3).flatten().tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]


@given(GROUPED)
def test_the_shuffle_swaps_group_and_place_within_it(grouped):
    groups, each = grouped
    shuffled = shuffle(numbered(groups * each), groups).flatten().tolist()
    assert shuffled == [group * each + place for place in range(each) for group in range(groups)]


@given(GROUPED)
def test_the_shuffle_is_undone_by_that_of_channels_by_groups(grouped):
    groups, each = grouped
    x = torch.randn(2, groups * each, 3, 2)
    assert torch.equal(shuffle(shuffle(x, groups), each), x)


def test_the_shuffle_keeps_the_layout():
    x = torch.randn(2, 12, 5, 4)
    last = ChannelShuffle(3)(x.to(memory_format=torch.channels_last))
    assert torch.equal(last, shuffle(x, 3))
    assert last.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("groups", "width", "count", "multiply_adds"),
    [
        (1, 1.0, 1_531_936, 143_078_976),
        (2, 1.0, 1_733_848, 140_836_512),
        (3, 1.0, 1_865_728, 137_460_672),
        (4, 1.0, 1_968_344, 134_339_776),
        (8, 1.0, 2_434_768, 138_365_952),
        (1, 0.5, 534_484, 38_517_408),
        (3, 0.5, 718_324, 37_589_856),
        (1, 0.25, 209_746, 11_003_184),
        (3, 0.25, 305_902, 11_009_808),
    ],
)
def test_version_1_has_the_published_size(groups, width, count, multiply_adds):
    assert counted("shufflenet_v1", groups=groups, width=width) == (count, multiply_adds)


@pytest.mark.parametrize(("groups", "width", "count"), [(2, 0.5, 643_932), (4, 0.5, 778_040), (8, 0.25, 454_504)])
def test_version_1_rounds_channels_to_multiples_of_the_groups(groups, width, count):
    assert counted("shufflenet_v1", groups=groups, width=width)[0] == count


@pytest.mark.parametrize(
    ("groups", "width", "count", "multiply_adds"),
    [
        (3, 0.5, 717_324, None),
        (3, 1.0, 1_864_728, None),
        (3, 1.5, 3_441_168, None),
        (3, 2.0, 5_449_776, 524_045_184),
        (8, 0.5, 1_010_448, None),
        (8, 1.0, 2_433_768, None),
        (8, 1.5, 4_268_952, None),
        (8, 2.0, 6_521_232, 521_942_016),
    ],
)
def test_version_1_has_the_size_of_its_release(groups, width, count, multiply_adds):
    found = counted("shufflenet_v1", groups=groups, width=width, form="release")
    assert found == (count, multiply_adds or found[1])


@pytest.mark.parametrize(
    ("form", "width", "count", "multiply_adds"),
    [
        ("halves", 0.5, 1_366_792, 40_476_448),
        ("halves", 1.0, 2_278_604, 144_907_992),
        ("halves", 1.5, 3_503_624, 295_759_392),
        ("halves", 2.0, 7_393_996, 583_253_464),
        ("release", 0.5, 1_365_792, 40_476_448),
        ("release", 1.0, 2_278_760, 145_814_296),
        ("release", 1.5, 3_506_720, 298_970_656),
        ("release", 2.0, 7_402_600, 590_783_000),
    ],
)
def test_version_2_has_the_published_size(form, width, count, multiply_adds):
    assert counted("shufflenet_v2", form=form, width=width) == (count, multiply_adds)


def test_they_have_ten_classes_with_the_published_parameters():
    assert counted("shufflenet_v1", outputs=10)[0] == 914_338
    assert counted("shufflenet_v2", outputs=10)[0] == 1_263_854


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("shufflenet_v1", {"groups": 3}),
        ("shufflenet_v1", {"groups": 8}),
        ("shufflenet_v2", {"form": "halves"}),
        ("shufflenet_v2", {"form": "release"}),
    ],
)
def test_they_grow_with_the_width(name, settings):
    widths = (0.01, 0.25, 0.4, 0.5, 0.8, 1.0, 1.3, 1.5, 1.8, 2.0, 3.0)
    with torch.device("meta"):
        found = [parameters(build(name, outputs=10, width=width, **settings)) for width in widths]
    assert all(less < more for less, more in pairwise(found))


@pytest.mark.parametrize(("name", "rest"), [("shufflenet_v1", [56, 28, 14, 7]), ("shufflenet_v2", [56, 28, 14, 7, 7])])
def test_their_maps_have_the_published_sizes(name, rest):
    network = build(name, width=0.25).eval()
    x = network.stem[0](torch.rand(1, 3, 224, 224))
    sides = [x.shape[-1]]
    for stage in (network.stem[1], *network.stages):
        x = stage(x)
        sides.append(x.shape[-1])
    assert sides == [112, *rest]


def test_a_unit_of_version_1_has_the_published_parameters():
    assert parameters(ShuffleUnitV1(240, 240, 3)) == 10_860


def test_a_unit_of_version_1_adds_its_input_or_begins_with_its_average():
    x = torch.rand(2, 24, 8, 8)
    adding = ShuffleUnitV1(24, 24, 3).eval()
    torch.testing.assert_close(adding(x), torch.relu(x + adding.branch(x)))
    joining = ShuffleUnitV1(24, 48, 3, stride=2).eval()
    torch.testing.assert_close(joining(x)[:, :24], nn.functional.avg_pool2d(x, 3, 2, 1))
    torch.testing.assert_close(joining(x)[:, 24:], torch.relu(joining.branch(x)))


@pytest.mark.parametrize("shuffled", [True, False])
def test_the_groups_of_version_1_meet_by_the_shuffle_alone(shuffled):
    groups, each = 3, 12
    unit = ShuffleUnitV1(groups * each, groups * each, groups).double().eval()
    for parameter in unit.parameters():
        nn.init.ones_(parameter)  # so that no ReLU hides a path
    if not shuffled:
        unit.branch[1] = nn.Identity()
    x = torch.ones(1, groups * each, 3, 3, dtype=torch.float64)
    reached = torch.autograd.functional.jacobian(lambda x: unit(x).sum((0, 2, 3)), x).sum((1, 3, 4)) > 0
    group = torch.arange(groups * each) // each
    assert torch.equal(reached, torch.ones_like(reached) if shuffled else group[:, None] == group)


def test_a_unit_of_version_2_has_the_published_parameters():
    assert parameters(ShuffleUnitV2(116, 116)) == 7_598
    assert parameters(ShuffleUnitV2(24, 116, 2)) == 7_398
    assert parameters(ShuffleUnitV2(116, 116, kernel=5)) == 7_598 + 58 * 16


def test_half_of_the_channels_pass_version_2_untouched():
    x = torch.randn(2, 16, 6, 6)
    assert torch.equal(ShuffleUnitV2(16, 16)(x)[:, ::2], x[:, :8])
    assert torch.equal(ShuffleUnitV2(16, 16, form="release")(x)[:, :8], x[:, ::2])


def test_a_unit_of_version_2_refuses_outputs_that_have_no_halves():
    with pytest.raises(BadInput, match="halves its outputs, and 117 is odd: give it 118"):
        ShuffleUnitV2(24, 117, 2)

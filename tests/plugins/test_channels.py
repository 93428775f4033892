"""Which channels of networks can go, against published counts, a second implementation, and the networks themselves."""

from __future__ import annotations

import copy
import random
from types import SimpleNamespace

import pytest
import torch
from golden import REGISTRY, build
from torch import nn

from automl import BadInput, measure
from automl_compressors.channels import Channels

SMALL = (3, 32, 32)
RESOURCES = ("parameters", "multiply_adds")

# by network: the settings, and which share of the multiply-adds is left when every group is as narrow as can be
NETWORKS = {
    "alexnet": ({"width": 0.05}, 0.9),  # of five convolutions the first two are bound by their normalisation
    "densenet": pytest.param({"width": 0.25}, 0.01, marks=pytest.mark.slow),
    "densenet_cifar": ({"depth": 16}, 0.01),
    "espnet": ({"width": 0.5, "alpha3": 1}, 0.05),
    "espnet_v2": pytest.param({"width": 0.5}, 0.15, marks=pytest.mark.slow),
    "gcn": pytest.param({"depth": 18, "width": 0.125, "kernel": 3}, 0.05, marks=pytest.mark.slow),
    "googlenet": ({"width": 0.125}, 0.05),
    "igcv1": ({"depth": 8}, 0.9),  # its permutations fix the channels of all but the ends
    "igcv2": ({"depth": 8, "width": 0.25}, 0.99),  # so do these, and the widths are products of their partitions
    "igcv3": pytest.param({"width": 0.25}, 0.05, marks=pytest.mark.slow),
    "inception_v3": pytest.param({"width": 0.125, "resolution": 64}, 0.01, marks=pytest.mark.slow),
    "mnasnet": pytest.param({"width": 0.25}, 0.02, marks=pytest.mark.slow),
    "mobilenet_v1": ({"width": 0.25}, 0.02),
    "mobilenet_v2": ({"width": 0.25}, 0.02),
    "resnet": ({"depth": 18, "width": 0.125}, 0.03),
    "resnet_cifar": ({"depth": 20}, 0.02),
    "resnext": pytest.param({"width": 0.25}, 0.02, marks=pytest.mark.slow),
    "shufflenet_v1": ({"groups": 2, "width": 0.5}, 0.15),
    "shufflenet_v2": ({"width": 0.5}, 0.05),
    "squeezenet": ({"width": 0.25}, 0.02),
    "thundernet": pytest.param({"backbone": "snet49", "width": 0.5}, 0.1, marks=pytest.mark.slow),
    "vgg": ({"width": 0.05, "depth": 11}, 0.02),
    "vgg_cifar": ({"width": 0.125}, 0.02),
    "xception": pytest.param({"width": 0.125}, 0.02, marks=pytest.mark.slow),
}
SPACES = {
    "nasbench201": ({"cells": 1, "channels": 4}, 0.1),
    "darts": pytest.param({"channels": 4, "auxiliary": True}, 0.15, marks=pytest.mark.slow),
    "nasnet": pytest.param({"channels": 4, "blocks": 3}, 0.15, marks=pytest.mark.slow),
    "chain": ({"stages": 2, "depth": 2, "channels": 8}, 0.2),
}


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def cases(table):
    """Return the rows of a table as parameters, each with its name."""
    rows = {name: row if hasattr(row, "marks") else pytest.param(*row) for name, row in table.items()}
    return [pytest.param(name, *row.values, marks=row.marks, id=name) for name, row in rows.items()]


def sampled(channels, seed=0):
    """Return random units of every group, at least one and, of some group, not all."""
    rng = random.Random(seed)
    kept = {
        name: sorted(rng.sample(range(group.units), rng.randint(1, group.units)))
        for name, group in channels.groups.items()
    }
    first, group = next(iter(channels.groups.items()))
    return {**kept, first: kept[first][: group.units - 1]}


def measured(network, image=SMALL):
    return {"parameters": measure.parameters(network), "multiply_adds": measure.multiply_adds(network, image)}


def costs(channels, widths):
    return {resource: channels.cost(widths, resource) for resource in RESOURCES}


def lengths(kept):
    return {name: len(units) for name, units in kept.items()}


def whole(channels):
    return {name: range(group.units) for name, group in channels.groups.items()}


def demand_right(network, left):
    """Prune random units, compare and count the network that is left, and see that no less of it could be left."""
    channels = Channels.of(network, SMALL)
    assert costs(channels, {}) == measured(network)
    assert (
        channels.cost(dict.fromkeys(channels.groups, 1), "multiply_adds") <= left * measured(network)["multiply_adds"]
    )
    kept = sampled(channels)
    small = channels.check(network, kept)
    assert costs(channels, lengths(kept)) == measured(small)
    assert measured(small)["parameters"] < measured(network)["parameters"]
    same = channels.prune(network, whole(channels)).state_dict()
    assert all(torch.equal(tensor, same[name]) for name, tensor in network.state_dict().items())
    again = Channels.of(small, SMALL)
    twice = again.prune(small, whole(again)).state_dict()
    assert all(torch.equal(tensor, twice[name]) for name, tensor in small.state_dict().items())
    return small


@pytest.mark.parametrize(("name", "settings", "left"), cases(NETWORKS))
def test_a_hand_designed_network_is_pruned_exactly(name, settings, left):
    demand_right(build(name, SMALL, 10, **settings), left)


def test_every_hand_designed_network_is_tested():
    spaces = {
        name
        for (kind, name), found in REGISTRY.components.items()
        if kind == "space" and found[0].path.startswith("automl_networks.")
    }
    assert spaces == NETWORKS.keys()


@pytest.mark.parametrize(("name", "settings", "left"), cases(SPACES))
def test_a_network_that_is_searched_for_is_pruned_exactly(name, settings, left):
    space = REGISTRY.build("space", {"name": name, **settings})
    blueprint = space.sample(random.Random(0)).blueprint
    small = demand_right(space.build(blueprint, SimpleNamespace(input=SMALL, outputs=10)), left)
    if settings.get("auxiliary"):
        logits = small.train()(torch.randn(2, *SMALL))
        assert [tuple(each.shape) for each in logits] == [(2, 10), (2, 10)]


def test_heads_that_only_training_runs_are_pruned_with_what_they_read():
    network = build("googlenet", SMALL, 10, width=0.125, auxiliary=True)
    channels = Channels.of(network, SMALL)
    small = channels.check(network, sampled(channels))
    logits = small.train()(torch.randn(2, *SMALL))
    assert [tuple(each.shape) for each in logits] == [(2, 10), (2, 10)]
    assert measure.multiply_adds(small, SMALL) == channels.cost(lengths(sampled(channels)), "multiply_adds")
    assert measure.parameters(small) == channels.cost(lengths(sampled(channels)), "parameters")


def weightless(name, image=(3, 224, 224), outputs=1000, **settings):
    with torch.device("meta"):
        return Channels.of(build(name, image, outputs, **settings), image)


def counted(channels, widths):
    return channels.cost(widths, "parameters"), channels.cost(widths, "multiply_adds")


def test_vgg_with_half_of_convolutions_1_and_8_to_13_has_the_published_size():
    channels = weightless("vgg_cifar", SMALL, 10)
    names = list(channels.groups)
    assert counted(channels, {}) == (14_987_722, 313_463_808)
    halves = {names[place]: channels.groups[names[place]].units // 2 for place in (0, 7, 8, 9, 10, 11, 12)}
    assert counted(channels, halves) == (5_397_034, 206_279_680)


def first_convolutions(channels, repeats, removed, skipped):
    """Return widths as Li et al. (2017) count: every block has two convolutions, the stem is the first of all."""
    blocks = [(stage, block) for stage, number in enumerate(repeats) for block in range(number)]
    widths = {}
    for place, (stage, block) in enumerate(blocks):
        name = f"stages.{stage}.{block}.branch.0.0"
        if 2 * place + 2 not in skipped:
            widths[name] = int(channels.groups[name].units * (1 - removed[stage]))
    return widths


@pytest.mark.parametrize(
    ("depth", "removed", "skipped", "size"),
    [
        (56, (0.1, 0.1, 0.1), {16, 20, 38, 54}, (773_336, 112_435_840)),
        (56, (0.6, 0.3, 0.1), {16, 18, 20, 34, 38, 54}, (735_712, 90_907_264)),
        (110, (0.5, 0, 0), {36}, (1_688_522, 212_779_648)),
        (110, (0.5, 0.4, 0.3), {36, 38, 74}, (1_168_424, 155_124_352)),
    ],
)
def test_small_residual_networks_have_the_published_sizes(depth, removed, skipped, size):
    channels = weightless("resnet_cifar", SMALL, 10, depth=depth)
    assert counted(channels, first_convolutions(channels, [(depth - 2) // 6] * 3, removed, skipped)) == size


def test_large_residual_networks_have_the_published_sizes():
    channels = weightless("resnet", depth=34)
    skipped = {2, 8, 14, 16, 26, 28, 30, 32}
    for removed, size in (
        ((0.3, 0.3, 0.3, 0), (20_151_764, 3_100_184_576)),
        ((0.5, 0.6, 0.4, 0), (19_469_372, 2_782_269_440)),
    ):
        assert counted(channels, first_convolutions(channels, (3, 4, 6, 3), removed, skipped)) == size


def test_half_of_every_width_is_the_network_of_half_the_width():
    for name, settings, parameters in (("mobilenet_v1", {}, 1_331_592), ("resnet", {"depth": 18}, 3_055_880)):
        channels = weightless(name, **settings)
        half = {group.name: group.units // 2 for group in channels.groups.values()}
        assert channels.cost(half, "parameters") == parameters


AMC_V1 = {
    (24, 48, 96, 80, 192, 200, 328, 352, 368, 360, 328, 400, 736, 752): (2_408_232, 293_870_000),
    (16, 48, 88, 80, 192, 168, 336, 360, 360, 352, 352, 368, 768, 680): (2_279_816, 273_976_912),
}
# by stage: width, and that inside each of its units; the first has but one width
AMC_V2 = {
    1: (24, (72, 104)),
    2: (32, (104, 136, 136)),
    3: (64, (136, 272, 272, 272)),
    4: (96, (272, 408, 400)),
    5: (160, (400, 712, 720)),
    6: (248, (712,)),
}


def test_mobilenets_have_the_sizes_of_the_policies_that_amc_published():
    channels = weightless("mobilenet_v1")
    assert counted(channels, {}) == (4_231_976, 568_740_352)
    for widths, size in AMC_V1.items():
        assert counted(channels, dict(zip(channels.groups, widths, strict=True))) == size
    channels = weightless("mobilenet_v2")
    widths = {"stem.0": 24, "stages.7.0": 848}
    for stage, (outputs, inside) in AMC_V2.items():
        widths[f"stages.{stage}.0.branch.2.0"] = outputs
        widths.update({f"stages.{stage}.{unit}.branch.0.0": hidden for unit, hidden in enumerate(inside)})
    assert channels.cost({}, "multiply_adds") == 300_774_272
    assert counted(channels, widths) == (2_330_272, 210_620_528)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("mobilenet_v2", {"width": 0.25}),
        ("resnet_cifar", {"depth": 20}),
        ("densenet_cifar", {"depth": 16}),
        ("squeezenet", {"width": 0.25}),
    ],
)
def test_it_removes_what_torch_pruning_does(name, settings):
    import torch_pruning

    network = build(name, SMALL, 10, **settings).eval()
    images = torch.randn(2, *SMALL)
    channels = Channels.of(network, SMALL)
    kept = sampled(channels)
    theirs = copy.deepcopy(network)
    graph = torch_pruning.DependencyGraph().build_dependency(theirs, example_inputs=images)
    for name, group in channels.groups.items():
        made = next(slot for slot in group.slots if slot.role == "makes")
        gone = sorted(made.places[[unit for unit in range(group.units) if unit not in kept[name]]].flatten().tolist())
        if gone:
            layer = theirs.get_submodule(group.layers[0])
            graph.get_pruning_group(layer, torch_pruning.prune_conv_out_channels, idxs=gone).prune()
    ours = channels.prune(network, kept)
    assert measured(ours) == measured(theirs)
    torch.testing.assert_close(ours(images), theirs(images))


def test_layers_are_described_as_they_run():
    channels = weightless("mobilenet_v1", outputs=10)
    pointwise, depthwise = channels.layers["stages.0.1.0"], channels.layers["stages.1.0.0"]
    assert (pointwise.outputs, pointwise.inputs, pointwise.kernel, pointwise.stride) == (64, 32, (1, 1), (1, 1))
    assert (pointwise.height, pointwise.width, pointwise.groups) == (112, 112, 1)
    assert pointwise.multiply_adds == 64 * 32 * 112 * 112
    assert (depthwise.groups, depthwise.kernel, depthwise.stride, depthwise.height) == (64, (3, 3), (2, 2), 112)
    assert depthwise.multiply_adds == 64 * 9 * 56 * 56
    last = channels.layers["head.3"]
    assert (last.outputs, last.inputs, last.height, last.width, last.kernel) == (10, 1024, 1, 1, ())
    assert sum(layer.multiply_adds for layer in channels.layers.values()) == channels.cost({}, "multiply_adds")


def test_a_group_names_who_makes_and_who_reads_its_channels():
    groups = Channels.of(build("resnet_cifar", SMALL, 10, depth=20, shortcut="B"), SMALL).groups
    trunk = groups["stages.1.0.shortcut.1"]
    assert (trunk.units, trunk.size) == (32, 1)
    assert trunk.layers == ("stages.1.0.shortcut.1", *(f"stages.1.{unit}.branch.1.0" for unit in range(3)))
    assert trunk.consumers[:2] == ("stages.1.1.branch.0.0", "stages.1.2.branch.0.0")
    assert {slot.places.shape for slot in trunk.slots} == {(32, 1)}
    assert "stages.1.0.shortcut.2.running_mean" in {slot.parameter for slot in trunk.slots if slot.role == "follows"}


def test_what_is_no_channel_stays_as_it_was():
    network = build("mobilenet_v2", SMALL, 10, width=0.25).to(memory_format=torch.channels_last).double()
    network.stages[1].requires_grad_(False)
    network.stages[2].eval()
    channels = Channels.of(network, SMALL)
    before = copy.deepcopy(network.state_dict())
    small = channels.prune(network, sampled(channels))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    for old, new in zip(network.modules(), small.modules(), strict=True):
        assert (type(old), old.training) == (type(new), new.training)
        assert not new._forward_hooks and not new._forward_pre_hooks
    for old, new in zip(network.parameters(), small.parameters(), strict=True):
        assert (old.requires_grad, old.dtype) == (new.requires_grad, new.dtype)
        assert new.dim() != 4 or new.is_contiguous(memory_format=torch.channels_last)
    small.train()(torch.randn(4, *SMALL, dtype=torch.float64)).sum().backward()


def test_what_is_wrong_with_the_units_is_said():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    channels = Channels.of(network, (3, 8, 8))
    for kept in ({"0": []}, {"0": [8]}, {"0": [2, 1]}, {"0": [1, 1]}):
        with pytest.raises(BadInput, match=r"group '0' was asked to keep the units .*: give some of 0 to 7, ascending"):
            channels.prune(network, kept)
    with pytest.raises(BadInput, match="group '0' was asked for 9 units: give 1 to 8"):
        channels.cost({"0": 9}, "parameters")
    with pytest.raises(BadInput, match=r"no group of channels '3': it has 0"):
        channels.cost({"3": 1}, "parameters")
    with pytest.raises(BadInput, match=r"'0.weight' has the shape \(6, 3, 3, 3\) and had \(8, 3, 3, 3\)"):
        channels.prune(nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3)), {})

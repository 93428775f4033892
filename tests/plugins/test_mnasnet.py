"""MnasNets, and the skeleton of mobile networks, against published counts and tables."""

import csv
import gzip
import json
from functools import partial

import pytest
import torch
from golden import REGISTRY, build, counted, counts
from timm_results import built_millions
from torch import nn

from automl_networks.inverted_residual import InvertedResidual
from automl_networks.mobile import Stage, mobile_network
from automl_networks.squeeze_excite import SqueezeExcite

GENOTYPES = ("a1", "b1", "small")


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("genotype", "count", "millions"),
    [("a1", 3_887_038, 311.6), ("b1", 4_383_312, 314.4), ("small", 2_030_264, 68.3)],
)
def test_it_has_the_published_size(genotype, count, millions):
    found, multiply_adds = counted("mnasnet", genotype=genotype)
    assert found == count
    assert multiply_adds / 1e6 == pytest.approx(millions, rel=1e-3)


# name there, space, settings
TIMM = [
    ("mnasnet_small", "mnasnet", {"genotype": "small"}),
    ("mnasnet_050", "mnasnet", {"genotype": "b1", "width": 0.5}),
    ("mnasnet_075", "mnasnet", {"genotype": "b1", "width": 0.75}),
    ("mnasnet_100", "mnasnet", {"genotype": "b1"}),
    ("mnasnet_140", "mnasnet", {"genotype": "b1", "width": 1.4}),
    ("semnasnet_050", "mnasnet", {"genotype": "a1", "width": 0.5}),
    ("semnasnet_075", "mnasnet", {"genotype": "a1", "width": 0.75}),
    ("semnasnet_100", "mnasnet", {"genotype": "a1"}),
    ("semnasnet_140", "mnasnet", {"genotype": "a1", "width": 1.4}),
    ("mobilenetv1_100", "mobilenet_v1", {}),
    ("mobilenetv1_125", "mobilenet_v1", {"width": 1.25}),
    ("mobilenetv2_035", "mobilenet_v2", {"width": 0.35}),
    ("mobilenetv2_050", "mobilenet_v2", {"width": 0.5}),
    ("mobilenetv2_075", "mobilenet_v2", {"width": 0.75}),
    ("mobilenetv2_100", "mobilenet_v2", {}),
    ("mobilenetv2_140", "mobilenet_v2", {"width": 1.4}),
]


@pytest.mark.parametrize(("there", "name", "settings"), TIMM, ids=[there for there, _, _ in TIMM])
def test_mobile_networks_have_the_parameters_that_timm_states(there, name, settings, data):
    path = data / "timm_results" / "benchmark-infer-amp-nchw-pt240-cu124-rtx3090.csv.gz"
    with gzip.open(path, "rt") as file:
        stated = {row["model"]: float(row["param_count"]) for row in csv.DictReader(file)}
    assert float(built_millions(name, **settings)) == stated[there]


def test_its_maps_have_the_published_sizes():
    network = build("mnasnet", width=0.25).eval()
    x = network.stem(torch.rand(1, 3, 224, 224))
    sides = [x.shape[-1]]
    for stage in network.stages:
        x = stage(x)
        sides.append(x.shape[-1])
    assert sides == [112, 112, 56, 28, 14, 14, 7, 7, 7]


def test_its_first_unit_is_a_depthwise_separable_convolution():
    unit = build("mnasnet").stages[0][0]
    kinds = [(module.groups, module.kernel_size) for module in unit.modules() if isinstance(module, nn.Conv2d)]
    assert kinds == [(32, (3, 3)), (1, (1, 1))]


def test_it_squeezes_to_a_quarter_of_a_units_inputs():
    units = [module for module in build("mnasnet").modules() if isinstance(module, InvertedResidual)]
    squeezed = [module for unit in units for module in unit.modules() if isinstance(module, SqueezeExcite)]
    assert [(module.weigh[1].in_channels, module.weigh[1].out_channels) for module in squeezed] == [
        *((72, 6), (120, 10), (120, 10)),
        *((480, 20), (672, 28)),
        *((672, 28), (960, 40), (960, 40)),
    ]


def test_its_genotypes_can_be_a_decision():
    space = REGISTRY.build("space", {"name": "mnasnet", "genotype": list(GENOTYPES)})
    assert [architecture.blueprint.genotype for architecture in space.enumerate()] == list(GENOTYPES)


def test_a_stage_that_skips_nothing_adds_nothing():
    stages = [Stage(2, 3, 1, 6, 8), Stage(2, 3, 1, 6, 8, skip=False)]
    network = mobile_network(3, 10, stages, stem=8, head=16)
    assert [[unit.adds for unit in stage] for stage in list(network.stages)[:2]] == [[True, True], [False, False]]


def test_the_skeleton_is_counted_exactly_with_channels_that_a_search_pruned(data):
    row = json.loads((data / "pruning_reference" / "amc_mobilenets.json").read_text())[-1]
    stages = [Stage(1, 3, stride, 6, made, hidden=hidden) for hidden, made, stride in row["blocks_hidden_out_stride"]]
    with torch.device("meta"):
        network = mobile_network(3, 1000, stages, stem=row["stem"], head=row["last"], activation=nn.ReLU6)
    assert counts(network, (3, 224, 224)) == (row["params"], row["macs"]) == (2_330_272, 210_620_528)


# strides and channels of the seven stages of Accel-NASBench; its table has the rest
ACCEL = ((1, 16), (2, 24), (2, 40), (2, 80), (1, 112), (2, 192), (1, 320))


def accel_network(row):
    stages = [
        Stage(int(row[f"l{b}"]), int(row[f"k{b}"]), stride, int(row[f"e{b}"]), made, 0.25 * int(row[f"se{b}"]))
        for b, (stride, made) in enumerate(ACCEL)
    ]
    with torch.device("meta"):
        return mobile_network(3, 1000, stages, stem=32, head=1280)


def costs(network):
    """Return by part (stem, each stage, head) parameters, and multiply-adds with four for each normalised number."""
    parts = [network.stem, *network.stages, network.head]
    found = [[parameters(part), 0] for part in parts]

    def count(here, module, given, made):
        if isinstance(module, nn.Conv2d):
            here[1] += made.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            here[1] += made.numel() * module.in_features
        elif isinstance(module, nn.BatchNorm2d):
            here[1] += 4 * made.numel()

    x = torch.zeros(1, 3, 224, 224, device="meta")
    for part, here in zip(parts, found, strict=True):
        for module in part.modules():
            module.register_forward_hook(partial(count, here))
        with torch.no_grad():
            x = part.eval()(x)
    return [tuple(part) for part in found]


@pytest.mark.slow
def test_the_skeleton_has_the_counts_of_every_network_of_accel_nasbench(data):
    """A stage costs the same whatever stands beside it: enough whole networks are built to have every stage once."""
    with gzip.open(data / "accel_nasbench" / "accel_nasbench.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5138
    known: dict[tuple[str, ...], tuple[int, int]] = {}
    ends = None
    built = wrong = 0
    for row in rows:
        stages = [(str(b), row[f"e{b}"], row[f"k{b}"], row[f"l{b}"], row[f"se{b}"]) for b in range(7)]
        if not known.keys() >= set(stages) or int(row["id"]) % 200 == 0:
            stem, *middle, last, head = costs(accel_network(row))
            built += 1
            assert ends in (None, (stem, last, head))
            ends = (stem, last, head)
            for stage, cost in zip(stages, middle, strict=True):
                assert known.setdefault(stage, cost) == cost
        parts = [*ends, *(known[stage] for stage in stages)]
        right = round(sum(part[0] for part in parts) / 1e6, 5) == float(row["params_m"])
        if not any(int(row[f"se{b}"]) for b in range(7)):  # 64,000 for the pool and the head
            right = right and round((sum(part[1] for part in parts) + 64_000) / 1e6, 5) == float(row["macs_m"])
        wrong += not right
    assert wrong == 0
    assert 30 < built < 200

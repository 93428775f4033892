"""MobileNetV1, against the figures of its paper, of its release and of networks pruned from it."""

import json
from collections import Counter
from fractions import Fraction

import pytest
import torch
from golden import build, counted, counts
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from automl_networks.depthwise_separable import depthwise_separable
from automl_networks.zoo.mobilenet_v1 import separable_network

SIDES = (224, 192, 160, 128)
WIDTHS = (32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024)


@pytest.mark.parametrize(
    ("width", "parameters", "multiply_adds"),
    [
        (1.0, 4_231_976, (568_740_352, 418_121_728, 290_675_200, 186_400_768)),
        (0.75, 2_585_560, (325_400_448, 239_273_472, 166_396_800, 106_770_432)),
        (0.5, 1_331_592, (149_497_088, 109_970_432, 76_524_800, 49_160_192)),
        (0.25, 470_072, (41_030_272, 30_212_608, 21_059_200, 13_570_048)),
    ],
)
def test_it_has_the_published_size_at_each_width_and_resolution(width, parameters, multiply_adds):
    with torch.device("meta"):
        network = build("mobilenet_v1", width=width)
    found = [counts(network, (3, side, side)) for side in SIDES]
    assert found == [(parameters, number) for number in multiply_adds]


def test_it_has_ten_classes_with_the_published_parameters():
    assert counted("mobilenet_v1", outputs=10)[0] == 3_217_226


def test_its_multiply_adds_are_nearly_all_in_1x1_convolutions():
    with torch.device("meta"):
        network = build("mobilenet_v1")
    found = Counter()

    def count(module, given, made):
        if isinstance(module, nn.Linear):
            found["linear"] += made.numel() * module.in_features
        elif isinstance(module, nn.Conv2d):
            kind = "depthwise" if module.groups > 1 else "pointwise" if module.kernel_size == (1, 1) else "stem"
            found[kind] += made.numel() * module.weight[0].numel()

    for module in network.modules():
        module.register_forward_hook(count)
    network.eval()(torch.zeros(1, 3, 224, 224, device="meta"))
    assert found == {"stem": 10_838_016, "depthwise": 17_385_984, "pointwise": 539_492_352, "linear": 1_024_000}


def test_its_maps_have_the_published_sizes():
    network = build("mobilenet_v1", width=0.25).eval()
    x = network.stem(torch.rand(1, 3, 224, 224))
    sides = [x.shape[-1]]
    for stage in network.stages:
        x = stage(x)
        sides.append(x.shape[-1])
    assert sides == [112, 112, 56, 56, 28, 28, *[14] * 6, 7, 7]


def test_half_of_every_layers_channels_are_the_network_of_half_the_width():
    with torch.device("meta"):
        pruned = separable_network(3, 1000, [width // 2 for width in WIDTHS])
    assert counts(pruned, (3, 224, 224)) == counted("mobilenet_v1", width=0.5)


@pytest.mark.parametrize(
    "model", ["mobilenet_v1", "mobilenet_v1_0.75", "mobilenet_v1_amc_0.5flops", "mobilenet_v1_amc_0.5time"]
)
def test_it_is_counted_exactly_with_channels_that_a_search_pruned(model, data):
    rows = json.loads((data / "pruning_reference" / "amc_mobilenets.json").read_text())
    (row,) = (row for row in rows if row["model"] == model)
    with torch.device("meta"):
        network = separable_network(3, 1000, row["widths"], [2, *row["strides"]])
    assert counts(network, (3, 224, 224)) == (row["params"], row["macs"])


@settings(max_examples=20)
@given(st.integers(1, 96), st.integers(1, 96), st.sampled_from([3, 5, 7]), st.integers(1, 2), st.integers(4, 20))
def test_a_separable_convolution_costs_one_nth_and_one_k_squareth_of_a_dense_one(inputs, outputs, kernel, stride, side):
    with torch.device("meta"):
        separable = depthwise_separable(inputs, outputs, stride, kernel)
        dense = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
    _, cheap = counts(separable, (inputs, side, side))
    _, dear = counts(dense, (inputs, side, side))
    assert Fraction(cheap, dear) == Fraction(1, outputs) + Fraction(1, kernel**2)

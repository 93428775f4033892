"""What a network costs, layer by layer: counted by hand, and by a second counter."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from automl.layers import profile
from automl.measure import multiply_adds, parameters


class Residual(nn.Module):
    """A convolution beside which its input passes; 4 channels."""

    def __init__(self, inplace=False):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.relu = nn.ReLU(inplace)

    def forward(self, x):
        return x + self.relu(self.conv(x))


class Stages(nn.Module):
    """A stem, a stage of two residual blocks, and a head of plain operations."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(4))
        self.stages = nn.ModuleList([nn.Sequential(Residual(), Residual(inplace=True))])
        self.head = nn.Linear(4, 5)

    def forward(self, images):
        x = self.stem(images)
        for stage in self.stages:
            x = stage(x)
        return self.head(x.mean((2, 3)))


class Plain(nn.Module):
    """Whatever a function does, in a module that has a part."""

    def __init__(self, function, part=None):
        super().__init__()
        self.function = function
        self.part = part or nn.Identity()

    def forward(self, x):
        return self.function(x)


def counted_by_hooks(model, image):
    """Count multiply-adds by the formulas of the layers, as a second opinion."""
    total = 0

    def add(layer, given, result):
        nonlocal total
        if isinstance(layer, nn.Linear):
            total += layer.in_features * result.numel()
        else:
            pixels = given[0].shape if isinstance(layer, nn.ConvTranspose2d) else result.shape
            total += math.prod(pixels[2:]) * layer.weight.numel() * pixels[0]

    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    handles = [layer.register_forward_hook(add) for layer in model.modules() if isinstance(layer, kinds)]
    with torch.no_grad():
        model.eval()(torch.zeros(1, *image))
    for handle in handles:
        handle.remove()
    return total


@pytest.mark.parametrize(
    ("layer", "size", "expected", "window"),
    [
        (nn.Conv2d(4, 8, 3, bias=False), 6, 16 * 8 * 4 * 9, ((3, 3), (1, 1), (1, 1), 1)),
        (nn.Conv2d(4, 8, (1, 5), groups=2), 6, 12 * 8 * 2 * 5, ((1, 5), (1, 1), (1, 1), 2)),
        (nn.Conv2d(4, 8, 3, 2, 2, 2, groups=4), 7, 16 * 8 * 9, ((3, 3), (2, 2), (2, 2), 4)),
        (nn.ConvTranspose2d(4, 6, 3, 2, groups=2, bias=False), 5, 25 * 4 * 3 * 9, ((3, 3), (2, 2), (1, 1), 2)),
        (nn.ConvTranspose2d(4, 6, 3, dilation=2), 5, 25 * 4 * 6 * 9, ((3, 3), (1, 1), (2, 2), 1)),
        (nn.MaxPool2d(3, 2), 7, 0, ((3, 3), (2, 2), (1, 1), 1)),
        (nn.AvgPool2d(2), 6, 0, ((2, 2), (2, 2), (1, 1), 1)),
        (nn.Linear(6, 2), 6, 4 * 6 * 6 * 2, ((), (), (), 1)),
    ],
    ids=["plain", "grouped", "depthwise dilated", "transposed grouped", "transposed dilated", "max", "avg", "linear"],
)
def test_a_layer_has_exact_costs(layer, size, expected, window):
    found = profile(layer, (4, size, size))
    (row,) = found.layers
    output = layer(torch.zeros(1, 4, size, size))
    moved = 4 * size * size + output.numel() + parameters(layer)
    assert (row.name, row.kind) == (type(layer).__name__,) * 2
    assert (row.kernel, row.stride, row.dilation, row.groups) == window
    assert row.output == tuple(output.shape)
    assert (row.multiply_adds, row.memory_access, row.kernels) == (expected, moved, 1)
    assert row.parameters == found.parameters == parameters(layer)
    assert found.multiply_adds == multiply_adds(layer, (4, size, size)) == expected


@pytest.mark.parametrize(
    ("function", "kinds", "moved"),
    [
        (lambda x: x + x, ["add"], 3 * 64),
        (lambda x: torch.cat([x, x, x], 1), ["cat"], 6 * 64),
        (lambda x: functional.relu_(x), ["relu"], 2 * 64),
        (lambda x: x.clone().mul_(2).add_(x), ["clone", "mul", "add"], (2 + 2 + 3) * 64),
        (lambda x: x.flatten(1).view(1, 8, 8).transpose(1, 2)[:, ::2], [], 0),
        (lambda x: torch.cat([half + 1 for half in x.chunk(2, 1)], 1), ["add", "add", "cat"], 4 * 64),
        (lambda x: functional.max_pool2d(x, 2), ["max_pool2d_with_indices"], 64 + 16),
        (lambda x: functional.interpolate(x, scale_factor=2), ["upsample_nearest2d"], 64 + 256),
        (lambda x: torch.empty_like(x).copy_(x), ["copy"], 2 * 64),
    ],
    ids=["add", "cat", "in place", "chain in place", "views", "halves", "maximum", "nearest", "copy"],
)
def test_an_operation_outside_of_layers_has_a_row_of_its_own(function, kinds, moved):
    found = profile(nn.Sequential(Plain(function)), (4, 4, 4))
    assert [layer.kind for layer in found.layers] == kinds
    assert [layer.name for layer in found.layers] == [f"0 ({kind})" for kind in kinds]
    assert (found.memory_access, found.kernels, found.multiply_adds) == (moved, len(kinds), 0)


def test_the_rows_are_in_order_of_execution_and_named_by_path():
    assert [layer.name for layer in profile(Stages(), (3, 8, 8)).layers] == [
        "stem.0",
        "stem.1",
        "stages.0.0.conv",
        "stages.0.0.relu",
        "stages.0.0 (add)",
        "stages.0.1.conv",
        "stages.0.1.relu",
        "stages.0.1 (add)",
        "(mean)",
        "head",
    ]


def test_weights_shared_by_two_layers_count_once_as_parameters_and_twice_as_access():
    network = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    network[1].weight = network[0].weight
    found = profile(network, (1, 1, 4))
    assert [layer.parameters for layer in found.layers] == [16, 0]
    assert [layer.memory_access for layer in found.layers] == [24, 24]
    assert found.parameters == 16


def test_a_layer_called_twice_has_two_rows():
    relu = nn.ReLU()
    assert [layer.name for layer in profile(nn.Sequential(relu, nn.Conv2d(1, 1, 1), relu), (1, 2, 2)).layers] == [
        "0",
        "1",
        "0",
    ]


def test_parameters_follow_the_rule_of_measure():
    network = Stages()
    network.stages[0][0].conv.weight.requires_grad_(False)
    found = profile(network, (3, 8, 8))
    assert found.layers[2].parameters == network.stages[0][0].conv.weight.numel()
    assert found.parameters == parameters(network) == sum(layer.parameters for layer in found.layers)
    assert found.multiply_adds == multiply_adds(network, (3, 8, 8))


@pytest.mark.parametrize("image", [(3, 8, 8), (3, 13, 9)], ids=["even", "odd"])
def test_it_agrees_with_a_second_counter(image):
    network = nn.Sequential(Stages(), nn.Unflatten(1, (5, 1, 1)), nn.ConvTranspose2d(5, 10, 3, groups=5), nn.Flatten())
    assert profile(network, image).multiply_adds == counted_by_hooks(network, image) == multiply_adds(network, image)


def test_attention_is_counted_as_its_products():
    attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def attend(x):
        tokens = x.flatten(2).transpose(1, 2)
        return attention(tokens, tokens, tokens, need_weights=False)[0]

    found = profile(Plain(attend, attention), (8, 3, 3))
    assert found.multiply_adds == 9 * 8 * 24 + 2 * 9 * 9 * 8 + 9 * 8 * 8
    assert found == profile(Plain(attend, attention.to("meta")), (8, 3, 3))


def test_a_batch_multiplies_all_but_the_weights():
    one, three = (profile(Stages(), (3, 8, 8), batch) for batch in (1, 3))
    assert three.multiply_adds == 3 * one.multiply_adds
    assert three.peak_activations == 3 * one.peak_activations
    weights = one.parameters + 2 * 4  # and the running statistics
    assert three.memory_access - weights == 3 * (one.memory_access - weights)
    assert (three.parameters, three.kernels) == (one.parameters, one.kernels)


def test_the_peak_of_a_chain_is_its_widest_pair_of_maps():
    chain = nn.Sequential(nn.Conv2d(1, 8, 1), nn.Conv2d(8, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(32, 1000))
    assert profile(chain, (1, 4, 4)).peak_activations == 4 * (32 + 1000)
    assert profile(chain[:4], (1, 4, 4)).peak_activations == 4 * (8 + 2) * 16


def test_the_peak_of_a_residual_block_holds_what_passes_it_by():
    assert profile(Residual(), (4, 5, 5)).peak_activations == 4 * 3 * 100
    # in place the activation takes no map of its own, but the sum does
    assert profile(Residual(inplace=True), (4, 5, 5)).peak_activations == 4 * 3 * 100
    assert profile(nn.Sequential(nn.ReLU(), nn.ReLU()), (4, 5, 5)).peak_activations == 4 * 2 * 100
    assert profile(nn.Sequential(nn.ReLU(True), nn.ReLU(True)), (4, 5, 5)).peak_activations == 4 * 100


def test_the_peak_keeps_what_the_network_gives_until_the_end():
    both = Plain(lambda x: (x[:, :1] * 2, x[:, :1].exp().exp().exp()))
    one = Plain(lambda x: x[:, :1].exp().exp().exp())
    assert profile(both, (4, 5, 5)).peak_activations == 4 * (100 + 25 + 25)
    assert profile(one, (4, 5, 5)).peak_activations == 4 * (100 + 25)


def test_it_leaves_the_network_as_it_was():
    network = Stages().train()
    statistics = network.stem[1].running_mean.clone()
    profile(network, (3, 8, 8))
    assert all(module.training for module in network.modules())
    assert torch.equal(network.stem[1].running_mean, statistics)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    with pytest.raises(RuntimeError):
        profile(network, (2, 8, 8))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_the_meta_device_is_enough():
    with torch.device("meta"):
        network = Stages()
    assert profile(network, (3, 8, 8)) == profile(Stages(), (3, 8, 8))


@pytest.mark.parametrize(
    ("before", "after", "expected"), [(128, 128, 819_200), (52, 312, 1_157_728), (36, 432, 1_483_200)]
)
def test_equal_widths_need_the_least_memory_access(before, after, expected):
    with torch.device("meta"):
        network = nn.Conv2d(before, after, 1, bias=False)
    found = profile(network, (before, 56, 56))
    widths = found.guidelines().equal_widths
    assert found.memory_access == widths.memory_access == expected
    assert widths.bound == pytest.approx(2 * math.sqrt(56**2 * found.multiply_adds) + before * after)
    assert widths.ratio == pytest.approx(expected / widths.bound)
    assert (widths.ratio == pytest.approx(1)) == (before == after)
    assert widths.worst == (("Conv2d", widths.ratio),)


def test_groups_need_more_memory_access_for_as_many_multiply_adds():
    grouped = nn.Conv2d(8, 16, 1, groups=4, bias=False)
    alone = nn.Conv2d(8, 4, 1, bias=False)
    first, second = (profile(layer, (8, 6, 6)) for layer in (grouped, alone))
    assert first.multiply_adds == second.multiply_adds
    found = first.guidelines()
    assert (found.groups.convolutions, found.groups.share) == (1, 1.0)
    assert found.groups.ratio == first.memory_access / second.memory_access
    assert found.equal_widths.convolutions == 0
    depthwise = profile(nn.Conv2d(8, 16, 3, groups=8), (8, 6, 6)).guidelines()
    assert (depthwise.groups.convolutions, depthwise.element_wise.depthwise) == (0, 1.0)


def test_fragmentation_is_told_by_block():
    blocks = profile(Stages(), (3, 8, 8)).guidelines().fragmentation.blocks
    assert [(block.name, block.kernels, block.branches) for block in blocks] == [
        ("stem", 2, 1),
        ("stages.0.0", 3, 1),
        ("stages.0.1", 3, 1),
        ("Stages", 1, 1),
        ("head", 1, 1),
    ]


def test_branches_are_kernels_that_need_not_wait_for_each_other():
    parts = nn.ModuleList(nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)) for _ in range(3))
    block_of_three = Plain(lambda x: torch.cat([part(x) for part in parts], 1), parts)
    (block,) = profile(nn.Sequential(block_of_three), (4, 4, 4)).blocks
    assert (block.name, block.kernels, block.branches) == ("0", 7, 3)


def test_element_wise_operations_have_their_share():
    network = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Hardswish(), nn.ReLU(inplace=True))
    found = profile(network, (4, 5, 5))
    shares = found.guidelines().element_wise
    assert found.memory_access == (200 + 16) + (200 + 16) + 200 + 200
    assert shares.share == 400 / found.memory_access
    assert shares.normalisation == 216 / found.memory_access
    assert shares.depthwise == 0

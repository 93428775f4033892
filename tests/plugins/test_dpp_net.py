import random

import pytest
import torch

from automl import BadInput
from automl_networks.learned_groups import LearnedGroupConvolution
from automl_spaces.dpp_net import CONVOLUTIONS, NORMALISATIONS, DPPNet


class Images:
    input = (3, 8, 8)
    outputs = 10


def test_there_are_324_cells_of_four_slots():
    space = DPPNet(layers=2, least=2)
    everything = list(space.enumerate())
    assert space.size() == len({space.canonical(architecture.blueprint) for architecture in everything}) == 324
    assert DPPNet().size() == 18 + 324 + 18**3 + 18**4


def test_slots_alternate_and_end_with_a_convolution():
    space, rng = DPPNet(), random.Random(0)
    for _ in range(1_000):
        names = [name for name in space.sample(rng).values if name != "cell.layers"]
        assert [name.removeprefix("cell.")[:4] for name in names] == ["norm", "conv"] * (len(names) // 2)


def test_a_layer_adds_its_growth_to_the_channels():
    space, rng = DPPNet(cells=2), random.Random(0)
    for _ in range(10):
        layers = space.sample(rng).blueprint
        network = space.build(layers, Images())
        channels = []
        for stage in network.stages:
            stage.register_forward_hook(lambda module, given, made, seen=channels: seen.append(made.shape[1]))
        network(torch.randn(2, *Images.input))
        added = [2 * growth * len(layers) for growth in (8, 16, 32)]
        assert channels == [16 + sum(added[: stage + 1]) for stage in range(3)]


def test_a_cell_is_expanded_by_a_layer():
    space = DPPNet(layers=3)
    parent = space.read({"cell.layers": 1, "cell.norm0": "bn", "cell.conv0": "conv3x3"})
    children = list(space.enumerate({**parent.values, "cell.layers": 2}))
    assert len(children) == 18
    assert {child.blueprint[0] for child in children} == {parent.blueprint[0]}


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("conv1x1", 24 * 8),
        ("conv3x3", 24 * 8 * 9),
        ("group1x1", 24 * 8 // 4),
        ("group3x3", 24 * 8 * 9 // 4),
        ("learned_group1x1", 24 * 8),
        ("depthwise3x3", 24 * 9 + 24 * 8),
    ],
)
def test_convolutions_have_their_weights(name, weights):
    (conv,) = [op for op in DPPNet()._convolutions if op.name == name]
    made = conv(24, 8, 1)
    assert sum(parameter.numel() for parameter in made.parameters()) == weights
    assert made(torch.randn(2, 24, 5, 5)).shape == (2, 8, 5, 5)


def test_learned_groups_come_to_read_a_quarter_of_the_inputs_each():
    torch.manual_seed(0)
    layer = LearnedGroupConvolution(16, 8, 4)
    before, strength = layer.weight.detach().clone(), layer.weight.detach().view(4, 2, 16).abs().sum(1)
    kept = []
    for progress in (0.0, 0.1, 0.17, 0.3, 0.34, 0.5, 0.9, 1.0):
        layer.on_progress(progress)
        kept.append(layer.mask.sum(1).tolist())
    assert [row[0] for row in kept] == [16, 16, 12, 12, 8, 4, 4, 4]
    assert all(len(set(row)) == 1 for row in kept)
    for group in range(4):  # the strongest stay
        assert set(layer.mask[group].nonzero().flatten().tolist()) == set(strength[group].topk(4).indices.tolist())
    x = torch.randn(2, 16, 3, 3)
    by_hand = torch.stack(
        [
            sum(before[out, source] * x[:, source] * layer.mask[out // 2, source] for source in range(16))
            for out in range(8)
        ],
        dim=1,
    )
    torch.testing.assert_close(layer(x), by_hand)
    again = LearnedGroupConvolution(16, 8, 4)
    again.load_state_dict(layer.state_dict())
    again.on_progress(0.4)  # a training that goes on lets go of no more than is due
    assert torch.equal(again.mask, layer.mask)


def test_lists_and_widths_that_make_no_cell_are_refused():
    with pytest.raises(BadInput, match=r"'conv2x2', which is none \(did you mean 'conv"):
        DPPNet(convolutions=("conv2x2",))
    with pytest.raises(BadInput, match=r"space\.growth=6 is no multiple of the 4 groups .*: give 8"):
        DPPNet(growth=6)
    assert DPPNet(growth=6, convolutions=("conv1x1",)).growth == 6
    with pytest.raises(BadInput, match=r"space\.least=5 is more"):
        DPPNet(least=5)
    assert (len(CONVOLUTIONS), len(NORMALISATIONS)) == (6, 3)

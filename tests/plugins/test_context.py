"""The context module, against the figures of its paper."""

import pytest
import torch
from torch import nn

from automl_networks.context import DILATIONS, ContextModule
from automl_networks.initialisation import initialise

FORMS = pytest.mark.parametrize("form", ["basic", "large"])


@pytest.mark.parametrize(("form", "weights"), [("basic", 64), ("large", 15_422)])
def test_it_has_the_published_weights(form, weights):
    for channels in (1, 3):
        module = ContextModule(channels, form)
        found = sum(layer.weight.numel() for layer in module.modules() if isinstance(layer, nn.Conv2d))
        assert found == weights * channels**2


@FORMS
def test_it_begins_as_the_identity_on_what_is_not_negative(form):
    x = torch.randint(256, (2, 3, 9, 70), generator=torch.Generator().manual_seed(0)) / 256  # sums are exact
    assert torch.equal(ContextModule(3, form, noise=0)(x), x)


@FORMS
def test_it_begins_near_the_identity_with_noise_that_training_can_tell_apart(form):
    module = ContextModule(3, form)
    x = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    assert 0 < (module(x) - x).abs().max() < 0.5
    module(x).square().sum().backward()
    assert all(parameter.grad.any() for parameter in module.parameters())


def test_it_keeps_its_beginning_within_a_network():
    network = nn.Sequential(ContextModule(3, noise=0))
    initialise(network)
    x = torch.rand(1, 3, 8, 8)
    assert torch.equal(network(x), x)


def test_it_sees_more_with_each_layer_and_in_the_end_all_of_67_x_67():
    module = ContextModule(1)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
    x = torch.zeros(1, 1, 75, 75, dtype=torch.float64)
    x[..., 37, 37] = 1
    module = module.double()
    sides = []
    for layer in module.layers:
        x = layer(x)
        rows = x[0, 0].any(1).nonzero()
        sides.append(int(rows.max() - rows.min()) + 1)
    assert sides == [3, 5, 9, 17, 33, 65, 67]
    assert int((x > 0).sum()) == 67 * 67
    assert torch.equal(module.last(x), x)


def test_equal_dilations_leave_gaps_that_its_own_do_not():
    assert DILATIONS == (1, 1, 2, 4, 8, 16, 1)
    x = torch.zeros(1, 1, 13, 13)
    x[..., 6, 6] = 1
    for _ in range(3):
        x = nn.functional.conv2d(x, torch.ones(1, 1, 3, 3), padding=2, dilation=2)
    assert int((x > 0).sum()) == 49


@FORMS
def test_it_keeps_size_and_channels(form):
    for size in ((1, 1), (5, 8), (33, 20)):
        assert ContextModule(2, form)(torch.rand(2, 2, *size)).shape == (2, 2, *size)

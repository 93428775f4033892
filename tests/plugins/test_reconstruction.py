"""Layers fitted anew where channels went: nearer to the whole network on the samples, and else as they were."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from torch import nn

from automl.compressor import Compressed
from automl_compressors.amc import AMC
from automl_compressors.channels import Channels
from automl_compressors.pruning import Pruning
from automl_compressors.reconstruction import _changes, reconstruct
from automl_tasks.synthetic import Synthetic
from given import Given, Lending, plain, residual, without_norm

IMAGE = (3, 8, 8)


class Exact(Lending):
    """The same training images, in double precision."""

    def batches(self, count):
        for images, labels in super().batches(count):
            yield images.double(), labels


def task():
    made = Synthetic(count=60, size=8, channels=3, labels=4, batch_size=16)
    made.prepare(0)
    return made


def strided():
    """Kernels that are not square, strides, paddings and dilations that differ by direction, and a dense reader."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 10, (3, 5), padding="same", dilation=(2, 1)),
        nn.ReLU(inplace=True),
        nn.Conv2d(10, 12, (1, 3), stride=(2, 1), padding=(0, 2), dilation=(1, 2), padding_mode="reflect"),
        nn.ReLU(inplace=True),
        nn.Conv2d(12, 6, (3, 2), stride=(1, 3), padding=1),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(6 * 4 * 3, 4),
    )


class Twice(nn.Module):
    """Channels that two layers read, one of them called twice, and that meet in a concatenation."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.depthwise = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.one, self.two = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 6, 1)
        self.grouped, self.head = nn.Conv2d(8, 8, 1, groups=2), nn.Linear(22, 4)

    def forward(self, x):
        x = torch.relu(self.depthwise(torch.relu(self.stem(x))))
        x = torch.relu(self.one(torch.relu(self.one(input=x))))
        parts = torch.cat([torch.relu(self.two(x)), self.grouped(x), x], 1)
        return self.head(parts.mean((2, 3)))


def trained_like(network):
    """Return a network at rest whose normalisation has statistics and scales of its own."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return network.eval()


def pruned(network, share=0.5):
    """Return the channels, the units of each group that stay, and the smaller network; both in double precision."""
    channels = Channels.of(network, IMAGE)
    rng = random.Random(0)
    kept = {
        name: sorted(rng.sample(range(group.units), max(1, int(share * group.units))))
        for name, group in channels.groups.items()
    }
    return channels, kept, channels.prune(network.double(), kept)


def outputs_of(network, images):
    """Return what every layer gives, by name: the concatenation of its calls."""
    found, handles = {}, []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):

            def see(_, given, result, name=name):
                found.setdefault(name, []).append(result.detach().clone())

            handles.append(module.register_forward_hook(see))
    with torch.no_grad():
        network(images)
    for handle in handles:
        handle.remove()
    return {name: torch.cat(results) for name, results in found.items()}


def lacks(whole, small, channels, kept, images):
    """Return by layer the square of what its outputs lack, by channel."""
    before, after = outputs_of(whole, images), outputs_of(small, images)
    found = {}
    for name, (dim, stay) in channels.outputs(whole, kept).items():
        square = (before[name].index_select(dim, stay) - after[name]).square()
        found[name] = square.movedim(dim, 0).flatten(1).sum(1)
    return found


NETWORKS = [plain, residual, without_norm, strided, Twice]


@pytest.mark.parametrize("make", NETWORKS)
def test_no_output_of_a_layer_is_further_off_on_the_samples_than_by_plain_removal(make):
    whole = trained_like(make())
    channels, kept, small = pruned(whole)
    training = Exact(task())
    removed = copy.deepcopy(small)
    reconstruct(whole, small, channels, kept, training, batches=3, samples=10**6)
    images = torch.cat([images for images, _ in training.batches(3)])
    fitted = [name for name, module in small.named_modules() if changed(module, removed.get_submodule(name))]
    assert fitted
    for name in fitted:
        # what it lacks with its old weights, where all that comes before it is fitted
        former = copy.deepcopy(small)
        former.get_submodule(name).load_state_dict(removed.get_submodule(name).state_dict())
        now = lacks(whole, small, channels, kept, images)[name]
        then = lacks(whole, former, channels, kept, images)[name]
        if name != "one":  # which is called again with what it gave
            assert (now <= then * (1 + 1e-9)).all()
            assert now.sum() < 0.9 * then.sum()


def changed(module, other):
    pairs = zip(module.parameters(recurse=False), other.parameters(recurse=False), strict=True)
    return any(not torch.equal(one, two) for one, two in pairs)


@pytest.mark.parametrize("make", [residual, strided])
def test_it_is_what_lstsq_finds(make, monkeypatch):
    monkeypatch.setattr("automl_compressors.reconstruction._RIDGES", (1e-12,))
    whole = trained_like(make())
    channels = Channels.of(whole, IMAGE)
    first = next(iter(channels.groups))
    kept = {first: range(4)}
    small = channels.prune(whole.double(), kept)
    training = Exact(task())
    inputs = {}
    reconstruct(whole, small, channels, kept, training, batches=3, samples=10**6)
    images = torch.cat([images for images, _ in training.batches(3)])
    layer = channels.groups[first].consumers[0]
    module = small.get_submodule(layer)
    module.register_forward_pre_hook(lambda _, given: inputs.update(x=given[0].detach()))
    wanted = outputs_of(whole, images)[layer]
    with torch.no_grad():
        small(images)
    x = inputs["x"]
    sides = module._reversed_padding_repeated_twice
    if any(sides):
        mode = {"zeros": "constant"}.get(module.padding_mode, module.padding_mode)
        x = nn.functional.pad(x, sides, mode)
    patches = (
        nn.functional.unfold(x, module.kernel_size, module.dilation, 0, module.stride).transpose(1, 2).flatten(0, 1)
    )
    ones = torch.ones(len(patches), 1, dtype=torch.float64)
    goal = wanted.flatten(2).transpose(1, 2).flatten(0, 1)
    expected = torch.linalg.lstsq(torch.cat([patches, ones], 1), goal).solution.T
    torch.testing.assert_close(module.weight.detach().flatten(1), expected[:, :-1], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(module.bias.detach(), expected[:, -1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5)])
def test_fewer_rows_than_inputs_give_the_same_least_squares(shape):
    torch.manual_seed(0)
    rows, lacking = torch.randn(*shape, dtype=torch.float64), torch.randn(shape[0], 3, dtype=torch.float64)
    weight = 0.1 * rows.square().sum() / shape[1]
    more = torch.cat([rows, weight.sqrt() * torch.eye(shape[1], dtype=torch.float64)])
    goal = torch.cat([lacking, torch.zeros(shape[1], 3, dtype=torch.float64)])
    (change,) = _changes(rows, lacking, [0.1])
    torch.testing.assert_close(change, torch.linalg.lstsq(more, goal).solution.T)


def test_few_samples_are_not_fitted_at_the_cost_of_other_images():
    whole = trained_like(without_norm())
    channels, kept, small = pruned(whole, share=0.75)
    removed = copy.deepcopy(small)
    reconstruct(whole, small, channels, kept, Exact(task()), batches=1, samples=4)
    *_, (others, _) = Exact(task()).batches(3)
    with torch.no_grad():
        wanted = whole(others)
        off, before = ((network(others) - wanted).square().mean() for network in (small, removed))
    assert off < before


@pytest.mark.parametrize("make", NETWORKS)
def test_where_all_channels_are_kept_nothing_changes(make):
    whole = trained_like(make())
    channels, kept, small = pruned(whole, share=1.0)
    reconstruct(whole, small, channels, kept, Exact(task()), batches=2, samples=10)
    assert not any(changed(module, whole.get_submodule(name)) for name, module in small.named_modules())


def test_where_what_went_was_zero_the_outputs_stay():
    whole = plain().eval()
    with torch.no_grad():
        for tensor in (whole[0].weight, whole[1].bias):
            tensor[4:] = 0
    channels = Channels.of(whole, IMAGE)
    kept = {"0": range(4)}
    small = channels.prune(whole, kept)
    reconstruct(whole, small, channels, kept, Lending(task()), batches=2, samples=10)
    images = torch.rand(4, *IMAGE)
    torch.testing.assert_close(small(images), whole(images), rtol=0, atol=1e-5)


def test_channels_that_follow_from_others_are_made_up_for():
    whole = plain().eval()
    with torch.no_grad():
        for tensor in (whole[0].weight, whole[1].weight, whole[1].bias, whole[1].running_mean, whole[1].running_var):
            tensor[4:] = tensor[:4]
    channels = Channels.of(whole, IMAGE)
    kept = {"0": range(4)}
    small = channels.prune(whole.double(), kept)
    images = torch.rand(4, *IMAGE, dtype=torch.float64)
    assert (small(images) - whole(images)).abs().max() > 1e-3
    reconstruct(whole, small, channels, kept, Exact(task()), batches=3, samples=64)
    assert (small(images) - whole(images)).abs().max() < 1e-3


def test_depthwise_grouped_shared_and_other_layers_are_left_alone():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.stem, self.one, self.two = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
            self.two.weight = self.one.weight
            self.up, self.head = nn.ConvTranspose2d(8, 8, 2), nn.Linear(8, 4)

        def forward(self, x):
            x = torch.relu(self.two(torch.relu(self.one(torch.relu(self.stem(x))))))
            return self.head(torch.relu(self.up(x)).mean((2, 3)))

    def fitted(network):
        whole = trained_like(network)
        channels, kept, small = pruned(whole)
        removed = copy.deepcopy(small)
        reconstruct(whole, small, channels, kept, Exact(task()), batches=2, samples=10)
        return {name for name, module in small.named_modules() if changed(module, removed.get_submodule(name))}

    assert fitted(Twice()) == {"one", "two", "head"}
    assert fitted(Tied()) == {"head"}


def test_modes_and_what_is_trained_stay_as_they_were():
    whole = plain().train()
    channels, kept, small = pruned(whole)
    assert small.training
    small[3].weight.requires_grad_(False)
    reconstruct(whole, small, channels, kept, Exact(task()), batches=2, samples=10)
    assert whole.training
    assert small.training
    assert not small[3].weight.requires_grad
    assert small[6].weight.requires_grad
    assert not any(module._forward_hooks for one in (whole, small) for module in one.modules())


def test_equal_seeds_draw_equal_positions_and_others_do_not():
    def weights(seed):
        whole = trained_like(plain())
        channels, kept, small = pruned(whole)
        training = Exact(task())
        training.seed = seed
        reconstruct(whole, small, channels, kept, training, batches=2, samples=5)
        return small[3].weight

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


@pytest.mark.parametrize("make", [lambda **more: Pruning(budget=0.4, **more), lambda **more: AMC(budget=0.4, **more)])
def test_compressors_fit_what_they_prune_and_ship_no_more(make):
    network = residual()

    def finished(**settings):
        space = Compressed(Given(network), make(**settings))
        space.check(task())
        architecture = space.make(lambda _, domain: domain.fit(0.6))
        return space.finish(copy.deepcopy(network), architecture.blueprint, Lending(task()))

    fitted, removed = finished(reconstruct=True), finished(reconstruct=False)
    images = next(Lending(task()).batches(1))[0]
    with torch.no_grad():
        wanted = network.eval()(images)
        off, without = ((one.eval()(images) - wanted).square().mean() for one in (fitted, removed))
    assert off < 0.5 * without
    assert {name: tensor.shape for name, tensor in fitted.state_dict().items()} == {
        name: tensor.shape for name, tensor in removed.state_dict().items()
    }
    assert fitted.automl_form == removed.automl_form


def test_statistics_stay_to_which_layers_are_fitted():
    def recalibrated(**settings):
        training = Lending(task())
        space = Compressed(Given(plain()), Pruning(**settings))
        space.check(task())
        space.finish(plain(), space.sample(random.Random(0)).blueprint, training)
        return training.recalibrated

    assert recalibrated() == 8
    assert recalibrated(reconstruct=True) == 0


def test_without_a_training_nothing_is_fitted():
    space = Compressed(Given(plain()), Pruning(reconstruct=True))
    space.check(task())
    blueprint = space.sample(random.Random(0)).blueprint
    network = space.build(blueprint, task())
    widths = dict(blueprint.plan.widths)
    assert {name: network.get_submodule(name).out_channels for name in widths} == widths

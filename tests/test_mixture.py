"""The quick ways of networks of soft choices compute what the textbook form does."""

from __future__ import annotations

import copy
import random
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional

from automl.mixture import Mixture, mixed
from automl_networks.depthwise import Depthwise
from automl_networks.dilated_depthwise import DilatedDepthwise
from automl_spaces.chain import Chain
from automl_spaces.darts import DARTS as DARTSSpace
from automl_spaces.nasbench201 import NASBench201
from automl_spaces.nasnet import NASNet
from automl_spaces.operations import OPERATIONS
from automl_strategies.darts import DARTS
from automl_strategies.gdas import GDAS
from automl_strategies.pc_darts import PCDARTS

EIGHT = ("none", "max3x3", "avg3x3", "skip", "sep3x3", "sep5x5", "dilsep3x3", "dilsep5x5")
MORE = (*EIGHT, "identity", "conv1x1", "conv3x3", "dilsep5x5_twice", "bottleneck3x3")
LAST = torch.channels_last


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class OneByOne(Mixture):
    """The textbook form: every option by itself, and the sum of all products."""

    def forward(self, x, memo=None):
        if self.share == 1:
            return self.summed(x)
        part = x.shape[1] // self.share
        passing = x[:, part:] if self.stride == 1 else functional.max_pool2d(x[:, part:], 3, self.stride, 1)
        return torch.channel_shuffle(torch.cat([self.summed(x[:, :part]), passing], dim=1), self.share)

    def summed(self, x):
        return sum(
            weight * option(x) for weight, option in zip(self.weights, self.options, strict=True) if weight.item() != 0
        )


def relaxed(space, strategy):
    strategy.start(space, random.Random(0))
    return strategy.ask().architecture


def textbook(network):
    """Return a copy that computes each option by itself, in the default layout, for which there is no quick way."""
    plain = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    for module in plain.modules():
        if isinstance(module, Mixture):
            module.__class__ = OneByOne
    return plain


def unaffine(network):
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight = module.bias = None
    return network


def found(network, images, labels, weights):
    """Return the loss, its gradients by the choices' weights and by the parameters, and the statistics after."""
    leaves = {name: torch.tensor(some, dtype=images.dtype, requires_grad=True) for name, some in weights.items()}
    for module in network.modules():
        if isinstance(module, Mixture):
            module.weights = leaves[module.decision]
    loss = functional.cross_entropy(network(images), labels)
    asked = [*leaves.values(), *network.parameters()]
    slopes = torch.autograd.grad(loss, asked, allow_unused=True, materialize_grads=True)
    return [loss.detach(), *slopes, *(buffer.clone() for buffer in network.buffers())]


@pytest.mark.parametrize("affine", [False, True], ids=["no scale", "scale"])
@pytest.mark.parametrize(
    ("space", "strategy"),
    [
        (DARTSSpace(cells=1, channels=4, operations=EIGHT), DARTS(deviation=0.3)),
        (DARTSSpace(nodes=2, cells=1, channels=8, operations=EIGHT), PCDARTS(channels=4)),
        (NASBench201(cells=1, channels=4), DARTS(deviation=0.3)),
        (NASBench201(cells=1, channels=4), GDAS()),
        (NASNet(blocks=2, channels=4, operations=("sep3x3", "dilated3x3", "conv1x1", "max3x3")), DARTS()),
        (Chain(stages=2, depth=2, channels=4), DARTS()),
    ],
    ids=["darts", "a part of the channels", "nasbench201", "one option at a time", "nasnet", "chain"],
)
def test_losses_gradients_and_statistics_are_those_of_the_textbook_form(space, strategy, affine):
    architecture = relaxed(space, strategy)
    network = space.build(architecture.blueprint, SimpleNamespace(input=(3, 12, 12), outputs=5)).double()
    network = (network if affine else unaffine(network)).to(memory_format=LAST)
    plain = textbook(network)
    images, labels = torch.randn(6, 3, 12, 12, dtype=torch.float64), torch.arange(6) % 5
    mine = found(network, images.contiguous(memory_format=LAST), labels, architecture.weights)
    theirs = found(plain, images, labels, architecture.weights)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def options(channels, stride, names=MORE, inputs=None):
    inputs = channels if inputs is None else inputs
    mixture = Mixture("edge", [OPERATIONS[name].chosen_by("edge") for name in names], 1, inputs, channels, stride)
    return mixture.double().to(memory_format=LAST)


@pytest.mark.parametrize("inputs", [4, 6, 8])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 8), (5, 7), (3, 2)], ids=str)
def test_mixtures_of_one_input_are_those_of_each_by_itself(size, stride, inputs):
    together = [options(6, stride, inputs=inputs) for _ in range(3)]
    alone = [textbook(mixture) for mixture in together]
    x = torch.randn(4, inputs, *size, dtype=torch.float64)
    numbers = torch.rand(3, len(MORE), dtype=torch.float64)
    results = []
    for mixtures, layout, run in (
        (together, LAST, mixed),
        (alone, torch.contiguous_format, lambda mixtures, x: [mixture(x) for mixture in mixtures]),
    ):
        given, weights = x.clone().to(memory_format=layout).requires_grad_(), numbers.clone().requires_grad_()
        for mixture, some in zip(mixtures, weights.unbind(), strict=True):
            mixture.weights = some
        made = run(mixtures, given)
        loss = sum((one * torch.linspace(-1, 1, one.numel(), dtype=one.dtype).view_as(one)).sum() for one in made)
        parameters = [parameter for mixture in mixtures for parameter in mixture.parameters()]
        results.append([*made, *torch.autograd.grad(loss, [given, weights, *parameters])])
        results[-1] += [buffer for mixture in mixtures for buffer in mixture.buffers()]
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("names", [("none", "avg3x3", "skip", "sep3x3"), ("conv1x1", "conv3x3", "dilsep3x3")], ids=str)
def test_gradients_can_be_taken_of_gradients(names):
    mixtures = [options(2, 1, names) for _ in range(2)]
    for mixture in mixtures:
        mixture.requires_grad_(False)

    def run(x, weights):
        for mixture, some in zip(mixtures, weights.unbind(), strict=True):
            mixture.weights = some
        return tuple(mixed(mixtures, x.contiguous(memory_format=LAST)))

    x = torch.randn(2, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, len(names), dtype=torch.float64, requires_grad=True)
    assert gradcheck(run, (x, weights))
    assert gradgradcheck(run, (x, weights))


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_the_gradients_of_depthwise_convolutions_are_pytorchs_own(kernel, dilation, stride):
    layer = Depthwise(3, kernel, stride, dilation).double()
    for size in ((1, 1), (2, 3), (5, 7), (8, 8), (3, 12)):
        x = torch.randn(3, 3, *size, dtype=torch.float64)
        results = []
        for layout, run in ((LAST, layer), (torch.contiguous_format, lambda x: nn.Conv2d.forward(layer, x))):
            given = x.clone().to(memory_format=layout).requires_grad_()
            made = run(given)
            slope = torch.linspace(-1, 1, made.numel(), dtype=made.dtype).view_as(made)
            results.append([made, *torch.autograd.grad(made, [given, layer.weight], slope)])
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_less_than_half_of_what_the_textbook_form_keeps_is_kept_for_the_gradient():
    space = DARTSSpace(cells=1, channels=4, operations=EIGHT)
    architecture = relaxed(space, DARTS())
    network = unaffine(space.build(architecture.blueprint, SimpleNamespace(input=(3, 16, 16), outputs=5)))
    images, labels = torch.randn(16, 3, 16, 16), torch.arange(16) % 5

    def kept(network, images):
        storages = {}

        def keep(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()  # held, so that no two are one
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            found(network, images, labels, architecture.weights)
        return sum(storage.nbytes() for storage in storages.values())

    plain = kept(textbook(network), images)
    assert kept(network.to(memory_format=LAST), images.contiguous(memory_format=LAST)) < 0.5 * plain


def test_the_same_is_computed_bit_for_bit_again():
    space = DARTSSpace(cells=1, channels=8, operations=EIGHT)
    architecture = relaxed(space, DARTS())
    network = space.build(architecture.blueprint, SimpleNamespace(input=(3, 16, 16), outputs=5)).to(memory_format=LAST)
    images, labels = torch.randn(16, 3, 16, 16).contiguous(memory_format=LAST), torch.arange(16) % 5
    again = copy.deepcopy(network)
    mine = found(network, images, labels, architecture.weights)
    held = [torch.empty(one.numel() + 1) for one in mine]  # so that memory lies elsewhere
    theirs = found(again, images.clone(memory_format=LAST), labels, architecture.weights)
    assert all(torch.equal(one, other) for one, other in zip(mine, theirs, strict=True))
    assert held


def test_hooks_on_layers_are_called():
    mixture = options(4, 1, ("sep3x3", "conv1x1"))
    mixture.weights = torch.tensor([0.5, 0.5], dtype=torch.float64)
    layers = [layer for layer in mixture.modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)]
    x = torch.randn(2, 4, 5, 5, dtype=torch.float64).contiguous(memory_format=LAST)
    before = mixture(x)
    called = []
    for layer in layers:
        layer.register_forward_hook(lambda layer, *_: called.append(layer))
    torch.testing.assert_close(mixture(x), before)
    assert sorted(map(id, called)) == sorted(map(id, layers))
    called.clear()
    mixture.eval()(x)
    assert len(called) == len(layers)


def test_the_short_precision_is_computed_the_plain_way():
    mixture = options(4, 1).float()
    mixture.weights = torch.rand(len(MORE), requires_grad=True)
    x = torch.randn(4, 4, 9, 9).contiguous(memory_format=LAST).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (made,) = mixed([mixture], x)
    exact = mixture(x)
    torch.testing.assert_close(made.float(), exact, atol=0.3, rtol=0.1)
    for slope in torch.autograd.grad(made.float().square().sum(), [x, mixture.weights, *mixture.parameters()]):
        assert slope.isfinite().all()


def test_a_dilated_depthwise_convolution_that_strides_as_far_reads_every_so_many_pixels():
    layer = DilatedDepthwise(2, 5, stride=2, dilation=2)
    x = torch.randn(2, 2, 7, 8).contiguous(memory_format=LAST)
    plain = nn.Conv2d.forward(layer, x)
    torch.testing.assert_close(layer(x), plain)
    torch.testing.assert_close(layer.eval()(x), plain)

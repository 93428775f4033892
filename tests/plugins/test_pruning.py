"""Channel pruning by rules: what goes, how much, and what is trained in between."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from torch import nn

from automl import BadInput, Compressor
from automl.compressor import Compressed
from automl.measure import multiply_adds, parameters
from automl_compressors.budget import Budget, Steps
from automl_compressors.channels import Channels
from automl_compressors.criteria import scores
from automl_compressors.pruning import Pruning
from automl_compressors.selection import best, greedy
from automl_tasks.synthetic import Synthetic
from given import Given, Lending, plain, residual, without_norm


def task():
    made = Synthetic(count=60, size=8, channels=3, labels=4, batch_size=16)
    made.prepare(0)
    return made


def compressed(network, compressor):
    space = Compressed(Given(network), compressor)
    space.check(task())
    return space


def finished(network, compressor, values=None, training=None):
    space = compressed(network, compressor)
    rng = random.Random(0)
    architecture = space.complete(values, rng) if values else space.sample(rng)
    return space.finish(copy.deepcopy(network), architecture.blueprint, training or Lending(task())), architecture


@pytest.mark.parametrize("budget", [0.25, 0.5, 0.8])
@pytest.mark.parametrize("resource", ["multiply_adds", "parameters"])
@pytest.mark.parametrize("make", [plain, residual])
def test_what_is_left_is_the_widest_alike_that_keeps_to_the_budget(make, resource, budget):
    network = make()
    smaller, _ = finished(network, Pruning(budget=budget, resource=resource))
    count = {"multiply_adds": lambda one: multiply_adds(one, (3, 8, 8)), "parameters": parameters}[resource]
    assert count(smaller) <= budget * count(network)
    channels = Channels.of(network, (3, 8, 8))
    widths = {name: len_of(smaller, name) for name in channels.groups}
    wider = {name: min(width + 1, channels.groups[name].units) for name, width in widths.items()}
    assert channels.cost(wider, resource) > budget * count(network)


def len_of(network, name):
    return network.get_parameter(f"{name}.weight").shape[0]


def test_a_share_of_one_is_the_network():
    network = plain()
    smaller, _ = finished(network, Pruning(keep=1.0, budget=None, recalibrate=0))
    images = torch.rand(4, 3, 8, 8)
    assert torch.equal(smaller.eval()(images), network.eval()(images))


def test_pruning_again_by_what_is_met_changes_nothing():
    once, _ = finished(plain(), Pruning(budget=0.5))
    twice, _ = finished(once, Pruning(budget=1.0, recalibrate=0))
    images = torch.rand(4, 3, 8, 8)
    assert torch.equal(twice.eval()(images), once.eval()(images))


def test_l1_sums_the_absolute_weights_of_a_filter():
    network = plain()
    found = scores(network, Channels.of(network, (3, 8, 8)), "l1", None, 1)
    for name, score in found.items():
        weight = network.get_parameter(f"{name}.weight").detach().double()
        torch.testing.assert_close(score, weight.abs().sum((1, 2, 3)))


def test_what_an_addition_joins_is_scored_by_the_sum():
    network = residual()
    channels = Channels.of(network, (3, 8, 8))
    joined = next(group for group in channels.groups.values() if len(group.layers) > 1)
    weights = [network.get_parameter(f"{layer}.weight").detach().double() for layer in joined.layers]
    expected = sum(weight.abs().sum((1, 2, 3)) for weight in weights)
    torch.testing.assert_close(scores(network, channels, "l1", None, 1)[joined.name], expected)


@pytest.mark.parametrize("criterion", ["l1", "l2", "bn_scale"])
def test_scores_follow_the_weights_scale_and_order(criterion):
    network = plain()
    channels = Channels.of(network, (3, 8, 8))
    before = scores(network, channels, criterion, None, 1)
    with torch.no_grad():
        network[0].weight.mul_(2)
        network[1].weight.mul_(2)
    after = scores(network, channels, criterion, None, 1)
    torch.testing.assert_close(after["0"], 2 * before["0"])
    order = torch.randperm(len(before["0"]))
    with torch.no_grad():
        for tensor in (network[0].weight, network[1].weight):
            tensor.copy_(tensor[order])
    torch.testing.assert_close(scores(network, channels, criterion, None, 1)["0"], after["0"][order])


def test_a_filter_of_zeros_goes_first():
    network = plain()
    with torch.no_grad():
        network[0].weight[5] = 0
    channels = Channels.of(network, (3, 8, 8))
    kept = best(scores(network, channels, "l1", None, 1), {"0": channels.groups["0"].units - 1})
    assert 5 not in kept["0"]


def norms_left(network, channels, kept):
    """Return by group the l1 norms of the filters that stay, without the inputs that went."""
    found = scores(channels.zeroed(network, kept), channels, "l1", None, 1)
    return {name: found[name][units].sum() for name, units in kept.items()}


def test_a_greedy_choice_looks_only_at_inputs_that_are_left():
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, 9.0])[:, None, None, None])
        network[2].weight.copy_(torch.tensor([[9.0, 1.0], [1.0, 2.0]])[:, :, None, None])
    channels = Channels.of(network, (3, 8, 8))
    widths = {"0": 1, "2": 1}
    assert best(scores(network, channels, "l1", None, 1), widths) == {"0": [1], "2": [0]}
    assert greedy(network, channels, widths) == {"0": [1], "2": [1]}
    smaller, _ = finished(network, Pruning(keep=0.5, budget=None, greedy=True))
    assert smaller[2].weight.flatten().tolist() == [2.0]


@pytest.mark.parametrize("make", [plain, residual])
def test_greedy_norms_of_what_is_left_are_at_most_the_independent_ones(make):
    network = make()
    channels = Channels.of(network, (3, 8, 8))
    alone = scores(network, channels, "l1", None, 1)
    for seed in range(5):
        rng = random.Random(seed)
        widths = {name: rng.randint(1, group.units) for name, group in channels.groups.items()}
        independent, chosen = best(alone, widths), greedy(network, channels, widths)
        left = norms_left(network, channels, chosen)
        assert all(left[name] <= alone[name][units].sum() * (1 + 1e-6) for name, units in independent.items())
        first, second = list(channels.groups)[:2]
        assert chosen[first] == independent[first]
        assert left[second] >= norms_left(network, channels, independent)[second] * (1 - 1e-6)


def test_greedy_keeps_to_the_widths_that_were_decided():
    network = residual()
    smaller, architecture = finished(network, Pruning(greedy=True, across="layers", budget=0.5))
    widths = dict(architecture.blueprint.plan.widths)
    assert {name: len_of(smaller, name) for name in widths} == widths
    whole, _ = finished(network, Pruning(greedy=True, keep=1.0, budget=None, recalibrate=0))
    images = torch.rand(4, 3, 8, 8)
    assert torch.equal(whole.eval()(images), network.eval()(images))


def test_taylor_is_the_gradient_of_a_gate_for_each_image():
    network = plain().eval()
    training = Lending(task())
    channels = Channels.of(network, (3, 8, 8))
    found = scores(network, channels, "taylor", training, 2)
    total, images_seen = torch.zeros(channels.groups["0"].units, dtype=torch.float64), 0
    for images, labels in training.batches(2):
        for image, label in zip(images, labels, strict=True):
            gate = torch.ones(1, len(total), 1, 1, requires_grad=True)
            hidden = network[2](network[1](network[0](image[None])) * gate)
            loss = nn.functional.cross_entropy(network[3:](hidden), label[None])
            (slope,) = torch.autograd.grad(loss, gate)
            positions = hidden.shape[2] * hidden.shape[3]
            total += slope.flatten().abs().double() / positions
            images_seen += 1
    torch.testing.assert_close(found["0"], total / images_seen, rtol=1e-4, atol=1e-9)


def test_taylor_is_the_oracle_where_the_loss_is_linear():
    network = nn.Sequential(nn.Conv2d(3, 6, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    training = Lending(task(), loss=lambda outputs, labels: outputs.gather(1, labels[:, None]).mean())
    channels = Channels.of(network, (3, 8, 8))
    found = scores(network, channels, "taylor", training, 1)["0"]
    images, labels = next(training.batches(1))
    for unit in range(6):
        without = copy.deepcopy(network)
        with torch.no_grad():
            without[0].weight[unit] = 0
            change = (without(images) - network(images)).gather(1, labels[:, None]).abs().mean() / (8 * 8)
        assert found[unit].item() == pytest.approx(change.item(), rel=1e-4)


def test_taylor_of_weights_is_the_square_of_weight_times_gradient():
    network = plain().eval()
    training = Lending(task())
    found = scores(network, Channels.of(network, (3, 8, 8)), "taylor_weight", training, 1)["0"]
    images, labels = next(training.batches(1))
    (slope,) = torch.autograd.grad(nn.functional.cross_entropy(network(images), labels), network[0].weight)
    torch.testing.assert_close(found, (network[0].weight * slope).sum((1, 2, 3)).double().square(), rtol=1e-4, atol=0)


def test_global_slimming_removes_the_share_to_one_channel():
    network = plain()
    torch.manual_seed(1)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(torch.rand_like(module.weight))
    smaller, _ = finished(network, Pruning("bn_scale", across="global", keep=0.6, budget=None))
    scales = torch.cat([module.weight for module in network.modules() if isinstance(module, nn.BatchNorm2d)])
    left = torch.cat([module.weight for module in smaller.modules() if isinstance(module, nn.BatchNorm2d)])
    assert abs(len(left) - 0.6 * len(scales)) <= 1
    assert left.min() > scales.sort().values[len(scales) - len(left) - 1]


def test_a_ranking_goes_on_until_the_budget_is_met():
    network = plain()
    smaller, _ = finished(network, Pruning(across="global", budget=0.3))
    assert multiply_adds(smaller, (3, 8, 8)) <= 0.3 * multiply_adds(network, (3, 8, 8))


def test_the_penalty_adds_the_sign_of_every_scale_to_its_gradient():
    seen = []

    class Watching(Lending):
        def train(self, network, epochs, *, rate=1.0, loss=None, before_step=None):
            for parameter in network.parameters():
                parameter.grad = torch.zeros_like(parameter)
            before_step(network)
            seen.append((epochs, network[1].weight.grad.clone(), network[0].weight.grad.clone()))

    network = plain()
    with torch.no_grad():
        network[1].weight[0] = -0.5
    finished(network, Pruning("bn_scale", penalty=1e-3, sparse_epochs=2), training=Watching(task()))
    ((epochs, scales, weights),) = seen
    assert epochs == 2
    assert scales.tolist() == pytest.approx([-1e-3, *[1e-3] * (len(scales) - 1)])
    assert not weights.any()


def test_each_layers_share_is_a_decision_that_the_budget_narrows():
    network = plain()
    space = compressed(network, Pruning(across="layers", budget=0.4))
    whole = multiply_adds(network, (3, 8, 8))
    rng = random.Random(0)
    for _ in range(50):
        architecture = space.sample(rng)
        assert list(architecture.values) == ["keep.0", "keep.3", "keep.6"]
        assert multiply_adds(space.build(architecture.blueprint, task()), (3, 8, 8)) <= 0.4 * whole


def test_widths_are_rounded_and_whole_layers_stay():
    network = plain()
    smaller, _ = finished(network, Pruning(budget=0.6, round_to=4, whole=("3",)))
    assert len_of(smaller, "3") == len_of(network, "3")
    assert len_of(smaller, "0") % 4 == 0


def test_what_is_loaded_again_has_the_same_shape():
    network = residual()
    space = compressed(network, Pruning(across="global", budget=0.5))
    architecture = space.sample(random.Random(0))
    smaller = space.finish(copy.deepcopy(network), architecture.blueprint, Lending(task()))
    again = space.rebuild(architecture.blueprint, task(), smaller.automl_form)
    again.load_state_dict(smaller.state_dict())
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(again.eval()(images), smaller.eval()(images))


@pytest.mark.parametrize(
    ("compressor", "network", "sentence"),
    [
        (
            lambda: Pruning(budget=0.0001),
            plain,
            r"compressor.budget=0.0001 .* cannot be met: the narrowest .* has 0\.\d+",
        ),
        (lambda: Pruning(whole=("conv1",)), plain, "compressor.whole names 'conv1', which is no layer of the network"),
        (lambda: Pruning("bn_scale"), without_norm, "looks at the scales of batch normalisation, and '0' has none"),
        (lambda: Pruning(keep=None, budget=None), plain, "compressor.keep and compressor.budget are both null"),
        (lambda: Pruning(keep=(0.9, 0.3)), plain, r"compressor.keep=\[0.9, 0.3\] holds nothing"),
        (lambda: Pruning(greedy=True, criterion="l2"), plain, "compressor.greedy=true is of criterion l1, not of l2"),
        (
            lambda: Pruning(greedy=True, across="global"),
            plain,
            "greedy=true scores layer after layer, and .*global",
        ),
        (lambda: Pruning(penalty=1e-4), without_norm, "has no batch normalisation with scales"),
        (
            Pruning,
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 4)),
            "none of the network's channels can be removed",
        ),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(compressor, network, sentence):
    with pytest.raises(BadInput, match=sentence):
        finished(network(), compressor())


def test_steps_are_multiples_and_all():
    assert Steps(10, 1, 4).all() == [4, 8, 10]
    assert Steps(10, 2, 4).all() == [2, 4, 6, 8, 10]
    assert Steps(10, 1, 1, 0.5).all() == [5, 6, 7, 8, 9, 10]
    assert Steps(3, 1, 8).all() == [3]
    assert Steps(10, 1, 4).at(0.79) == 4
    assert Steps(10, 1, 4).at(0.8) == 8
    assert Steps(10, 1, 4).at(0.01) == 4


def test_the_widest_is_the_widest_that_leaves_the_others_room():
    budget = Budget(
        lambda widths: widths.get("a", 10) * widths.get("b", 10), 100, 0.5, {"a": 2, "b": 2}, "multiply-adds"
    )
    assert budget.widest("a", {}, list(range(2, 11))) == 10
    assert budget.widest("b", {"a": 10}, list(range(2, 11))) == 5
    assert budget.widest("b", {"a": 9}, [2, 4, 6, 8, 10]) == 4


def test_a_network_that_is_slower_the_narrower_it_is_is_refused():
    with pytest.raises(BadInput, match=r"the narrowest network that the settings allow has no fewer than the whole"):
        Budget(lambda widths: 9.0 if widths else 8.0, 8.0, 0.9, {"a": 1}, "milliseconds")
    assert Budget(lambda widths: 9.0 if widths else 8.0, 8.0, 1.0, {"a": 1}, "milliseconds").most == float("inf")


def test_compressors_are_told_apart_by_their_settings():
    assert isinstance(Pruning(), Compressor)
    assert Pruning() == Pruning("l1")
    assert Pruning() != Pruning("l2")

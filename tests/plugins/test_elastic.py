"""Elastic shared weights: kernels and widths that are windows of the largest."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from automl import Objective, Op, Space, Study
from automl.checkpoint import Checkpoint
from automl.journal import Journal
from automl.mixture import Mixture
from automl.sharing import ElasticWeights, family, places, window
from automl.snapshots import Snapshots
from automl.testing import check_evaluator, story
from automl_evaluators.batches import seed_of
from automl_evaluators.expected_cost import option_costs
from automl_evaluators.learner import drawing, seed_all
from automl_evaluators.supernet import Supernet
from automl_networks.zoo.mobilenet_v2 import MobileNetV2
from automl_spaces.chain import Chain
from automl_spaces.nasbench201 import NASBench201
from automl_strategies.darts import DARTS
from automl_strategies.pc_darts import PCDARTS
from automl_strategies.reinforce import Reinforce
from automl_tasks.synthetic import Synthetic

STILL = {"momentum": 0.0, "weight_decay": 0.0, "clip": None}  # what has no gradient does not move


@pytest.fixture(scope="module")
def task():
    task = Synthetic(count=80, batch_size=8)
    task.prepare(0)
    return task


class Sizes(Space):
    """A convolution, a depthwise one and a linear layer, whose widths and kernel are decisions."""

    def describe(self, choose):
        return choose("first", (4, 6, 8)), choose("last", (4, 6, 8)), choose("kernel", (3, 5, 7))

    def build(self, blueprint, task):
        first, last, kernel = blueprint
        return nn.Sequential(
            nn.Conv2d(task.input[0], first, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.Conv2d(first, first, kernel, padding=kernel // 2, groups=first),
            nn.Conv2d(first, last, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(last, task.outputs),
        )


class Kernels(Space):
    """Two decisions between convolutions that differ in their kernels."""

    def describe(self, choose):
        def convolution(kernel):
            return nn.Sequential(nn.Conv2d(1, 3, kernel, padding=kernel // 2), nn.Tanh())

        ops = tuple(Op(f"conv{k}x{k}", lambda k=k: convolution(k)) for k in (3, 5))
        return choose("a", ops), choose("b", ops)

    def build(self, blueprint, task):
        class Sum(nn.Module):
            def __init__(self):
                super().__init__()
                self.parts = nn.ModuleList([op() for op in blueprint])
                self.last = nn.Linear(3, task.outputs)

            def forward(self, x):
                return self.last(sum(part(x) for part in self.parts).mean((2, 3)))

        return Sum()


def started(space, task, elastic=True, **settings):
    evaluator = Supernet(accelerator="cpu", elastic=elastic, **settings)
    evaluator.objectives = (Objective("accuracy"),)
    evaluator.start(space, task)
    return evaluator


def engine_of(space, task, **settings):
    return started(space, task, **settings)._started(0)


def sized(first, last, kernel):
    return Sizes().read({"first": first, "last": last, "kernel": kernel})


def chained(*names, **settings):
    """Return the chain of one stage with layers of these names."""
    space = Chain(stages=1, depth=len(names), least=len(names), channels=4, **settings)
    return space.read({f"stage0.layer{place}.op": name for place, name in enumerate(names)})


def seen(network):
    """Return a network's parameters by their keys."""
    return {place.key: place.owner._parameters[place.attribute] for place in places(network, elastic=True)}


def soft(space, strategy=None):
    strategy = strategy or DARTS(deviation=0.5)
    strategy.start(space, random.Random(0))
    return strategy.ask().architecture


def copied(tensors):
    return {key: tensor.detach().clone() for key, tensor in tensors.items()}


# windows


def test_a_window_is_the_leading_channels_and_the_middle_of_the_kernel():
    whole = torch.arange(4 * 3 * 5 * 7.0).view(4, 3, 5, 7)
    part = window(whole, (2, 3, 3, 1))
    assert torch.equal(part, whole[:2, :, 1:4, 3:4])
    assert part.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
    assert torch.equal(window(whole[0, 0], (2, 3)), whole[0, 0, :2, :3])
    assert window(whole, whole.shape) is not whole  # each place has a tensor of its own, to be counted by


def test_operations_of_a_family_differ_in_their_kernel_and_a_number_before_it():
    for one, other in (
        ("sep3x3", "sep7x7"),
        ("mbconv3_3x3", "mbconv6_5x5"),
        ("nor_conv_1x1", "nor_conv_3x3"),
        ("conv1x3_3x1", "conv1x7_7x1"),
    ):
        assert family(one) == family(other)
    for one, other in (
        ("mbconv6_3x3", "mbconv6_3x3_se"),
        ("conv3x3", "conv1x3_3x1"),
        ("grouped3x3_g2", "grouped3x3_g4"),
        ("igcv2", "igcv3"),
        ("esp_k4", "esp_k5"),
        ("sep3x3", "dilsep3x3"),
    ):
        assert family(one) != family(other)


def test_elastic_keys_hold_of_the_shape_what_windows_have_in_common():
    class Layers(nn.Module):
        def __init__(self):
            super().__init__()
            op = Op("sep3x3", lambda: nn.Conv2d(2, 4, 3, groups=2, bias=False)).chosen_by("cell.op")
            self.stem = nn.Conv2d(1, 2, (3, 4))
            self.cells = nn.ModuleList([op(), op()])
            self.shift = nn.ParameterList([nn.Parameter(torch.zeros(1, 4, 5))])
            self.last = nn.Linear(2, 3)

    assert [place.key for place in places(Layers(), elastic=True)] == [
        "/stem.weight/nxnxoddxeven",
        "/stem.bias/n",
        "cell.op/sepk/0/weight/2nx1xoddxodd",
        "cell.op/sepk/1/weight/2nx1xoddxodd",
        "/shift.0/1x4x5",
        "/last.weight/nxn",
        "/last.bias/n",
    ]


@pytest.mark.parametrize("channels_last", [False, True])
def test_parameters_of_every_network_are_windows_of_the_largest(task, channels_last):
    space, rng = Sizes(), random.Random(0)
    engine = engine_of(space, task, affine=True, channels_last=channels_last)
    architectures = [space.sample(rng) for _ in range(12)]
    for architecture in architectures:
        engine.network(architecture)
    tensors = engine.shared.tensors
    assert len(tensors) == 9
    assert tensors["/0.weight/nxnxoddxodd"].shape == (8, 1, 7, 7)
    assert tensors["/3.weight/1nx1xoddxodd"].shape == (8, 1, 7, 7)
    assert tensors["/4.weight/nxnxoddxodd"].shape == (8, 8, 1, 1)
    assert tensors["/7.weight/nxn"].shape == (3, 8)
    for architecture in architectures:
        network = engine.network(architecture)
        alone = space.build(architecture.blueprint, task)
        assert {name: tensor.shape for name, tensor in network.state_dict().items()} == {
            name: tensor.shape for name, tensor in alone.state_dict().items()
        }
        for key, parameter in seen(network).items():
            assert torch.equal(parameter, window(tensors[key], parameter.shape))
            assert parameter.untyped_storage().data_ptr() == tensors[key].untyped_storage().data_ptr()
        assert {id(tensor) for tensor in engine.shared.parameters_of(network)} == {id(one) for one in tensors.values()}
        alone.load_state_dict(copied(network.state_dict()))
        images = torch.rand(4, *task.input)
        torch.testing.assert_close(network.eval()(images), alone.eval()(images), atol=1e-5, rtol=1e-5)


def test_the_gradient_of_a_small_network_reaches_its_window_alone(task):
    engine = engine_of(Sizes(), task, affine=True, **STILL)
    small, _ = engine.network(sized(4, 6, 3)), engine.network(sized(8, 8, 7))
    before = copied(engine.shared.tensors)
    engine.train_on([small])
    for key, parameter in seen(small).items():
        tensor, old = engine.shared.tensors[key], before[key]
        assert not torch.equal(parameter, window(old, parameter.shape)), key
        window(old, parameter.shape).copy_(parameter.detach())
        assert torch.equal(tensor, old), key


def test_networks_trained_in_one_step_may_be_the_first_to_ask_for_more(task):
    engine = engine_of(Sizes(), task, **STILL)
    networks = [engine.network(sized(*sizes)) for sizes in ((4, 4, 3), (8, 6, 5), (6, 8, 7))]
    before = copied(engine.shared.tensors)
    engine.train_on(networks)
    weight, old = engine.shared.tensors["/0.weight/nxnxoddxodd"], before["/0.weight/nxnxoddxodd"]
    moved = weight != old
    reached = torch.zeros_like(moved)
    for shape in ((4, 1, 3, 3), (8, 1, 5, 5), (6, 1, 7, 7)):
        window(reached, shape).fill_(True)
    assert not moved[~reached].any()
    assert moved[reached].float().mean() > 0.99


def test_training_only_thought_of_freezes_and_restores_what_wants_a_gradient(task):
    space = Kernels()
    engine = engine_of(space, task)
    architecture = soft(space)
    network, leaves = engine.network(architecture), engine.leaves(architecture)
    with engine._running([network], leaves, "look", 0), engine.shared.frozen(network):
        assert not any(parameter.requires_grad for parameter in network.parameters())
        outputs = engine._outputs(network, torch.rand(4, *task.input))
    assert all(parameter.requires_grad for parameter in network.parameters())
    outputs.sum().backward()
    assert all(leaf.grad is not None for leaf in leaves.values())
    assert all(tensor.grad is None for tensor in engine.shared.tensors.values())


# growing


def test_what_grows_keeps_the_old_part_and_the_place_of_its_tensor_bit_for_bit(task):
    engine = engine_of(Sizes(), task, affine=True)
    small = engine.network(sized(4, 4, 3))
    for _ in range(3):
        engine.train_on([small])
    before = copied(engine.shared.tensors)
    momenta = {
        key: engine.optimizer.state[tensor]["momentum_buffer"].clone() for key, tensor in engine.shared.tensors.items()
    }
    engine.network(sized(8, 6, 5))
    engine.network(sized(6, 8, 7))
    grown = [key for key, tensor in engine.shared.tensors.items() if tensor.shape != before[key].shape]
    assert len(grown) == 8  # all but the bias of the linear layer
    for key, tensor in engine.shared.tensors.items():
        past = engine.optimizer.state[tensor]["momentum_buffer"]
        assert past.shape == tensor.shape
        assert torch.equal(window(tensor, before[key].shape), before[key])
        assert torch.equal(window(past, before[key].shape), momenta[key])
        assert past.count_nonzero() == momenta[key].count_nonzero()
    first, *others = engine.optimizer.param_groups[0]["params"]
    assert first.numel() == 0
    assert [id(tensor) for tensor in others] == [id(tensor) for tensor in engine.shared.tensors.values()]
    assert engine.optimizer.state.keys() <= {first, *others}


def test_networks_built_before_tensors_grew_are_trained_through_the_larger_ones(task):
    engine = engine_of(Sizes(), task)
    small = engine.network(sized(4, 4, 3))
    engine.train_on([small])
    before = copied(seen(small))
    large = engine.network(sized(8, 8, 7))
    engine.train_on([large, small])
    key = "/3.weight/1nx1xoddxodd"
    assert torch.equal(seen(small)[key], seen(large)[key][:4, :, 2:5, 2:5])
    assert not torch.equal(seen(small)[key], before[key])


def test_the_new_part_is_distributed_as_the_network_draws_its_own():
    def layers(inputs, outputs):
        network = nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs))
        nn.init.constant_(network[0].bias, 0.5)
        return network

    shared = ElasticWeights()
    assert len(shared.adopt(layers(4, 64))) == 4
    other = layers(64, 4)
    own = other[0].weight.detach().clone()
    assert shared.adopt(other, torch.Generator().manual_seed(0)) == []
    weight = shared.tensors["/0.weight/nxn"]
    assert weight.shape == (64, 64)
    assert torch.equal(weight[:4, 4:], own[:, 4:])
    drawn = weight[4:, 4:]
    assert torch.isin(drawn, own).all()
    assert drawn.unique().numel() > 200
    assert torch.equal(shared.tensors["/0.bias/n"], torch.full((64,), 0.5))
    assert torch.equal(shared.tensors["/1.weight/n"], torch.ones(64))


def test_growth_is_drawn_by_the_seed_and_by_what_was_drawn_before(task):
    first, same, other = (started(Sizes(), task)._started(seed) for seed in (0, 0, 1))
    for engine in (first, same, other):
        engine.network(sized(8, 4, 3))
        engine.network(sized(4, 8, 5))
    key = "/4.weight/nxnxoddxodd"
    assert torch.equal(first.shared.tensors[key], same.shared.tensors[key])
    assert not torch.equal(first.shared.tensors[key][4:, 4:], other.shared.tensors[key][4:, 4:])


# operations


def test_layers_of_a_chain_share_across_kernels_and_expansions(task):
    space = Chain(stages=1, depth=2, least=2, channels=4)
    engine = engine_of(space, task, affine=True)
    small = seen(engine.network(chained("mbconv3_3x3", "sep3x3")))
    large = seen(engine.network(chained("mbconv6_5x5", "sep3x3")))
    assert small.keys() == large.keys()
    depthwise = "stage0.layer0.op/mbconvk/0/branch.1.0.weight/1nx1xoddxodd"
    assert (small[depthwise].shape, large[depthwise].shape) == ((12, 1, 3, 3), (24, 1, 5, 5))
    small = seen(engine.network(chained("mbconv3_3x3", "sep3x3")))
    assert torch.equal(small[depthwise], large[depthwise][:12, :, 1:4, 1:4])
    count = len(engine.shared.tensors)
    engine.network(chained("mbconv6_3x3", "sep3x3"))
    assert len(engine.shared.tensors) == count
    assert engine.shared.drawn == sum(tensor.numel() for tensor in large.values())
    fixed = engine_of(space, task, elastic=False, affine=True)
    for names in (("mbconv3_3x3", "sep3x3"), ("mbconv6_5x5", "sep3x3")):
        fixed.network(chained(*names))
    assert len(fixed.shared.tensors) > count


def test_an_operation_without_its_first_layer_shares_no_convolution_that_is_another(task):
    operations = ("mbconv1_3x3", "mbconv3_3x3")
    space = Chain(stages=1, depth=1, channels=4, operations=operations)
    engine = engine_of(space, task)
    networks = [engine.network(chained(name, operations=operations)) for name in operations]
    first, other = ({key for key in seen(network) if key.startswith("stage0")} for network in networks)
    assert not first & other


def test_groups_of_different_width_share_nothing_and_of_one_width_the_leading_ones():
    shared = ElasticWeights()
    for groups, channels in ((2, 8), (4, 8), (8, 16)):
        shared.adopt(nn.Sequential(nn.Conv2d(channels, channels, 3, groups=groups, bias=False)))
    assert {key: tuple(tensor.shape) for key, tensor in shared.tensors.items()} == {
        "/0.weight/4nx4xoddxodd": (8, 4, 3, 3),
        "/0.weight/2nx2xoddxodd": (16, 2, 3, 3),
    }


@pytest.mark.parametrize(
    "space", [NASBench201(cells=1, channels=4), Chain(stages=2, depth=1, channels=4)], ids=["nasbench201", "chain"]
)
def test_one_hot_weights_are_the_network_of_these_choices_alone(space, task):
    engine = engine_of(space, task)
    architecture = soft(space)
    child = space.read(architecture.to_json())
    alone = engine.network(child).eval()
    whole = engine.network(architecture).eval()
    alone = engine.network(child).eval()
    images = torch.rand(4, *task.input)
    for module in whole.modules():
        if isinstance(module, Mixture):
            options = [option.automl_choice[1] for option in module.options]
            module.weights = torch.tensor([float(name == child.values[module.decision].name) for name in options])
    torch.testing.assert_close(whole(images), alone(images), atol=1e-5, rtol=1e-5)


def test_a_part_of_the_channels_is_a_window_of_what_the_derived_network_has(task):
    space = Chain(stages=1, depth=1, channels=8, operations=("sep3x3", "sep5x5"))
    engine = engine_of(space, task)
    parts = engine.network(soft(space, PCDARTS(channels=4)))
    assert any(module.share == 4 for module in parts.modules() if isinstance(module, Mixture))
    count = len(engine.shared.tensors)
    derived = engine.network(space.read({"stage0.layer0.op": "sep5x5"}))
    assert len(engine.shared.tensors) == count
    whole = seen(derived)["stage0.layer0.op/sepk/0/1.weight/nxnxoddxodd"]
    assert whole.shape == (8, 8, 1, 1)
    assert engine.shared.tensors["stage0.layer0.op/sepk/0/1.weight/nxnxoddxodd"].shape == whole.shape


def test_the_expected_cost_of_one_hot_weights_is_that_of_the_network(task):
    from automl import measure

    space = NASBench201(cells=1, channels=4)
    engine = engine_of(space, task, affine=True)
    architecture = soft(space)
    fixed, options = option_costs(engine.network(architecture), engine.leaves(architecture), task.input)
    for number in range(3):
        child = space.sample(random.Random(number))
        network = space.build(child.blueprint, task)
        for cost, counted in (
            ("parameters", measure.parameters(network)),
            ("multiply_adds", measure.multiply_adds(network, task.input)),
        ):
            expected = fixed[cost] + sum(
                options[name][cost][child.domains[name].options.index(value)] for name, value in child.values.items()
            )
            assert expected == counted


def test_the_second_order_is_the_exact_one_to_the_precision_of_differences(task):
    space = Kernels()
    engine = engine_of(space, task, learning_rate=0.5, decay=10**6, clip=None)
    architecture = soft(space)
    network = engine.network(architecture)
    for _ in range(2):  # so that there is momentum
        engine.train_on([network], {name: leaf.detach() for name, leaf in engine.leaves(architecture).items()})
    in_double_precision(engine)
    leaves = {name: leaf.detach().double().requires_grad_() for name, leaf in engine.leaves(architecture).items()}
    exact = unrolled(engine, network, leaves)
    before = copied(engine.shared.tensors)
    looks = engine.looks
    _, second = engine.gradients(network, leaves, "second")
    engine.looks = looks
    _, first = engine.gradients(network, leaves, "first")
    for name, one in zip(leaves, exact, strict=True):
        torch.testing.assert_close(second[name], one, rtol=1e-4, atol=1e-9)
        assert not torch.allclose(first[name], one, rtol=1e-3)
    assert all(torch.equal(tensor, before[key]) for key, tensor in engine.shared.tensors.items())


def in_double_precision(engine):
    state = engine.state()
    engine.restore(Checkpoint({name: tensor.detach().double() for name, tensor in state.tensors.items()}, state.facts))
    engine.task, batch = _Doubled(engine.task), engine._batch
    engine._batch = lambda *place: (lambda images, labels: (images.double(), labels))(*batch(*place))


class _Doubled:
    """A task whose losses are in double precision."""

    def __init__(self, task):
        self._task = task

    def __getattr__(self, name):
        return getattr(self._task, name)

    def loss(self, outputs, labels, smoothing=0.0):
        return nn.functional.cross_entropy(outputs, labels)


def unrolled(engine, network, leaves):
    """Return the gradient of the second order by differentiating through a step of the whole tensors."""
    engine.shared.refresh(network)
    names = {(place.owner, place.attribute): place.key for place in places(network, elastic=True)}
    by_name = {
        f"{path}.{attribute}": names[module, attribute]
        for path, module in network.named_modules()
        for attribute in module._parameters
    }
    shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
    tensors = {key: engine.shared.tensors[key] for key in by_name.values()}

    def loss(tensors, images, labels):
        given = {name: window(tensors[key], shapes[name]) for name, key in by_name.items()}
        return engine.task.loss(torch.func.functional_call(network, given, (images,)), labels)

    for module in network.modules():
        if isinstance(module, Mixture):
            module.weights = leaves[module.decision]
    rate, decay = engine.schedule.rate(engine.step), engine.schedule.weight_decay
    trained_on = engine._batch(engine.train, engine.step)
    slopes = torch.autograd.grad(loss(tensors, *trained_on), list(tensors.values()), create_graph=True)
    moved = {
        key: tensor
        - rate * (slope + decay * tensor + engine.schedule.momentum * engine.optimizer.state[tensor]["momentum_buffer"])
        for (key, tensor), slope in zip(tensors.items(), slopes, strict=True)
    }
    outer = loss(moved, *engine._batch(engine.choices, engine.looks, "choices"))
    return torch.autograd.grad(outer, list(leaves.values()))


# as a search meets it


@pytest.mark.parametrize("space", [Sizes(), Chain(stages=1, depth=2, channels=4)], ids=["sizes", "chain"])
def test_it_keeps_the_contract_of_evaluators(space, task):
    check_evaluator(lambda: Supernet(accelerator="cpu", elastic=True, scored=8), space, task)


def test_statistics_of_batch_normalisation_are_each_networks_own(task):
    engine = engine_of(Sizes(), task)
    small, large = engine.network(sized(4, 4, 3)), engine.network(sized(8, 4, 3))
    engine.score(large, None, 2, 8, 0)
    mean = large[1].running_mean.clone()
    engine.score(small, None, 2, 8, 0)
    assert small[1].running_mean.shape == (4,)
    assert torch.equal(large[1].running_mean, mean)
    torch.testing.assert_close(small[1].running_mean, mean[:4])  # of one layer's channels, measured on the same images


def study(folder, space, strategy, task, trials, **settings):
    found = Study(
        space,
        strategy,
        Supernet(accelerator="cpu", elastic=True, affine=True, probe=3, scored=8, **settings),
        task,
        trials=trials,
        journal=Journal(folder / "journal.jsonl", {}),
        snapshots=Snapshots(folder / "snapshots", 0.0),
    )
    found.run()
    return found


@pytest.mark.parametrize(
    ("space", "make"),
    [
        (Sizes(), lambda: Reinforce(batch=3)),
        (Chain(stages=2, depth=2, channels=4, operations=("sep3x3", "sep5x5")), lambda: DARTS(order="second")),
    ],
    ids=["enas", "darts"],
)
def test_a_search_goes_on_as_if_it_had_not_stopped(space, make, task, tmp_path):
    folders = tmp_path / "whole", tmp_path / "resumed"
    for folder in folders:
        folder.mkdir()
    whole = study(folders[0], space, make(), task, 4).evaluator._engine
    part = study(folders[1], space, make(), task, 1).evaluator._engine
    resumed = study(folders[1], space, make(), task, 4).evaluator._engine
    assert story(folders[1] / "journal.jsonl") == story(folders[0] / "journal.jsonl")
    assert part.shared.drawn < resumed.shared.drawn  # tensors grew after it had stopped
    assert list(resumed.shared.tensors) == list(whole.shared.tensors)
    for key, tensor in whole.shared.tensors.items():
        mine = resumed.shared.tensors[key]
        assert torch.equal(mine, tensor), key
        assert torch.equal(momentum(resumed, mine), momentum(whole, tensor)), key


def momentum(engine, tensor):
    return engine.optimizer.state[tensor]["momentum_buffer"]


def test_without_it_every_weight_is_drawn_as_ever(task):
    space = MobileNetV2(width=0.1)
    architecture = space.sample(random.Random(0))
    engine = engine_of(space, task, elastic=False, affine=True, channels_last=False)
    network = engine.network(architecture)
    with drawing(torch.device("cpu")):
        seed_all(torch.device("cpu"), seed_of(0, "weights", 0))
        alone = space.build(architecture.blueprint, task)
    for (name, mine), theirs in zip(network.named_parameters(), alone.parameters(), strict=True):
        assert torch.equal(mine, theirs), name
        assert isinstance(mine, nn.Parameter)
    assert [id(one) for one in engine.shared.tensors.values()] == [id(one) for one in network.parameters()]

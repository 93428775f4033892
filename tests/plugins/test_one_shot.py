"""Shared weights for any space, and the strategies that climb the gradients of weighted choices."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

from automl import BadInput, Candidate, Objective, Op, Options, Report, Space, Study, Trial
from automl.cli import main
from automl.decisions import Architecture, Soft
from automl.journal import Journal
from automl.mixture import Mixture
from automl.sharing import SharedWeights, places
from automl.snapshots import Snapshots
from automl.testing import check_evaluator, check_strategy, story
from automl_evaluators.expected_cost import option_costs
from automl_evaluators.paths import fair, halves, kept
from automl_evaluators.supernet import Supernet
from automl_spaces.blockqnn import BlockQNN
from automl_spaces.darts import DARTS as DARTSSpace
from automl_spaces.nasbench101 import NASBench101
from automl_spaces.nasbench201 import NASBench201
from automl_spaces.nasnet import NASNet
from automl_strategies.concrete import gumbel
from automl_strategies.darts import DARTS
from automl_strategies.evolution import Evolution
from automl_strategies.gdas import GDAS
from automl_strategies.gradient import softmax
from automl_strategies.pc_darts import PCDARTS
from automl_strategies.reinforce import Reinforce
from automl_strategies.snas import SNAS
from automl_tasks.synthetic import Synthetic

EIGHT = ("none", "max3x3", "avg3x3", "skip", "sep3x3", "sep5x5", "dilsep3x3", "dilsep5x5")


@pytest.fixture(scope="module")
def task():
    task = Synthetic(count=80, batch_size=8)
    task.prepare(0)
    return task


def small():
    return NASBench201(cells=1, channels=4)


def started(space, task, **settings):
    evaluator = Supernet(accelerator="cpu", **settings)
    evaluator.objectives = (Objective("accuracy"),)
    evaluator.start(space, task)
    return evaluator


def asked(strategy, space, seed=0):
    strategy.start(space, random.Random(seed))
    return strategy, strategy.ask()


def told(strategy, candidate, gradients, metrics=None, number=0):
    trial = Trial(number, candidate, 0)
    trial.reports = [Report(metrics or {"accuracy": 0.5, "loss": 1.0}, gradients=gradients)]
    trial.judge((Objective("accuracy"),))
    strategy.tell(trial)
    return trial


def weights(network):
    return {place.key: place.owner._parameters[place.attribute] for place in places(network)}


@pytest.mark.parametrize("factory", [DARTS, SNAS, GDAS, PCDARTS])
def test_ours_keep_the_contract_of_strategies(factory):
    check_strategy(factory)


@pytest.mark.parametrize("settings", [{}, {"epochs": 1, "batches": 0, "paths": "fair"}], ids=["as it goes", "first"])
def test_ours_keeps_the_contract_of_evaluators(settings, task):
    check_evaluator(lambda: Supernet(accelerator="cpu", scored=8, **settings), small(), task)


# shared weights


def test_networks_share_the_tensors_of_what_they_have_in_common(task):
    space, rng = small(), random.Random(0)
    engine = started(space, task)._started(0)
    one = space.sample(rng)
    other = space.mutate(one, rng)
    (changed,) = [name for name in one.values if one.values[name] != other.values[name]]
    mine, theirs = weights(engine.network(one)), weights(engine.network(other))
    common = mine.keys() & theirs.keys()
    assert common
    assert all(mine[key].data_ptr() == theirs[key].data_ptr() for key in common)
    assert all(key.startswith(f"{changed}/") for key in mine.keys() ^ theirs.keys())


def test_training_a_network_leaves_the_weights_of_others_bit_for_bit(task):
    space, rng = small(), random.Random(1)
    engine = started(space, task)._started(0)
    for _ in range(8):
        engine.network(space.sample(rng))
    architecture = space.read(dict.fromkeys(space.sample(rng).values, "nor_conv_3x3"))
    network = engine.network(architecture)
    before = {key: tensor.detach().clone() for key, tensor in engine.shared.tensors.items()}
    engine.train_on([network])
    used = weights(network).keys()
    for key, tensor in engine.shared.tensors.items():
        assert torch.equal(tensor, before[key]) == (key not in used), key


@pytest.mark.parametrize("make", [small, lambda: DARTSSpace(cells=1, channels=4), lambda: NASNet(2, channels=4)])
def test_a_network_with_the_shared_weights_equals_one_that_stands_alone(make, task):
    space = make()
    engine = started(space, task, affine=True)._started(0)
    architecture = space.sample(random.Random(2))
    shared = engine.network(architecture).eval()
    alone = space.build(architecture.blueprint, task).eval()
    alone.load_state_dict({key: value.clone() for key, value in shared.state_dict().items()})
    images = torch.rand(4, *task.input)
    torch.testing.assert_close(shared(images), alone(images), atol=1e-5, rtol=1e-5)


def relaxed(space, strategy=None):
    return asked(strategy or DARTS(), space)[1].architecture


@pytest.mark.parametrize("make", [small, lambda: DARTSSpace(cells=1, channels=4, operations=EIGHT)])
def test_one_hot_weights_are_the_network_of_these_choices_alone(make, task):
    space = make()
    engine = started(space, task)._started(0)
    soft = relaxed(space)
    whole = engine.network(soft).eval()
    child = space.read(soft.to_json())
    alone = engine.network(child).eval()
    images = torch.rand(4, *task.input)
    for module in whole.modules():
        if isinstance(module, Mixture):
            options = [option.automl_choice[1] for option in module.options]
            chosen = child.values.get(module.decision)
            module.weights = torch.tensor([float(chosen is not None and name == chosen.name) for name in options])
    torch.testing.assert_close(whole(images), alone(images), atol=1e-5, rtol=1e-5)


def test_a_mixture_with_one_weight_is_its_operation():
    options = [Op("wide", lambda: nn.Conv2d(2, 2, 3, padding=1)), Op("pass", nn.Identity)]
    mixture = Mixture("layer", [option.chosen_by("layer") for option in options], 1)
    x = torch.randn(3, 2, 5, 5)
    mixture.weights = torch.tensor([0.0, 1.0])
    assert torch.equal(mixture(x), x)
    mixture.weights = torch.tensor([1.0, 0.0])
    assert torch.equal(mixture(x), mixture.options[0](x))
    mixture.weights = torch.tensor([0.25, 0.5])
    torch.testing.assert_close(mixture(x), 0.25 * mixture.options[0](x) + 0.5 * x)
    mixture.weights = torch.tensor([0.0, 0.0])
    assert torch.equal(mixture(x), torch.zeros_like(x))
    mixture.weights = None
    with pytest.raises(RuntimeError, match="decision 'layer' has no weights"):
        mixture(x)


def test_keys_name_decision_operation_occurrence_and_shape():
    class Layers(nn.Module):
        def __init__(self):
            super().__init__()
            op = Op("conv", lambda: nn.Conv2d(1, 1, 3)).chosen_by("cell.op")
            self.stem = nn.Linear(2, 2)
            self.cells = nn.ModuleList([op(), op()])

    network = Layers()
    assert [place.key for place in places(network)] == [
        "/stem.weight/2x2",
        "/stem.bias/2",
        "cell.op/conv/0/weight/1x1x3x3",
        "cell.op/conv/0/bias/1",
        "cell.op/conv/1/weight/1x1x3x3",
        "cell.op/conv/1/bias/1",
    ]
    shared = SharedWeights()
    assert len(shared.adopt(network)) == 6
    assert shared.adopt(Layers()) == []


def test_the_supernet_of_darts_has_the_published_size():
    class Images:
        input, outputs = (3, 32, 32), 10

    space = DARTSSpace(cells=2, channels=16, operations=EIGHT)
    with torch.device("meta"):
        network = space.build(relaxed(space).blueprint, Images())
    affine = sum(module.weight.numel() * 2 for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    cells = sum(
        module.weight.numel() * 2
        for mixture in network.modules()
        if isinstance(mixture, Mixture)
        for module in mixture.modules()
        if isinstance(module, nn.BatchNorm2d)
    )
    assert affine > cells
    # the release has scale and shift in its stem, and normalises after pools, which has no parameters either
    stem = 2 * network.stem.first[1].weight.numel()
    assert sum(parameter.numel() for parameter in network.parameters()) - affine + stem == 1_930_618


def test_fair_paths_hold_every_option_once():
    space = small()
    drawn = fair(space, random.Random(0))
    assert len(drawn) == 5
    for name in drawn[0].values:
        assert len({architecture.values[name] for architecture in drawn}) == 5


def test_dropping_each_path_drops_all_with_the_rate_asked_for():
    for count, each in ((2, 0.316), (3, 0.464), (4, 0.562), (8, 0.750)):
        rng = random.Random(0)
        drawn = [kept({"edge": [1.0] * count}, 0.1, rng)["edge"] for _ in range(20_000)]
        one = sum(mask[0] == 0 for mask in drawn) / 20_000
        everyone = sum(not any(mask) for mask in drawn) / 20_000
        assert one == pytest.approx(each, abs=3 * math.sqrt(each / 20_000))
        assert everyone == pytest.approx(0.1, abs=3 * math.sqrt(0.1 / 20_000))


@pytest.mark.parametrize("paths", ["uniform", "fair", "dropout"])
def test_weights_are_trained_on_drawn_paths_before_the_first_trial(paths, task):
    space = small()
    evaluator = started(space, task, epochs=2, batches=0, paths=paths, ghosts=2, scored=8)
    candidate = Candidate(space.sample(random.Random(0)))
    first = next(iter(evaluator.evaluate(Trial(0, candidate, 0))))
    engine = evaluator._engine
    assert engine.step == 2 * engine.epoch_length
    before = {key: tensor.detach().clone() for key, tensor in engine.shared.tensors.items()}
    again = next(iter(evaluator.evaluate(Trial(0, candidate, 0))))
    assert first.metrics == again.metrics
    assert all(torch.equal(tensor, before[key]) for key, tensor in engine.shared.tensors.items() if key in before)


def test_the_images_are_parted_without_overlap_and_with_every_class(task):
    first, second = halves(task.train, 0.5)
    assert len(first) + len(second) == len(task.train)
    for part in (first, second):
        assert set(part.labels.tolist()) == set(task.train.labels.tolist())
    assert not {image.tobytes() for image in first.images} & {image.tobytes() for image in second.images}


# gradients


class Toy(Space):
    """Two decisions between two smooth operations."""

    def describe(self, choose):
        ops = (
            Op("tanh", lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh())),
            Op("sig", lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.Sigmoid())),
        )
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


def unrolled(engine, network, leaves):
    """Return the gradient of the second order by differentiating through the step, in exact form."""
    parameters = dict(network.named_parameters())
    images, labels = engine._batch(engine.train, engine.step)
    others, targets = engine._batch(engine.choices, engine.looks, "choices")
    for module in network.modules():
        if isinstance(module, Mixture):
            module.weights = leaves[module.decision]
    loss = engine.task.loss(network(images), labels)
    slopes = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
    rate, decay = engine.schedule.rate(engine.step), engine.schedule.weight_decay
    moved = {
        name: parameter - rate * (slope + decay * parameter)
        for (name, parameter), slope in zip(parameters.items(), slopes, strict=True)
    }
    outputs = torch.func.functional_call(network, moved, (others,))
    return torch.autograd.grad(engine.task.loss(outputs, targets), list(leaves.values()))


def test_the_second_order_is_the_exact_one_to_the_precision_of_differences(task):
    space = Toy()
    engine = started(space, task, learning_rate=0.5, decay=10**6)._started(0)
    architecture = relaxed(space, DARTS(deviation=0.5))
    network = engine.network(architecture).double()
    engine.task, batch = _Doubled(engine.task), engine._batch
    engine._batch = lambda *place: (lambda images, labels: (images.double(), labels))(*batch(*place))
    leaves = {name: leaf.detach().double().requires_grad_() for name, leaf in engine.leaves(architecture).items()}
    exact = unrolled(engine, network, leaves)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    looks = engine.looks
    _, second = engine.gradients(network, leaves, "second")
    engine.looks = looks
    _, first = engine.gradients(network, leaves, "first")
    for name, one in zip(leaves, exact, strict=True):
        torch.testing.assert_close(second[name], one, rtol=1e-4, atol=1e-9)
        assert not torch.allclose(first[name], one, rtol=1e-3)
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter, before[name])  # restored, not added and subtracted


class _Doubled:
    """A task whose losses are in double precision."""

    def __init__(self, task):
        self._task = task

    def __getattr__(self, name):
        return getattr(self._task, name)

    def loss(self, outputs, labels, smoothing=0.0):
        return nn.functional.cross_entropy(outputs, labels)


def test_without_a_step_both_orders_are_one(task):
    space = Toy()
    engine = started(space, task, learning_rate=1e-12, least_rate=0.0)._started(0)
    architecture = relaxed(space)
    network, leaves = engine.network(architecture), engine.leaves(architecture)
    _, second = engine.gradients(network, leaves, "second")
    engine.looks = 0
    _, first = engine.gradients(network, leaves, "first")
    for name in leaves:
        torch.testing.assert_close(second[name], first[name], rtol=1e-4, atol=1e-7)


def test_the_gradient_is_that_of_finite_differences(task):
    space = Toy()
    engine = started(space, task)._started(0)
    _, candidate = asked(DARTS(deviation=0.5), space)
    network = engine.network(candidate.architecture)
    leaves = engine.leaves(candidate.architecture)
    _, found = engine.gradients(network, leaves, "first")
    for name, leaf in leaves.items():
        for place in range(2):
            losses = []
            for shift in (1e-2, -1e-2):
                moved = {key: value.detach().clone() for key, value in leaves.items()}
                moved[name][place] += shift
                engine.looks = 0
                with engine._running([network], moved, "look", 1), torch.no_grad():
                    images, labels = engine._batch(engine.choices, 0, "choices")
                    losses.append(float(engine._loss(network, images, labels)))
            assert float(found[name][place]) == pytest.approx((losses[0] - losses[1]) / 2e-2, abs=2e-3)
        assert leaf.grad is None


def test_gradients_of_an_edges_logits_sum_to_zero():
    strategy, candidate = asked(DARTS(), small())
    gradients = {name: [float(place) for place in range(5)] for name in candidate.architecture.weights}
    slopes = strategy.slopes(strategy.running[id(candidate.architecture)], gradients)
    for slope in slopes.values():
        assert sum(slope) == pytest.approx(0, abs=1e-12)
        assert max(map(abs, slope)) > 0.1


def test_an_option_whose_weight_lowers_the_loss_gains():
    strategy, candidate = asked(DARTS(learning_rate=0.1), small())
    for number in range(20):
        gradients = {name: [0.0, 0.0, 0.0, -1.0, 0.0] for name in candidate.architecture.weights}
        told(strategy, candidate, gradients, number=number)
        candidate = strategy.ask()
    assert {op.name for op in candidate.architecture.values.values()} == {"nor_conv_3x3"}
    assert candidate.notes["entropy"] < 0.9
    assert candidate.notes["skips"] == 0


# what is derived


def test_a_derived_cell_reads_the_two_states_with_the_strongest_operations():
    space = DARTSSpace(nodes=3, reductions=0, operations=EIGHT)
    strategy, _ = asked(DARTS(deviation=0.0), space)
    strategy.logits["normal.n1.op0"][4] = 3.0
    strategy.logits["normal.n1.op2"][0] = 9.0  # none: never derived, and no strength
    strategy.logits["normal.n1.op1"][5] = 2.0
    strategy.logits["normal.n2.op3"][6] = 2.0
    strategy.logits["normal.n2.op1"][7] = 1.0
    child = strategy.ask().architecture
    space.read(json.loads(json.dumps(child.to_json())))
    assert child.values["normal.n1.inputs"] == (0, 1)
    assert child.values["normal.n1.op0"].name == "sep3x3"
    assert child.values["normal.n1.op1"].name == "sep5x5"
    assert child.values["normal.n2.inputs"] == (1, 3)
    assert child.values["normal.n2.op3"].name == "dilsep3x3"
    assert "none" not in {value.name for name, value in child.values.items() if ".op" in name}


def test_what_cannot_be_weighed_is_drawn_and_learnt_by_its_score():
    space = NASNet(blocks=1, reductions=0, operations=("sep3x3", "skip"))
    strategy, candidate = asked(DARTS(learning_rate=0.2, deviation=0.0), space)
    for number in range(300):
        better = candidate.architecture.values["normal.b0.in0"] == 1
        metrics = {"accuracy": 0.5, "loss": 0.0 if better else 1.0}
        told(strategy, candidate, {name: [0.0, 0.0] for name in candidate.architecture.weights}, metrics, number)
        candidate = strategy.ask()
    assert softmax(strategy.logits["normal.b0.in0"])[1] > 0.8
    assert set(candidate.architecture.weights) == {"normal.b0.op0", "normal.b0.op1"}


# draws


def test_a_drawn_decision_has_logits_for_each_number_of_options_that_it_has():
    """Others decide how many: of NAS-Bench-101 how many vertices, of a code which layer comes first."""
    for space in (NASBench101(channels=4), BlockQNN(channels=4)):
        strategy = DARTS()
        strategy.start(space, random.Random(0))
        for number in range(30):
            candidate = strategy.ask()
            told(strategy, candidate, {}, {"accuracy": 0.5, "loss": 1.0 + number % 3}, number)
        counts = {(name, len(logits)) for name, logits in strategy.logits.items()}
        assert any(name.endswith(f"/{count}") for name, count in counts)


def test_gumbel_numbers_choose_by_the_softmax():
    rng, logits = random.Random(0), [1.0, 0.0, -1.0, 0.5]
    counts = Counter()
    for _ in range(20_000):
        noisy = [logit + gumbel(rng) for logit in logits]
        counts[noisy.index(max(noisy))] += 1
    for place, share in enumerate(softmax(logits)):
        assert counts[place] / 20_000 == pytest.approx(share, abs=3 * math.sqrt(share / 20_000))


def test_the_colder_the_draws_the_nearer_to_one_option():
    space = small()
    means = []
    for temperature in (1.0, 0.5, 0.1, 0.03):
        strategy = SNAS(warmest=temperature, coldest=temperature)
        strategy.start(space, random.Random(0))
        largest = [max(strategy.weigh("a", [1.0, 0.0, -1.0, 0.5]).weights) for _ in range(4000)]
        means.append(sum(largest) / 4000)
    assert means == pytest.approx([0.63, 0.78, 0.95, 0.986], abs=0.02)
    assert sum(strategy.weigh("a", [1.0, 0.0]).weights) == pytest.approx(1)


def test_snas_at_a_temperature_near_zero_is_the_network_drawn(task):
    space = small()
    engine = started(space, task)._started(0)
    architecture = relaxed(space, SNAS(warmest=1e-6, coldest=1e-6, deviation=0.3))
    taken = {name: list(shares).index(max(shares)) for name, shares in architecture.weights.items()}
    drawn = space.read({name: architecture.domains[name].options[place].name for name, place in taken.items()})
    whole, alone = engine.network(architecture).eval(), engine.network(drawn).eval()
    leaves = engine.leaves(architecture)
    for module in whole.modules():
        if isinstance(module, Mixture):
            module.weights = leaves[module.decision]
    images = torch.rand(4, *task.input)
    torch.testing.assert_close(whole(images), alone(images), atol=1e-5, rtol=1e-5)


def test_gdas_computes_the_option_taken_alone(task):
    space = small()
    strategy, candidate = asked(GDAS(), space)
    for shares in candidate.architecture.weights.values():
        assert sorted(shares) == [0, 0, 0, 0, 1]
    report = next(iter(started(space, task).evaluate(Trial(0, candidate, 0))))
    for name, gradient in report.gradients.items():
        taken = candidate.architecture.weights[name].index(1)
        assert not any(one for place, one in enumerate(gradient) if place != taken)
    before = {name: list(logits) for name, logits in strategy.logits.items()}
    told(strategy, candidate, report.gradients)
    assert strategy.logits != before


def test_pc_darts_sends_a_part_of_the_channels_through_and_weighs_the_edges(task):
    space = DARTSSpace(nodes=2, reductions=0, cells=1, channels=8)
    strategy = PCDARTS(channels=4)
    strategy.start(space, random.Random(0))
    first = strategy.ask()
    engine = started(space, task)._started(0)
    network = engine.network(first.architecture)
    mixtures = [module for module in network.modules() if isinstance(module, Mixture)]
    assert {mixture.share for mixture in mixtures} == {4}
    told(strategy, first, {name: [0.1 * place for place in range(7)] for name in first.architecture.weights})
    second = strategy.ask()
    edges = [name for name in second.architecture.weights if name.startswith("normal.n1.")]
    assert len(edges) == 3
    assert sum(sum(second.architecture.weights[name]) for name in edges) == pytest.approx(1)
    assert sum(second.architecture.weights["normal.n0.op0"]) == pytest.approx(1)
    strategy.logits["normal.n1.inputs/edges"][:] = [0.0, 5.0, 5.0]
    assert strategy.ask().architecture.values["normal.n1.inputs"] == (1, 2)


# costs


def test_the_expected_cost_of_one_hot_weights_is_that_of_the_network(task):
    from automl import measure

    space = small()
    engine = started(space, task, affine=True)._started(0)
    soft = relaxed(space)
    fixed, options = option_costs(engine.network(soft), engine.leaves(soft), task.input)
    for number in range(5):
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


def test_a_resource_above_its_target_is_climbed_down(task):
    space = small()
    _, candidate = asked(DARTS(), space)
    plain = next(iter(started(space, task).evaluate(Trial(0, candidate, 0))))
    held = started(space, task, resource="parameters", target=100.0, strength=1.0)
    report = next(iter(held.evaluate(Trial(0, candidate, 0))))
    assert report.metrics["parameters"] == plain.metrics["parameters"] > 100
    for name, gradient in report.gradients.items():
        names = [op.name for op in candidate.architecture.domains[name].options]
        more = [one - other for one, other in zip(gradient, plain.gradients[name], strict=True)]
        assert more[names.index("nor_conv_3x3")] > more[names.index("nor_conv_1x1")] > more[names.index("none")] == 0
    with pytest.raises(BadInput, match=r"evaluator.resource=parameters and evaluator.target=None belong together"):
        Supernet(resource="parameters")


# a collapse


def skipping(strategy, space, task_free_trials=12):
    strategy.start(space, random.Random(0))
    trials = []
    for number in range(task_free_trials):
        candidate = strategy.ask()
        if candidate is None:
            break
        gradients = {name: [0.0, -1.0, 0.0, 0.0, 0.0] for name in candidate.architecture.weights}
        trials.append(told(strategy, candidate, gradients, number=number))
    return trials


def test_a_collapse_to_skips_is_told_and_with_a_guard_ends_at_what_was_sound(caplog):
    space = small()
    unguarded, guarded = (DARTS(learning_rate=0.01, guard=guard) for guard in (False, True))
    assert len(skipping(unguarded, space)) == 12
    assert "derived operations are skips: strategy.guard=true would end it" in caplog.text
    trials = skipping(guarded, space)
    assert len(trials) < 12
    assert guarded.ask() is None
    skips = [
        sum(op.name == "skip_connect" for op in architecture.values.values())
        for architecture in (unguarded.recommend(trials), guarded.recommend(trials))
    ]
    assert skips[0] > 3 >= skips[1]


# going on


def study(folder, space, strategy, task, trials, seconds=0.0, **settings):
    found = Study(
        space,
        strategy,
        Supernet(accelerator="cpu", probe=4, scored=8, **settings),
        task,
        trials=trials,
        journal=Journal(folder / "journal.jsonl", {}),
        snapshots=Snapshots(folder / "snapshots", seconds),
    )
    found.run()
    return found


@pytest.mark.parametrize(
    "make",
    [DARTS, PCDARTS, SNAS, lambda: Reinforce(batch=3), lambda: Evolution(3, 2)],
    ids=["darts", "pc_darts", "snas", "enas", "evolution"],
)
def test_a_search_goes_on_from_any_line_as_if_it_had_not_stopped(make, task, tmp_path):
    space = small()
    (tmp_path / "whole").mkdir()
    whole = study(tmp_path / "whole", space, make(), task, 9)
    wanted = story(tmp_path / "whole" / "journal.jsonl")
    assert len(wanted) == 1 + 3 * 9
    recommended = whole.strategy.recommend(whole.trials)
    lines = (tmp_path / "whole" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    for cut in (1, 5, 12, 13, 14, 26):  # lines there are when it is killed; the last snapshot may be older
        folder = tmp_path / f"cut{cut}"
        folder.mkdir()
        mine = []
        if cut > 3:
            study(folder, space, make(), task, max(1, (cut - 1) // 3 - cut % 2))
            mine = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
        (folder / "journal.jsonl").write_bytes(b"".join([*mine, *lines[len(mine) : cut]]))
        resumed = study(folder, space, make(), task, 9)
        assert story(folder / "journal.jsonl") == wanted
        assert resumed.strategy.recommend(resumed.trials) == recommended
        for key, tensor in whole.evaluator._engine.shared.tensors.items():
            assert torch.equal(tensor, resumed.evaluator._engine.shared.tensors[key]), key


def test_a_step_of_a_gradient_search_costs_the_journal_less_than_a_kilobyte(task, tmp_path):
    study(tmp_path, DARTSSpace(cells=1, channels=4), DARTS(), task, 12, seconds=100.0)
    lines = (tmp_path / "journal.jsonl").read_bytes().splitlines()
    late = sum(map(len, lines[-30:])) / 10
    assert late < 1000  # 20,000 steps are below 20 MB


def test_soft_architectures_are_never_equal_and_stay_out_of_what_is_kept(task, tmp_path):
    found = study(tmp_path, small(), DARTS(), task, 3)
    assert all(not trial.architecture.weights and not trial.reports[-1].gradients for trial in found.trials)
    one, other = (relaxed(small()) for _ in range(2))
    assert one != other
    assert one == one


def test_a_soft_answer_is_told_by_its_largest_weight():
    space = small()
    architecture = space.make(lambda name, domain: Soft((0.1, 0.2, 0.4, 0.2, 0.1)))
    assert isinstance(architecture, Architecture)
    assert {op.name for op in architecture.values.values()} == {"nor_conv_1x1"}
    assert Options((1, 2), together=None).together is None


# as a user meets it


@pytest.mark.slow
def test_a_one_shot_search_ends_with_a_network_trained_by_itself(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["+space=nasbench201", "space.cells=1", "space.channels=4", "strategy=darts", "evaluator=supernet"]
    words += ["evaluator.probe=3", "task=synthetic", "task.count=60", "trials=7", "retrain.epochs=1"]
    assert main(words) == 0
    folder = Path(capsys.readouterr().out.splitlines()[-1])
    summary = json.loads((folder / "summary.json").read_text())
    assert 0 <= summary["test"]["accuracy"] <= 1
    assert (folder / "model.onnx").exists()
    assert len(list((folder / "snapshots").iterdir())) >= 1
    (folder / "summary.json").unlink()  # as if it had been killed before the final training
    assert main(["resume", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "7 of 7 trials are done" in out
    again = json.loads((folder / "summary.json").read_text())
    assert again["best"] == summary["best"]
    assert again["test"] == summary["test"]


def test_a_strategy_that_climbs_is_told_of_an_evaluator_that_reports_no_gradients(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["+space=nasbench201", "strategy=darts", "task=synthetic"]) == 2
    told = capsys.readouterr().err
    assert "strategy darts learns from gradients, and evaluator training reports none" in told
    assert "type evaluator=supernet, or strategy=reinforce" in told

"""The curvature of the loss by the choices: measured as it is, and a sign of collapse where it grows."""

from __future__ import annotations

import logging
import random

import pytest
import torch
from torch import nn

from automl import Candidate, Objective, Op, Report, Space, Study, Trial
from automl.journal import Journal
from automl.mixture import Mixture
from automl.snapshots import Snapshots
from automl.testing import story
from automl_evaluators.curvature import largest_eigenvalue
from automl_evaluators.supernet import Supernet
from automl_spaces.darts import DARTS as DARTSSpace
from automl_spaces.nasbench201 import NASBench201
from automl_strategies.collapse import Watch
from automl_strategies.darts import DARTS
from automl_strategies.gdas import GDAS
from automl_strategies.pc_darts import PCDARTS
from automl_tasks.synthetic import Synthetic

SPACE = NASBench201(cells=1, channels=4)


@pytest.fixture(scope="module")
def task():
    task = Synthetic(count=60, batch_size=8)
    task.prepare(0)
    return task


def started(space, task, **settings):
    evaluator = Supernet(accelerator="cpu", probe=0, **settings)
    evaluator.objectives = (Objective("accuracy"),)
    evaluator.start(space, task)
    return evaluator


def asked(space, strategy=None):
    strategy = strategy or DARTS(deviation=0.5)
    strategy.start(space, random.Random(0))
    return strategy.ask()


# the eigenvalue


@pytest.mark.parametrize("spread", [0.0, 1.0, 1e3], ids=["equal", "near", "far"])
def test_the_largest_eigenvalue_is_found_by_products_alone(spread):
    torch.manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(9, 9, dtype=torch.float64))
    values = torch.tensor([-5.0 - spread, -1, 0, 0, 1, 2, 3, 3, 3 + spread], dtype=torch.float64)
    matrix = basis @ torch.diag(values) @ basis.T
    start = torch.randn(9, dtype=torch.float64)
    asked_for = []
    found = largest_eigenvalue(lambda vector: asked_for.append(1) or matrix @ vector, start, 9)
    assert found == pytest.approx(3 + spread, rel=1e-9)
    assert len(asked_for) <= 9
    assert largest_eigenvalue(lambda vector: matrix @ vector, start, 3) <= found + 1e-9


def test_no_curvature_at_all_is_zero():
    assert largest_eigenvalue(lambda vector: 0 * vector, torch.ones(5)) == 0
    assert largest_eigenvalue(lambda vector: 2 * vector, torch.ones(5)) == pytest.approx(2)


class Toy(Space):
    """Two decisions between three smooth operations."""

    def describe(self, choose):
        ops = (
            Op("tanh", lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh())),
            Op("sig", lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.Sigmoid())),
            Op("soft", lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Softplus())),
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


class Doubled:
    """A task whose losses are in double precision."""

    def __init__(self, task):
        self._task = task

    def __getattr__(self, name):
        return getattr(self._task, name)

    def loss(self, outputs, labels, smoothing=0.0):
        return nn.functional.cross_entropy(outputs, labels)


def in_double(engine, network):
    """Have an engine and a network of its own compute in double precision."""
    engine.task, batch = Doubled(engine.task), engine._batch
    engine._batch = lambda *place, **how: (lambda images, labels: (images.double(), labels))(*batch(*place, **how))
    engine.as_weights = lambda numbers: {
        name: torch.tensor(some, dtype=torch.float64) for name, some in numbers.items()
    }
    return network.double()


@pytest.mark.parametrize("total", [1.0, 0.4], ids=["a softmax", "times a share"])
def test_the_curvature_is_the_largest_eigenvalue_of_the_whole_hessian(total, task):
    engine = started(Toy(), task)._started(0)
    architecture = asked(Toy()).architecture
    network = in_double(engine, engine.network(architecture))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(4)  # so that there is something to see
    logits = torch.tensor([0.3, -0.2, 0.9, 1.1, 0.0, -0.4], dtype=torch.float64)

    def loss(logits):
        weights = {"a": total * logits[:3].softmax(0), "b": total * logits[3:].softmax(0)}
        for module in network.modules():
            if isinstance(module, Mixture):
                module.weights = weights[module.decision]
        images, labels = engine._batch(engine.choices, 0, "curvature", augment=False)
        return nn.functional.cross_entropy(network(images), labels)

    exact = torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, logits))
    weights = {"a": (total * logits[:3].softmax(0)).tolist(), "b": (total * logits[3:].softmax(0)).tolist()}
    found = engine.curvature(network, weights)
    assert found == pytest.approx(float(exact[-1]), rel=1e-9)
    assert float(exact[-1]) > 1e-3


def test_the_curvature_of_a_real_network_is_that_of_the_differences_of_its_gradients(task):
    engine = started(SPACE, task)._started(0)
    architecture = asked(SPACE).architecture
    network = in_double(engine, engine.network(architecture))
    names = list(architecture.weights)
    images, labels = engine._batch(engine.choices, 0, "curvature", augment=False)

    def gradient(logits):
        leaves = logits.view(len(names), -1).softmax(1).detach()
        weights = {name: leaf.requires_grad_() for name, leaf in zip(names, leaves.unbind(), strict=True)}
        with engine._running([network], weights, "curvature", 0):
            found = torch.autograd.grad(engine._loss(network, images, labels), list(weights.values()))
        shares = torch.stack([weights[name].detach() for name in names])
        slopes = torch.stack(found)
        return (shares * (slopes - (shares * slopes).sum(1, keepdim=True))).flatten()

    logits = torch.tensor([architecture.weights[name] for name in names], dtype=torch.float64).log().flatten()
    steps = 1e-5 * torch.eye(len(logits), dtype=torch.float64)
    hessian = torch.stack([(gradient(logits + step) - gradient(logits - step)) / 2e-5 for step in steps])
    exact = float(torch.linalg.eigvalsh((hessian + hessian.T) / 2)[-1])
    found = engine.curvature(network, architecture.weights)
    assert exact > 1e-3
    assert 0.99 * exact < found < (1 + 1e-5) * exact  # of few products, never above


@pytest.mark.parametrize(
    ("space", "strategy"),
    [(SPACE, DARTS()), (DARTSSpace(nodes=2, reductions=0, cells=1, channels=8), PCDARTS())],
    ids=["nasbench201", "pc_darts"],
)
def test_measuring_leaves_all_as_it_was(space, strategy, task):
    engine = started(space, task)._started(0)
    architecture = asked(space, strategy).architecture
    network = engine.network(architecture)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    place, generator = (engine.step, engine.looks), torch.get_rng_state()
    first = engine.curvature(network, architecture.weights)
    assert engine.curvature(network, architecture.weights) == first > 0
    assert (engine.step, engine.looks) == place
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())


def study(folder, task, trials, strategy=None, **settings):
    folder.mkdir(exist_ok=True)
    found = Study(
        SPACE,
        strategy or DARTS(),
        Supernet(accelerator="cpu", probe=0, scored=8, **settings),
        task,
        trials=trials,
        journal=Journal(folder / "journal.jsonl", {}),
        snapshots=Snapshots(folder / "snapshots", 0.0),
    )
    found.run()
    return found


def test_it_is_reported_every_so_many_trials_and_changes_nothing_else(task, tmp_path, monkeypatch):
    curved = study(tmp_path / "curved", task, 5, curvature=2)
    monkeypatch.setattr("automl_evaluators.one_shot.OneShot.curvature", None)  # whoever calls it fails
    plain = study(tmp_path / "plain", task, 5)
    assert [trial.number for trial in curved.trials if "curvature" in trial.metrics] == [0, 2, 4]
    for one, other in zip(curved.trials, plain.trials, strict=True):
        assert {name: value for name, value in one.metrics.items() if name != "curvature"} == other.metrics
    assert curved.strategy.logits == plain.strategy.logits
    assert "curvature" in curved.evaluator.metrics()


def test_where_an_option_has_no_weight_there_is_none_and_that_is_said_once(task, caplog):
    evaluator = started(SPACE, task, curvature=1)
    strategy = GDAS()
    strategy.start(SPACE, random.Random(0))
    for number in range(2):
        (report,) = evaluator.evaluate(Trial(number, strategy.ask(), 0))
        assert "curvature" not in report.metrics
    assert caplog.text.count("evaluator.curvature=1 is of choices that weigh all options, and here some have none") == 1


# the alarm

ENOUGH = [1.0, 0.9, 1.1, 1.0, 1.0, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5]  # by the last five 1.3 times what was, by the ten 1.2


def told(strategy, curvatures, every=1):
    """Tell a strategy of steps with these curvatures, one every so many; each derives another network, of no skips."""
    trials = []
    for number in range(len(curvatures) * every):
        for place, logits in enumerate(strategy.logits.values()):
            logits[:] = [float(option == 2 + number // 3**place % 3) for option in range(5)]
        candidate = strategy.ask()
        if candidate is None:
            break
        trial = Trial(number, candidate, 0)
        metrics = {"accuracy": 0.5, "loss": 1.0}
        if number % every == 0:
            metrics["curvature"] = curvatures[number // every]
        trial.reports = [Report(metrics)]
        trial.judge((Objective("accuracy"),))
        strategy.tell(trial)
        trials.append(trial)
    return trials


def begun(**settings):
    strategy = DARTS(**settings)
    strategy.start(SPACE, random.Random(0))
    return strategy


def test_a_loss_that_curves_ever_more_is_told_at_the_ratio_asked_for(caplog):
    strategy = begun(growth=1.25)
    told(strategy, ENOUGH[:-1])
    assert not strategy.watch.collapsed
    assert caplog.text == ""
    strategy = begun(growth=1.25)
    told(strategy, ENOUGH)
    assert "at trial 10 the curvature of the loss by the choices is 1.3, and was 1" in caplog.text
    assert caplog.text.count("strategy.guard=true would end it") == 1
    for growth in (1.5, None):
        strategy = begun(growth=growth)
        told(strategy, ENOUGH)
        assert not strategy.watch.collapsed


def test_a_loss_that_flattens_or_wavers_is_sound():
    strategy = begun()
    told(strategy, [2.0, 1.0] * 20 + [0.5] * 10)
    assert not strategy.watch.collapsed
    strategy = begun()
    told(strategy, [0.0] * 12)
    assert not strategy.watch.collapsed


def test_a_guarded_search_ends_at_what_was_derived_before_the_rise():
    rising = [1.0] * 6 + [1.5**power for power in range(1, 9)]
    strategy = begun(guard=True)
    trials = told(strategy, rising, every=3)
    assert strategy.watch.collapsed
    assert strategy.ask() is None
    assert trials[-1].number % 3 == 0
    before = trials[-1].number - 5 * 3
    assert strategy.recommend(trials) == SPACE.read(trials[before].architecture.to_json())
    assert strategy.recommend(trials) != SPACE.read(trials[-1].architecture.to_json())
    unguarded = begun()
    trials = told(unguarded, rising, every=3)
    assert len(trials) == 3 * len(rising)
    assert unguarded.recommend(trials) == SPACE.read(trials[-1].architecture.to_json())


def test_what_a_strategy_watched_is_there_again_after_a_restore(caplog):
    rising = [1.0] * 6 + [1.5**power for power in range(1, 9)]
    whole = begun(guard=True)
    trials = told(whole, rising)
    for count in range(len(trials) + 1):
        first = begun(guard=True)
        seen = told(first, rising[:count])
        caplog.clear()
        again = begun(guard=True)
        again.restore(first.state(), seen)
        assert again.watch.collapsed == (count == len(trials))
        assert caplog.text.count("the search ends at the last architecture that was sound") == (count == len(trials))
        assert again.watch.sound == first.watch.sound
        assert again.watch._curved == first.watch._curved


def test_failed_trials_are_not_looked_at():
    watch = Watch(0.5, 1.333)
    trial = Trial(0, Candidate(SPACE.sample(random.Random(0)), notes={"skips": 0.9}), 0)
    trial.error = "no memory"
    watch.see(trial)
    assert not watch.collapsed
    assert watch.sound is None


def test_a_search_that_watches_its_curvature_goes_on_as_if_it_had_not_stopped(task, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.ERROR)
    curved = "automl_evaluators.one_shot.OneShot.curvature"
    monkeypatch.setattr(curved, lambda engine, network, weights: 1.2**engine.step)  # of these weights, and rising
    whole = study(tmp_path / "whole", task, 20, DARTS(guard=True), curvature=1)
    assert len(whole.trials) == 10
    for count in (4, 9):
        folder = tmp_path / str(count)
        study(folder, task, count, DARTS(guard=True), curvature=1)
        resumed = study(folder, task, 20, DARTS(guard=True), curvature=1)
        assert story(folder / "journal.jsonl") == story(tmp_path / "whole" / "journal.jsonl")
        assert resumed.strategy.recommend(resumed.trials) == whole.strategy.recommend(whole.trials)

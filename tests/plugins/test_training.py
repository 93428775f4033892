"""The evaluator that trains: every step by seed and place, and no candidate takes the search with it."""

import gc
import json
import logging
import math
import random
import subprocess
import sys
import weakref
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
import yaml
from torch import nn

from automl import BadInput, Candidate, Dataset, Integer, Limit, Objective, Space, Trial, TrialFailed
from automl.checkpoint import Checkpoint
from automl.study import Study
from automl_evaluators.batches import Batches, cut, first, seed_of
from automl_evaluators.learner import Learner, Recipe
from automl_evaluators.mishaps import strides_single_pixels
from automl_evaluators.training import Training
from automl_strategies.random import Random
from automl_tasks.synthetic import Synthetic

HERE = Path(__file__).parent


class Tiny(nn.Module):
    """Two convolutions down to 1 x 1, batch normalisation there, dropout, a dropped path, and an auxiliary head."""

    def __init__(self, kernel: int, task) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(task.input[0], 8, kernel, padding=kernel // 2), nn.BatchNorm2d(8))
        self.deep = nn.Sequential(nn.Conv2d(8, 8, task.input[1]), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1))
        self.path = DroppedPath()
        self.side = Side(8, task.outputs)
        self.out = nn.Linear(8, task.outputs)

    def forward(self, images):
        maps = self.stem(images).relu()
        logits = self.out(self.path(self.deep(maps)).flatten(1))
        return (logits, self.side(maps.mean((2, 3)))) if self.training else logits


class Side(nn.Linear):
    training_only = True


class DroppedPath(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[float] = []

    def on_progress(self, progress: float) -> None:
        self.told.append(progress)

    def forward(self, maps):
        if not self.training:
            return maps
        kept = torch.rand(len(maps), 1, 1, 1) >= 0.2 * self.told[-1]
        return maps * kept


@dataclass
class Chain(Space):
    """A tiny space; the networks that it built are kept to be looked at."""

    make_module: object = Tiny
    built: list = field(default_factory=list)

    def describe(self, choose):
        return choose("kernel", [3, 5])

    def build(self, blueprint, task):
        self.built.append(self.make_module(blueprint, task))
        return self.built[-1]


def a_task(train=96, batch_size=32, **fields) -> Synthetic:
    task = Synthetic(count=400, batch_size=batch_size, **fields)
    task.prepare(0)
    task.train = Dataset(task.train.images[:train], task.train.labels[:train])
    return task


def start(task=None, module=Tiny, folder=None, wanted=(), limits=(), **fields) -> tuple[Training, Chain]:
    space = Chain(module)
    evaluator = Training(**{"epochs": 8, "accelerator": "cpu", **fields})
    evaluator.folder, evaluator.limits = folder, limits
    evaluator.objectives = [Objective(name) for name in wanted]
    evaluator.start(space, a_task() if task is None else task)
    return evaluator, space


ARCHITECTURE = Chain().sample(random.Random(0))


def a_trial(number=0, seed=3, **fields) -> Trial:
    return Trial(number, Candidate(ARCHITECTURE, **fields), seed)


def weights(module) -> list[torch.Tensor]:
    return [value.clone() for value in module.state_dict().values()]


def equal(first, second) -> bool:
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.fixture(autouse=True)
def _one_thread():
    """Networks as small as these are faster on one, above all where several tests run at a time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def steps(monkeypatch):
    """The learning rate of every step that an optimiser took."""
    rates: list[float] = []
    original = torch.optim.SGD.step

    def step(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    return rates


# --- what is reported


def test_it_reports_after_each_epoch_and_learns():
    evaluator, space = start()
    reports = list(evaluator.evaluate(a_trial()))
    assert [report.fidelity for report in reports] == [epoch / 8 for epoch in range(1, 9)]
    assert all(report.metrics.keys() == evaluator.metrics() - {"latency_torch_ms", "latency_ms"} for report in reports)
    assert all(math.isfinite(value) for report in reports for value in report.metrics.values())
    assert reports[-1].metrics["accuracy"] > 0.6  # a third is chance
    assert reports[-1].metrics["train_loss"] < reports[0].metrics["train_loss"]
    network = space.built[0]
    shipped = [*network.stem.parameters(), *network.deep.parameters(), *network.out.parameters()]
    assert reports[0].metrics["parameters"] == sum(parameter.numel() for parameter in shipped)
    kernel = ARCHITECTURE.blueprint
    assert reports[0].metrics["multiply_adds"] == 8 * kernel**2 * 64 + 8 * 8 * 64 + 8 * 3


def test_accuracy_is_counted_on_every_validation_image():
    task = a_task(validation=0.3)
    task.held_out = Dataset(task.held_out.images[:65], task.held_out.labels[:65])  # by 64: the last alone
    evaluator, space = start(task, epochs=1)
    (report,) = evaluator.evaluate(a_trial())
    network = space.built[0].eval()
    images = torch.from_numpy(task.held_out.images) / 255
    images = (images - torch.tensor(task.mean).view(1, -1, 1, 1)) / torch.tensor(task.std).view(1, -1, 1, 1)
    with torch.no_grad():
        right = network(images).argmax(1) == torch.from_numpy(task.held_out.labels)
    assert report.metrics["accuracy"] == right.sum().item() / 65


def test_latency_is_measured_only_where_it_is_asked_for():
    evaluator, _ = start(epochs=1)
    (report,) = evaluator.evaluate(a_trial())
    assert report.metrics.keys() == evaluator.metrics() - {"latency_torch_ms", "latency_ms"}
    evaluator, _ = start(epochs=1, wanted=["latency_torch_ms", "latency_ms"])
    (report,) = evaluator.evaluate(a_trial())
    assert report.metrics["latency_torch_ms"] > 0
    assert report.metrics["latency_ms"] > 0
    assert report.metrics.keys() == evaluator.metrics()


@pytest.mark.parametrize("metric", ["parameters", "multiply_adds", "latency_ms"])
def test_what_a_limit_is_on_is_told_before_training(metric):
    evaluator, _ = start(epochs=2, limits=[Limit(metric, 1e9)])
    costs, first, last = evaluator.evaluate(a_trial())
    assert (costs.fidelity, first.fidelity, last.fidelity) == (0.0, 0.5, 1.0)
    assert costs.metrics[metric] == last.metrics[metric]
    assert "accuracy" not in costs.metrics
    evaluator, _ = start(epochs=2, limits=[Limit("accuracy", 0.5, "max")])
    assert [report.fidelity for report in evaluator.evaluate(a_trial())] == [0.5, 1.0]


def test_it_is_the_same_for_one_seed_and_another_for_another():
    first, second, other = ([r.metrics for r in start()[0].evaluate(a_trial(seed=seed))] for seed in (1, 1, 2))
    assert first == second
    assert first != other


def test_it_neither_reads_nor_moves_the_global_generators():
    torch.manual_seed(5)
    evaluator, _ = start(epochs=2)
    first = []
    for report in evaluator.evaluate(a_trial()):
        first.append(report.metrics)
        assert torch.initial_seed() == 5
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))
    torch.manual_seed(6)
    assert [report.metrics for report in start(epochs=2)[0].evaluate(a_trial())] == first


def test_the_network_is_told_how_far_it_is():
    evaluator, space = start(epochs=2)
    list(evaluator.evaluate(a_trial()))
    assert space.built[0].path.told == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])


def test_the_learning_rate_rises_and_falls_with_the_full_schedule(steps):
    evaluator, _ = start(epochs=4, warmup=0.25, learning_rate=0.2)
    list(evaluator.evaluate(a_trial()))
    assert steps[:4] == pytest.approx([0.05, 0.1, 0.15, 0.2])  # 3 of 12 steps rise
    assert steps[3:] == pytest.approx([0.1 * (1 + math.cos(math.pi * k / 9)) for k in range(9)])


def test_auxiliary_loss_and_smoothing_are_in_the_training_loss_alone():
    def first(**fields):
        (report,) = start(epochs=1, learning_rate=1e-9, **fields)[0].evaluate(a_trial())
        return report.metrics

    plain = first(auxiliary=0.0, smoothing=0.0)
    both = first(auxiliary=0.4, smoothing=0.1)
    assert both["train_loss"] > 1.2 * plain["train_loss"]
    assert both["loss"] == pytest.approx(plain["loss"], rel=1e-6)


# --- fidelity, and going on


@pytest.mark.parametrize(
    ("epochs", "fidelity", "expected"),
    [(8, 0.5, 4), (8, 1.0, 8), (8, 0.01, 1), (5, 0.5, 3), (10, 1 / 3, 3), (1, 0.2, 1)],
)
def test_fidelity_is_whole_epochs_and_at_least_one(epochs, fidelity, expected):
    assert Training(epochs=epochs).epochs_at(fidelity) == expected


def second_half(folder: str) -> None:
    """Go on from trial 0 as trial 1, and say what happened; run in a new process."""
    torch.set_num_threads(1)
    rates = []
    original = torch.optim.SGD.step

    def step(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return original(self, *args, **kwargs)

    torch.optim.SGD.step = step
    evaluator, space = start(a_task(crop=1), folder=Path(folder))
    reports = list(evaluator.evaluate(a_trial(1, seed=99, parent=0)))
    torch.save(weights(space.built[0]), Path(folder) / "weights.pt")
    print(json.dumps({"rates": rates, "reports": [[dict(r.metrics), r.fidelity] for r in reports]}))


@pytest.mark.slow
def test_going_on_in_a_new_process_is_the_same_as_never_having_stopped(tmp_path, steps):
    """R5, with another seed for the second trial: what goes on keeps the seed that it began with."""
    unbroken, space = start(a_task(crop=1))
    whole = list(unbroken.evaluate(a_trial()))
    expected, rates = weights(space.built[0]), steps.copy()
    assert len(rates) == 8 * 3
    steps.clear()

    half, _ = start(a_task(crop=1), folder=tmp_path)
    first = list(half.evaluate(a_trial(fidelity=0.5)))
    program = (
        f"import sys; sys.path.insert(0, {str(HERE)!r}); import test_training as t; t.second_half({str(tmp_path)!r})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)

    assert steps + told["rates"] == rates
    reports = [(dict(r.metrics), r.fidelity) for r in first] + [tuple(report) for report in told["reports"]]
    assert reports == [(dict(r.metrics), r.fidelity) for r in whole]
    assert equal(torch.load(tmp_path / "weights.pt", weights_only=True), expected)


def test_an_epoch_stopped_in_the_middle_goes_on_bit_for_bit(tmp_path):
    class Stop(Exception):
        pass

    def learner():
        network = Tiny(3, task)
        data = tuple(Batches(split, task.mean, task.std, torch.device("cpu")) for split in (task.train, task.held_out))
        return Learner(network, task, data, recipe, seed=4, fabric=Training(accelerator="cpu").hardware.fabric())

    def stop_after_two():
        if going.batch == 2:
            raise Stop

    task = a_task(crop=1, flip=True)
    recipe = Recipe(2, 0.1, 0.9, 5e-4, 0.1, 0.1, 5.0, 0.4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        whole, going, later = learner(), learner(), learner()
        going.network.load_state_dict(whole.network.state_dict())
        losses = [whole.finish_epoch(), whole.finish_epoch()]
        assert going.finish_epoch() == losses[0]
        with pytest.raises(Stop):
            going.finish_epoch(stop_after_two)
        going.checkpoint({}).save(tmp_path / "c.safetensors")
        later.restore(Checkpoint.load(tmp_path / "c.safetensors"), "c")
        assert (later.epoch, later.batch) == (1, 2)
        assert later.finish_epoch() == losses[1]
    assert equal(weights(later.network), weights(whole.network))
    assert later.validate() == whole.validate()


def test_only_what_may_go_on_is_kept(tmp_path):
    evaluator, _ = start(folder=tmp_path, epochs=2)
    list(evaluator.evaluate(a_trial(0, fidelity=0.5)))
    list(evaluator.evaluate(a_trial(1)))
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")] == ["0/training.safetensors"]


def test_without_the_parents_checkpoint_it_begins_again(tmp_path):
    expected = [r.metrics for r in start(epochs=2)[0].evaluate(a_trial())]
    for folder in (None, tmp_path):
        evaluator, _ = start(folder=folder, epochs=2)
        assert [r.metrics for r in evaluator.evaluate(a_trial(1, parent=0))] == expected


def test_a_parent_of_another_architecture_lends_no_weights(tmp_path):
    other = Chain().make(lambda name, domain: 8 - ARCHITECTURE.values["kernel"])
    evaluator, _ = start(folder=tmp_path, epochs=2)
    list(evaluator.evaluate(Trial(0, Candidate(other, fidelity=0.5), 7)))
    expected = [r.metrics for r in start(epochs=2)[0].evaluate(a_trial())]
    assert [r.metrics for r in evaluator.evaluate(a_trial(1, parent=0))] == expected


def test_a_parent_trained_as_far_is_only_judged(tmp_path, steps):
    evaluator, _ = start(folder=tmp_path, epochs=4)
    before = list(evaluator.evaluate(a_trial(0, fidelity=0.5)))[-1]
    steps.clear()
    (report,) = evaluator.evaluate(a_trial(1, fidelity=0.5, parent=0))
    assert steps == []
    assert report.fidelity == before.fidelity
    assert report.metrics["accuracy"] == before.metrics["accuracy"]


@pytest.mark.parametrize("name", ["evil.pt", "names_code.ckpt"])
def test_a_checkpoint_that_holds_code_is_refused_and_not_run(tmp_path, monkeypatch, cases, name):
    """C2."""
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("this", None)
    path = tmp_path / "0" / "training.safetensors"
    path.parent.mkdir()
    path.write_bytes((cases / "security" / name).read_bytes())
    evaluator, _ = start(folder=tmp_path)
    with pytest.raises(BadInput, match="only safetensors files are read"):
        list(evaluator.evaluate(a_trial(1, parent=0)))
    assert "this" not in sys.modules
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


def test_a_checkpoint_that_does_not_fit_is_refused_by_name(tmp_path):
    evaluator, _ = start(folder=tmp_path, epochs=4)
    list(evaluator.evaluate(a_trial(0, fidelity=0.5)))
    path = tmp_path / "0" / "training.safetensors"
    good = Checkpoint.load(path)

    def refused(**changes):
        Checkpoint(changes.get("tensors", good.tensors), {**good.facts, **changes.get("facts", {})}).save(path)
        with pytest.raises(BadInput) as caught:
            list(evaluator.evaluate(a_trial(1, parent=0)))
        return str(caught.value)

    assert "schedule" in refused(facts={"epochs": 5})
    assert "(3,) for 'out.bias' where the network has (3,)" not in refused(
        tensors={**good.tensors, "more": torch.ones(1)}
    )
    assert "nothing for 'out.bias'" in refused(tensors={k: v for k, v in good.tensors.items() if k != "out.bias"})
    assert "(4,) for 'out.bias'" in refused(tensors={**good.tensors, "out.bias": torch.ones(4)})
    assert "no checkpoint of a training" in refused(facts={"schema": 2})


# --- the final network


def test_the_final_network_is_at_rest_without_its_parts_for_training():
    evaluator, _ = start(epochs=2)
    seen = []
    network = evaluator.fit(ARCHITECTURE, 3, watch=seen.append)
    assert network.side is None
    assert not any(module.training for module in network.modules())
    assert not any("side" in name for name in network.state_dict())
    assert [report.fidelity for report in seen] == [0.5, 1.0]
    images = torch.rand(4, 1, 8, 8)
    assert torch.equal(network(images), network(images))
    assert [r.metrics for r in seen] == [r.metrics for r in start(epochs=2)[0].evaluate(a_trial())]


@pytest.mark.parametrize(("every", "optimizer"), [(0.0, "sgd"), (1e9, "sgd"), (0.0, "adamw")])
def test_a_final_training_that_was_interrupted_goes_on_bit_for_bit(tmp_path, monkeypatch, every, optimizer):
    monkeypatch.setattr("automl_evaluators.training._SECONDS_BETWEEN_SAVES", every)
    expected = weights(start(epochs=4, optimizer=optimizer)[0].fit(ARCHITECTURE, 3))

    def stop(report):
        if report.fidelity == 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(epochs=4, optimizer=optimizer)[0].fit(ARCHITECTURE, 3, checkpoint=tmp_path, watch=stop)
    seen = []
    evaluator, _ = start(epochs=4, optimizer=optimizer)
    assert equal(weights(evaluator.fit(ARCHITECTURE, 3, checkpoint=tmp_path, watch=seen.append)), expected)
    assert len(seen) == (3 if every == 0 else 4)  # the report that was interrupted is told again
    # and once more, when all is done
    assert equal(weights(evaluator.fit(ARCHITECTURE, 3, checkpoint=tmp_path)), expected)
    with pytest.raises(BadInput, match="another architecture or seed"):
        evaluator.fit(ARCHITECTURE, 4, checkpoint=tmp_path)


def test_it_estimates_its_time():
    evaluator, _ = start(epochs=4)
    list(evaluator.evaluate(a_trial()))
    seconds = evaluator.estimate(ARCHITECTURE)
    assert 0 < seconds < 10
    assert start(epochs=400)[0].estimate(ARCHITECTURE) > 5 * seconds


# --- batches


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [
        (65, 64, [32, 33]),
        (129, 64, [43, 43, 43]),
        (3, 2, [3]),
        (2, 2, [2]),
        (5, 2, [2, 3]),
        (100, 1024, [100]),
        (128, 64, [64, 64]),
        (130, 128, [65, 65]),
    ],
)
def test_batches_share_the_images_and_none_has_one(count, size, sizes):
    bounds = cut(count, size)
    assert sorted(stop - start for start, stop in bounds) == sizes
    assert [image for start, stop in bounds for image in range(start, stop)] == list(range(count))


def test_one_image_is_too_few():
    with pytest.raises(BadInput, match="give at least 2"):
        cut(1, 64)
    evaluator, _ = start(a_task(train=1))
    with pytest.raises(BadInput, match="there are 1 training images"):
        list(evaluator.evaluate(a_trial()))


@pytest.mark.parametrize(("train", "batch_size"), [(65, 64), (129, 64), (3, 2), (90, 1024)])
def test_the_last_batch_and_batches_larger_than_the_data_train(train, batch_size):
    """T1 and T2; the network's last maps are 1 x 1, so batch normalisation would refuse a single image."""
    seen: list[torch.Tensor] = []

    class Watched(Tiny):
        def forward(self, images):
            if self.training:
                seen.append(images.clone())
            return super().forward(images)

    evaluator, _ = start(a_task(train, batch_size), Watched, epochs=2)
    reports = list(evaluator.evaluate(a_trial()))
    assert all(math.isfinite(value) for report in reports for value in report.metrics.values())
    assert all(len(images) > 1 for images in seen)
    given = {tuple(image.flatten().tolist()) for images in seen for image in images}
    distinct = {image.tobytes() for image in evaluator.task.train.images}
    assert len(given) == len(distinct)
    assert sum(map(len, seen)) == 2 * train


def test_a_batch_size_beyond_the_data_is_said_once(caplog):
    evaluator, _ = start(a_task(90, 1024), epochs=1)
    list(evaluator.evaluate(a_trial(0)))
    list(evaluator.evaluate(a_trial(1)))
    start(a_task(90, 90))
    assert [r.getMessage() for r in caplog.records] == ["batches are of 90 images, for there are no more to train on"]


def test_the_order_differs_by_epoch_and_seed_and_is_one_for_both():
    task = a_task()
    batches = Batches(task.train, task.mean, task.std, torch.device("cpu"))
    orders = [batches.order(seed, epoch).tolist() for seed, epoch in [(0, 0), (0, 0), (0, 1), (1, 0)]]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2] != orders[3] != orders[0]
    assert sorted(orders[0]) == list(range(96))
    assert len({seed_of(0, "a", 1), seed_of(0, "a", 2), seed_of(1, "a", 1), seed_of(0, "b", 1), seed_of(0, "a")}) == 5


def test_batches_have_the_mean_and_deviation_of_the_task():
    task = a_task(train=200, channels=3)
    batches = Batches(task.train, task.mean, task.std, torch.device("cpu"))
    ((images, labels),) = batches.in_turn(500)
    expected = (task.train.images / 255 - np.reshape(task.mean, (3, 1, 1))) / np.reshape(task.std, (3, 1, 1))
    assert np.abs(images.numpy() - expected).max() < 1e-5
    assert labels.tolist() == task.train.labels.tolist()


# --- what goes wrong


class Broken(Tiny):
    """Does something to the loss or to its gradient in one training step, or from one on."""

    def __init__(self, kernel, task) -> None:
        super().__init__(kernel, task)
        self.steps = 0

    def forward(self, images):
        outputs = super().forward(images)
        if not self.training:
            return outputs
        self.steps += 1
        return self.spoil(outputs[0]), outputs[1]

    def spoil(self, logits):
        return logits


class Overflow(Broken):
    def spoil(self, logits):
        if self.steps == 3:
            self.before = weights_of(self)
            logits.register_hook(lambda gradient: gradient * math.inf)
        if self.steps == 4:
            self.after = weights_of(self)
        return logits


def weights_of(module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_overflow_skips_its_step_and_the_schedule_goes_on(precision, steps):
    """T5."""
    evaluator, space = start(module=Overflow, epochs=2, precision=precision)
    reports = list(evaluator.evaluate(a_trial()))
    network = space.built[0]
    assert equal(network.before, network.after)
    assert len(steps) == 5
    assert len(reports) == 2
    assert all(math.isfinite(value) for report in reports for value in report.metrics.values())
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def test_float16_skips_an_overflow_by_its_scaler_and_goes_on_from_a_checkpoint(tmp_path):
    """T5 as on a GPU: the same code with the scaler of the CPU."""
    from lightning.fabric import Fabric
    from lightning.fabric.plugins import MixedPrecision

    def learner(module):
        data = tuple(Batches(split, task.mean, task.std, torch.device("cpu")) for split in (task.train, task.held_out))
        fabric = Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu")])
        return Learner(module, task, data, Recipe(3, 0.1, 0.9, 5e-4, 0.1, 0.1, 5.0, 0.4), seed=4, fabric=fabric)

    task = a_task()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        going, later = learner(Overflow(3, task)), learner(Tiny(3, task))
    going.finish_epoch()
    going.finish_epoch()
    assert equal(going.network.before, going.network.after)
    assert going.checkpoint({}).facts["scaler"]["scale"] == 2.0**15  # half of what it began with
    going.checkpoint({}).save(tmp_path / "c.safetensors")
    later.restore(Checkpoint.load(tmp_path / "c.safetensors"), "c")
    assert later.finish_epoch() == going.finish_epoch()
    assert equal(weights(later.network), weights(going.network))


def test_a_loss_that_is_nan_fails_at_once():
    """T5."""

    class Diverging(Broken):
        def spoil(self, logits):
            return logits * (math.nan if self.steps > 2 else 1)

    evaluator, space = start(module=Diverging)
    with pytest.raises(TrialFailed, match=r"^diverged: loss was nan at epoch 1$"):
        list(evaluator.evaluate(a_trial()))
    assert space.built[0].steps == 3


def test_gradients_that_are_never_finite_fail():
    class Stuck(Broken):
        def spoil(self, logits):
            logits.register_hook(lambda gradient: gradient * math.inf)
            return logits

    evaluator, _ = start(module=Stuck)
    with pytest.raises(TrialFailed, match=r"^diverged: no gradient was finite at epoch 1$"):
        list(evaluator.evaluate(a_trial()))


def test_statistics_that_are_nan_never_reach_a_report():
    """T5: the training loss is finite, but at rest the network is not."""

    class Poisoned(Broken):
        def spoil(self, logits):
            if self.steps == 5:
                self.stem[1].running_var = torch.full((8,), math.nan)
            return logits

    reports = []
    evaluator, _ = start(module=Poisoned)
    with pytest.raises(TrialFailed, match=r"^diverged: loss was nan on the validation images at epoch 2$"):
        reports += evaluator.evaluate(a_trial())
    assert all(math.isfinite(value) for report in reports for value in report.metrics.values())


class Viewing(nn.Module):
    """A user's network, which flattens 3 x 3 maps by view."""

    def __init__(self, kernel, task) -> None:
        super().__init__()
        self.maps = nn.Conv2d(task.input[0], 4, 6)
        self.out = nn.Linear(36, task.outputs)

    def forward(self, images):
        maps = self.maps(images)
        return self.out(maps.view(maps.size(0), -1))


@pytest.mark.parametrize("channels_last", [True, "auto"])
def test_a_network_that_cannot_be_channels_last_is_trained_in_the_default_layout(caplog, channels_last):
    """T6."""
    evaluator, _ = start(module=Viewing, epochs=2, channels_last=channels_last)
    with caplog.at_level(logging.WARNING, logger="automl"):
        reports = [[r.metrics for r in evaluator.evaluate(a_trial(number))] for number in range(2)]
        network = evaluator.fit(ARCHITECTURE, 3)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "a network uses view on tensors that are laid out channels-last, so it is trained in the default layout, "
        "which is slower"
    ]
    plain, _ = start(module=Viewing, epochs=2, channels_last=False)
    assert reports == [[r.metrics for r in plain.evaluate(a_trial())]] * 2
    assert equal(weights(network), weights(plain.fit(ARCHITECTURE, 3)))


def test_both_layouts_train_alike():
    last, first = (
        next(r.metrics for r in start(epochs=1, channels_last=layout)[0].evaluate(a_trial()))
        for layout in (True, False)
    )
    assert last["train_loss"] == pytest.approx(first["train_loss"], abs=1e-4)


def test_another_error_of_the_network_is_left_as_it_is():
    class Wrong(Tiny):
        def forward(self, images):
            raise RuntimeError("this is mine")

    with pytest.raises(RuntimeError, match="this is mine"):
        list(start(module=Wrong)[0].evaluate(a_trial()))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
    ],
    ids=["python", "gpu", "cpu"],
)
def test_out_of_memory_is_a_reason_and_leaves_nothing_behind(error):
    """T4."""
    seen: list[weakref.ref] = []

    class Greedy(Tiny):
        def forward(self, images):
            if self.training:
                large = torch.zeros(1000, 1000)
                seen.append(weakref.ref(large))
                raise type(error)(*error.args)
            return super().forward(images)

    evaluator, _ = start(module=Greedy)
    for _ in range(2):
        gc.disable()  # what is freed is freed because nothing refers to it
        try:
            list(evaluator.evaluate(a_trial()))
        except TrialFailed as failed:
            assert str(failed) == "out of memory"
            assert failed.__context__ is None
            alive = [reference() for reference in seen]
        finally:
            gc.enable()
        assert alive == [None] * len(seen)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("field_", ["accelerator=gpu", "precision=float16"])
def test_what_needs_a_gpu_is_refused_without_one(field_):
    name, value = field_.split("=")
    with pytest.raises(BadInput, match=f"evaluator.{field_}.* GPU.*: use evaluator.{name}="):
        start(**{"accelerator": "auto", name: value})


def test_an_architecture_that_cannot_be_trained_has_no_estimate():
    class Wrong(Tiny):
        def forward(self, images):
            return super().forward(images) if not self.training else self.out(images)

    assert start(module=Wrong)[0].estimate(ARCHITECTURE) is None


def test_a_time_limit_is_looked_at_between_batches(monkeypatch):
    clock = iter(range(0, 1000, 2))  # 2 s for each of the 3 batches to train and the one to validate
    monkeypatch.setattr("automl_evaluators.training.time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    evaluator, _ = start(seconds=20.0)
    reports = []
    with pytest.raises(TrialFailed, match=r"^over its time limit of 20 s \(epoch 3 of 8\)$"):
        reports += evaluator.evaluate(a_trial())


def test_a_trial_that_is_stopped_lets_go_of_its_network():
    evaluator, space = start()
    running = evaluator.evaluate(a_trial())
    next(running)
    network = weakref.ref(space.built.pop())
    running.close()
    gc.collect()
    assert network() is None


@pytest.mark.slow
def test_memory_is_flat_over_hundreds_of_trained_trials():
    """L2."""

    class Many(Space):
        def describe(self, choose):
            return choose("one", Integer(0, 1_000_000))

        def build(self, blueprint, task):
            return Tiny(3, task)

    resident = []

    class Looking(Training):
        def evaluate(self, trial):
            yield from super().evaluate(trial)
            resident.append(psutil.Process().memory_info().rss)

    task = a_task(train=32, batch_size=16)
    evaluator = Looking(epochs=1, accelerator="cpu")
    evaluator.start(Many(), task)
    study = Study(Many(), Random(), evaluator, task, trials=300)
    study.run()
    assert [trial.error for trial in study.trials] == [None] * 300
    assert resident[299] - resident[99] < 50 << 20


@pytest.mark.slow
def test_a_cell_network_is_trained_saved_and_exported_without_its_auxiliary_head(tmp_path):
    """T8, from the space to the file; E2 for this family."""
    import onnxruntime

    from automl.deploy import Deployed, export_onnx, load_weights
    from automl.measure import multiply_adds, parameters
    from automl_spaces.nasnet import NASNet

    task = a_task(train=64)
    sizes = []
    for auxiliary in (True, False):
        space = NASNet(channels=2, blocks=2, drop_path=0.3, auxiliary=auxiliary)
        evaluator = Training(epochs=1, accelerator="cpu")
        evaluator.start(space, task)
        architecture = space.sample(random.Random(1))
        seen = []
        network = evaluator.fit(architecture, 0, watch=seen.append)
        assert seen[0].metrics["parameters"] == parameters(network)
        assert seen[0].metrics["multiply_adds"] == multiply_adds(network, task.input)
        sizes.append((parameters(network), multiply_adds(network, task.input)))
        deployed = Deployed.of(network, task)
        images = torch.from_numpy(task.held_out.images[:17]) / 255
        with torch.no_grad():
            expected = deployed(images)
            assert torch.equal(deployed(images), expected)
        if auxiliary:
            deployed.save(tmp_path, {"decisions": architecture.to_json()})
            export_onnx(deployed, tmp_path / "model.onnx", {}, task.held_out.images)
    assert sizes[0] == sizes[1]
    load_weights(deployed, tmp_path / "model.safetensors")  # into the network that never had a head
    with torch.no_grad():
        expected = deployed(images)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [output.name for output in session.get_outputs()] == ["logits"]
    (found,) = session.run(None, {"images": images.numpy()})
    assert np.abs(found - expected.numpy()).max() < 1e-4


@pytest.mark.parametrize(("folder", "changed"), [("evaluator", {}), ("retrain", {"epochs": 25, "tuning": 10})])
def test_the_config_lists_every_field_in_order_with_its_default(folder, changed):
    text = (HERE.parent.parent / "conf" / folder / "training.yaml").read_text(encoding="utf-8")
    listed = yaml.safe_load(text)
    defaults = {one.name: one.default for one in fields(Training)}
    assert list(listed) == ["name", *defaults]
    assert listed == {"name": "training", **defaults, **changed}


def test_nothing_is_printed(capfd):
    evaluator, _ = start(epochs=1)
    list(evaluator.evaluate(a_trial()))
    assert capfd.readouterr() == ("", "")


def test_fewer_images_are_the_same_for_all_and_stratified():
    labels = np.array([0] * 60 + [1] * 30 + [2] * 3)
    images = np.arange(93, dtype=np.uint8).reshape(-1, 1, 1, 1)
    chosen = first(Dataset(images, labels), 31)
    assert np.bincount(chosen.labels).tolist() == [20, 10, 1]
    assert np.array_equal(chosen.images, first(Dataset(images, labels), 31).images)
    assert np.bincount(first(Dataset(images, labels), 3).labels).tolist() == [1, 1, 1]
    assert len(first(Dataset(images, labels), 100).labels) == 93


def test_a_learner_sees_only_so_many_images():
    evaluator, _ = start(epochs=1, images=10)
    learner, _ = evaluator._learner(ARCHITECTURE, 0, channels_last=False)
    assert len(learner.train) == 10
    with pytest.raises(BadInput, match=r"evaluator\.images=2 is too few for"):
        start(epochs=1, images=2)


def test_batch_statistics_are_a_plain_mean_at_first():
    """A short training is not judged with the statistics that a network starts with."""
    evaluator, _ = start(epochs=8)
    learner, _ = evaluator._learner(ARCHITECTURE, 0, channels_last=False)
    seen = []
    learner.norms[0][0].register_forward_hook(lambda norm, inputs, output: seen.append(norm.momentum))
    learner.finish_epoch()
    assert seen[0] == 1.0
    assert seen[1] == 0.5
    assert min(seen) >= 0.1


def test_small_networks_are_trained_on_one_thread_and_the_number_is_put_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        evaluator, _ = start(epochs=1)
        learner, _ = evaluator._learner(ARCHITECTURE, 0, channels_last=False)
        used = []
        learner.network.register_forward_pre_hook(lambda module, inputs: used.append(torch.get_num_threads()))
        learner.finish_epoch()
        learner.validate()
        assert set(used) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


class Shortcut(nn.Module):
    """A network with a strided 1 x 1 convolution, as the shortcuts of residual networks have it."""

    def __init__(self, channels, outputs):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1),
            nn.Conv2d(8, 8, 1, stride=2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, outputs),
        )

    def forward(self, x):
        return self.layers(x)


def test_what_pytorch_computes_beyond_its_memory_channels_last_is_trained_in_the_default_layout():
    assert strides_single_pixels(Shortcut(1, 3))
    assert not strides_single_pixels(Tiny(3, a_task()))

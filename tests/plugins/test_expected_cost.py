"""Expected latency: a table of operations, measured once or given, whose expectation a search climbs down."""

from __future__ import annotations

import json
import math
import random
import zlib

import pytest
import torch
from torch import nn

from automl import BadInput, Candidate, Limit, Objective, Study, Trial, TrialFailed
from automl.journal import Journal
from automl.mixture import Mixture
from automl.snapshots import Snapshots
from automl.testing import story
from automl_evaluators import latencies
from automl_evaluators.latencies import Latencies
from automl_evaluators.supernet import Supernet
from automl_spaces.chain import Chain
from automl_spaces.darts import DARTS as DARTSSpace
from automl_spaces.nasbench201 import NASBench201
from automl_strategies.darts import DARTS
from automl_strategies.pc_darts import PCDARTS
from automl_tasks.synthetic import Synthetic

SPACE = NASBench201(cells=1, channels=4)
TIMED = {"resource": "latency_ms", "target": 0.001}


@pytest.fixture(scope="module")
def task():
    task = Synthetic(count=60, batch_size=8)
    task.prepare(0)
    return task


class Clock:
    """Stands for the measuring: a number for each network and shape, times a factor; counts what was measured."""

    def __init__(self, factor=1.0):
        self.factor, self.measured = factor, []

    def __call__(self, kind, network, task, device=None):
        other = "identity" if isinstance(network, nn.Identity) else "network"
        self.measured.append((kind, getattr(network, "automl_choice", (None, other))[1], tuple(task.input)))
        if self.measured[-1][1] == "identity":
            return 0.25
        return self.factor * (1 + zlib.crc32(repr(self.measured[-1]).encode()) % 1000 / 100)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(latencies, "milliseconds", clock)
    return clock


def started(space, task, folder=None, **settings):
    evaluator = Supernet(accelerator="cpu", probe=0, **settings)
    evaluator.objectives = (Objective("accuracy"),)
    evaluator.folder = folder
    evaluator.start(space, task)
    return evaluator


def asked(space, strategy=None):
    strategy = strategy or DARTS(deviation=0.5)
    strategy.start(space, random.Random(0))
    return strategy.ask()


def report(evaluator, candidate, number=0):
    (found,) = evaluator.evaluate(Trial(number, candidate, number))
    return found


def test_the_expected_latency_is_the_rest_and_each_option_by_its_weight(task, clock, tmp_path):
    candidate = asked(SPACE)
    found = report(started(SPACE, task, tmp_path, **TIMED), candidate)
    table = json.loads((tmp_path / "latencies.json").read_text())["operations"]
    (rest,) = [value for name, value in table.items() if name.startswith("rest 1x8x8 of ")]
    expected = rest
    for name, weights in candidate.architecture.weights.items():
        for op, weight in zip(candidate.architecture.domains[name].options, weights, strict=True):
            expected += weight * sum(table[f"{op.name} {shape} -> {shape}"] for shape in ("4x8x8", "8x4x4", "16x2x2"))
    assert found.metrics["latency_ms"] == pytest.approx(expected)
    assert len(table) == 1 + 5 * 3
    assert min(table.values()) >= 0


def test_each_operation_is_measured_once_at_each_shape_and_not_again(task, clock):
    evaluator = started(SPACE, task, **TIMED)
    report(evaluator, asked(SPACE))
    assert len(clock.measured) == len(set(clock.measured)) == 1 + (5 + 1) * 3  # with an identity a shape
    report(evaluator, asked(SPACE, DARTS(deviation=0.7)), 1)
    assert len(clock.measured) == 19


def test_what_calling_takes_is_taken_off_but_never_more_than_there_is(monkeypatch):
    times = {nn.Identity: 0.25, nn.ReLU: 0.2, nn.Tanh: 1.0}
    monkeypatch.setattr(latencies, "milliseconds", lambda kind, network, task, device: times.get(type(network), 7.0))

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            options = [nn.ReLU(), nn.Tanh()]
            for option, name in zip(options, ("relu", "tanh"), strict=True):
                option.automl_choice = ("a", name)
            self.mixture = Mixture("a", [], 1)
            self.mixture.options = nn.ModuleList(options)

        def forward(self, x):
            return self.mixture(x)

    class Images:
        input = (2, 4, 4)

    assert Latencies("latency_torch_ms").options(Two(), {"a": (0.5, 0.5)}, Images()) == (7.0, {"a": [0.0, 0.75]})


@pytest.mark.parametrize("kind", ["latency_ms", "latency_torch_ms"])
def test_the_slope_of_a_latency_is_that_of_finite_differences(kind, task, clock):
    candidate = asked(SPACE)
    plain = report(started(SPACE, task), candidate)
    evaluator = started(SPACE, task, resource=kind, target=0.001, strength=0.3)
    found = report(evaluator, candidate)
    engine = evaluator._engine

    def term(name, place, shift):
        weights = {key: list(some) for key, some in candidate.architecture.weights.items()}
        weights[name][place] += shift
        moved = type(candidate.architecture)(
            candidate.architecture.values,
            candidate.architecture.domains,
            candidate.architecture.blueprint,
            weights=weights,
        )
        return 0.3 * math.log(evaluator._expected(engine, moved)[0][kind] / 0.001)

    for name, gradient in found.gradients.items():
        for place, slope in enumerate(gradient):
            difference = (term(name, place, 1e-4) - term(name, place, -1e-4)) / 2e-4
            assert slope - plain.gradients[name][place] == pytest.approx(difference, abs=1e-6)


def test_a_search_below_its_target_is_left_alone(task, clock):
    candidate = asked(SPACE)
    plain = report(started(SPACE, task), candidate)
    assert "latency_ms" not in plain.metrics
    assert report(started(SPACE, task, resource="latency_ms", target=1e6), candidate).gradients == plain.gradients


@pytest.mark.parametrize(
    ("space", "strategy"),
    [
        (DARTSSpace(nodes=2, reductions=0, cells=1, channels=8), PCDARTS()),
        (Chain(stages=2, depth=2, channels=4, operations=("sep3x3", "mbconv3_3x3")), DARTS()),
    ],
    ids=["darts with parts", "chain"],
)
def test_every_option_of_other_spaces_has_a_latency_at_the_shapes_of_its_places(space, strategy, task):
    kind = "latency_torch_ms"
    candidate = asked(space, strategy)
    evaluator = started(space, task, resource=kind, target=1e-9)
    found = report(evaluator, candidate)
    ((_, options),) = evaluator._costs.values()
    assert options.keys() == candidate.architecture.weights.keys()
    assert sum(sum(costs[kind]) for costs in options.values()) > 0
    assert found.metrics[kind] > 0
    if isinstance(strategy, PCDARTS):
        assert any(" 2x" in name for name in evaluator._tables[kind].known)  # a quarter of eight channels


def test_the_rest_is_the_network_with_nothing_in_the_places_of_its_mixtures(task, monkeypatch):
    seen = {}

    def keep(kind, network, task, device):
        if not hasattr(network, "automl_choice") and not isinstance(network, nn.Identity):
            seen["rest"] = network
        return 1.0

    monkeypatch.setattr(latencies, "milliseconds", keep)
    report(started(SPACE, task, **TIMED), asked(SPACE))
    assert not any(isinstance(module, Mixture) for module in seen["rest"].modules())
    assert seen["rest"].eval()(torch.rand(3, *task.input)).shape == (3, task.outputs)


@pytest.mark.slow  # four networks are exported
def test_latencies_are_measured_in_onnxruntime(task, tmp_path):
    space = Chain(stages=1, depth=1, channels=4, operations=("mbconv3_3x3", "sep3x3"))
    found = report(started(space, task, tmp_path, **TIMED), asked(space))
    table = json.loads((tmp_path / "latencies.json").read_text())["operations"]
    assert {name.split()[0] for name in table} == {"rest", "mbconv3_3x3", "sep3x3"}
    assert 0 < found.metrics["latency_ms"] <= sum(table.values())


def test_a_candidate_of_its_own_has_the_latency_of_its_network(task, clock):
    evaluator = Supernet(accelerator="cpu", scored=8, resource="latency_torch_ms", target=1.0)
    evaluator.objectives = (Objective("accuracy"),)
    evaluator.limits = (Limit("latency_ms", 0.5),)
    evaluator.start(SPACE, task)
    first, last = evaluator.evaluate(Trial(0, Candidate(SPACE.sample(random.Random(0))), 0))
    assert first.fidelity == 0
    assert first.metrics["latency_ms"] == last.metrics["latency_ms"]
    assert clock.measured == [("latency_ms", "network", (1, 8, 8))]
    soft = report(evaluator, asked(SPACE), 1)
    assert {"latency_ms", "latency_torch_ms"} <= soft.metrics.keys()
    assert {"latency_ms", "latency_torch_ms"} <= evaluator.metrics()


# a table that is given


def table_of(task, folder):
    folder.mkdir(exist_ok=True)
    report(started(SPACE, task, folder, **TIMED), asked(SPACE))
    return folder / "latencies.json"


def test_a_table_of_another_run_is_used_and_nothing_measured(task, clock, tmp_path):
    path = table_of(task, tmp_path / "one")
    table = {name: 2 * value for name, value in json.loads(path.read_text())["operations"].items()}
    other = tmp_path / "phone.json"
    other.write_text(json.dumps(table))
    measured = len(clock.measured)
    once = report(started(SPACE, task, latencies=str(path), **TIMED), asked(SPACE))
    twice = report(started(SPACE, task, tmp_path, latencies=str(other), **TIMED), asked(SPACE))
    assert twice.metrics["latency_ms"] == pytest.approx(2 * once.metrics["latency_ms"])
    assert len(clock.measured) == measured
    assert json.loads((tmp_path / "latencies.json").read_text())["operations"] == table


def test_a_table_that_lacks_operations_says_which(task, clock, tmp_path):
    path = table_of(task, tmp_path)
    table = json.loads(path.read_text())["operations"]
    lacking = [name for name in table if name.startswith("nor_conv_3x3")]
    path.write_text(json.dumps({name: value for name, value in table.items() if name not in lacking}))
    with pytest.raises(TrialFailed, match=rf"has no '{lacking[0]}', nor 2 more that this search needs: add them, or"):
        report(started(SPACE, task, latencies=str(path), **TIMED), asked(SPACE))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", r"is not JSON .*: give a file that automl latency build"),
        ("[1]", "holds no table: give a file that automl latency build .*, or an object of milliseconds by operation"),
        ("{}", "holds no table"),
        ('{"skip 4x8x8 -> 4x8x8": -1}', "has -1 for 'skip 4x8x8 -> 4x8x8': give milliseconds, 0 or more"),
        ('{"a": "fast"}', r"has \"fast\" for 'a'"),
        ('{"a": NaN}', "has NaN for 'a'"),
        ('{"a": true}', "has true for 'a'"),
        ('{"a\\u001b": null}', r"has null for 'a\\\\x1b'"),
    ],
)
def test_a_bad_table_is_refused_before_the_search(text, told, task, tmp_path):
    path = tmp_path / "table.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=told):
        started(SPACE, task, latencies=str(path), **TIMED)


def test_a_table_that_is_not_there_or_of_no_use_is_refused(task):
    with pytest.raises(BadInput, match=r"evaluator.latencies=no.json cannot be read \(No such file"):
        started(SPACE, task, latencies="no.json", **TIMED)
    with pytest.raises(BadInput, match=r"no.json is of no use to evaluator.resource=parameters: type evaluator"):
        Supernet(resource="parameters", target=1.0, latencies="no.json")


# going on


def study(folder, task, trials):
    folder.mkdir(exist_ok=True)
    evaluator = Supernet(accelerator="cpu", probe=0, scored=8, **TIMED)
    evaluator.folder = folder
    journal, snapshots = Journal(folder / "journal.jsonl", {}), Snapshots(folder / "snapshots", 0.0)
    Study(SPACE, DARTS(), evaluator, task, trials=trials, journal=journal, snapshots=snapshots).run()
    return story(folder / "journal.jsonl")


def test_a_resumed_search_keeps_the_table_of_its_first_measurement(task, clock, tmp_path):
    whole = study(tmp_path / "whole", task, 4)
    study(tmp_path / "cut", task, 2)
    clock.factor = 3.0  # the machine is slower by now
    measured = len(clock.measured)
    assert study(tmp_path / "cut", task, 4) == whole
    assert len(clock.measured) == measured
    assert study(tmp_path / "anew", task, 4) != whole
    tables = [json.loads((tmp_path / name / "latencies.json").read_text()) for name in ("whole", "cut")]
    assert tables[0] == tables[1]

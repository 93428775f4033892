"""Latencies that are predicted: kernels cut from networks, tables of them in files, and what learns from networks."""

from __future__ import annotations

import json
import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from automl import BadInput, Limit, Objective, TrialFailed, latency_build, latency_table
from automl.cli import main
from automl.deploy import Deployed, exported
from automl.device import Command, Device, Here
from automl.kernel_files import Files
from automl.kernels import counts, cut
from automl.latency_model import CALL, Model, accuracy
from automl.latency_table import Network, Table
from automl.measure import onnx_session
from automl.prediction import Prediction
from automl_evaluators.latencies import Latencies
from automl_evaluators.training import Training
from automl_spaces.chain import Chain
from automl_tasks.synthetic import Synthetic

IMAGE = (3, 8, 8)
TASK = SimpleNamespace(input=IMAGE, mean=[0.5] * 3, std=[0.5] * 3, classes=["a", "b"], outputs=2)
PRUNED = {"name": "vgg_cifar", "width": 0.125}
SPACE = Chain(stages=1, depth=2, channels=4, operations=("sep3x3", "skip"))


class Branches(nn.Module):
    """Has what is fused and what is not: two convolutions of one map, their sum, a dead end, a view, the same twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.left, self.right = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.dead = nn.Conv2d(8, 8, 5)
        self.last = nn.Linear(8, 2)

    def forward(self, x):
        x = torch.relu_(self.norm(self.first(x)))
        self.dead(x)
        one, two = torch.sigmoid(x), torch.sigmoid(x)
        y = torch.relu(self.left(one) + self.right(two))
        return self.last(y.mean((2, 3)))


def names(module, image=IMAGE, batch=1):
    return [one.kernel.name for one in cut(module, image, batch)]


def test_a_network_is_cut_into_what_runs_as_one():
    kinds = [one.kernel.kind for one in cut(Branches(), IMAGE)]
    assert kinds == ["convolution", "sigmoid", "pointwise", "depthwise", "mean", "addmm"]
    first, sigmoid, left, right, *_ = names(Branches())
    assert "relu(r0) of 1x3x8x8" in first  # batch normalisation is in the convolution's weights
    assert "batch_norm" not in first
    assert left.endswith("of 1x8x8x8")
    assert "add(i" in right  # the sum goes to the later convolution, the activation with it
    assert "relu" in right
    assert sigmoid == "sigmoid: sigmoid(i0) of 1x8x8x8"
    assert names(Branches(), batch=2)[1] == "sigmoid: sigmoid(i0) of 2x8x8x8"


def test_kernels_tell_their_work_and_where_what_they_read_comes_from():
    placed = cut(Branches(), IMAGE)
    assert placed[0].kernel.multiply_adds == 8 * 3 * 9 * 64
    assert placed[0].kernel.elements == 3 * 64 + 8 * 64 + 8 * 3 * 9 + 4 * 8
    assert [one.reads for one in placed] == [(-1,), (0,), (1,), (1, 2), (3,), (4,)]


def test_each_kernel_alone_does_what_it_does_in_its_network():
    """A network put together from kernels gives what the network gives, where both have one weight everywhere."""
    network = Branches().eval()
    files = Files()
    placed = cut(network, IMAGE)
    files.add([one.kernel for one in placed])
    for one in placed:
        session = onnx_session(files.alone(one.kernel), 1)
        given = {value.name: np.ones(value.shape, np.float32) for value in session.get_inputs()}
        assert [value.shape for value in session.get_inputs()] == [list(shape) for shape in one.kernel.shapes]
        (found,) = session.run(None, given)
        expected = one.kernel.module().eval()(*[torch.ones(shape) for shape in one.kernel.shapes])
        assert found.shape == tuple(expected.shape)
    (answer,) = onnx_session(files.network(placed), 1).run(None, {"images": np.ones((1, *IMAGE), np.float32)})
    assert answer.shape == (1, 2)
    assert np.isfinite(answer).all()


def optimised(model, folder):
    """Return how many operators of each kind onnxruntime runs."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)


@pytest.mark.slow  # exports two networks
@pytest.mark.parametrize("name", ["nasbench201", "chain"])
def test_onnxruntime_makes_the_same_of_a_network_put_together_as_of_one_that_is_shipped(name, tmp_path):
    from automl.plugins import Registry

    small = {"nasbench201": {"cells": 1, "channels": 16}, "chain": {"stages": 2, "depth": 2}}[name]
    space = Registry().build("space", {"name": name, **small})
    rng = random.Random(1)
    for _ in range(2):
        network = space.build(space.sample(rng).blueprint, TASK)
        placed = cut(Deployed.of(network, TASK), IMAGE)
        files = Files()
        files.add([one.kernel for one in placed])
        assert optimised(files.network(placed), tmp_path) == optimised(exported(network, TASK), tmp_path)


def test_kernels_of_every_small_space_can_be_replayed():
    from automl.plugins import Registry

    for settings in ({"name": "darts", "cells": 1, "channels": 4}, {"name": "shufflenet_v2", "width": 0.5}):
        space = Registry().build("space", settings)
        network = space.build(space.sample(random.Random(0)).blueprint, TASK)
        for one in cut(Deployed.of(network, TASK), IMAGE):
            one.kernel.module().eval()(*[torch.rand(shape) for shape in one.kernel.shapes])


class Zeroes(nn.Module):
    """Adds zeros of the shape of what it is given, as an operation that does nothing may."""

    def forward(self, x):
        return (x + torch.zeros_like(x)).mean((2, 3))


def test_a_map_of_one_number_is_timed_and_put_together_like_any_other():
    placed = cut(Zeroes(), IMAGE)
    assert [one.kernel.kind for one in placed] == ["zeros_like", "add", "mean"]
    files = Files()
    files.add([one.kernel for one in placed])
    models = {one.kernel.name: files.alone(one.kernel) for one in placed}
    assert min(Here().quietest(models, (1, 1, 1)).values()) > 0
    given = np.random.default_rng(0).random((1, *IMAGE), dtype=np.float32)
    (found,) = onnx_session(files.network(placed), 1).run(None, {"images": given})
    assert np.allclose(found.ravel(), given.mean((0, 2, 3)), atol=1e-6)


# what predicts


def machine(rng, networks, kernels=12):
    """Return kernels' times alone, networks' counts, and what a machine takes, which hides some of each kind."""
    milliseconds = {f"{'abc'[place % 3]}: {place}": float(rng.uniform(0.01, 0.2)) for place in range(kernels)}
    hidden = {name: milliseconds[name] * {"a": 0.5, "b": 0.9, "c": 1.4}[name[0]] for name in milliseconds}
    drawn = [
        {name: int(rng.integers(1, 6)) for name in rng.permutation(sorted(milliseconds))[:6]} for _ in range(networks)
    ]
    taken = [0.05 + sum(number * hidden[name] for name, number in counts.items()) for counts in drawn]
    return {**milliseconds, CALL: 0.05}, drawn, taken


def test_it_learns_by_which_factor_kernels_of_each_kind_are_off():
    milliseconds, drawn, taken = machine(np.random.default_rng(0), 60)
    model = Model(milliseconds, drawn[:20], taken[:20])
    judged = accuracy([model.predict(counts) for counts in drawn[20:]], taken[20:])
    plain = accuracy([model.sum(counts) for counts in drawn[20:]], taken[20:])
    assert judged.mape < 0.02 < plain.mape
    assert judged.kendall > 0.95
    assert judged.networks == 40


def test_it_does_with_no_networks_and_with_few_by_one_factor():
    milliseconds, drawn, _ = machine(np.random.default_rng(1), 3)
    assert Model(milliseconds, [], []).predict(drawn[0]) == pytest.approx(Model(milliseconds, [], []).sum(drawn[0]))
    model = Model(milliseconds, drawn, [2 * Model(milliseconds, [], []).sum(counts) for counts in drawn])
    assert model.predict({"a: 0": 1}) == pytest.approx(2 * (milliseconds["a: 0"] + 0.05))
    with pytest.raises(KeyError):
        model.predict({"d: 9": 1})


def test_a_network_unlike_all_others_still_takes_time():
    milliseconds, drawn, taken = machine(np.random.default_rng(2), 12)
    model = Model(milliseconds, drawn, taken)
    assert model.predict({"c: 2": 5000}) > 0
    assert model.predict({}) > 0


def test_accuracy_is_by_hand():
    found = accuracy([1.1, 1.8, 3.0], [1.0, 2.0, 3.0])
    assert found.mape == pytest.approx(0.2 / 3)
    assert (found.spearman, found.kendall) == (1, 1)
    assert accuracy([1, 1], [1, 2]).kendall == 0


# files


def table(identity=None, networks=12):
    milliseconds, drawn, taken = machine(np.random.default_rng(3), networks)
    whole = [
        Network(counts, time, place % 4 == 3) for place, (counts, time) in enumerate(zip(drawn, taken, strict=True))
    ]
    return Table("latency_ms", identity or Here().identity, IMAGE, milliseconds, whole, "chain")


def test_a_table_is_read_as_it_was_written(tmp_path):
    made = table()
    made.write(tmp_path / "t.json")
    read = latency_table.read(tmp_path / "t.json", "latency_ms", "t.json")
    assert (read.identity, read.image, read.operations, read.networks) == (
        made.identity,
        made.image,
        made.operations,
        made.networks,
    )
    assert read.judged() == made.judged()
    assert read.judged().networks == 3
    assert read.model().predict(made.networks[0].counts) == made.model().predict(made.networks[0].counts)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda values: values["operations"].update({CALL: 0.06}), "is damaged or was changed by hand"),
        (lambda values: values.update(schema=7), "has schema 7, and here it is 1"),
        (lambda values: values.pop("digest"), "is damaged or was changed by hand"),
        (lambda values: values.clear(), "holds no table"),
    ],
)
def test_a_changed_file_is_refused(change, told, tmp_path):
    path = tmp_path / "t.json"
    table().write(path)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(BadInput, match=told):
        latency_table.read(path, "latency_ms", "t.json")


def test_a_file_cut_short_or_of_strange_values_is_refused(tmp_path):
    path = tmp_path / "t.json"
    table().write(path)
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match="is not JSON"):
        latency_table.read(path, "latency_ms", "t.json")
    values = {"schema": 1, "metric": "latency_ms", "device": {}, "image": None, "space": None, "operations": {}}
    for networks in (3, [{"kernels": [[5, 1]], "milliseconds": 1.0, "held_out": False}], [{}]):
        bad = {**values, "networks": networks}
        path.write_text(json.dumps({**bad, "digest": latency_table._digest(bad)}))
        with pytest.raises(BadInput, match="holds no table"):
            latency_table.read(path, "latency_ms", "t.json")


@pytest.mark.parametrize(
    ("key", "value"), [("device", "Pi 5"), ("runtime", "onnxruntime 0.1"), ("threads", 4), ("batch", 8)]
)
def test_a_table_of_another_device_is_refused(key, value):
    made = table({**Here().identity, key: value})
    with pytest.raises(BadInput, match=f"t.json is of {key} {value}, and here it is .*: choose that device"):
        Prediction(made, Here(), IMAGE, "t.json")


def test_a_table_of_other_images_or_without_networks_is_refused():
    with pytest.raises(BadInput, match="is of images of 3x8x8, and here they are 3x9x9"):
        Prediction(table(), Here(), (3, 9, 9), "t.json")
    with pytest.raises(BadInput, match="has no networks that were measured whole"):
        Prediction(table(networks=0), Here(), IMAGE, "t.json")


# candidates


class Counting(Device):
    """A device that takes a millisecond a file, and counts."""

    asked = 0

    def time(self, model, image, *, runs=200, seconds=2.0):
        raise AssertionError

    def quietest(self, models, image):
        type(self).asked += len(models)
        return dict.fromkeys(models, 1.0)

    @property
    def identity(self):
        return Here().identity

    def describe(self):
        return "a device that counts"


def known(network, lacking=()):
    """Return a table that knows the kernels of a network but for some."""
    found = counts(cut(Deployed.of(network, TASK), IMAGE))
    operations = {CALL: 0.01, **{name: 0.1 for name in found if not name.startswith(tuple(lacking))}}
    whole = [Network(dict(found), 2 * (0.01 + 0.1 * sum(found.values())), False)] * 3
    return Table("latency_ms", Here().identity, IMAGE, operations, whole if not lacking else [Network({}, 0.02)] * 3)


def test_a_candidate_is_predicted_without_being_exported(monkeypatch):
    from automl import deploy

    monkeypatch.setattr(deploy, "_as_onnx", lambda *given: pytest.fail("a network is exported"))
    network = Branches().eval()
    found = Prediction(known(network), Here(), IMAGE, "t.json").milliseconds(network, TASK)
    assert found == pytest.approx(2 * (0.01 + 0.1 * 8))  # with the two of the normalisation
    assert network.norm is not None


def test_what_the_table_lacks_is_timed_on_this_machine_and_named_on_another(monkeypatch):
    network = Branches().eval()
    monkeypatch.setattr(Here, "quietest", lambda self, models, image: dict.fromkeys(models, 0.31))
    prediction = Prediction(known(network, lacking=("sigmoid",)), Here(), IMAGE, "t.json")
    assert prediction.milliseconds(network, TASK) == pytest.approx(2 * (0.01 + 0.1 * 7 + 0.30))
    place = Command(command="true {model}", called="Pi 5")
    made = known(network, lacking=("sigmoid", "mean"))
    made.identity = place.identity
    with pytest.raises(TrialFailed, match=r"t.json has no '\w+: .*, nor 1 more that this network needs: make a table"):
        Prediction(made, place, IMAGE, "t.json").milliseconds(network, TASK)


def test_an_option_of_a_supernet_is_the_sum_of_its_kernels(tmp_path):
    network = Branches().eval()
    made = known(network)
    made.write(tmp_path / "t.json")
    latencies = Latencies.read("latency_ms", tmp_path / "t.json", None, IMAGE)
    assert latencies._adds(nn.Sigmoid(), (8, 8, 8)) == pytest.approx(2 * 0.1)
    with pytest.raises(BadInput, match="is of latency_ms, and here latency_torch_ms is asked for"):
        Latencies.read("latency_torch_ms", tmp_path / "t.json", None, IMAGE)


def started(path, **settings):
    task = Synthetic(count=40, batch_size=8, channels=3)
    task.prepare(0)
    evaluator = Training(epochs=1, accelerator="cpu", latencies=str(path), **settings)
    evaluator.objectives, evaluator.limits = (Objective("accuracy"),), (Limit("latency_ms", 5.0),)
    evaluator.start(SPACE, task)
    return evaluator, task


def test_an_evaluator_predicts_and_says_by_what(tmp_path, monkeypatch):
    monkeypatch.setattr(Here, "quietest", lambda self, models, image: dict.fromkeys(models, 0.05))
    monkeypatch.setattr(Files, "add", lambda self, kernels: None)
    monkeypatch.setattr(Files, "alone", lambda self, kernel: b"")
    table().write(tmp_path / "t.json")
    evaluator, task = started(tmp_path / "t.json")
    found = evaluator._costs(SPACE.build(SPACE.sample(random.Random(0)).blueprint, task))
    assert found["latency_ms"] > 0
    told = evaluator.provenance()["latency_ms"]
    assert told.startswith("predicted by t.json for ")
    assert "mean absolute percentage error " in told
    assert "on 3 held-out networks" in told


def test_a_table_that_nothing_asks_for_is_refused(tmp_path):
    table().write(tmp_path / "t.json")
    evaluator = Training(latencies=str(tmp_path / "t.json"))
    with pytest.raises(BadInput, match="is of no use where neither the objective nor a limit names latency_ms"):
        evaluator.start(SPACE, Synthetic())


# building


def test_networks_are_drawn_with_those_that_they_are_made_of():
    from automl.plugins import Registry

    settings = {"name": "pruning", "across": "layers", "budget": None, "round_to": 2, "recalibrate": 0}
    compressor = {**settings, "keep": [0.2, 1.0]}
    space = Registry().build("space", {"name": "compressed", "space": PRUNED, "compressor": compressor})
    task = Synthetic(count=40, size=8, channels=3, labels=2)
    task.prepare(0)
    space.check(task)
    origin = space.origin(space.sample(random.Random(0)).blueprint)
    whole = counts(cut(Deployed.of(origin.space.build(origin.architecture.blueprint, task), task), task.input))
    cutter = latency_build._Cutter(space, task, 1, 0)
    drawn, _ = cutter.draw(8)
    assert sum(counts(placed) == whole for placed in drawn) == 1
    own = {one.kernel.name for placed in drawn for one in placed}
    assert own < cutter.kernels.keys()  # and those of networks that are not timed whole
    assert {kernel.name for kernel in cutter.kernels.values()} == cutter.kernels.keys()


@pytest.mark.slow  # exports two networks and all kernels
def test_building_writes_a_table_that_a_search_predicts_by(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["+space=chain", "space.stages=1", "space.depth=3", "space.channels=4", "task=synthetic", "task.count=60"]
    assert main(["latency", "build", "--out", "t.json", *words, "--networks", "8", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["predicted"]["networks"] == 2
    assert 0 <= figures["predicted"]["mape"] < 1
    search = ["strategy=random", "trials=2", "evaluator.epochs=1", "retrain=none", "evaluator.latencies=t.json"]
    assert main([*words, *search, "objective.limits.latency_ms=100", "runs=runs"]) == 0
    folder = tmp_path / capsys.readouterr().out.splitlines()[-1]
    summary = json.loads((folder / "summary.json").read_text())
    assert 0 < summary["best"]["metrics"]["latency_ms"] < 100
    assert summary["provenance"]["latency_ms"].startswith("predicted by t.json for ")
    assert "predicted by t.json for " in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["+space=chain", "--networks", "4"], "--networks 4 is too few to fit and to judge by: give at least 8"),
        (["--space", "chain", "--out", "no/t.json"], "--out no/t.json cannot be written: give a file in a folder that"),
        (["+space=squeezenet", "space.width=0.1", "task=synthetic"], "this space has only 1 networks of different"),
        (["--space", "chian"], "no space is named 'chian'"),
    ],
)
def test_building_refuses_what_does_not_fit(words, told, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = [] if "--out" in words else ["--out", "t.json"]
    assert main(["latency", "build", *out, *words]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "t.json").exists()


def test_the_call_is_of_a_network_that_does_nothing():
    (found,) = onnx_session(latency_build.nothing(), 1).run(None, {"x": np.full((1, 1, 1, 1), 3, np.float32)})
    assert found.item() == 3

"""A compressor in the loop: its decisions beside the network's, the training that it is lent, and what is shipped."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

import automl
from automl import BadInput, Candidate, Compressor, Real, Trial, TrialFailed, cli, final
from automl.compressor import Compressed
from automl.errors import SearchFailed
from automl.known import Known
from automl.plugins import Registry
from automl.study import Study
from automl_compressors.pruning import Pruning
from automl_evaluators.training import Training
from automl_tasks.synthetic import Synthetic
from given import Given, plain

NETWORK = """
import torch
from torch import nn

def small(width=16, classes=4, inputs=3):
    return nn.Sequential(
        nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))

def frozen():
    return small().requires_grad_(False)

def broken():
    raise ValueError("no such width")

def nothing():
    return 3
"""
SMALL = [
    "task=synthetic",
    "task.count=160",
    "task.channels=3",
    "task.labels=4",
    "task.size=8",
    "task.batch_size=32",
    "trials=3",
    "seed=1",
]
SHORT = ["evaluator.epochs=1", "retrain.epochs=2", "retrain.tuning=1"]


def task(**settings):
    made = Synthetic(**{"count": 60, "size": 8, "channels": 3, "labels": 4, "batch_size": 16} | settings)
    made.prepare(0)
    return made


@pytest.fixture(autouse=True)
def one_round_of_timing(monkeypatch):
    monkeypatch.setattr(final, "_ROUNDS", 1)


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_networks.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_networks"
    sys.modules.pop("own_networks", None)


def automl_at(tmp_path, *words):
    return cli.main([*words, f"runs={tmp_path / 'runs'}"])


def only_run(tmp_path) -> Path:
    (journal,) = (tmp_path / "runs").glob("*/*/journal.jsonl")
    return journal.parent


@dataclass
class Tuned(Compressor[float]):
    """Scales the last layer by a decision; trains by a loss of its own."""

    epochs: int = 0
    seen: tuple[int, ...] = ()

    def describe(self, studied, choose):
        return choose("scale", Real(0.5, 2.0), context=(1.0,))

    def compress(self, network, studied, plan, training):
        if training is not None and self.epochs:
            training.train(network, self.epochs, rate=0.5, loss=lambda net, x, y: training.loss(net, x, y))
        with torch.no_grad():
            network[-1].weight.mul_(plan)
        return network, {"scale": plan}

    def rebuild(self, network, form):
        return network


def test_decisions_of_the_network_and_of_the_compressor_stand_side_by_side():
    space = Compressed(Registry().build("space", {"name": "nasbench201", "channels": 8}), Pruning(keep=(0.3, 1.0)))
    space.check(task())
    architecture = space.sample(random.Random(0))
    assert list(architecture.values)[-1] == "keep"
    assert space.read(architecture.to_json()) == architecture
    changed = space.mutate(architecture, random.Random(1), ["keep"])
    assert changed.values["keep"] != architecture.values["keep"]
    assert {**changed.values, "keep": 0} == {**architecture.values, "keep": 0}
    assert space.canonical(changed.blueprint) != space.canonical(architecture.blueprint)


def test_it_wants_to_know_the_task_first():
    with pytest.raises(BadInput, match="check it first"):
        Compressed(Given(plain()), Pruning()).sample(random.Random(0))


def test_of_many_networks_one_that_cannot_be_made_smaller_fails_its_trial():
    @dataclass
    class Some(automl.Space):
        def describe(self, choose):
            return choose("kind", ["plain", "flat", "broken"])

        def build(self, blueprint, task):
            if blueprint == "broken":
                raise RuntimeError("no such layer")
            return plain() if blueprint == "plain" else nn.Sequential(nn.Flatten(), nn.Linear(192, 4))

    space = Compressed(Some(), Pruning())
    space.check(task())
    flat = space.complete({"kind": "flat"}, random.Random(0))
    with pytest.raises(TrialFailed, match="none of the network's channels can be removed"):
        space.build(flat.blueprint, task())
    broken = space.complete({"kind": "broken"}, random.Random(0))
    with pytest.raises(RuntimeError, match="no such layer"):
        space.build(broken.blueprint, task())
    with pytest.raises(BadInput, match="none of the network's channels"):
        Compressed(Given(nn.Sequential(nn.Flatten(), nn.Linear(192, 4))), Pruning()).check(task())


def reports(space, made, compressor_settings=None, seed=3, **settings):
    evaluator = Training(**{"epochs": 2, **settings})
    space.check(made)
    evaluator.start(space, made)
    architecture = space.sample(random.Random(0))
    return list(evaluator.evaluate(Trial(0, Candidate(architecture), (seed << 32)))), evaluator, architecture


def test_what_is_compressed_is_judged_as_it_is_or_tuned_first():
    made = task()
    as_it_is, *_ = reports(Compressed(Given(plain()), Pruning()), made)
    assert [report.fidelity for report in as_it_is] == [1.0]
    tuned, *_ = reports(Compressed(Given(plain()), Pruning()), made, tuning=2)
    assert [report.fidelity for report in tuned] == [0.5, 1.0]
    assert {report.metrics["untuned_accuracy"] for report in tuned} == {as_it_is[0].metrics["accuracy"]}


def test_nothing_to_change_leaves_the_training_bit_for_bit_as_it_is():
    made = task()
    whole, *_ = reports(Compressed(Given(plain()), Pruning(keep=1.0, budget=None, recalibrate=0)), made, tuning=2)
    space = Given(plain())
    evaluator = Training(epochs=2, learning_rate=0.01)
    evaluator.start(space, made)
    alone = list(evaluator.evaluate(Trial(0, Candidate(space.sample(random.Random(0))), 3 << 32)))
    assert [report.metrics["loss"] for report in whole] == [report.metrics["loss"] for report in alone]


def test_a_loss_of_its_own_that_is_the_tasks_changes_nothing():
    made = task()
    outcomes = []
    for loss in (None, lambda net, x, y: made.loss(net(x), y, 0.1)):

        @dataclass
        class Trains(Tuned):
            def compress(self, network, studied, plan, training):
                if training is not None:
                    training.train(network, 2, loss=loss)  # noqa: B023
                return network, {}

        found, *_ = reports(Compressed(Given(plain()), Trains()), made)
        outcomes.append(found[0].metrics["loss"])
    assert outcomes[0] == outcomes[1]


def test_the_origin_is_trained_once_by_the_final_networks_settings(tmp_path, monkeypatch):
    made = task()
    fitted = []
    fit = Training.fit

    def noted(self, *arguments, **named):
        fitted.append(self.epochs)
        return fit(self, *arguments, **named)

    monkeypatch.setattr(Training, "fit", noted)
    inner = Given(plain())
    monkeypatch.setattr(Given, "given", False)
    space = Compressed(inner, Pruning(across="layers"))
    space.check(made)
    for _ in range(2):  # the second finds it in the folder
        evaluator = Training(epochs=1)
        evaluator.trainer, evaluator.folder = Training(epochs=3), tmp_path
        evaluator.start(space, made)
        for number in range(2):
            list(evaluator.evaluate(Trial(number, Candidate(space.sample(random.Random(number))), number)))
    assert fitted == [3]


def test_compression_interrupted_in_its_own_training_goes_on_bit_for_bit(tmp_path, monkeypatch):
    from automl_evaluators import lent

    monkeypatch.setattr(lent, "_SECONDS_BETWEEN_SAVES", 0.0)
    made = task()
    space = Compressed(Given(plain()), Tuned(epochs=3))
    space.check(made)
    architecture = space.sample(random.Random(0))

    def fitted(folder):
        trainer = Training(tuning=0)
        trainer.start(space, made)
        folder.mkdir(exist_ok=True)
        return trainer.fit(architecture, 0, checkpoint=folder)

    unbroken = fitted(tmp_path / "unbroken").state_dict()

    class Stop(Exception):
        pass

    from automl_evaluators.learner import Learner

    steps = []
    take = Learner._take_step

    def stopping(self):
        steps.append(0)
        if len(steps) == 5:
            raise Stop
        take(self)

    monkeypatch.setattr(Learner, "_take_step", stopping)
    with pytest.raises(Stop):
        fitted(tmp_path / "broken")
    resumed = fitted(tmp_path / "broken").state_dict()
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)
    assert len(steps) < 2 * 3 * 3


def test_a_network_of_ones_own_is_compressed_shipped_and_loaded(tmp_path, own, capsys):
    words = ["+space=module", f"space.target={own}:small", "+compressor=pruning", "compressor.across=layers"]
    assert automl_at(tmp_path, *words, "strategy=random", *SMALL, *SHORT) == 0
    folder = only_run(tmp_path)
    summary = json.loads((folder / "summary.json").read_text())
    before, after = summary["before"]["model"], summary["model"]
    assert after["multiply_adds"] <= 0.5 * before["multiply_adds"]
    assert after["bytes"] == (folder / "model.safetensors").stat().st_size < before["bytes"]
    assert {"accuracy", "loss"} <= summary["before"]["test"].keys()
    assert "before" in capsys.readouterr().out
    for text in (folder / "config.yaml", folder / "architecture.json"):
        assert own not in text.read_text()
    for command in (["export"], ["measure", "--no-latency"]):
        assert cli.main([*command, str(folder)]) == 2
        assert "type space.target=package.module:factory after the folder" in capsys.readouterr().err
        assert cli.main([*command, str(folder), f"space.target={own}:small"]) == 0
    network = automl.load(folder, target=f"{own}:small")
    assert network(torch.rand(2, 3, 8, 8)).shape == (2, 4)
    with pytest.raises(BadInput, match=r"is made by code of yours, which is named anew each time: type space.target="):
        automl.load(folder)
    whole = automl.load(folder / "before", target=f"{own}:small")
    assert sum(p.numel() for p in whole.parameters()) == before["parameters"]
    image = "torch.full((1, 3, 8, 8), 0.5)"
    load = f"automl.load({str(folder)!r}, target='{own}:small')"
    code = f"import automl, torch; print({load}({image}).tolist())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert json.loads(other.stdout) == network(torch.full((1, 3, 8, 8), 0.5)).tolist()


def test_the_network_of_a_run_is_compressed_and_outlives_the_run(tmp_path, capsys):
    assert (
        automl_at(tmp_path, "+space=vgg_cifar", "space.width=0.125", "strategy=grid", *SMALL, *SHORT, "trials=1") == 0
    )
    first = only_run(tmp_path)
    weights = (first / "model.safetensors").read_bytes()
    words = ["+space=run", f"space.run={first}", "+compressor=amc", "compressor.budget=0.6", "strategy=random"]
    assert cli.main([*words, *SMALL, *SHORT, f"runs={tmp_path / 'second'}"]) == 0
    (journal,) = (tmp_path / "second").glob("*/*/journal.jsonl")
    assert (first / "model.safetensors").read_bytes() == weights
    summary = json.loads((journal.parent / "summary.json").read_text())
    accuracy = json.loads((first / "summary.json").read_text())["test"]["accuracy"]
    assert summary["before"]["test"]["accuracy"] == pytest.approx(accuracy)
    network = automl.load(journal.parent)
    images = torch.rand(2, 3, 8, 8)
    expected = network(images)
    first.rename(tmp_path / "gone")
    assert torch.equal(automl.load(journal.parent)(images), expected)


def test_a_run_that_was_stopped_goes_on_to_the_same_end(tmp_path, own, capsys):
    words = ["+space=module", f"space.target={own}:small", "+compressor=amc", "strategy=evolution", *SMALL, *SHORT]
    assert automl_at(tmp_path / "whole", *words) == 0
    assert automl_at(tmp_path / "part", *words, "trials=1", "retrain.epochs=2") == 0
    folder = only_run(tmp_path / "part")
    again = ["resume", str(folder), "trials=3", f"space.target={own}:small"]
    for changed, sentence in {
        "compressor.budget=0.4": "its space.compressor.budget is 0.5, asked for is 0.4",
        "evaluator.tuning=1": "its evaluator.tuning is 0, asked for is 1",
        "retrain.epochs=3": "its retrain.epochs is 2, asked for is 3",  # the network before is trained by them
        "compressor=pruning": "chooses another compressor, and a run goes on with its own",
    }.items():
        assert cli.main([*again, changed]) == 2
        assert sentence in capsys.readouterr().err
    assert cli.main(["resume", str(folder), "trials=3"]) == 2
    assert cli.main([*again]) == 0
    whole, part = (json.loads((one / "summary.json").read_text()) for one in (only_run(tmp_path / "whole"), folder))
    assert part["best"] == whole["best"]
    assert part["test"] == whole["test"]


def test_python_compresses_a_model(own):
    network = plain()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = automl.compress(network, task(), "amc", "0.5x", strategy="random", trials=3, tuning=1)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert found.after["multiply_adds"] <= 0.5 * found.before["multiply_adds"]
    assert found.after["bytes"] < found.before["bytes"]
    assert found.network(torch.rand(1, 3, 8, 8)).shape == (1, 4)
    assert type(found.network) is nn.Sequential
    assert set(found.decisions) == {"keep.0", "keep.3", "keep.6"}
    with pytest.raises(BadInput, match=r"limit='1.5x' is no share of the multiply-adds"):
        automl.compress(network, task(), limit="1.5x")


@pytest.mark.parametrize("turned_off", [torch.no_grad, torch.inference_mode])
def test_gradients_that_the_caller_has_turned_off_change_nothing(turned_off):
    network = plain()
    settings = {"criterion": "taylor", "strategy": "random", "trials": 1, "tuning": 1}
    with turned_off():
        found = automl.compress(network, task(), "pruning", **settings)
    expected = automl.compress(network, task(), "pruning", **settings)
    assert found.after == expected.after
    assert found.after["parameters"] < found.before["parameters"]


def test_of_a_frozen_network_only_the_fine_tuning_is_refused():
    network = plain().requires_grad_(False)
    with pytest.raises(BadInput, match=r"are frozen, .*: call model.requires_grad_\(\) first, or give tuning=0"):
        automl.compress(network, task())
    found = automl.compress(network, task(), "pruning", strategy="random", trials=1, tuning=0)
    assert found.after["parameters"] < found.before["parameters"]


def test_what_cannot_be_trained_is_a_trial_that_fails_and_says_why(tmp_path, own, capsys):
    words = ["+space=module", "space.target=own_networks:frozen", *SMALL, *SHORT, "strategy=grid"]
    assert automl_at(tmp_path, *words) != 0
    assert "are frozen, so training changes nothing: call its requires_grad_() first" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["space.target=own_networks:small", "compressor.budget=0.001"], "cannot be met: the narrowest network"),
        (["space.target=own_networks:gone"], "cannot be imported: AttributeError"),
        (["space.target=nowhere_at_all:gone"], "cannot be imported: ModuleNotFoundError"),
        (["space.target=own_networks:broken"], "raises ValueError: no such width: mend it"),
        (["space.target=own_networks:nothing"], "returns int, and not a torch.nn.Module"),
        (["space.target=own_networks"], "is no factory: give it as space.target=package.module:name"),
        (["space.target=own_networks:small", "space.arguments={classes: 3}"], r"answers two images with \(2, 3\)"),
        (["space.target=own_networks:small", "space.arguments={inputs: 1}"], "cannot take images of 3 x 8 x 8"),
        (["space.target=own_networks:small", "space.weights=gone.safetensors"], "does not exist"),
        (
            ["space.target=own_networks:small", "strategy=darts", "evaluator=supernet"],
            "asks for all operations at once",
        ),
        (["space.target=own_networks:small", "evaluator=supernet", "strategy=random"], "type evaluator=training"),
        ([], "space.target is missing: type space.target=VALUE; automl explain space module says what it may be"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, own, capsys, words, sentence):
    import re

    assert automl_at(tmp_path, "+space=module", "+compressor=amc", *words, *SMALL) == 2
    err = capsys.readouterr().err
    assert re.search(sentence, err), err
    assert not list(tmp_path.glob("runs/*/*/journal.jsonl"))


def test_weights_must_be_the_networks_and_nothing_but_weights(tmp_path, own, capsys):
    import own_networks
    from safetensors.torch import save_file

    words = ["+space=module", f"space.target={own}:small", "+compressor=pruning", "strategy=grid", *SMALL]
    wrong = tmp_path / "wrong.safetensors"
    save_file(own_networks.small(8).state_dict(), wrong)
    assert automl_at(tmp_path, *words, f"space.weights={wrong}") == 2
    assert "has (8,) for '0.bias', where the network has (16,)" in capsys.readouterr().err
    whole = tmp_path / "whole.pt"
    torch.save(own_networks.small(), whole)
    assert automl_at(tmp_path, *words, f"space.weights={whole}") == 2
    assert "holds more than tensors, so it is not read" in capsys.readouterr().err


def test_a_sweep_asks_for_the_factory_again(tmp_path, own, capsys):
    target = f"space.target={own}:small"
    words = ["-m", "+space=module", target, "+compressor=pruning,amc", *SMALL, "evaluator.epochs=1", "retrain=none"]
    assert automl_at(tmp_path, *words) == 0
    (listed,) = (tmp_path / "runs").glob("*/*/sweep.json")
    sweep = json.loads(listed.read_text())
    assert [job["words"][1] for job in sweep["jobs"]] == ["space.target=???"] * 2
    assert target in sweep["jobs"][0]["command"]
    sweep["jobs"][0]["exit"] = None  # was interrupted at its end
    sweep["jobs"][1] |= {"exit": None, "folder": None, "words": ["+space=module", "space.target=os:system", *SMALL]}
    listed.write_text(json.dumps(sweep))
    capsys.readouterr()
    assert cli.main(["resume", str(listed.parent)]) == 2
    assert f"type automl resume {listed.parent} space.target=package.module:factory" in capsys.readouterr().err
    assert cli.main(["resume", str(listed.parent), target, "trials=9"]) == 2
    assert "leave out trials=9" in capsys.readouterr().err
    assert cli.main(["resume", str(listed.parent), target]) == 0
    assert "Space module, strategy evolution" in capsys.readouterr().out
    assert [job["exit"] for job in json.loads(listed.read_text())["jobs"]] == [0, 0]
    assert cli.main(["-m", "+space=module", f'space.target="{own}:small","{own}:broken"', *SMALL]) == 2
    assert "a sweep has one space.target, and here are" in capsys.readouterr().err


def test_a_training_that_goes_on_from_its_parents_is_that_of_one_that_did_not_stop(tmp_path):
    space, made = Compressed(Given(plain()), Pruning()), task()
    space.check(made)
    evaluator = Training(tuning=4)
    evaluator.folder = tmp_path
    evaluator.start(space, made)
    architecture = space.sample(random.Random(0))
    parent, child, other = Candidate(architecture, 0.5), Candidate(architecture, parent=0), Candidate(architecture)
    started = list(evaluator.evaluate(Trial(0, parent, 5 << 32)))
    gone_on = list(evaluator.evaluate(Trial(1, child, (5 << 32) + 1)))
    at_once = list(evaluator.evaluate(Trial(0, other, 5 << 32)))
    assert [report.fidelity for report in started + gone_on] == [0.25, 0.5, 0.75, 1.0]
    assert [report.metrics for report in started + gone_on] == [report.metrics for report in at_once]
    assert "untuned_accuracy" in gone_on[0].metrics


def test_many_networks_are_not_studied_to_be_counted(monkeypatch):
    studied = []
    study = Pruning.study
    monkeypatch.setattr(Pruning, "study", lambda self, *given: studied.append(0) or study(self, *given))
    space = Compressed(Registry().build("space", {"name": "nasbench201", "channels": 4}), Pruning())
    space.check(task())
    assert space.exceeds(15_624)
    assert not space.exceeds(15_625)
    evaluator = Training(epochs=1)
    evaluator.start(space, task())
    known = Known(space, evaluator)
    assert known.repeat() is None
    assert studied == []


def test_what_a_compressor_spoils_is_a_trial_that_fails():
    spoilt = {
        "not at all": lambda network: None,
        "nan": lambda network: network[0].weight.data.fill_(float("nan")),
        "raises": lambda network: 1 / 0,
        "memory": lambda network: torch.empty(10**15),
        "shape": lambda network: network.append(nn.Flatten(0)),
    }

    @dataclass
    class Spoiling(Tuned):
        def describe(self, studied, choose):
            return choose("how", list(spoilt))

        def compress(self, network, studied, plan, training):
            spoilt[plan](network)
            return network, {}

    space, made = Compressed(Given(plain()), Spoiling()), task()
    space.check(made)
    study = Study(space, Registry().build("strategy", {"name": "grid"}), Training(), made, trials=9)
    study.run()
    best, *failed = study.trials
    assert study.best is best
    assert best.error is None
    assert failed[0].error == "diverged: loss was nan on the validation images at epoch 0"
    assert failed[1].error == "ZeroDivisionError: division by zero"
    assert failed[2].error == "out of memory"
    assert "Error" in failed[3].error
    assert len(failed) == 4


def test_an_origin_that_cannot_be_trained_is_tried_once_and_named(monkeypatch):
    tried = []
    fit = Training.fit
    monkeypatch.setattr(Training, "fit", lambda self, *given, **named: tried.append(0) or fit(self, *given, **named))
    monkeypatch.setattr(Given, "given", False)
    space, made = Compressed(Given(plain()), Pruning(keep=(0.3, 0.9), budget=None)), task()
    space.check(made)
    diverging = Training(epochs=1, learning_rate=1e30)
    study = Study(space, Registry().build("strategy", {"name": "random"}), diverging, made, trials=9)
    with pytest.raises(SearchFailed, match="the network that is to be made smaller could not be trained: diverged"):
        study.run()
    assert len(tried) == 1


def test_no_file_may_name_code(tmp_path, own, capsys):
    words = ["+space=module", f"space.target={own}:small", "strategy=grid", *SMALL, *SHORT, "trials=1"]
    assert automl_at(tmp_path, *words) == 0
    folder = only_run(tmp_path)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("target: ???", "target: os:system"))
    assert cli.main(["resume", str(folder)]) == 2
    assert "names code: it is only taken from the command line" in capsys.readouterr().err
    description = folder / "architecture.json"
    description.write_text(description.read_text().replace('"???"', '"os:system"'))
    with pytest.raises(BadInput, match="names code: a file may not"):
        automl.load(folder, target=f"{own}:small")

"""The settings of a training as decisions: joined to any space, honoured by what trains, refused by what does not."""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass

import pytest
import torch
from spaces_contract import Images, check_ergodic
from torch import nn

from automl import BadInput, Candidate, Dataset, Evaluator, Space, Trial, config, travel
from automl.cli import main
from automl.compressor import Compressed
from automl.decisions import Options, Real, Soft
from automl.experiment import Experiment
from automl.explain import explain
from automl.final import load
from automl.joining import apart
from automl.mixture import Mixture
from automl.plugins import Registry
from automl.study import Study
from automl.testing import Checksum, check_space, story
from automl_compressors.pruning import Pruning
from automl_evaluators.learner import Learner
from automl_evaluators.training import Training
from automl_spaces.cgp import CGP
from automl_spaces.hyperparameters import Hyperparameters
from automl_spaces.nasbench201 import NASBench201
from automl_tasks.synthetic import Synthetic
from given import Given, plain

REGISTRY = Registry()
NOTHING = dict.fromkeys(
    ("optimizer", "learning_rate", "adaptive_rate", "weight_decay", "batch_size", "crop", "flip", "cutout")
)
GRID = {"rows": 2, "columns": 3, "levels_back": 2, "widths": (4,)}
JOINED = ["+space=nasbench201", "space.cells=1", "space.channels=4", "space.with_hyperparameters=true"]
QUICK = ["task=synthetic", "task.count=40", "task.size=8", "evaluator.epochs=1", "watch=[]"]


@dataclass
class Kernels(Space[int]):
    """One convolution of a chosen kernel."""

    kernels: tuple[int, ...] = (3, 5)

    def describe(self, choose):
        return choose("kernel", self.kernels)

    def build(self, blueprint, task):
        return nn.Sequential(
            nn.Conv2d(task.input[0], 4, blueprint, padding=blueprint // 2),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, task.outputs),
        )


def a_task(**fields):
    task = Synthetic(count=120, **{"batch_size": 32, **fields})
    task.prepare(0)
    task.train = Dataset(task.train.images[:64], task.train.labels[:64])
    return task


# --- what is decided


def test_it_keeps_the_contract_of_spaces():
    check_space(Hyperparameters(Kernels()), Images(), samples=10)
    check_space(Hyperparameters(CGP(**GRID)), samples=5)


def test_the_recipe_lists_every_field_with_its_default():
    recipe = config.unresolved(config.compose(["+space=hyperparameters"], REGISTRY))["space"]
    ranges = recipe.pop("hyperparameters")
    assert recipe["name"] == "chain"
    space = Hyperparameters()
    given = {
        name: list(value) if isinstance(value := getattr(space, name), tuple) else value
        for name in ranges
        if name != "name"
    }
    assert ranges == {"name": "hyperparameters", **given}
    assert [*ranges] == ["name", *list(vars(space))[1 : len(ranges)]]


def test_the_networks_decisions_come_first_and_then_those_of_the_training():
    space = Hyperparameters(Kernels(), momentum=(0.5, 0.9), smoothing=(0.0, 0.2))
    rate = {"sgd": "training.learning_rate", "adamw": "training.adaptive_rate"}
    seen = set()
    for seed in range(20):
        one = space.sample(random.Random(seed))
        optimizer = one.values["training.optimizer"]
        moment = ["training.momentum"] if optimizer == "sgd" else []
        seen.add(optimizer)
        assert list(one.values) == [
            "kernel", "training.optimizer", *sorted([rate[optimizer], *moment]), "training.weight_decay",
            "training.smoothing", "training.batch_size", "training.crop", "training.flip", "training.cutout",
        ]  # fmt: skip
        recipe = space.recipe(one.blueprint)
        assert recipe["learning_rate"] == one.values[rate[optimizer]]
        assert recipe.keys() <= space.brings
        assert ("momentum" in recipe) == (optimizer == "sgd")
    assert seen == {"sgd", "adamw"}
    assert one.domains["training.weight_decay"] == Real(1e-5, 1e-2, log=True)
    assert one.domains["training.smoothing"] == Real(0.0, 0.2)
    assert isinstance(one.domains["training.flip"], Options)


def test_null_leaves_a_setting_and_one_option_fixes_it():
    nothing = Hyperparameters(Kernels(), **NOTHING)
    assert (nothing.brings, nothing.size()) == (frozenset(), 2)
    assert nothing.recipe(nothing.sample(random.Random(0)).blueprint) == {}
    fixed = Hyperparameters(
        Kernels(), **{**NOTHING, "optimizer": ("adamw",), "adaptive_rate": (0.01, 0.01), "crop": (1,)}
    )
    one = fixed.sample(random.Random(0))
    assert list(one.values) == ["kernel"]
    assert fixed.recipe(one.blueprint) == {"optimizer": "adamw", "learning_rate": 0.01, "crop": 1}
    own = Hyperparameters(Kernels(), **{**NOTHING, "learning_rate": (0.1, 0.2), "adaptive_rate": (0.01, 0.02)})
    assert list(own.sample(random.Random(0)).values) == ["kernel", "training.learning_rate"]


def test_its_size_is_that_of_networks_times_trainings():
    few = {**NOTHING, "optimizer": ("sgd", "adamw"), "batch_size": (8, 16, 32), "flip": (False, True)}
    space = Hyperparameters(Kernels(), **few)
    assert space.size() == 2 * 2 * 3 * 2
    check_ergodic(space)
    assert Hyperparameters(Kernels()).size() == math.inf
    assert Hyperparameters(Kernels()).exceeds(10**9)
    assert not space.exceeds(100)


def test_two_trainings_of_one_network_are_two_and_of_equal_networks_one():
    space = Hyperparameters(NASBench201(), **{**NOTHING, "crop": (0, 1)})

    def key(crop, **edges):
        operations = dict.fromkeys(space.network.sample(random.Random(0)).values, "none") | edges
        return space.canonical(space.read({**operations, "training.crop": crop}).blueprint)

    first, *_ = space.network.sample(random.Random(0)).values
    assert key(0) == key(0, **{first: "nor_conv_1x1"})  # an edge into a node that nothing reads
    assert key(0) != key(1)
    assert Hyperparameters(Kernels()).canonical(Hyperparameters(Kernels()).sample(random.Random(0)).blueprint) is None


def test_a_network_is_changed_as_its_own_space_would(monkeypatch):
    space, rng = Hyperparameters(CGP(**GRID), **{**NOTHING, "crop": (0, 1)}), random.Random(0)
    one = space.sample(rng)
    asked = []
    monkeypatch.setattr(CGP, "mutate", lambda self, inner, rng, names=None: asked.append(inner) or inner)
    changed = [space.mutate(one, rng) for _ in range(20)]
    assert 0 < len(asked) < 20
    assert all("training.crop" not in inner.values for inner in asked)
    assert sum(mutant != one for mutant in changed) == 20 - len(asked)


def test_soft_choices_go_through_to_the_network():
    space = Hyperparameters(NASBench201(cells=1, channels=4), **NOTHING)
    assert space.relaxes
    one = space.make(lambda name, domain: Soft(tuple(1 / domain.count for _ in domain.options)))
    assert len(one.weights) == 6
    network = space.build(one.blueprint, Images()).eval()
    mixtures = [module for module in network.modules() if isinstance(module, Mixture)]
    assert {mixture.decision for mixture in mixtures} == {*one.weights}
    for mixture in mixtures:
        mixture.weights = torch.tensor(one.weights[mixture.decision])
    assert network(torch.rand(2, 1, 8, 8)).shape == (2, 10)


def test_what_holds_nothing_is_refused():
    with pytest.raises(BadInput, match=r"space\.hyperparameters\.learning_rate.*give finite ends, the lower first"):
        Hyperparameters(Kernels(), learning_rate=(0.2, 0.1))
    with pytest.raises(BadInput, match="has its like for a network"):
        Hyperparameters(Hyperparameters(Kernels()))


@pytest.mark.parametrize("strategy", ["tpe", "gp", "cmaes", "evolution", "random", "grid"])
def test_strategies_decide_networks_and_trainings(strategy):
    space = Hyperparameters(Kernels())
    study = Study(space, REGISTRY.build("strategy", {"name": strategy}), Checksum(), None, trials=24)
    study.run()
    assert [trial.error for trial in study.trials] == [None] * 24
    for trial in study.trials:
        for name, value in trial.architecture.values.items():
            assert trial.architecture.domains[name].fit(value) == value
    assert len({trial.architecture for trial in study.trials}) == 24


# --- what trains by it


def decided(space, **settings):
    return space.read({"kernel": 3, **{f"training.{name}": value for name, value in settings.items()}})


SGD = {"optimizer": "sgd", "learning_rate": 0.07, "momentum": 0.7, "weight_decay": 0.001}
ADAMW = {"optimizer": "adamw", "learning_rate": 0.004, "weight_decay": 0.002}
TASK = {"batch_size": 16, "crop": 1, "flip": True, "cutout": 2}


@pytest.mark.parametrize("own", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_a_network_is_trained_as_by_an_evaluator_and_a_task_that_are_set_so(own):
    space = Hyperparameters(Kernels(), momentum=(0.5, 0.9), batch_size=(16, 64))
    rate = "adaptive_rate" if own is ADAMW else "learning_rate"
    settings = {rate if name == "learning_rate" else name: value for name, value in own.items()}
    joint, alone = Training(epochs=2, accelerator="cpu"), Training(epochs=2, accelerator="cpu", **own)
    joint.start(space, a_task())
    alone.start(Kernels(), a_task(**TASK))
    one = decided(space, **settings, **TASK)
    found = list(joint.evaluate(Trial(0, Candidate(one), 5)))
    other = Kernels().read({"kernel": 3})
    assert found == list(alone.evaluate(Trial(0, Candidate(other), 5)))
    networks = joint.fit(one, 5), alone.fit(other, 5)
    for mine, theirs in zip(*(network.state_dict().values() for network in networks), strict=True):
        assert torch.equal(mine, theirs)
    default = Training(epochs=2, accelerator="cpu")
    default.start(Kernels(), a_task())
    assert found != list(default.evaluate(Trial(0, Candidate(other), 5)))
    assert joint.task.batch_size == 32  # what is decided is of the trial alone


def test_with_a_compressor_the_fine_tuning_is_decided(monkeypatch):
    recipes = []
    original = Learner.__init__

    def init(self, network, task, data, recipe, **how):
        recipes.append((recipe.optimizer, recipe.learning_rate, task.batch_size))
        original(self, network, task, data, recipe, **how)

    monkeypatch.setattr(Learner, "__init__", init)
    task = Synthetic(count=60, channels=3, labels=4, batch_size=32)
    task.prepare(0)
    space = Hyperparameters(Compressed(Given(plain()), Pruning()), optimizer=("adamw",), batch_size=(16,))
    space.check(task)
    assert space.finishes
    assert space.given is False
    evaluator = Training(tuning=1, tuning_rate=0.5, accelerator="cpu")
    evaluator.start(space, task)
    one = space.sample(random.Random(0))
    *_, last = evaluator.evaluate(Trial(0, Candidate(one), 0))
    assert "untuned_accuracy" in last.metrics
    assert recipes == [("adamw", 0.5 * one.values["training.adaptive_rate"], 16)]


def test_it_travels_to_workers():
    evaluator = Training(epochs=1, accelerator="cpu")
    evaluator.start(Hyperparameters(Kernels(), crop=(0, 2)), a_task())
    there = travel.unpack(travel.pack(evaluator))
    trial = Trial(3, Candidate(evaluator.space.sample(random.Random(1))), 7)
    again = travel.unpack_trial(travel.pack_trial(trial), there.space)
    assert again.architecture == trial.architecture
    assert list(there.evaluate(again)) == list(evaluator.evaluate(trial))


# --- on the command line


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def experiment(*words):
    return Experiment(config.compose(words, REGISTRY), REGISTRY)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["evaluator=tabular"], "evaluator=tabular trains no network by settings of its own"),
        (["evaluator=supernet"], "evaluator=supernet trains no network by settings of its own"),
        (["evaluator=hyperband", "evaluator/inner=tabular"], "evaluator=hyperband trains no network by settings"),
        (
            ["+compressor=pruning", "task=synthetic", "task.channels=3"],
            "a compressor made is judged as it is.*evaluator.tuning=5",
        ),
    ],
)
def test_what_trains_nothing_refuses_it_at_once(here, data, words, sentence):
    with pytest.raises(BadInput, match=sentence):
        experiment(*JOINED, *words).run()
    assert not (here / "runs").exists()


def test_a_setting_that_an_evaluator_does_not_take_is_named(here):
    one = experiment(*JOINED, *QUICK, "retrain=none")
    one.evaluator.takes = frozenset({"learning_rate"})
    with pytest.raises(
        BadInput, match=r"takes no batch_size .*space\.hyperparameters\.batch_size=null.*it takes learning_rate"
    ):
        one.prepare()
    assert Evaluator.takes == frozenset()


def test_wrappers_take_what_is_within():
    one = experiment(*JOINED, *QUICK[:3], "evaluator=hyperband", "evaluator/inner=curve", "retrain=none", "watch=[]")
    assert one.evaluator.takes == Training.takes
    one.prepare()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["space.with_hyperparameters=perhaps"], "space.with_hyperparameters=perhaps must be true or false"),
        (["space.with_hyperparameter=true"], r"did you mean 'with_hyperparameters'\?"),
        (["space.hyperparameters.crop=[0]"], "type space.with_hyperparameters=true, too"),
        ([JOINED[3], "space.hyperparameters.crops=[0]"], r"no key 'crops' \(did you mean 'crop'\?\)"),
        (
            [JOINED[3], "space.hyperparameters.crop=[-1]"],
            r"^space\.hyperparameters\.crop=\[-1\] must be a list of an integer",
        ),
        ([JOINED[3], "space.hyperparameters.optimizer=[adam]"], "must be a list of one of sgd, adamw"),
        ([JOINED[3], "space.hyperparameters.optimizer=[]"], r"space\.hyperparameters\.optimizer=\[\] must be"),
        ([JOINED[3], "space.cells=none"], r"^space\.cells=none must be"),
    ],
)
def test_what_is_mistyped_is_answered_with_what_to_type(words, sentence):
    with pytest.raises(BadInput, match=sentence):
        experiment("+space=nasbench201", *words)


def test_it_is_explained_by_itself_and_pointed_to_by_every_other_space():
    page = explain("space", "hyperparameters", REGISTRY)
    assert "space.learning_rate=[0.01, 0.5]" in page
    assert "training.optimizer = " in page
    pointer = "space.with_hyperparameters=true decides the settings of its training, too: automl explain space"
    assert pointer in explain("space", "nasbench201", REGISTRY)
    assert pointer not in page


def test_it_is_one_space_however_it_is_typed():
    sides = "learning_rate=[0.01,0.1]"
    one = experiment("+space=nasbench201", "space.cells=1", JOINED[3], f"space.hyperparameters.{sides}")
    for network in ("space/network", "space.network"):
        other = experiment(
            "+space=hyperparameters", f"{network}=nasbench201", "space.network.cells=1", f"space.{sides}"
        )
        assert other.heading == one.heading
        assert other.final == one.final
    assert one.space.learning_rate == (0.01, 0.1)
    assert one.names["space"] == "nasbench201"
    without = experiment("+space=nasbench201", "space.cells=1", "space.with_hyperparameters=false")
    assert without.heading["space"] == apart(one.heading["space"]).space
    with pytest.raises(BadInput, match="is no network whose training could be decided"):
        experiment("+space=hyperparameters", "space/network=hyperparameters")


def test_code_is_named_as_that_of_any_network():
    """Else a word of a sweep's file would not be known for code."""
    one = experiment("+space=module", "space.target=given:plain", JOINED[3], "task=synthetic", "task.channels=3")
    assert one.heading["space"]["network"]["target"] == "given:plain"
    for words in (
        ["space/network=module", "space.network.target=given:plain"],
        ["space.network={name: module, target: given:plain}"],
    ):
        with pytest.raises(BadInput, match=r"names code.*type \+space=module space\.target=given:plain"):
            experiment("+space=hyperparameters", *words)


def journal(folder):
    (path,) = folder.glob("runs/2*/*/journal.jsonl")
    return path


def test_a_search_is_gone_on_with_and_ends_as_an_unbroken_one(tmp_path, monkeypatch, capsys):
    """From the command line: searched, stopped, gone on with, retrained by its best settings, shipped and loaded."""
    finals = []
    original = Training._fit

    def fit(self, architecture, *rest, **how):
        finals.append(self.space.recipe(architecture.blueprint))
        return original(self, architecture, *rest, **how)

    monkeypatch.setattr(Training, "_fit", fit)
    words = [*JOINED, *QUICK, "strategy=tpe", "strategy.startup=2", "watch=[report]"]
    for name, trials in (("whole", 5), ("part", 3)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert (
            main(
                [*words, f"trials={trials}", "retrain=training" if name == "whole" else "retrain=none", *RETRAIN[name]]
            )
            == 0
        )
    assert main(["resume", "runs/latest", "trials=5"]) == 0
    assert story(journal(tmp_path / "part")) == story(journal(tmp_path / "whole"))
    folder = journal(tmp_path / "whole").parent
    summary = json.loads((folder / "summary.json").read_text())
    assert len(finals) == 1
    best = summary["best"]["decisions"]
    assert finals[0]["batch_size"] == best["training.batch_size"]
    assert finals[0]["learning_rate"] in best.values()
    assert "nasbench201 · hyperparameters · tpe" in (folder / "report.html").read_text()
    assert load(folder)(torch.rand(2, 1, 8, 8)).shape == (2, len(summary["data"]["classes"]))
    capsys.readouterr()
    monkeypatch.chdir(tmp_path / "whole")
    with pytest.raises(BadInput, match="a run goes on as it began"):
        from automl.experiment import resuming

        resuming(None, ["space.with_hyperparameters=true"])


RETRAIN = {"whole": ["retrain.epochs=1"], "part": []}

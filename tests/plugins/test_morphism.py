"""Children that begin with the weights of a parent: exactly where they can, and the same after a kill."""

import shutil
from random import Random

import pytest
import torch

from automl import BadInput, Candidate, Objective, Report, Study, Trial
from automl.journal import Journal
from automl.sharing import tensors
from automl.testing import ConditionalSpace, ToySpace, check_strategy
from automl.testing.strategies import story
from automl_evaluators.heritage import inherit
from automl_evaluators.hyperband import Hyperband
from automl_evaluators.morphism import Descending, Morphism
from automl_evaluators.tabular import Tabular
from automl_evaluators.training import Training
from automl_spaces.chain import Chain
from automl_spaces.hyperparameters import Hyperparameters
from automl_spaces.morphisms import Morphisms
from automl_spaces.nasnet import NASNet
from automl_strategies.evolution import Evolution
from automl_strategies.random import Random as RandomSearch
from automl_tasks.synthetic import Synthetic


def training(**settings):
    return Training(**{"epochs": 2, "learning_rate": 0.05, "accelerator": "cpu", "threads": 1, **settings})


def small(family="nash", steps=3):
    return Morphisms(family=family, steps=steps, filters=(4, 4), most=16)


def search(folder, evaluator, space=None, trials=12, strategy=None):
    task = Synthetic(count=120, size=8, batch_size=20)
    task.prepare(0)
    evaluator.folder = folder
    folder.mkdir(exist_ok=True)
    journal = Journal(folder / "journal.jsonl", {})
    space = space or small()
    strategy = strategy or Evolution(4, 2)
    study = Study(space, strategy, evaluator, task, (Objective("accuracy"),), trials=trials, journal=journal)
    try:
        study.run()
    finally:
        journal.close()
    assert [trial.error for trial in study.trials] == [None] * len(study.trials)
    return study


@pytest.mark.parametrize("family", ["nash", "eas", "wistuba"])
def test_a_child_of_exact_steps_begins_with_what_its_parent_computes(tmp_path, family):
    """To float32's rounding (the card's check: 1e-5), after training, with no noise; and is as accurate untrained."""
    still = training(epochs=1, learning_rate=1e-12, warmup=0.0, weight_decay=0.0)
    study = search(tmp_path, Morphism(still, noise=0.0), small(family), trials=16)
    children = [trial for trial in study.trials if trial.parent is not None]
    assert len(children) >= 5
    for trial in children:
        steps, taken = trial.architecture.blueprint.moves, trial.parent.architecture.blueprint.moves
        assert steps[: len(taken)] == taken
        if all(trial.architecture.blueprint.exact[len(taken) :]):
            assert trial.metrics["morphism_error"] <= 1e-5
        assert 0 < trial.metrics["inherited"] <= 1
    assert max(len(trial.architecture.blueprint.moves) for trial in children) == 3


def test_what_has_the_name_and_the_shape_of_the_parents_is_its_bit_for_bit():
    space, task = NASNet(blocks=2, channels=4, reductions=1), Synthetic(count=60, size=8)
    task.prepare(0)
    rng = Random(3)
    parent = space.sample(rng)
    child = space.mutate(parent, rng)
    networks = [space.build(one.blueprint, task) for one in (parent, child)]
    theirs, before = ({key: value.clone() for key, value in tensors(one).items()} for one in networks)
    told = inherit(networks[1], networks[0], torch.zeros(2, *task.input))
    after, taken = tensors(networks[1]), 0
    for key, value in after.items():
        assert torch.equal(value, theirs[key] if key in theirs else before[key]), key
        taken += value.numel() * (key in theirs and isinstance(value, torch.nn.Parameter))
    assert told == {"inherited": taken / sum(one.numel() for one in networks[1].parameters())}
    assert 0.2 < told["inherited"] < 1
    assert inherit(space.build(child.blueprint, task), networks[1], torch.zeros(2, *task.input)) == {"inherited": 1.0}


def test_the_parent_is_the_nearest_of_the_best_and_an_architecture_keeps_the_one_that_it_had(tmp_path):
    study = search(tmp_path, Morphism(training(), parents=3), Chain(stages=2, depth=2, channels=4), trials=15)
    for trial in study.trials:
        before = sorted(study.trials[: trial.number], key=lambda one: (-one.score, one.number))[:3]
        near = [study.space.kinship(trial.architecture, one.architecture) for one in before]
        if not before or not max(near):
            assert trial.parent is None
        else:
            assert trial.parent is before[near.index(max(near))]
    architectures = [trial.architecture for trial in study.trials]
    assert len({study.evaluator.key(one) for one in architectures}) == len(architectures)


def test_only_the_weights_of_the_best_are_kept(tmp_path):
    study = search(tmp_path, Morphism(training(epochs=1), parents=3), trials=12)
    best = sorted(study.trials, key=lambda one: (-one.score, one.number))[:3]
    kept = {int(path.name) for path in tmp_path.iterdir() if path.is_dir()}
    assert kept == {trial.number for trial in best}


def test_epochs_are_counted_along_the_line_also_of_what_is_promoted(tmp_path):
    study = search(tmp_path / "whole", Morphism(training(epochs=3)), trials=10, strategy=Evolution(2, 2))
    lines = [trial for trial in study.trials if trial.parent is not None and trial.parent.parent is not None]
    assert lines
    for trial in study.trials:
        before = trial.parent.metrics["lineage_epochs"] if trial.parent else 0
        assert [report.metrics["lineage_epochs"] for report in trial.reports] == [before + 1, before + 2, before + 3]
    study = search(tmp_path / "rungs", Hyperband(Morphism(training(epochs=4)), eta=2), trials=30)
    promoted = [trial for trial in study.trials if trial.continued is not None]
    assert any(trial.continued.parent is not None for trial in promoted)
    for trial in study.trials:
        heir = trial.continued is not None or trial.metrics["inherited"] > 0
        before = trial.parent.metrics["lineage_epochs"] if heir else 0
        trained = (trial.fidelity - (trial.continued.fidelity if trial.continued else 0)) * 4
        assert trial.metrics["lineage_epochs"] == pytest.approx(before + trained)
        assert trial.metrics["inherited"] == (trial.continued or trial).metrics["inherited"]
    assert study.evaluations == sum(
        trial.fidelity - (trial.continued.fidelity if trial.continued else 0) for trial in study.trials
    )


class Killed(BaseException):
    """As if by SIGKILL: nothing is told of it."""


class Mortal(Morphism):
    """Is killed at the report of that number."""

    left = 1_000

    def evaluate(self, trial):
        for report in super().evaluate(trial):
            self.left -= 1
            if not self.left:
                raise Killed
            yield report


@pytest.mark.parametrize("space", [small(steps=6), Hyperparameters(small(steps=6))], ids=["morphisms", "joined"])
def test_a_search_that_was_killed_ends_as_if_it_had_not_been(tmp_path, space):
    """Children begin again with the same weights, though others were dropped since they were first asked for."""
    unbroken = search(tmp_path / "unbroken", Morphism(training(epochs=1), parents=3), space, 12, Evolution(2, 2))
    assert sum(trial.parent is not None for trial in unbroken.trials) >= 3
    for at in range(3, 13, 3):
        evaluator = Mortal(training(epochs=1), parents=3)
        evaluator.left = at
        with pytest.raises(Killed):
            search(tmp_path / str(at), evaluator, space, 12, Evolution(2, 2))
        search(tmp_path / str(at), Morphism(training(epochs=1), parents=3), space, 12, Evolution(2, 2))
        assert story(tmp_path / str(at) / "journal.jsonl") == story(tmp_path / "unbroken" / "journal.jsonl")


def test_a_parent_whose_weights_are_gone_hands_nothing_down(tmp_path):
    study = search(tmp_path, Morphism(training(epochs=1)), trials=8)
    child = next(trial for trial in study.trials if trial.parent is not None)
    again = list(study.evaluator.evaluate(child))
    assert again[-1].metrics == child.metrics
    shutil.rmtree(tmp_path / str(child.parent.number))
    (report,) = study.evaluator.evaluate(child)
    assert report.metrics["inherited"] == 0
    assert report.metrics["lineage_epochs"] == 1


def test_the_strategy_around_keeps_the_contract_of_strategies():
    for strategy in (Evolution(4, 2), RandomSearch()):
        check_strategy(
            lambda inner=strategy: Descending(inner, lambda architecture: architecture, 3, None),
            (ToySpace(), ConditionalSpace()),
            trials=20,
        )


def test_kinship_is_the_share_of_decisions_that_are_the_same():
    space = ToySpace(4, 3)
    parent = space.sample(Random(0))
    assert space.kinship(parent, parent) == 1
    child = space.mutate(parent, Random(1))
    same = sum(child.values[name] == parent.values.get(name) for name in child.values)
    assert space.kinship(child, parent) == same / len(child.values)


def test_a_mutation_takes_one_step_more_as_often_as_not():
    space, rng = small(), Random(0)
    start = space.read({"step0.op": "deepen", "step0.where": "conv1", "step0.arg": 3, "step1.op": "stop"})
    longer = [space.mutate(start, rng).blueprint.moves for _ in range(400)]
    share = sum(moves[:1] == start.blueprint.moves and len(moves) > 1 for moves in longer) / 400
    assert 0.5 < share < 0.75  # of the others one in four changes the last decision, which is to stop


@pytest.mark.parametrize(
    ("evaluator", "said"),
    [
        (lambda: Morphism(Morphism(training())), "evaluator=morphism is around evaluator.inner=morphism: leave one"),
        (lambda: Morphism(Tabular(table="nasbench201")), "Tabular, keeps none: type evaluator/inner=training"),
    ],
)
def test_what_it_cannot_be_around_is_told(evaluator, said, data, monkeypatch):
    monkeypatch.setenv("AUTOML_DATA", str(data))
    task = Synthetic(count=60, size=8)
    task.prepare(0)
    from automl_spaces.nasbench201 import NASBench201

    with pytest.raises(BadInput, match=said):
        evaluator().start(NASBench201(), task)


def test_a_candidate_with_a_parent_of_its_strategys_own_keeps_it():
    class Promoting(RandomSearch):
        def ask(self):
            return Candidate(self.space.sample(self.rng), 1.0, 7)

    around = Descending(Promoting(), lambda architecture: architecture, 3, None)
    around.start(ToySpace(), Random(0))
    assert around.ask().parent == 7


def test_weights_of_a_parent_are_kept_until_its_child_is_told(tmp_path):
    """As with several workers, where better trials may end while a child is trained."""

    def told(candidate, number, score):
        (tmp_path / str(number)).mkdir()
        trial = Trial(number, candidate, number)
        trial.reports, trial.scores = [Report({"accuracy": score}, 1.0)], (score,)
        around.tell(trial)

    around = Descending(RandomSearch(), lambda architecture: architecture, 1, tmp_path)
    around.start(ToySpace(4, 8), Random(0))
    first, other = around.ask(), around.ask()
    told(first, 0, 0.1)
    children = [around.ask() for _ in range(9)]
    child = next(one for one in children if one.parent == 0)
    for number, one in enumerate(children, 1):
        if one is not child:
            told(one, number, 0.05)
    told(other, 20, 0.9)
    assert {path.name for path in tmp_path.iterdir()} == {"0", "20"}
    told(child, 21, 0.2)
    assert {path.name for path in tmp_path.iterdir()} == {"20"}

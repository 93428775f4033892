"""The contracts of automl.testing hold for what is ours, and refuse what breaks them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from automl import Data, hookimpl
from automl.plugins import KINDS, Registry
from automl.testing import Lending, ToyTask, check_component, check_compressor, check_task, check_tracker
from automl_compressors.pruning import Pruning
from automl_tasks.digits import Digits
from automl_tasks.synthetic import Synthetic
from automl_trackers.progress import Progress

REGISTRY = Registry()
# made of others; its space is a run's; leaves out what it fixes
OTHERWISE = {"compressed", "hyperparameters", "run", "amc"}
OURS = [(kind, name) for kind in KINDS for name in REGISTRY.names(kind) if name not in OTHERWISE]


@pytest.mark.parametrize(("kind", "name"), OURS)
def test_every_component_is_found_with_its_settings(kind, name):
    check_component(kind, name)


@pytest.mark.parametrize("factory", [ToyTask, Synthetic, Digits])
def test_our_tasks_keep_the_contract(factory):
    check_task(factory)


@pytest.mark.parametrize(
    "factory",
    [Pruning, lambda: Pruning(across="layers", keep=(0.3, 1.0), budget=None), lambda: Pruning(penalty=1e-4)],
    ids=["uniform", "layers", "slimming"],
)
def test_our_compressors_keep_the_contract(factory):
    check_compressor(factory)


def test_our_trackers_keep_the_contract():
    check_tracker(Progress)


def test_the_training_that_is_lent_trains():
    task = ToyTask()
    task.prepare(0)
    lent = Lending(task)
    import torch

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 36, 3))
    images, labels = next(lent.batches(1))
    before = float(lent.loss(network, images, labels).detach())
    lent.train(network, 10)
    assert float(lent.loss(network, images, labels).detach()) < 0.5 * before


class Leaky(ToyTask):
    def load(self):
        data = super().load()
        one = Data(data.images[:40], data.labels[:40], data.classes)
        from automl import Dataset

        return Data(one.images, one.labels, one.classes, Dataset(data.images[:8], data.labels[:8]))

    def prepare(self, seed):
        test = super().prepare(seed)
        self.train = type(self.train)(np.concatenate([self.train.images, test.images]), np.zeros(99, np.int64))
        self.train = type(self.train)(self.train.images, np.zeros(len(self.train.images), np.int64))
        return test


class Drawn(ToyTask):
    def load(self):
        data = super().load()
        noise = np.random.default_rng().integers(0, 9, data.images.shape).astype(np.uint8)
        return Data(data.images + noise, data.labels, data.classes)


class Silent(ToyTask):
    def score(self, outputs, labels):
        return {"loss": outputs.sum()}


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        (Leaky, "has one image in the (training|test) and the (training|test) images"),
        (Drawn, "splits differently by one seed"),
        (Silent, r"does not tell \['accuracy'\]"),
    ],
)
def test_a_task_that_breaks_the_contract_is_told_how(factory, reason):
    with pytest.raises(AssertionError, match=reason):
        check_task(factory)


@dataclass
class Forgetful(Pruning):
    """Rebuilds what was not compressed."""

    def rebuild(self, network, form):
        return network


@dataclass
class Fickle(Pruning):
    """Compresses by numbers of its own."""

    def compress(self, network, studied, plan, training):
        import torch

        small, form = super().compress(network, studied, plan, training)
        with torch.no_grad():
            next(small.parameters()).add_(float(np.random.default_rng().random()))
        return small, form


@pytest.mark.parametrize(
    ("factory", "reason"), [(Forgetful, "rebuild makes another shape"), (Fickle, "two networks of equal weights")]
)
def test_a_compressor_that_breaks_the_contract_is_told_how(factory, reason):
    with pytest.raises(AssertionError, match=reason):
        check_compressor(factory)


class Failing:
    @hookimpl
    def automl_trial_finished(self, trial):
        return 1 / len(trial.scores)


class Meddling:
    @hookimpl
    def automl_study_started(self, study):
        study.seed += 1


class Misspelt:
    @hookimpl
    def automl_trial_finish(self, trial): ...


class Unmarked:
    def automl_trial_finished(self, trial): ...


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        (Failing, "fails in automl_trial_finished: ZeroDivisionError"),
        (Meddling, "changes what is searched"),
        (Misspelt, r"which is no hook \(did you mean 'automl_trial_finished'\?\)"),
        (Unmarked, "watches nothing"),
    ],
)
def test_a_tracker_that_breaks_the_contract_is_told_how(factory, reason):
    with pytest.raises(AssertionError, match=reason):
        check_tracker(factory)

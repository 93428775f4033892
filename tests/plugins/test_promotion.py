"""Hyperband over real training: a promotion goes on from its parent's checkpoint, bit for bit (case R5)."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import nn

from automl import Candidate, Dataset, Objective, Space, Study, Trial
from automl_evaluators.asha import ASHA
from automl_evaluators.hyperband import Hyperband
from automl_evaluators.training import Training
from automl_strategies.random import Random
from automl_tasks.synthetic import Synthetic


@dataclass
class Chain(Space):
    """One convolution, batch normalisation and dropout; the networks that it built are kept to be looked at."""

    built: list = field(default_factory=list)

    def describe(self, choose):
        return choose("width", [2, 4, 6, 8]), choose("kernel", [1, 3, 5])

    def build(self, blueprint, task):
        width, kernel = blueprint
        layers = [nn.Conv2d(task.input[0], width, kernel, padding=kernel // 2), nn.BatchNorm2d(width), nn.ReLU()]
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(width, task.outputs)]
        self.built.append(nn.Sequential(*layers, *head))
        return self.built[-1]


@pytest.fixture
def rates(monkeypatch):
    """The learning rate of every step that an optimiser took."""
    taken: list[float] = []
    original = torch.optim.SGD.step

    def step(self, *args, **kwargs):
        taken.append(self.param_groups[0]["lr"])
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    return taken


def a_task() -> Synthetic:
    task = Synthetic(count=300, batch_size=32)
    task.prepare(0)
    task.train = Dataset(task.train.images[:96], task.train.labels[:96])
    return task


@pytest.mark.parametrize(("schedule", "trials"), [(Hyperband, 7), (ASHA, 12)])
def test_what_is_promoted_to_the_top_is_as_if_it_had_been_trained_at_once(schedule, trials, tmp_path, rates):
    space, task = Chain(), a_task()
    evaluator = schedule(Training(epochs=4, accelerator="cpu", threads=1), eta=2)
    evaluator.folder = tmp_path
    study = Study(space, Random(), evaluator, task, (Objective("accuracy"),), trials=trials)
    study.run()
    top = next(trial for trial in study.trials if trial.candidate.fidelity == 1.0)
    line = [top.parent.parent, top.parent, top]
    assert [trial.candidate.fidelity for trial in line] == [0.25, 0.5, 1.0]
    assert len({trial.architecture for trial in line}) == 1
    batches = 3
    trained = sum(trial.fidelity - (trial.parent.fidelity if trial.parent else 0) for trial in study.trials)
    assert len(rates) == trained * 4 * batches, "a step was taken twice, or not at all"
    gone_on = space.built[top.number].state_dict()

    rates.clear()
    at_once = Training(epochs=4, accelerator="cpu", threads=1)
    at_once.start(space, task)
    reports = list(at_once.evaluate(Trial(99, Candidate(top.architecture), line[0].seed)))
    assert len(rates) == 4 * batches
    assert [report.metrics for report in reports] == [report.metrics for trial in line for report in trial.reports]
    for name, value in space.built[-1].state_dict().items():
        assert torch.equal(value, gone_on[name]), name

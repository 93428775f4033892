"""Small studies that trackers follow: one of everything, in a run folder of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pluggy

from automl import Evaluator, Integer, Limit, Objective, Options, Real, Report, Space, TrialFailed, hookspecs
from automl.following import Follower
from automl.journal import Journal
from automl.study import Study
from automl.testing import NO_TASK
from automl.watching import Watchers
from automl_strategies.random import Random

ODD = {"a/b": 1.0, "a.b": 2.0, "a b": 3.0, "_step": 4.0, "naïve": 5.0}  # names of metrics that trackers trip over


@dataclass
class Everything(Space):
    """Options of each type, tuples, and ranges with a step."""

    def describe(self, choose):
        none = choose("none", [None, True, "1"])
        pair = choose("pair", Options([(3, 5), (5, 3)]))
        step = choose("step", range(2, 9, 2))
        return none, pair, step, choose("whole", Integer(1, 64, log=True)), choose("rate", Real(1e-4, 1e-1, log=True))

    def build(self, blueprint, task):
        raise NotImplementedError


@dataclass
class Epochs(Evaluator):
    """Reports so many epochs a trial, of its accuracy and of metrics with odd names; ``wrong`` ends trials."""

    epochs: Mapping[int, int] = field(default_factory=dict)
    wrong: Mapping[int, object] = field(default_factory=dict)
    odd: Mapping[str, float] = field(default_factory=lambda: ODD)

    def evaluate(self, trial):
        count = self.epochs.get(trial.number, 2)
        for epoch in range(1, count + 1):
            wrong = self.wrong.get(trial.number)
            if isinstance(wrong, Exception) and epoch == count:
                raise wrong.with_traceback(None)
            accuracy = wrong if isinstance(wrong, float) else trial.number + epoch / 10
            yield Report({"accuracy": accuracy, "cost": 10.0 * trial.number, **self.odd}, epoch / count)


def study(
    folder, trackers, trials=4, *, space=None, evaluator=None, summary=None, objectives=None, limits=(), patience=60.0
):
    """Run a study in a folder, or go on in it, under the eyes of trackers by name; return it."""
    folder.mkdir(exist_ok=True)
    manager = pluggy.PluginManager("automl")
    manager.add_hookspecs(hookspecs)
    for name, tracker in trackers.items():
        manager.register(Follower(name, tracker, patience=patience), name)
    watchers = Watchers(manager)
    followed = Study(
        space or Everything(),
        Random(),
        evaluator or Epochs(wrong={1: float("nan"), 2: TrialFailed("no room")}),
        NO_TASK,
        objectives or (Objective("accuracy"), Objective("cost", "min")),
        trials=trials,
        limits=limits,
        journal=Journal(folder / "journal.jsonl", {}),
        watchers=watchers,
        directory=folder,
    )
    followed.config = {"space": {"name": "everything"}, "token": "${oc.env:TOKEN}", "tracker": {"wandb": {}}}
    followed.run()
    followed.summary = summary or {}
    watchers.call("automl_study_finished", study=followed)
    return followed


LIMIT = Limit("cost", 20.0)

from __future__ import annotations

import logging

import pluggy
import pytest

from automl import Objective, TrialFailed, hookimpl, hookspecs
from automl.journal import Journal
from automl.study import Study
from automl.testing import NO_TASK, Scripted, ToySpace, story
from automl.watching import Watchers
from automl_strategies.random import Random


class Notes:
    """Notes every call, with the last event that the journal holds by then."""

    def __init__(self, path=None):
        self.path = path
        self.calls = []

    def note(self, hook, *what):
        self.calls.append((hook, *what, story(self.path)[-1]["event"] if self.path else None))

    @hookimpl
    def automl_study_started(self, study):
        self.note("study_started", len(study.trials))

    @hookimpl
    def automl_trial_started(self, study, trial):
        self.note("trial_started", trial.number)

    @hookimpl
    def automl_trial_reported(self, study, trial, report):
        self.note("trial_reported", trial.number)

    @hookimpl
    def automl_trial_finished(self, trial):
        self.note("trial_finished", trial.number)


class Broken(Notes):
    """Raises in every hook."""

    error: BaseException = ValueError("no server")

    def note(self, hook, *what):
        super().note(hook, *what)
        raise self.error


def watchers(*plugins):
    manager = pluggy.PluginManager("automl")
    manager.add_hookspecs(hookspecs)
    for number, plugin in enumerate(plugins):
        manager.register(plugin, f"toy:{type(plugin).__name__.lower()}{number}")
    return Watchers(manager)


def study(path, *plugins, trials=2):
    script = {1: TrialFailed("no")}
    journal = Journal(path, {}) if path else None
    return Study(
        ToySpace(),
        Random(),
        Scripted(script),
        NO_TASK,
        (Objective("accuracy"),),
        trials=trials,
        journal=journal,
        watchers=watchers(*plugins),
    )


def test_each_hook_is_called_once_an_event_in_order_the_journals_line_first(tmp_path):
    path = tmp_path / "journal.jsonl"
    notes = Notes(path)
    study(path, notes).run()
    assert notes.calls == [
        ("study_started", 0, "study"),
        ("trial_started", 0, "started"),
        ("trial_reported", 0, "reported"),
        ("trial_finished", 0, "finished"),
        ("trial_started", 1, "started"),
        ("trial_finished", 1, "failed"),
    ]


def test_a_resumed_study_does_not_tell_the_past_again(tmp_path):
    path = tmp_path / "journal.jsonl"
    study(path).run()
    notes = Notes(path)
    study(path, notes, trials=3).run()
    assert [call[:2] for call in notes.calls] == [
        ("study_started", 2),
        ("trial_started", 2),
        ("trial_reported", 2),
        ("trial_finished", 2),
    ]


@pytest.mark.parametrize("error", [ValueError("no server"), SystemExit(3)])
def test_a_watcher_that_fails_is_named_once_and_stops_nothing(caplog, error):
    broken, first, last = Broken(), Notes(), Notes()
    broken.error = error
    told = study(None, first, broken, last)
    told.run()
    assert len(told.trials) == 2
    assert len(first.calls) == len(last.calls) == len(broken.calls) == 6
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith("toy:broken1 failed in automl_study_started and is ignored: ")


def test_an_interrupt_in_a_watcher_is_an_interrupt():
    broken = Broken()
    broken.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        study(None, broken).run()


def test_measurements_are_gathered():
    class Measuring:
        @hookimpl
        def automl_measure(self, model):
            return {"latency": model}

    class Silent:
        @hookimpl
        def automl_measure(self):
            return None

    assert watchers(Measuring(), Silent()).call("automl_measure", model=3, task=None) == [{"latency": 3}]
    assert Watchers().call("automl_measure", model=3, task=None) == []

"""Trackers on threads of their own: told of everything, able to stop and to slow nothing."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

import pluggy
import pytest

from automl import BadInput, Evaluator, Objective, Report, TrialFailed, hookimpl, hookspecs
from automl.following import Follower
from automl.journal import Journal
from automl.standing import First, Standing
from automl.study import Study
from automl.testing import NO_TASK, Scripted, ToySpace
from automl.watching import Watchers
from automl_strategies.random import Random
from waiting import wait_for


class Notes:
    """Notes what it is told, and on which thread."""

    def __init__(self):
        self.calls = []
        self.seen = []
        self.threads = set()

    def note(self, hook, study, *what):
        self.threads.add(threading.current_thread().name)
        self.seen.append(study)
        self.calls.append((hook, len(study.trials), *what))

    @hookimpl
    def automl_study_started(self, study):
        self.note("started", study)

    @hookimpl
    def automl_trial_started(self, study, trial):
        self.note("trial_started", study, trial.number, len(trial.reports))

    @hookimpl
    def automl_trial_reported(self, study, trial, report):
        self.note("reported", study, trial.number, len(trial.reports), report.metrics["accuracy"])

    @hookimpl
    def automl_trial_finished(self, study, trial):
        self.note("finished", study, trial.number, trial.error)

    @hookimpl
    def automl_study_finished(self, study):
        self.note("ended", study)


class Held(Notes):
    """Waits at its first call until it is let go."""

    def __init__(self):
        super().__init__()
        self.go = threading.Event()
        self.abandoned = False

    def note(self, hook, study, *what):
        self.go.wait(60)
        super().note(hook, study, *what)

    def abandon(self):
        self.abandoned = True


class Broken(Notes):
    """Raises in every hook."""

    def note(self, hook, study, *what):
        super().note(hook, study, *what)
        raise ValueError("no server")


@dataclass
class Epochs(Evaluator):
    """Reports so many epochs."""

    epochs: int = 2

    def evaluate(self, trial):
        for epoch in range(1, self.epochs + 1):
            yield Report({"accuracy": trial.number + epoch / 10}, epoch / self.epochs)


def follow(trackers, path=None, trials=2, evaluator=None, **settings):
    """Run a study that the trackers follow; return it and the followers."""
    manager = pluggy.PluginManager("automl")
    manager.add_hookspecs(hookspecs)
    followers = [Follower(f"toy{number}", tracker, **settings) for number, tracker in enumerate(trackers)]
    for follower in followers:
        manager.register(follower, follower.name)
    study = Study(
        ToySpace(),
        Random(),
        evaluator or Epochs(),
        NO_TASK,
        (Objective("accuracy"),),
        trials=trials,
        journal=Journal(path, {}) if path else None,
        watchers=Watchers(manager),
    )
    study.run()
    return study, followers


def end(study):
    study._watchers.call("automl_study_finished", study=study)


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_each_event_is_told_once_in_order_on_a_thread_of_its_own():
    notes, other = Notes(), Notes()
    study, _ = follow([notes, other])
    end(study)
    assert notes.calls == [
        ("started", 0),
        ("trial_started", 0, 0, 0),
        ("reported", 0, 0, 1, 0.1),
        ("reported", 0, 0, 2, 0.2),
        ("finished", 1, 0, None),
        ("trial_started", 1, 1, 0),
        ("reported", 1, 1, 1, 1.1),
        ("reported", 1, 1, 2, 1.2),
        ("finished", 2, 1, None),
        ("ended", 2),
    ]
    assert other.calls == notes.calls  # two trackers of one class are two
    assert notes.threads == {"automl-tracker-toy0"}
    assert other.threads == {"automl-tracker-toy1"}


def test_what_is_told_is_as_it_was_however_far_the_study_went_on():
    held = Held()
    study, _ = follow([held], trials=3)
    assert held.calls == []  # the study has ended before the tracker does a thing
    held.go.set()
    end(study)
    assert [call[1] for call in held.calls if call[0] == "finished"] == [1, 2, 3]
    assert [call[3] for call in held.calls if call[0] == "reported"] == [1, 2, 1, 2, 1, 2]
    assert held.seen[0].best is None
    assert held.seen[-1].best.number == 2


def test_a_tracker_that_hangs_is_left_after_its_patience_with_a_warning(caplog):
    held = Held()
    study, _ = follow([held], patience=0.05)
    end(study)
    (warning,) = warnings(caplog)
    assert warning == (
        "tracker toy0 was not done 0.05 seconds after the end, and is left: automl resume adds what it lacks"
    )
    assert held.abandoned
    held.go.set()


def test_a_full_queue_leaves_epochs_out_but_no_trial(caplog):
    caplog.set_level(logging.INFO, "automl")
    held = Held()
    study, _ = follow([held], trials=20, room=5)
    held.go.set()
    end(study)
    assert [call[1:] for call in held.calls if call[0] == "finished"] == [(n + 1, n, None) for n in range(20)]
    assert len([call for call in held.calls if call[0] == "reported"]) < 10
    assert held.calls[0] == ("started", 0)
    assert held.calls[-1] == ("ended", 20)
    behind = [record for record in caplog.records if "fell behind" in record.getMessage()]
    assert len(behind) == 1


def test_a_tracker_that_fell_behind_catches_up_before_the_study_ends():
    held = Held()
    study, _ = follow([held], trials=20, room=5)
    held.go.set()
    wait_for(lambda: len([call for call in held.calls if call[0] == "finished"]) == 20)
    end(study)


def test_a_tracker_that_fails_is_one_warning_and_stops_nothing(caplog):
    broken, notes = Broken(), Notes()
    study, _ = follow([broken, notes])
    end(study)
    assert len(study.trials) == 2
    assert len(broken.calls) == len(notes.calls) == 10
    (warning,) = warnings(caplog)
    assert warning == "tracker:toy0 failed in automl_study_started and is ignored: ValueError: no server"


def test_failed_trials_are_told_with_their_reason():
    notes = Notes()
    study, _ = follow([notes], evaluator=Scripted({1: TrialFailed("no room")}))
    end(study)
    assert [call[3] for call in notes.calls if call[0] == "finished"] == [None, "no room"]


def test_a_study_that_goes_on_hands_its_past_on_and_tells_only_the_new(tmp_path):
    path = tmp_path / "journal.jsonl"
    first, again = Notes(), Notes()
    end(follow([first], path)[0])
    end(follow([again], path, trials=3)[0])
    assert [call[:2] for call in again.calls if call[0] == "started"] == [("started", 2)]
    assert [call[1:3] for call in again.calls if call[0] == "finished"] == [(3, 2)]


def test_a_tracker_of_a_study_that_broke_is_let_go():
    notes = Notes()
    _, (follower,) = follow([notes])
    follower.close()
    follower.close()
    assert notes.calls[-1][0] == "finished"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("automl-tracker")]


def test_what_cannot_be_used_is_refused_before_anything_is_done(monkeypatch):
    class Refusing:
        instead = "do without"
        error: BaseException = BadInput("no key: log in")

        def check(self):
            raise self.error

    refusing = Refusing()
    with pytest.raises(BadInput, match=r"^no key: log in$"):
        Follower("toy", refusing).check()
    refusing.error = SystemExit(3)
    with pytest.raises(BadInput, match=r"^tracker=toy cannot be used \(SystemExit: 3\): do without$"):
        Follower("toy", refusing).check()
    monkeypatch.setattr("automl.following._ANSWER", 0.05)
    go = threading.Event()
    refusing.check = lambda: go.wait(60)
    with pytest.raises(BadInput, match=r"^tracker=toy did not answer within 0.05 seconds: do without$"):
        Follower("toy", refusing).check()
    go.set()
    Follower("toy", Notes()).check()


def test_the_first_of_a_list_are_a_sequence():
    trials = list("abcd")
    first = First(trials, 3)
    trials.append("e")
    assert list(first) == ["a", "b", "c"]
    assert (first[-1], first[1:], first[-2:], len(first)) == ("c", ["b", "c"], ["b", "c"], 3)
    for place in (3, -4):
        with pytest.raises(IndexError):
            first[place]


def test_a_standing_says_what_the_study_says():
    study, _ = follow([], evaluator=Scripted({0: TrialFailed("no"), 1: {"accuracy": 0.3}}), trials=3)
    standing = Standing.of(study)
    assert standing.best is study.best
    assert standing.front == study.front
    assert standing.failed == study.failed
    assert standing.to_records() == study.to_records()
    assert standing.evaluations == study.evaluations

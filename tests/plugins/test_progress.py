"""The progress line: what it says, how often, and that it leaves the terminal and standard output alone."""

import io
import os
import pty
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pluggy
import pytest

from automl import Candidate, Evaluator, Report, Space, TrialFailed, hookspecs
from automl.executor import Local, Simulated
from automl.study import Study
from automl.trial import Objective, Trial
from automl.watching import Watchers
from automl_strategies.random import Random
from automl_trackers.progress import Progress


class Letters(Space):
    """Twenty decisions."""

    def describe(self, choose):
        return [choose(f"d.{i}", ("a", "b", "c", "d")) for i in range(20)]

    def build(self, blueprint, task):
        raise NotImplementedError


class Clock:
    """Time that passes when told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@dataclass
class Slow(Evaluator):
    """Reports after each of four epochs, each of which takes a second of the clock."""

    clock: Clock = field(default_factory=Clock)
    epochs: int = 4
    failing: tuple[int, ...] = ()

    def evaluate(self, trial):
        for epoch in range(1, self.epochs + 1):
            self.clock.now += 1.0
            if trial.number in self.failing:
                raise TrialFailed("[/b]\x1b[31m\n")
            accuracy = 0.9 + 0.01 * (trial.number == 2) + epoch / 1_000
            yield Report({"accuracy": accuracy, "loss": 2 - accuracy, "parameters": 412_345}, epoch / self.epochs)


def watched(progress, evaluator, trials, *objectives):
    manager = pluggy.PluginManager("automl")
    manager.add_hookspecs(hookspecs)
    manager.register(progress)
    return Study(
        Letters(),
        Random(),
        evaluator,
        None,
        objectives or (Objective("accuracy"),),
        trials=trials,
        watchers=Watchers(manager),
    )


def followed(trials=6, *objectives, **settings):
    """Run a study and return the lines that were written, with the time of each."""
    clock = Clock()
    lines = []

    class Stream(io.StringIO):
        def write(self, text):
            lines.append((clock.now, text))
            return len(text)

    progress = Progress()
    progress.clock, progress.stream = clock, Stream()
    study = watched(progress, Slow(clock, **settings), trials, *objectives)
    study.run()
    progress.automl_study_finished()
    return lines


def test_a_line_tells_trial_best_epoch_and_time_left():
    texts = [text for _, text in followed(20)]
    assert texts[2] == "trial  3/20  best 0.904 (trial 0)  now: 412k parameters, epoch 3/4, 0.913  1:09 left\n"
    assert texts[-1] == "20/20 trials  best 0.914 (trial 2)\n"


def test_lines_are_five_seconds_apart_and_the_last_is_always_written():
    lines = followed(10)
    times = [when for when, _ in lines]
    assert all(later - earlier >= 5 for earlier, later in pairwise(times[:-1]))
    assert len(lines) <= 40 / 5 + 2
    assert lines[-1][1].startswith("10/10 trials")


def test_lines_hold_no_control_codes_whatever_is_asked(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    for _, text in followed(8, failing=(1, 3)):
        assert text[-1] == "\n"
        assert text[:-1].isprintable()


def test_of_several_running_trials_the_line_tells_how_many_and_the_last_heard_of():
    class Recorded(Evaluator):
        def evaluate(self, trial):
            for share in (0.5, 1.0):
                yield Report({"accuracy": 0.51 + trial.number / 100, "seconds": share * (10 + trial.number)}, share)

    progress = Progress()
    progress.clock, progress.stream = Clock(), io.StringIO()
    study = watched(progress, Recorded(), 6)
    study.executor = Simulated(workers=3)
    study.start()
    for _ in range(3):
        study.executor.submit(study.ask())
    lines = []
    for _ in range(4):
        trial, event = study.executor.next()
        progress.clock.now += 1.0
        study.report(trial, event)
        lines.append(progress.line())
    assert lines[0] == "0/6 trials, 3 running  now: 50 %, 0.51  0:11 left"  # half of one in a second
    assert lines[2] == "0/6 trials, 3 running  now: 50 %, 0.53  0:09 left"  # half of three in three
    assert lines[3] == "0/6 trials, 3 running  now: 0.51  0:08 left"
    study.tell(study.executor.next()[0])
    assert progress.line() == "1/6 trials, 2 running  best 0.51 (trial 0)  now: 50 %, 0.52  0:08 left"
    study.executor.close()


def test_failures_are_counted():
    assert followed(8, failing=(1, 3))[-1][1] == "8/8 trials  best 0.914 (trial 2)  2 failed\n"


def test_the_lowest_is_the_best_where_less_is_better():
    assert followed(4, Objective("loss", "min"))[-1][1] == "4/4 trials  best loss 1.086 (trial 2)\n"


def test_a_hostile_metric_is_spelt_out():
    class Odd(Evaluator):
        def evaluate(self, trial):
            yield Report({"[/b]\x1b[31m\n": 1.0})

    progress = Progress()
    progress.stream = io.StringIO()
    watched(progress, Odd(), 2, Objective("[/b]\x1b[31m\n")).run()
    progress.automl_study_finished()
    assert r"best [/b]\x1b[31m\n 1 (trial 0)" in progress.stream.getvalue()


def test_retraining_has_a_line_of_its_own():
    clock = Clock()
    progress = Progress()
    progress.clock, progress.stream = clock, io.StringIO()
    study = watched(progress, Slow(clock), 1)
    study.run()
    study.trainer = study.evaluator
    for epoch in (1, 2):
        clock.now += 10
        progress.automl_retraining(Report({"accuracy": 0.95, "parameters": 412_345}, epoch / 4))
    last = progress.stream.getvalue().splitlines()[-1]
    assert last == "1/1 trials  best 0.904 (trial 0)  retraining the best: 412k parameters, epoch 2/4, 0.95  0:20 left"
    progress.automl_study_finished()


def test_only_standard_error_is_written_to(capsys):
    progress = Progress()
    watched(progress, Slow(), 3).run()
    progress.automl_study_finished()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("3/3 trials  best 0.914 (trial 2)\n")


def test_finishing_twice_or_never_started_says_nothing():
    progress = Progress()
    progress.stream = io.StringIO()
    progress.automl_study_finished()
    assert progress.stream.getvalue() == ""


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from test_progress import Progress, Slow, watched
import time
class Real(Slow):
    def evaluate(self, trial):
        for report in super().evaluate(trial):
            time.sleep(0.05)
            yield report
            if {interrupt} and trial.number == 1:
                raise KeyboardInterrupt
progress = Progress()
study = watched(progress, Real(), 4)
try:
    study.run()
except KeyboardInterrupt:
    pass
finally:
    progress.automl_study_finished()
print("the answer")
"""


def on_a_terminal(interrupt=False, **environment):
    """Run a study with standard error on a terminal; return what went there, and standard output."""
    here, there = pty.openpty()
    settings = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(tests=str(Path(__file__).parent), interrupt=interrupt)],
        stdout=subprocess.PIPE,
        stderr=there,
        env=settings | {"TERM": "xterm-256color", "COLUMNS": "120"} | environment,
    )
    os.close(there)
    shown = b""
    try:
        while data := os.read(here, 4_096):
            shown += data
    except OSError:  # the other end is closed
        pass
    os.close(here)
    output = process.stdout.read().decode()
    process.stdout.close()
    assert process.wait() == 0, shown.decode()
    return shown.decode(), output


def test_a_terminal_sees_a_live_line_and_gets_its_cursor_back():
    shown, output = on_a_terminal()
    assert "4/4 trials  best 0.914 (trial 2)" in shown
    assert "epoch" in shown
    assert "\x1b[?25l" in shown  # the cursor is hidden while the line lives
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert output == "the answer\n"


def test_an_interrupt_gives_the_terminal_back():
    shown, output = on_a_terminal(interrupt=True)
    assert "1/4 trials" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert output == "the answer\n"


def test_no_colour_is_obeyed():
    coloured, _ = on_a_terminal()
    plain, _ = on_a_terminal(NO_COLOR="1")
    assert "\x1b[38;5;" in coloured or "\x1b[3" in coloured
    assert "\x1b[38;5;" not in plain
    assert "\x1b[3" not in plain
    assert "4/4 trials" in plain


def test_a_dumb_terminal_gets_plain_lines():
    shown, _ = on_a_terminal(TERM="dumb")
    assert "\x1b" not in shown
    assert "4/4 trials" in shown


def test_watching_costs_a_fast_study_little():
    class Free(Evaluator):
        def evaluate(self, trial):
            yield Report({"accuracy": random.Random(trial.seed).random()})

    progress = Progress()
    progress.stream = io.StringIO()
    study = watched(progress, Free(), 5_000)
    began = time.process_time()
    study.run()
    running = time.process_time() - began
    assert len(progress.stream.getvalue().splitlines()) <= 4
    progress.automl_study_started(study)
    began = time.process_time()
    for trial in study.trials:
        progress.automl_trial_started(trial)
        progress.automl_trial_reported(trial)
        progress.automl_trial_finished(trial)
    assert time.process_time() - began < running / 3  # measured: a fiftieth
    progress.automl_study_finished()


@pytest.mark.parametrize("fidelity", [0.25, 1.0])
def test_the_share_is_told_where_epochs_are_unknown(fidelity):
    progress = Progress()
    progress.stream = io.StringIO()
    study = watched(progress, Slow(), 4)
    study.evaluator.epochs = None
    progress.automl_study_started(study)
    trial = Trial(0, Candidate(None, fidelity), 0)
    trial.reports.append(Report({"accuracy": 0.5}, fidelity / 2))
    progress.automl_trial_reported(trial)
    assert "now: 50 %, 0.5" in progress.stream.getvalue()


def test_the_time_left_is_never_more_than_the_hours_have_left():
    class Passing(Local):
        @property
        def clock(self):
            return time.now

    time = Clock()
    lines = []

    class Stream(io.StringIO):
        def write(self, text):
            lines.append((time.now, text))
            return len(text)

    progress = Progress()
    progress.clock, progress.stream = time, Stream()
    study = watched(progress, Slow(time), 10_000)
    study.executor = Passing(hours=0.05)
    study.run()
    progress.automl_study_finished()
    assert study.ending.startswith("0.05 hours are spent")
    left = [(when, text.rsplit("  ", 1)[1]) for when, text in lines if text.endswith(" left\n")]
    assert len(left) > 3
    for when, text in left:
        minutes, seconds = text.removesuffix(" left\n").split(":")
        assert 60 * int(minutes) + int(seconds) <= 180 - when + 1


STEP = {"entropy": 0.713, "skips": 0.17}


def stepped(*steps, told=()):
    """Follow trials of such notes and metrics; return the line while the last runs, and the progress."""
    progress = Progress()
    progress.stream = io.StringIO()
    study = watched(progress, Slow(), 1_000)
    study.trials = [Trial(number, Candidate(None, notes=notes), 0) for number, notes in enumerate(told)]
    progress.automl_study_started(study)
    for number, (notes, metrics) in enumerate(steps, len(told)):
        trial = Trial(number, Candidate(None, notes=notes), 0)
        progress.automl_trial_started(trial)
        trial.reports.append(Report(metrics, 0.5))
        progress.automl_trial_reported(trial)
    return progress.line(), progress


@pytest.mark.parametrize(
    ("notes", "metrics", "expected"),
    [
        (STEP, {"loss": 0.832, "child_accuracy": 0.62, "random_accuracy": 0.48}, "loss 0.83  entropy 0.71  skips 17 %"),
        (STEP, {"child_accuracy": 0.62, "random_accuracy": 0.48}, "derived 0.62 (random 0.48)"),
        (STEP, {"child_accuracy": 0.62}, "skips 17 %  derived 0.62"),
        (STEP, {"child_accuracy": 0.62, "curvature": 0.0312}, "skips 17 %  curvature 0.031  derived 0.62"),
        ({"entropy": 0.7}, {"accuracy": 0.9}, "trial    1/1000  entropy 0.70"),
        ({"entropy": "much"}, {"accuracy": 0.9}, "trial    1/1000  now: epoch 2/4, 0.9"),
        ({"skips": 0.5}, {"accuracy": 0.9}, "trial    1/1000  now: epoch 2/4, 0.9"),
    ],
)
def test_a_step_tells_the_figures_that_it_has(notes, metrics, expected):
    assert expected in stepped((notes, metrics))[0].replace("  0:00 left", "")


def test_the_derived_network_is_told_until_it_is_judged_again():
    line, progress = stepped((STEP, {"loss": 0.9, "child_accuracy": 0.62}), ({**STEP, "skips": 0.5}, {"loss": 0.7}))
    assert "loss 0.70  entropy 0.71  skips 50 %  derived 0.62" in line
    assert "now: " not in line
    progress.automl_retraining(Report({"accuracy": 0.9}, 0.5))
    assert "  retraining the derived network: 50 %, 0.9" in progress.line()


def test_none_of_the_steps_is_the_best():
    _, progress = stepped((STEP, {"loss": 0.9, "accuracy": 0.5}))
    step = progress._now
    step.judge([Objective("accuracy")])
    progress.automl_trial_finished(step)
    assert progress.line() == "0/1000 trials  loss 0.90  entropy 0.71  skips 17 %"


def test_a_resumed_search_by_steps_tells_its_last_figures():
    assert "skips 17 %" in stepped(told=[{"entropy": 1.0, "skips": 0.9}, STEP])[0]


def test_a_trial_that_is_no_step_ends_the_figures():
    assert "entropy" not in stepped((STEP, {"loss": 0.9}), ({}, {"accuracy": 0.5}))[0]

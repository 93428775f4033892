"""Shows how a study goes: a live line on a terminal, plain lines elsewhere; on standard error, never on output."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TextIO

from annotated_types import Gt

from automl import Report, Trial, hookimpl
from automl.drawing.markup import short
from automl.errors import printable
from automl_trackers import steps

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from automl.study import Study

_BAR = 20  # characters
_ENOUGH = 0.3  # of a trial must be over before the time left can be told


@dataclass
class Progress:
    """One line: which trial runs, the best so far, what is training now, and the time left.

    Where several run, it tells how many, and of those the one that reported last.

    Where trials are steps of one search, whose notes tell the entropy of its choices, none of them is the best: the
    line then tells the figures of the step, and what the network that would be derived was worth when last judged.

    On a terminal the line is redrawn four times a second by a thread of its own; elsewhere a line is written at
    most every ``every`` seconds, and a last one at the end. The hooks only note what happened, so that a study of
    thousands of trials a second is not slowed.
    """

    every: Annotated[float, Gt(0)] = 5.0

    def __post_init__(self) -> None:
        self.clock: Callable[[], float] = time.monotonic
        self.stream: TextIO | None = None  # None: standard error, as it is when the study starts
        self._study: Study | None = None
        self._live: Live | None = None

    @hookimpl
    def automl_study_started(self, study: Study) -> None:
        """Begin to show."""
        self._stop()
        self._study = study
        self._out = self.stream or sys.stderr
        self._began = self._last_end = self.clock()
        self._next_line = self._began  # when the next plain line may be written
        self._clock_began = study.executor.clock
        self._resumed = len(study.trials)
        self._failed = len(study.failed)
        self._best = max(
            (trial for trial in study.trials if trial.is_scored), key=lambda trial: trial.rank, default=None
        )
        self._figures: dict[str, float] = {}  # the last of each, where trials are steps of one search
        for trial in study.trials:
            self._note(trial)
        self._now: Trial | None = None
        self._retrained: Report | None = None
        if self._out.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
            self._start()

    @hookimpl
    def automl_trial_started(self, trial: Trial) -> None:
        """Note what runs now."""
        self._now = trial
        self._note(trial)

    @hookimpl
    def automl_trial_reported(self, trial: Trial) -> None:
        """Note how far it is."""
        self._now = trial
        self._note(trial)
        if self._live is None and self.clock() >= self._next_line:
            self._write()

    @hookimpl
    def automl_trial_finished(self, trial: Trial) -> None:
        """Note what became of it."""
        running = self._study.running if self._study is not None else {}
        self._now = next(iter(running.values()), None)
        self._last_end = self.clock()
        if trial.error is not None:
            self._failed += 1
        elif trial.is_scored and (self._best is None or trial.rank > self._best.rank):
            self._best = trial
        if self._live is None and self._last_end >= self._next_line:
            self._write()

    @hookimpl
    def automl_retraining(self, report: Report) -> None:
        """Note how far the final training is."""
        self._now, self._retrained = None, report
        if self._live is None and self.clock() >= self._next_line:
            self._write()

    @hookimpl
    def automl_study_finished(self) -> None:
        """Leave the last line, and the terminal as it was; called also when the study was interrupted."""
        if self._study is None:
            return
        self._now = self._retrained = None
        if self._live is None:
            self._write()
        self._stop()
        self._study = None

    def line(self) -> str:
        """Return what is to be said now, on one line and without control characters."""
        study = self._study
        if study is None:
            return ""
        told, now = len(study.trials), self._now
        running = len(study.running)
        if running > 1 and now is not None:
            parts = [f"{told}/{study.total} trials, {running} running"]
        elif now is not None:
            number = min(told + 1, study.total)
            parts = [f"trial {number:>{len(str(study.total))}}/{study.total}"]
        else:
            parts = [f"{told}/{study.total} trials"]
        if self._figures:
            parts += steps.words(self._figures)
        elif self._best is not None:
            objective = study.objectives[0]
            name = "" if objective.metric == "accuracy" else f"{objective.metric} "
            parts.append(f"best {name}{short(self._best.metrics[objective.metric])} (trial {self._best.number})")
        if self._failed:
            parts.append(f"{self._failed} failed")
        if self._retrained is not None:
            parts.append(
                f"retraining the {'derived network' if self._figures else 'best'}: "
                + _how_far(study, study.trainer, self._retrained, 1.0)
            )
        elif now is not None and now.reports and not self._figures:
            parts.append("now: " + _how_far(study, study.evaluator, now.reports[-1], now.candidate.fidelity))
        left = self._left(study)
        if left is not None:
            parts.append(f"{_minutes(left)} left")
        return printable("  ".join(parts))

    def _note(self, trial: Trial) -> None:
        if steps.is_step(trial):
            self._figures.update(steps.figures(trial))
        elif self._figures:
            self._figures.clear()

    def _left(self, study: Study) -> float | None:
        """Return about how many seconds are left of the search, or of the final training once that has begun."""
        if self._retrained is not None:
            share = self._retrained.fidelity
            return (self.clock() - self._last_end) * (1 - share) / share if share > 0 else None
        told = len(study.trials)
        under_way = self._under_way()
        done = told - self._resumed + under_way
        if self._now is None or done < _ENOUGH:
            return None
        elapsed = self.clock() - self._began
        left = elapsed / done * (study.total - told - under_way)
        executor, passed = study.executor, study.executor.clock - self._clock_began
        if executor.hours is not None and passed > 0:  # the clock may be a simulated one, of a pace of its own
            left = min(left, elapsed / passed * (executor.hours * 3600 - executor.clock))
        return max(left, 0.0)

    def _under_way(self) -> float:
        """Return which share of the running trial is over; of several, the sum of their shares."""
        running = [] if self._now is None or self._study is None else list(self._study.running.values())
        # a list, for the study may begin another trial meanwhile
        return sum(
            min(trial.reports[-1].fidelity / trial.candidate.fidelity, 1.0) for trial in running if trial.reports
        )

    def _write(self) -> None:
        self._next_line = self.clock() + self.every
        self._out.write(self.line() + "\n")
        self._out.flush()

    def _start(self) -> None:
        from rich.console import Console
        from rich.live import Live

        console = Console(file=self._out, force_jupyter=False)
        self._live = Live(get_renderable=self._drawn, console=console, refresh_per_second=4, redirect_stdout=False)
        self._live.start()

    def _stop(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    def _drawn(self) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        study, share = self._study, 0.0
        if self._retrained is not None:
            share = self._retrained.fidelity
        elif study is not None:
            share = (len(study.trials) + self._under_way()) / max(study.total, 1)
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=_BAR)
        grid.add_column(no_wrap=True, overflow="ellipsis")
        grid.add_row(ProgressBar(total=1.0, completed=min(share, 1.0), width=_BAR), Text(self.line()))
        return grid


def _how_far(study: Study, trainer: object, report: Report, until: float) -> str:
    """Return the size of a network, how far its training is, and how good it is by now."""
    metrics, parts = report.metrics, []
    if "parameters" in metrics:
        parts.append(f"{short(metrics['parameters'])} parameters")
    epochs = getattr(trainer, "epochs", None)
    if isinstance(epochs, int):
        parts.append(f"epoch {round(report.fidelity * epochs)}/{max(1, int(until * epochs + 0.5))}")
    elif until != report.fidelity:
        parts.append(f"{100 * report.fidelity / until:.0f} %")
    value = metrics.get(study.objectives[0].metric, metrics.get("accuracy"))
    if value is not None:
        parts.append(short(value))
    return ", ".join(parts)


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

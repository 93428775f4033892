"""What a report lists of many trials: which rows, and the failures by their reason."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from automl.drawing.markup import block, short, shown
from automl.runs import Run
from automl.trial import Objective, Trial, merit
from automl_trackers import steps

GROUPS = 30  # of failures that are listed, the commonest first
_METRICS = 6  # columns
_STEPS = 100  # that are listed where trials are steps of one search
_LETTERS = 1_500_000  # of all decisions together
_LONGEST = 3_000  # letters of one trial's decisions


@dataclass
class Failures:
    """Trials that failed for one reason, numbers in it apart."""

    reason: Markup
    trials: list[Trial] = field(default_factory=list)

    @property
    def traceback(self) -> Markup | None:
        """One traceback, of the first that kept one."""
        return next((block(trial.traceback) for trial in self.trials if trial.traceback), None)

    @property
    def numbers(self) -> str:
        """The numbers of some of the trials."""
        some = ", ".join(str(trial.number) for trial in self.trials[:10])
        return some if len(self.trials) <= 10 else f"{some}, … {self.trials[-1].number}"


def failures(trials: Iterable[Trial]) -> list[Failures]:
    """Return the failed trials by reason, the commonest first."""
    groups: dict[str, Failures] = {}
    for trial in trials:
        if trial.error is not None:
            alike = re.sub(r"[0-9.]+", "#", trial.error)
            groups.setdefault(alike, Failures(shown(trial.error))).trials.append(trial)
    return sorted(groups.values(), key=lambda group: -len(group.trials))


@dataclass
class Row:
    """A trial as the table shows it; a cell is its text and what to sort it by."""

    number: int
    state: str
    cells: list[tuple[str, float | None]]
    decisions: Markup
    count: int
    reason: Markup | None = None


@dataclass
class Table:
    """The rows of a table, and the sentence on what it leaves out."""

    columns: list[str]
    rows: list[Row]
    left_out: str | None


def table(run: Run, front: Sequence[Trial], groups: Sequence[Failures], most: int) -> Table:
    """Return the table: of more than ``most`` trials the best, the front, the first of each failure, and the newest.

    Of steps it has those after which the derived network was judged.
    """
    trials = [*run.trials, *run.interrupted]
    alone = steps.are_steps(run.trials)
    if alone:
        chosen, left_out = _judged(run, trials, groups, min(most, _STEPS))
    else:
        chosen, left_out = (trials, None) if len(trials) <= most else _choose(run, trials, front, groups, most)
    best, interrupted = None if alone else run.best, {trial.number for trial in run.interrupted}
    on_front = {trial.number for trial in front}
    metrics = _metrics(chosen, run.objectives)
    partial = any(trial.reports and trial.reports[-1].fidelity < 1 for trial in chosen)
    longest = min(_LONGEST, _LETTERS // max(len(chosen), 1))
    rows = []
    for trial in sorted(chosen, key=lambda trial: trial.number):
        cells = [_cell(trial.metrics.get(metric)) for metric in metrics]
        if partial:
            cells.append(_cell(trial.reports[-1].fidelity if trial.reports else None))
        cells.append(_cell(trial.seconds if trial.number not in interrupted else None, "{:,.1f}"))
        state = "finished"
        if trial.number in interrupted:
            state = "interrupted"
        elif trial.error is not None:
            state = "failed"
        elif trial.is_rejected:
            state = "rejected"
        elif best is not None and trial.number == best.number:
            state = "best"
        elif trial.violation:
            state = "over a limit"
        elif trial.number in on_front:
            state = "front"
        reason = None if trial.error is None else shown(trial.error, 300)
        values = trial.architecture.values
        rows.append(Row(trial.number, state, cells, decisions(values, longest), len(values), reason))
    return Table([*metrics, *(["fidelity"] if partial else []), "seconds"], rows, left_out)


def decisions(values: Mapping[str, object], longest: int = 20_000) -> Markup:
    """Return decisions as lines of markup, as many as there is room for."""
    lines: list[Markup] = []
    room = longest
    for name, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        entry = Markup("{} = {}").format(shown(name, 200), shown(text, 300))
        room -= len(entry) + 1
        if room < 0:
            lines.append(escape(f"… and {len(values) - len(lines):,} more, in journal.jsonl"))
            break
        lines.append(entry)
    return Markup("\n").join(lines)


def _choose(
    run: Run, trials: Sequence[Trial], front: Sequence[Trial], groups: Sequence[Failures], most: int
) -> tuple[list[Trial], str]:
    chosen: dict[int, Trial] = {}
    best = run.best
    if best is not None:
        chosen[best.number] = best
    chosen.update((trial.number, trial) for trial in front[: most // 4])
    examples = [group.trials[0] for group in groups[: max(most // 10, 1)]]
    chosen.update((trial.number, trial) for trial in examples)
    chosen.update((trial.number, trial) for trial in run.interrupted[: most // 10])
    top = sorted((trial for trial in run.trials if trial.error is None), key=merit, reverse=True)[: most // 4]
    chosen.update((trial.number, trial) for trial in top)
    newest = 0
    for trial in reversed(trials):
        if len(chosen) >= most:
            break
        newest += trial.number not in chosen
        chosen[trial.number] = trial
    failed = sum(trial.error is not None for trial in trials)
    failed_shown = sum(trial.error is not None for trial in chosen.values())
    left = len(trials) - len(chosen)
    kinds = [
        f"the {len(top):,} best by score",
        f"{min(len(front), most // 4):,} of the {len(front):,} on the front",
        f"{len(examples):,} failures, one a reason",
        f"the newest {newest:,}",
    ]
    return list(chosen.values()), (
        f"{len(chosen):,} of {len(trials):,} trials are listed: {', '.join(kinds)}. Left out are {left:,}, of which "
        f"{failed - failed_shown:,} failed; journal.jsonl holds every one."
    )


def _judged(run: Run, trials: Sequence[Trial], groups: Sequence[Failures], most: int) -> tuple[list[Trial], str | None]:
    finished = [trial for trial in run.trials if trial.is_scored]
    judged = [trial for trial in finished if steps.DERIVED in trial.metrics] or finished
    examples = [group.trials[0] for group in groups[: max(most // 10, 1)]]
    some = [finished[0], *steps.thin(judged, most), finished[-1], *examples, *run.interrupted[: most // 10]]
    chosen = list({trial.number: trial for trial in some}.values())
    if len(chosen) == len(trials):
        return chosen, None
    which = "those" if len(judged) <= most else "some of those"
    kind = f"{which} after which the derived network was judged" if judged is not finished else "some, evenly spaced"
    failures = f"; {len(examples):,} failures, one a reason" if examples else ""
    return chosen, (
        f"Each trial is one step, and {len(chosen):,} of {len(trials):,} are listed: {kind}, with the first and the "
        f"last{failures}. Decisions are of the network derived by then; journal.jsonl holds every step."
    )


def _metrics(trials: Iterable[Trial], objectives: Sequence[Objective]) -> list[str]:
    """Return the metrics to list: those of the objectives first, then the usual, then others."""
    present: dict[str, None] = {}
    for trial in trials:
        present.update(dict.fromkeys(trial.metrics))
    first = [objective.metric for objective in objectives]
    usual = ["accuracy", steps.DERIVED, steps.RANDOM, "loss", "parameters", "multiply_adds"]
    order = dict.fromkeys(name for name in [*first, *usual, *present] if name in present)
    return list(order)[:_METRICS]


def _cell(value: float | None, form: str | None = None) -> tuple[str, float | None]:
    if value is None:
        return "-", None
    return (short(value) if form is None else form.format(value)), value

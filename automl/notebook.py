"""A study as a notebook shows it: its curve and its best five, as HTML without script or style sheet."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from automl.errors import printable
from automl.trial import Objective, Trial, full, merit

if TYPE_CHECKING:
    from automl.study import Study

_BEST = 5
_WIDTH, _HEIGHT = 560, 150
_POINTS = 1_000  # more trials than that are thinned out; the line of the best keeps every step
_DECISIONS = 100  # of a trial
_COLUMNS = ("parameters", "multiply_adds", "latency_ms")


def html(study: Study) -> str:
    """Return the study's curve and its best five trials; all names in it are escaped."""
    objective = study.objectives[0]
    finished = [trial for trial in study.trials if trial.is_scored]
    failed = len(study.failed)
    told = f"{len(study.trials):,} of {study.total:,} trials" + (f", {failed:,} failed" if failed else "")
    head = f"<p><strong>automl study</strong>: {told}</p>"
    if not finished:
        return f"<div>{head}<p>No trial has finished yet.</p></div>"
    return f"<div>{head}{_curve(finished, objective)}{_table(finished, objective)}</div>"


def _curve(finished: list[Trial], objective: Objective) -> str:
    """Draw each trial as a dot and the best so far as a line, in the colour of the text around."""
    points = [(trial.number, trial.metrics[objective.metric]) for trial in finished]
    ordered = sorted(value for _, value in points)
    worse, better = (
        (ordered[len(ordered) // 20], ordered[-1])
        if objective.goal == "max"
        else (
            ordered[-1 - len(ordered) // 20],
            ordered[0],
        )
    )
    span = (better - worse) or 1.0
    last = max(number for number, _ in points) or 1

    def place(number: int, value: float) -> tuple[float, float]:
        rise = min(max((value - worse) / span, 0.0), 1.0) if better != worse else 0.5
        return 60 + (_WIDTH - 70) * number / last, _HEIGHT - 14 - (_HEIGHT - 28) * rise

    dots = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in (place(*point) for point in points[:: len(points) // _POINTS + 1]))
    line, key = "", None
    for trial in finished:
        now = trial.rank
        if key is None or now > key:
            x, y = place(trial.number, trial.metrics[objective.metric])
            line += f"H{x:.1f}V{y:.1f}" if line else f"M{x:.1f} {y:.1f}"
            key = now
    name = escape(printable(objective.metric))
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" fill="none" stroke="currentColor">'
        f"<title>{name} of each trial, and the best so far</title>"
        f'<path d="{dots}" stroke-width="5" stroke-linecap="round" stroke-opacity="0.35"/>'
        f'<path d="{line}H{_WIDTH - 10}" stroke-width="2"/>'
        f'<g fill="currentColor" stroke="none" font-size="11" text-anchor="end">'
        f'<text x="52" y="18">{better:.4g}</text><text x="52" y="{_HEIGHT - 10}">{worse:.4g}</text></g></svg>'
    )


def _table(finished: list[Trial], objective: Objective) -> str:
    five = sorted(full(finished) or finished, key=merit, reverse=True)[:_BEST]
    columns = [objective.metric, *(name for name in _COLUMNS if name in five[0].metrics and name != objective.metric)]
    heads = "".join(f"<th>{escape(printable(name))}</th>" for name in ("trial", *columns, "decisions"))
    rows = "".join(
        f"<tr><td>{trial.number}</td>"
        + "".join(f"<td>{trial.metrics[name]:,.6g}</td>" if name in trial.metrics else "<td></td>" for name in columns)
        + f"<td>{_decisions(trial)}</td></tr>"
        for trial in five
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _decisions(trial: Trial) -> str:
    values = trial.architecture.to_json()
    lines = [escape(printable(f"{name} = {value}"[:200])) for name, value in values.items()]
    if len(lines) > _DECISIONS:
        lines[_DECISIONS:] = [f"and {len(lines) - _DECISIONS:,} more"]
    return f"<details><summary>{len(values)}</summary>{'<br>'.join(lines)}</details>"

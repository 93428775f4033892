"""Plots as small SVG that takes its colours from the page, and tells every kind of mark by its shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from automl.drawing.markup import short
from automl.drawing.svg import path, picture, text
from automl.trial import Objective, Trial
from automl_trackers.axes import (
    BEST,
    BOTTOM,
    EDGE,
    FAILED,
    FRONT,
    FULL,
    HEIGHT,
    ILLEGAL,
    LEFT,
    PARTIAL,
    RIGHT,
    TOP,
    WIDTH,
    Mark,
    Scale,
    draw_grid,
    draw_legend,
    draw_mark,
    draw_marks,
    fit,
)

SINGLE = 1_500  # trials that are drawn one by one; more are drawn by the column of pixels
_TOLD = 400  # trials that say what they are under the mouse
_GRID = 3  # pixels within which marks of many trials are one


def curve(trials: Sequence[Trial], objective: Objective) -> Markup:
    """Return every trial by its number, the best so far as a line, and failures in a row of their own.

    Values far worse than most are drawn at the edge, so that the good ones can be told apart.
    """
    metric = objective.metric
    trials = sorted(trials, key=lambda trial: trial.number)
    scored = [trial for trial in trials if trial.is_scored]
    failed = [trial for trial in trials if trial.error is not None]
    foot, last = HEIGHT - BOTTOM, max((trial.number for trial in trials), default=0)
    bottom = foot - (22 if failed else 0)
    x = Scale(-0.5, last + 0.5, LEFT, WIDTH - RIGHT) if last < 30 else Scale(0, last, LEFT + 6, WIDTH - RIGHT - 6)
    y = fit(_without_outliers([trial.metrics[metric] for trial in scored], objective.goal), bottom - 8, TOP + 8)
    parts = draw_grid(x, y, bottom, metric if scored else "", "trial", whole=True, foot=foot)
    legend: list[tuple[Mark | str, str]] = []

    def place(trial: Trial) -> tuple[float, float, str]:
        return x(trial.number), y(trial.metrics[metric]), _told(trial, metric)

    if scored:
        groups = _by_kind(scored, lambda trial: y.holds(trial.metrics[metric]))
        if len(trials) <= SINGLE:
            for mark, members in groups.items():
                parts.append(draw_marks(mark, map(place, members), told=len(trials) <= _TOLD))
                legend.append((mark, _kind(mark, members)))
        else:
            parts.append(_columns(place(trial)[:2] for trial in scored))
            legend.append(("range", "range of the trials"))
            if EDGE in groups:
                legend.append(("", f"{_kind(EDGE, groups[EDGE])}, cut off"))
        steps = _best_so_far(scored)
        parts += [_steps([place(trial)[:2] for trial in steps], x(last)), draw_mark(BEST, *place(steps[-1]))]
        legend.append(("best-line", "best so far"))
        legend.append((BEST, f"best: trial {steps[-1].number}, {short(steps[-1].metrics[metric])}"))
    if failed:
        row = bottom + 12
        places = [(x(trial.number), row, f"trial {trial.number} failed: {trial.error}") for trial in failed]
        if len(failed) > _TOLD:
            places = list({round(at[0] / _GRID): at for at in places}.values())
        parts += [path("axis", f"M{LEFT} {foot}H{WIDTH - RIGHT}"), text("tick end", LEFT - 8, row + 4, "failed")]
        parts.append(draw_marks(FAILED, places, told=len(failed) <= _TOLD))
        legend.append((FAILED, f"failed ({len(failed):,})"))
    title = f"{metric} of each of {len(trials):,} trials, and the best so far"
    return picture("plot", WIDTH, HEIGHT, title, parts + draw_legend(legend))


def cost(trials: Sequence[Trial], front: Sequence[Trial], metric: str, price: str, best: Trial | None) -> Markup:
    """Return the finished trials by what they cost and what they are worth, the front joined by a line."""
    height = HEIGHT + 40
    bottom = height - BOTTOM
    x = fit([trial.metrics[price] for trial in trials], LEFT + 8, WIDTH - RIGHT - 8, log=True)
    y = fit(_without_outliers([trial.metrics[metric] for trial in trials], "max"), bottom - 8, TOP + 8)
    parts = draw_grid(x, y, bottom, metric, price.replace("_", " "))
    legend: list[tuple[Mark | str, str]] = []

    def place(trial: Trial) -> tuple[float, float, str]:
        told = f"{_told(trial, metric)}, {short(trial.metrics[price])} {price}"
        return x(trial.metrics[price]), y(trial.metrics[metric]), told

    apart = {trial.number for trial in front} | ({best.number} if best is not None else set())
    for mark, members in _by_kind(trials, lambda trial: y.holds(trial.metrics[metric])).items():
        places = [place(trial) for trial in members if trial.number not in apart]
        if len(trials) > SINGLE:
            places = list({(round(at[0] / _GRID), round(at[1] / _GRID)): at for at in places}.values())
        if places:
            parts.append(draw_marks(mark, places, told=len(trials) <= _TOLD))
            legend.append((mark, _kind(mark, members)))
    line = sorted(place(trial)[:2] for trial in front)
    parts += [_steps(line, line[-1][0], "frontline"), draw_marks(FRONT, map(place, front), told=True)]
    legend.append((FRONT, f"Pareto front ({len(front):,})"))
    if best is not None and price in best.metrics and metric in best.metrics:
        parts.append(draw_mark(BEST, *place(best)))
        legend.append((BEST, f"best: trial {best.number}"))
    title = f"{metric} against {price} of {len(trials):,} trials"
    return picture("plot", WIDTH, height, title, parts + draw_legend(legend))


def line(points: Sequence[tuple[float, float]], metric: str, by: str, title: str) -> Markup:
    """Return one value by another as a line."""
    height = 250
    bottom = height - BOTTOM
    xs, ys = zip(*points, strict=True)
    x = Scale(min(xs), max(xs), LEFT + 6, WIDTH - RIGHT - 6)
    y = fit(ys, bottom - 8, TOP + 8)
    parts = draw_grid(x, y, bottom, metric, by, whole=True)
    parts.append(path("best-line", "M" + "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in points)))
    if len(points) <= 60:
        parts.append(draw_marks(FULL, ((x(a), y(b), f"{by} {a:g}: {short(b)}") for a, b in points), told=True))
    return picture("plot", WIDTH, height, title, parts)


class Row(NamedTuple):
    """A value to compare, with its interval if it has one."""

    label: str
    value: float
    note: str = ""
    interval: tuple[float, float] | None = None


def comparison(rows: Sequence[Row], title: str) -> Markup:
    """Return values under each other on one axis, the first with emphasis."""
    left, right, height = 200, 250, 34
    bottom = 12 + height * len(rows)
    x = fit([end for row in rows for end in (row.value, *(row.interval or ()))], left + 8, WIDTH - right - 8)
    parts = []
    for tick in x.ticks(5):
        parts += [path("grid", f"M{x(tick):.1f} 4V{bottom}"), text("tick middle", x(tick), bottom + 18, short(tick))]
    for index, row in enumerate(rows):
        y = 8 + height * (index + 0.5)
        emphasis = " strong" if index == 0 else ""
        parts.append(text(f"label end{emphasis}", left - 14, y + 5, row.label, longest=24))
        if row.interval is not None:
            low, high = map(x, row.interval)
            parts.append(path("interval", f"M{low:.1f} {y}H{high:.1f}m0-6v12M{low:.1f} {y - 6}v12"))
        parts.append(draw_mark(FRONT if index == 0 else FULL, x(row.value), y))
        parts.append(text(f"label{emphasis}", WIDTH - right + 14, y + 5, short(row.value), note=row.note))
    return picture("plot", WIDTH, bottom + 28, title, parts)


_KINDS = {FULL: "trial", PARTIAL: "trained for less", ILLEGAL: "over a limit"}


def _kind(mark: Mark, members: Sequence[Trial]) -> str:
    return _KINDS.get(mark, f"far worse ({len(members):,})")


def _by_kind(trials: Sequence[Trial], holds: Callable[[Trial], bool]) -> dict[Mark, list[Trial]]:
    """Return the trials by how they are drawn; ``holds`` says whether one lies on the axis."""
    highest = max(trial.reports[-1].fidelity for trial in trials)
    groups: dict[Mark, list[Trial]] = {}
    for trial in trials:
        if not holds(trial):
            mark = EDGE
        elif trial.violation:
            mark = ILLEGAL
        else:
            mark = FULL if trial.reports[-1].fidelity == highest else PARTIAL
        groups.setdefault(mark, []).append(trial)
    return groups


def _best_so_far(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that were the best when they were told, by fidelity first, as ``automl.best`` has it."""
    best: list[Trial] = []
    key = None
    for trial in trials:
        now = trial.rank
        if key is None or now > key:
            key = now
            best.append(trial)
    return best


def _without_outliers(values: Sequence[float], goal: str) -> Sequence[float]:
    """Return the values to fit an axis to: without those far worse than nine in ten."""
    if len(values) < 8:
        return values
    ordered = sorted(values, reverse=goal == "max")  # best first
    most = ordered[len(ordered) * 9 // 10]
    bound = most + (most - ordered[0])
    return [value for value in ordered if (value >= bound if goal == "max" else value <= bound)]


def _told(trial: Trial, metric: str) -> str:
    return f"trial {trial.number}: {metric} {short(trial.metrics[metric])}"


def _columns(places: Iterable[tuple[float, float]]) -> str:
    """Return the range in each column of two pixels as one path."""
    ranges: dict[int, tuple[float, float]] = {}
    for x, y in places:
        column = round(x / 2)
        low, high = ranges.get(column, (y, y))
        ranges[column] = (min(low, y), max(high, y))
    lines = (f"M{2 * column} {low:.1f}V{high + 0.5:.1f}" for column, (low, high) in sorted(ranges.items()))
    return path("range", "".join(lines))


def _steps(points: Sequence[tuple[float, float]], stop: float, kind: str = "best-line") -> str:
    steps = "".join(f"H{x:.1f}V{y:.1f}" for x, y in points[1:])
    return path(kind, f"M{points[0][0]:.1f} {points[0][1]:.1f}{steps}H{stop:.1f}")

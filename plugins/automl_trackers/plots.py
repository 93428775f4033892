"""Plots as small SVG that takes its colours from the page, and tells every kind of mark by its shape."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from markupsafe import Markup

from automl.trial import Objective, Trial
from automl_trackers.markup import short
from automl_trackers.svg import path, picture, text

WIDTH, HEIGHT = 920, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 18, 34, 46
SINGLE = 1_500  # trials that are drawn one by one; more are drawn by the column of pixels
_TOLD = 400  # trials that say what they are under the mouse
_GRID = 3  # pixels within which marks of many trials are one


class Mark(NamedTuple):
    """A kind of mark: its class and its shape around the origin."""

    kind: str
    path: str


FULL = Mark("full", "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z")
PARTIAL = Mark("partial", "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0z")
ILLEGAL = Mark("illegal", "M-4-3h8l-4 7z")
FAILED = Mark("failed", "M-3.5-3.5l7 7m0-7l-7 7")
EDGE = Mark("edge-mark", "M-4-2l4 4l4-4M-4-6l4 4l4-4")
FRONT = Mark("front", "M0-5.5L5.5 0L0 5.5L-5.5 0z")
BEST = Mark("best", "M0-8L2.2-2.6L8-2.5L3.4 1.2L5 7L0 3.6L-5 7L-3.4 1.2L-8-2.5L-2.2-2.6z")


@dataclass(frozen=True)
class Scale:
    """Maps values from low to high on pixels from start to stop; clips what lies outside."""

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (
            self._turn(number) for number in (self.low, self.high, min(max(value, self.low), self.high))
        )
        return self.start + (self.stop - self.start) * ((value - low) / (high - low) if high > low else 0.5)

    def holds(self, value: float) -> bool:
        """Say whether a value lies within."""
        return self.low <= value <= self.high

    def _turn(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self, about: int) -> list[float]:
        """Return some round numbers within."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1, 2, 5) if len(decades) <= 4 else (1,)
            return [
                step * 10.0**power for power in decades for step in steps if self.low <= step * 10.0**power <= self.high
            ]
        step = _round_step((self.high - self.low) / about)
        first = math.ceil(self.low / step - 1e-9)
        return [index * step for index in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _round_step(rough: float) -> float:
    if rough <= 0 or not math.isfinite(rough):
        return 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * 0.999)


def _fit(values: Sequence[float], start: float, stop: float, *, log: bool = False) -> Scale:
    low, high = min(values, default=0.0), max(values, default=1.0)
    if log and low > 0 and high > 20 * low:
        return Scale(low / 1.15, high * 1.15, start, stop, log=True)
    room = (high - low) * 0.05 or abs(high) * 0.05 or 0.5
    return Scale(low - room, high + room, start, stop)


def curve(trials: Sequence[Trial], objective: Objective) -> Markup:
    """Return every trial by its number, the best so far as a line, and failures in a row of their own.

    Values far worse than most are drawn at the edge, so that the good ones can be told apart.
    """
    metric = objective.metric
    trials = sorted(trials, key=lambda trial: trial.number)
    scored = [trial for trial in trials if trial.is_scored]
    failed = [trial for trial in trials if trial.error is not None]
    foot, last = HEIGHT - _BOTTOM, max((trial.number for trial in trials), default=0)
    bottom = foot - (22 if failed else 0)
    x = Scale(-0.5, last + 0.5, _LEFT, WIDTH - _RIGHT) if last < 30 else Scale(0, last, _LEFT + 6, WIDTH - _RIGHT - 6)
    y = _fit(_without_outliers([trial.metrics[metric] for trial in scored], objective.goal), bottom - 8, _TOP + 8)
    parts = _grid(x, y, bottom, metric if scored else "", "trial", whole=True, foot=foot)
    legend: list[tuple[Mark | str, str]] = []

    def place(trial: Trial) -> tuple[float, float, str]:
        return x(trial.number), y(trial.metrics[metric]), _told(trial, metric)

    if scored:
        groups = _by_kind(scored, lambda trial: y.holds(trial.metrics[metric]))
        if len(trials) <= SINGLE:
            for mark, members in groups.items():
                parts.append(_marks(mark, map(place, members), told=len(trials) <= _TOLD))
                legend.append((mark, _kind(mark, members)))
        else:
            parts.append(_columns(place(trial)[:2] for trial in scored))
            legend.append(("range", "range of the trials"))
            if EDGE in groups:
                legend.append(("", f"{_kind(EDGE, groups[EDGE])}, cut off"))
        steps = _best_so_far(scored)
        parts += [_steps([place(trial)[:2] for trial in steps], x(last)), _mark(BEST, *place(steps[-1]))]
        legend.append(("line", "best so far"))
        legend.append((BEST, f"best: trial {steps[-1].number}, {short(steps[-1].metrics[metric])}"))
    if failed:
        row = bottom + 12
        places = [(x(trial.number), row, f"trial {trial.number} failed: {trial.error}") for trial in failed]
        if len(failed) > _TOLD:
            places = list({round(at[0] / _GRID): at for at in places}.values())
        parts += [path("axis", f"M{_LEFT} {foot}H{WIDTH - _RIGHT}"), text("tick end", _LEFT - 8, row + 4, "failed")]
        parts.append(_marks(FAILED, places, told=len(failed) <= _TOLD))
        legend.append((FAILED, f"failed ({len(failed):,})"))
    title = f"{metric} of each of {len(trials):,} trials, and the best so far"
    return picture("plot", WIDTH, HEIGHT, title, parts + _legend(legend))


def cost(trials: Sequence[Trial], front: Sequence[Trial], metric: str, price: str, best: Trial | None) -> Markup:
    """Return the finished trials by what they cost and what they are worth, the front joined by a line."""
    height = HEIGHT + 40
    bottom = height - _BOTTOM
    x = _fit([trial.metrics[price] for trial in trials], _LEFT + 8, WIDTH - _RIGHT - 8, log=True)
    y = _fit(_without_outliers([trial.metrics[metric] for trial in trials], "max"), bottom - 8, _TOP + 8)
    parts = _grid(x, y, bottom, metric, price.replace("_", " "))
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
            parts.append(_marks(mark, places, told=len(trials) <= _TOLD))
            legend.append((mark, _kind(mark, members)))
    line = sorted(place(trial)[:2] for trial in front)
    parts += [_steps(line, line[-1][0], "frontline"), _marks(FRONT, map(place, front), told=True)]
    legend.append((FRONT, f"Pareto front ({len(front):,})"))
    if best is not None and price in best.metrics and metric in best.metrics:
        parts.append(_mark(BEST, *place(best)))
        legend.append((BEST, f"best: trial {best.number}"))
    title = f"{metric} against {price} of {len(trials):,} trials"
    return picture("plot", WIDTH, height, title, parts + _legend(legend))


def line(points: Sequence[tuple[float, float]], metric: str, by: str, title: str) -> Markup:
    """Return one value by another as a line."""
    height = 250
    bottom = height - _BOTTOM
    xs, ys = zip(*points, strict=True)
    x = Scale(min(xs), max(xs), _LEFT + 6, WIDTH - _RIGHT - 6)
    y = _fit(ys, bottom - 8, _TOP + 8)
    parts = _grid(x, y, bottom, metric, by, whole=True)
    parts.append(path("best-line", "M" + "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in points)))
    if len(points) <= 60:
        parts.append(_marks(FULL, ((x(a), y(b), f"{by} {a:g}: {short(b)}") for a, b in points), told=True))
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
    x = _fit([end for row in rows for end in (row.value, *(row.interval or ()))], left + 8, WIDTH - right - 8)
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
        parts.append(_mark(FRONT if index == 0 else FULL, x(row.value), y))
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


def _grid(x: Scale, y: Scale, bottom: float, up: str, along: str, *, whole: bool = False, foot: float = 0) -> list[str]:
    """Return lines, numbers and names of both axes; the numbers below stand at ``foot`` where that is lower."""
    right, foot = WIDTH - _RIGHT, max(foot, bottom)
    parts = [path("grid", f"M{_LEFT} {y(tick):.1f}H{right}") for tick in y.ticks(5)]
    parts += [text("tick end", _LEFT - 8, y(tick) + 4, short(tick)) for tick in y.ticks(5)]
    for tick in x.ticks(8):
        if not whole or tick == round(tick):
            parts += [path("axis", f"M{x(tick):.1f} {foot}v5"), text("tick middle", x(tick), foot + 19, short(tick))]
    parts.append(path("axis", f"M{_LEFT} {bottom}H{right}"))
    parts.append(text("tick end", right, foot + 37, along, longest=40))
    return [*parts, text("tick", 4, _TOP - 18, up, longest=24)]


def _told(trial: Trial, metric: str) -> str:
    return f"trial {trial.number}: {metric} {short(trial.metrics[metric])}"


def _mark(mark: Mark, x: float, y: float, title: str = "") -> str:
    return path(mark.kind, mark.path, title, (x, y))


def _marks(mark: Mark, places: Iterable[tuple[float, float, str]], *, told: bool) -> str:
    """Return many marks, each with a title of its own, or all as one path."""
    if told:
        return "".join(_mark(mark, *place) for place in places)
    return path(f"{mark.kind} many", "".join(f"M{x:.1f} {y:.1f}{_SMALL[mark]}" for x, y, _ in places))


_SMALL = {FULL: "h0", PARTIAL: "h0", ILLEGAL: "m-2-2h4l-2 4z", EDGE: "m-2-2l2 3l2-3", FAILED: "m-2-2l4 4m0-4l-4 4"}


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


def _legend(entries: Sequence[tuple[Mark | str, str]]) -> list[str]:
    parts, x = [], WIDTH - _RIGHT - sum(_entry_width(words) for _, words in entries) + 16.0
    for mark, words in entries:
        if isinstance(mark, Mark):
            parts.append(_mark(mark, x + 8, 12))
        elif mark == "line":
            parts.append(path("best-line", f"M{x:.0f} 12h16"))
        elif mark == "range":
            parts.append(path("range", f"M{x + 4:.0f} 6v12m3-10v9m3-12v13"))
        parts.append(text("tick", x + 22, 16, words))
        x += _entry_width(words)
    return parts


def _entry_width(words: str) -> float:
    return 40 + 6.3 * len(words)

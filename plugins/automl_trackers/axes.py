"""What plots are made of: axes, scales, marks that are told apart by their shape, and the legend."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from automl.drawing.markup import short
from automl.drawing.svg import path, text

WIDTH, HEIGHT = 920, 320
LEFT, RIGHT, TOP, BOTTOM = 62, 18, 34, 46


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


def fit(values: Sequence[float], start: float, stop: float, *, log: bool = False) -> Scale:
    """Return the scale that holds the values with some room, by their logarithms where asked and they differ much."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if log and low > 0 and high > 20 * low:
        return Scale(low / 1.15, high * 1.15, start, stop, log=True)
    room = (high - low) * 0.05 or abs(high) * 0.05 or 0.5
    return Scale(low - room, high + room, start, stop)


def draw_grid(
    x: Scale, y: Scale, bottom: float, up: str, along: str, *, whole: bool = False, foot: float = 0
) -> list[str]:
    """Return lines, numbers and names of both axes; the numbers below stand at ``foot`` where that is lower."""
    right, foot = WIDTH - RIGHT, max(foot, bottom)
    parts = [path("grid", f"M{LEFT} {y(tick):.1f}H{right}") for tick in y.ticks(5)]
    parts += [text("tick end", LEFT - 8, y(tick) + 4, short(tick)) for tick in y.ticks(5)]
    for tick in x.ticks(8):
        if not whole or tick == round(tick):
            parts += [path("axis", f"M{x(tick):.1f} {foot}v5"), text("tick middle", x(tick), foot + 19, short(tick))]
    parts.append(path("axis", f"M{LEFT} {bottom}H{right}"))
    parts.append(text("tick end", right, foot + 37, along, longest=40))
    return [*parts, text("tick", 4, TOP - 18, up, longest=24)]


def draw_mark(mark: Mark, x: float, y: float, title: str = "") -> str:
    """Return a mark at its place."""
    return path(mark.kind, mark.path, title, (x, y))


def draw_marks(mark: Mark, places: Iterable[tuple[float, float, str]], *, told: bool) -> str:
    """Return many marks, each with a title of its own, or all as one path."""
    if told:
        return "".join(draw_mark(mark, *place) for place in places)
    return path(f"{mark.kind} many", "".join(f"M{x:.1f} {y:.1f}{_SMALL[mark]}" for x, y, _ in places))


_SMALL = {FULL: "h0", PARTIAL: "h0", ILLEGAL: "m-2-2h4l-2 4z", EDGE: "m-2-2l2 3l2-3", FAILED: "m-2-2l4 4m0-4l-4 4"}


def draw_legend(entries: Sequence[tuple[Mark | str, str]]) -> list[str]:
    """Return what each mark or class of lines stands for, in the upper right corner."""
    parts, x = [], WIDTH - RIGHT - sum(_entry_width(words) for _, words in entries) + 16.0
    for mark, words in entries:
        if isinstance(mark, Mark):
            parts.append(draw_mark(mark, x + 8, 12))
        elif mark:
            parts.append(path(mark, f"M{x + 4:.0f} 6v12m3-10v9m3-12v13" if mark == "range" else f"M{x:.0f} 12h16"))
        parts.append(text("tick", x + 22, 16, words))
        x += _entry_width(words)
    return parts


def _entry_width(words: str) -> float:
    return 40 + 6.3 * len(words)


def _round_step(rough: float) -> float:
    if rough <= 0 or not math.isfinite(rough):
        return 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * 0.999)

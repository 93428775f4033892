"""Pictures of how a search by steps comes to its choices: its course, its accuracies, and the shares of the options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from markupsafe import Markup

from automl import Trial
from automl.drawing.markup import short
from automl.drawing.svg import path, picture, text
from automl_trackers import steps
from automl_trackers.axes import (
    BOTTOM,
    FRONT,
    FULL,
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
    draw_marks,
    fit,
)
from automl_trackers.sheet import Sheet
from automl_trackers.tables import decisions

_POINTS = 300  # of a line; more are drawn by the mean of as many as make one
_MARKED = 60  # points that are drawn each
_DECISIONS = 40  # that are drawn; the others are told by their largest share
_OPTIONS = 12  # of a decision that are drawn, the largest
_LOOKS = 40  # at the shares that are drawn
_NAME, _VALUE, _WIDTH, _ROW = 104, 42, 300, 17  # pixels of a decision's picture

Points = Sequence[tuple[float, float]]


@dataclass
class Choices:
    """What a report shows of a search by steps."""

    taken: int
    last: Trial  # its architecture is what is derived by now
    judged: Trial | None  # the last step after which the derived network was judged
    curved: Trial | None  # the last step of which the curvature was reported
    course: Markup
    curvature: Markup | None
    accuracies: Markup | None
    neighbours: int  # steps that a point of the course is the mean of
    window: int  # steps that the accuracy of the mixture is the mean of
    looks: int
    shares: list[Markup]
    highest: float  # share, which has the whole height
    others: Markup | None
    other_count: int

    @property
    def figures(self) -> str:
        """The figures of the last step, and the curvature that was reported last."""
        last = steps.figures(self.last)
        said = steps.words({name: last[name] for name in ("entropy", "skips") if name in last})
        if self.curved is not None:
            curvature = {steps.CURVATURE: self.curved.metrics[steps.CURVATURE]}
            said += [f"{word} at trial {self.curved.number}" for word in steps.words(curvature)]
        return ", ".join(said)


def choices(trials: Sequence[Trial]) -> Choices | None:
    """Return what is to be shown of the steps among the trials; None where there is none."""
    taken = [trial for trial in trials if trial.is_scored and steps.is_step(trial)]
    if not taken:
        return None
    looks = [trial for trial in taken if steps.has_shares(trial)]
    window = min(max(10, len(taken) // 50), len(taken))
    by_decision = _by_decision(steps.thin(looks, _LOOKS))
    drawn, others = list(by_decision.items())[:_DECISIONS], dict(list(by_decision.items())[_DECISIONS:])
    values = [share for _, seen in drawn for _, shares in seen for share in (2 / len(shares), *shares.values())]
    highest = min(max(values, default=1.0), 1.0)  # where nothing is decided yet, half the height at most
    derived = looks[-1].architecture.values if looks else {}
    return Choices(
        taken=len(taken),
        last=taken[-1],
        judged=_last(taken, steps.DERIVED),
        curved=_last(taken, steps.CURVATURE),
        course=_course(taken),
        curvature=_curvature(taken),
        accuracies=_accuracies(taken, window),
        neighbours=-(-len(taken) // _POINTS),
        window=window,
        looks=len(looks),
        shares=[_panel(name, seen, derived, highest) for name, seen in drawn],
        highest=highest,
        others=decisions({name: _largest(seen[-1][1]) for name, seen in others.items()}) if others else None,
        other_count=len(others),
    )


class _Series(NamedTuple):
    """A line: its class and its mark, which tell it apart without colour, its name and its points."""

    kind: str
    mark: Mark
    name: str
    points: Points


def _course(taken: Sequence[Trial]) -> Markup:
    """Return the entropy and the share of skips after each step, both from 0 to 1."""
    found = {
        name: [
            (float(trial.number), value)
            for trial in taken
            if (value := Sheet(trial.candidate.notes).number(name)) is not None
        ]
        for name in ("entropy", "skips")
    }
    series = [
        _Series("best-line", FULL, "entropy", found["entropy"]),
        _Series("second-line", PARTIAL, "share of skips", found["skips"]),
    ]
    title = (
        f"entropy of the shares, and share of skips among the derived operations, after each of {len(taken):,} steps"
    )
    return _lines(series, "0 to 1", title, (0.0, 1.0))


def _curvature(taken: Sequence[Trial]) -> Markup | None:
    """Return the curvature of the loss by the choices, where it was reported."""
    points = _reported(taken, steps.CURVATURE)
    if not points:
        return None
    series = [_Series("best-line", FULL, "curvature", points)]
    return _lines(series, "curvature", f"curvature of the loss by the choices, {len(points):,} times")


def _accuracies(taken: Sequence[Trial], window: int) -> Markup | None:
    """Return the accuracies of the derived network, of one drawn at random, and of the mixture, smoothed."""
    derived, drawn, mixture = (_reported(taken, name) for name in (steps.DERIVED, steps.RANDOM, "accuracy"))
    series = [
        _Series("best-line", FRONT, "derived network", derived),
        _Series("second-line", PARTIAL, "random network", drawn),
        _Series("third-line", ILLEGAL, "mixture of all options", _smooth(mixture, window)),
    ]
    if not any(one.points for one in series):
        return None
    return _lines(series, "accuracy", "accuracy with the shared weights by step")


def _last(taken: Sequence[Trial], name: str) -> Trial | None:
    return next((trial for trial in reversed(taken) if name in trial.metrics), None)


def _reported(taken: Sequence[Trial], name: str) -> Points:
    return [(float(trial.number), trial.metrics[name]) for trial in taken if name in trial.metrics]


def _lines(series: Sequence[_Series], up: str, title: str, bounds: tuple[float, float] | None = None) -> Markup:
    """Return lines over the trials, thinned; where a line has few points, each has its mark."""
    height = 250
    bottom = height - BOTTOM
    shown = [one._replace(points=_means(one.points, _POINTS)) for one in series if one.points]
    numbers = [number for one in series for number, _ in one.points]
    x = Scale(min(numbers), max(numbers), LEFT + 6, WIDTH - RIGHT - 6)
    y = fit(bounds or [value for one in shown for _, value in one.points], bottom - 4, TOP + 4)
    parts = draw_grid(x, y, bottom, up, "trial", whole=True)
    legend: list[tuple[Mark | str, str]] = []
    for one in shown:
        parts.append(path(one.kind, "M" + "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in one.points)))
        marked = len(one.points) <= _MARKED
        if marked:
            places = ((x(a), y(b), f"trial {a:.0f}: {one.name} {short(b)}") for a, b in one.points)
            parts.append(draw_marks(one.mark, places, told=True))
        legend.append((one.mark if marked else one.kind, one.name))
    return picture("plot", WIDTH, height, title, parts + draw_legend(legend))


def _smooth(points: Points, window: int) -> Points:
    """Return the mean of each value and those before it, so many in all."""
    sums = [0.0, *accumulate(value for _, value in points)]
    return [
        (number, (sums[place + 1] - sums[max(place + 1 - window, 0)]) / min(place + 1, window))
        for place, (number, _) in enumerate(points)
    ]


def _means(points: Points, most: int) -> Points:
    """Return at most so many points, each the mean of its neighbours."""
    size = -(-len(points) // most)
    chunks = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(a for a, _ in chunk) / len(chunk), sum(b for _, b in chunk) / len(chunk)) for chunk in chunks]


Seen = list[tuple[int, dict[str, float]]]  # the shares of a decision's options, with the trial they were looked at


def _by_decision(looks: Sequence[Trial]) -> dict[str, Seen]:
    found: dict[str, Seen] = {}
    for trial in looks:
        for name, shares in steps.shares(trial).items():
            found.setdefault(name, []).append((trial.number, shares))
    return found


def _panel(name: str, seen: Seen, derived: Mapping[str, object], highest: float) -> Markup:
    """Return a decision's options under each other: how their shares came about, and what they are by now.

    The option that is derived is in bold; the whole height is the highest share, alike for all decisions.
    """
    first, last, now = seen[0][0], seen[-1][0], seen[-1][1]
    kept = set(sorted(now, key=now.__getitem__, reverse=True)[:_OPTIONS])
    options = [option for option in now if option in kept]
    x = Scale(first, last, _NAME, _WIDTH - _VALUE)
    parts = [text("label strong", 0, 13, name, longest=34, note="" if name in derived else "not derived")]
    for row, option in enumerate(options, 1):
        foot = 20 + row * _ROW
        height = Scale(0.0, highest, foot, foot - _ROW + 3)
        places = [(x(number), height(shares.get(option, 0.0))) for number, shares in seen]
        if len(places) == 1:
            places = [(_NAME, places[0][1]), (_WIDTH - _VALUE, places[0][1])]
        strong = " strong" if derived.get(name) == option else ""
        line = "L".join(f"{a:.1f} {b:.1f}" for a, b in places)
        parts.append(path(f"share{strong}", f"M{_NAME} {foot}L{line}V{foot}z"))
        parts.append(text(f"tick end{strong}", _NAME - 6, foot - 2, option, longest=16))
        parts.append(text(f"tick{strong}", _WIDTH - _VALUE + 6, foot - 2, f"{now[option]:.2f}"))
    bottom = 26 + len(options) * _ROW
    if len(now) > len(options):
        bottom += _ROW
        parts.append(text("tick", _NAME, bottom - 6, f"and {len(now) - len(options):,} smaller ones"))
    title = f"{name}: shares of the options by trial, from {first} to {last}"
    return picture("panel", _WIDTH, bottom, title, parts)


def _largest(shares: Mapping[str, float]) -> str:
    option = max(shares, key=shares.__getitem__)
    return f"{option} {shares[option]:.2f}"

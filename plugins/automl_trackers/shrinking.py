"""What became of a network that was made smaller: its figures before and after, and the share kept of each layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

from markupsafe import Markup

from automl.drawing.markup import short, shown
from automl.drawing.svg import path, picture, text
from automl.joining import apart
from automl_trackers import steps
from automl_trackers.axes import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Scale
from automl_trackers.sheet import Sheet

LAYERS = 200  # that are drawn
_NUMBERED = 24  # layers, up to which each bar has its number
_LONGEST = 24  # letters of a name below its bar
_LETTER, _APART = 6.6, 14  # pixels
_NONE = "-"


class Figures(NamedTuple):
    """One figure of two networks, and what came of it, as a table shows them."""

    name: str
    before: str
    after: str
    ratio: str


class Table(NamedTuple):
    """Two networks, named as the columns are, by a figure a row."""

    caption: str
    columns: tuple[str, str]
    rows: list[Figures]
    notes: list[str]


@dataclass(frozen=True)
class Shrinking:
    """What a report shows of a network that was made smaller."""

    space: str | None
    compressor: str | None
    tables: list[Table]
    kept: Markup | None
    layers: list[tuple[Markup, str, str]]  # those that are drawn, the share kept of each, and that where all are alike
    alike: bool  # whether such shares are known
    count: int  # of all layers


def shrinking(sheet: Sheet, heading: Sheet) -> Shrinking | None:
    """Return what is to be shown by a summary and the heading of its journal; None where nothing was made smaller."""
    shares, alike = _shares(sheet, "kept"), _shares(sheet, "alike")
    drawn = dict(steps.thin(list(shares.items()), LAYERS))
    tables = [table for table in (_compressed(sheet), _tuned(sheet)) if table is not None]
    if not tables and not drawn:
        return None
    made = Sheet(apart(heading.mapping("space"))._asdict())
    return Shrinking(
        space=made.text("space"),
        compressor=made.text("compressor"),
        tables=tables,
        kept=_bars(drawn, shares, alike) if drawn else None,
        layers=[
            (shown(name, 200), f"{share:.3g}", f"{alike[name]:.3g}" if name in alike else _NONE)
            for name, share in drawn.items()
        ],
        alike=any(name in alike for name in drawn),
        count=len(shares),
    )


def _compressed(sheet: Sheet) -> Table | None:
    """Return the network found beside the one that it was made of."""
    rows = _figures(Sheet(sheet.mapping("before")), sheet)
    notes = ["Bytes are those of model.safetensors; latency is the median, with the 10th and the 90th percentile."]
    notes += [f"{how}." for key in ("latency_of", "latency_torch_of") if (how := sheet.text("model", key)) is not None]
    return Table("Compression", ("before", "after"), rows, notes) if rows else None


def _tuned(sheet: Sheet) -> Table | None:
    """Return what fine-tuning made of the network that a compressor had made, by the validation images."""
    curve = [Sheet(row) for row in sheet.items("retrain", "curve") if isinstance(row, Mapping)]
    if not sheet.mapping("before") or not curve or curve[0].number("fidelity") != 0:
        return None
    first, *epochs = curve
    last = epochs[-1] if epochs else Sheet({})
    rows = [
        _accuracy("validation accuracy", first.number("accuracy"), last.number("accuracy")),
        _figure("validation loss", first.number("loss"), last.number("loss"), "{:.3f}"),
    ]
    rows = [row for row in rows if row.before != _NONE]
    seconds = sheet.number("seconds", "retrain")
    took = "" if seconds is None else f", {seconds:,.1f} s of retraining in all"
    notes = [f"{len(epochs):,} {'epoch' if len(epochs) == 1 else 'epochs'}{took}."]
    return Table("Fine-tuning", ("before it", "after it"), rows, notes) if rows else None


def _figures(before: Sheet, after: Sheet) -> list[Figures]:
    """Return the figures that two networks have; none where they have none in common."""

    def both(*path: str) -> tuple[float | None, float | None]:
        return before.number(*path), after.number(*path)

    rows = [
        _accuracy("test accuracy", *both("test", "accuracy")),
        _figure("parameters", *both("model", "parameters")),
        _figure("of them not 0", *both("model", "nonzero_parameters")),
        _figure("multiply-adds an image", *both("model", "multiply_adds")),
        _figure("bytes of the file", *both("model", "bytes")),
        _figure("bits of the file a parameter", _bits(before), _bits(after), "{:.1f}"),
        _latency("latency in onnxruntime, ms", "latency", before, after),
        _latency("latency in PyTorch, ms", "latency_torch", before, after),
    ]
    common = any(_NONE not in (row.before, row.after) for row in rows)
    return [row for row in rows if common and (row.before, row.after) != (_NONE, _NONE)]


def _figure(name: str, before: float | None, after: float | None, form: str = "{:,.0f}") -> Figures:
    was, became = (_NONE if number is None else form.format(number) for number in (before, after))
    ratio = _quotient(after, before)
    return Figures(name, was, became, _NONE if ratio is None else short(float(f"{ratio:.3g}")))


def _accuracy(name: str, before: float | None, after: float | None) -> Figures:
    row = _figure(name, before, after, "{:.3f}")._replace(ratio=_NONE)
    if before is None or after is None or not isfinite(points := 100 * (float(after) - float(before))):
        return row
    told = f"{round(points, 1) + 0.0:+.1f} points"  # adding 0 leaves no minus before 0
    return row._replace(ratio=told.replace("-", "\N{MINUS SIGN}"))


def _latency(name: str, key: str, before: Sheet, after: Sheet) -> Figures:
    """Return the median of both, each with its spread."""

    def told(sheet: Sheet) -> str:
        median, low, high = (sheet.number("model", f"{key}{part}_ms") for part in ("", "_p10", "_p90"))
        spread = "" if low is None or high is None else f" ({short(low)} to {short(high)})"
        return _NONE if median is None else f"{short(median)}{spread}"

    row = _figure(name, before.number("model", f"{key}_ms"), after.number("model", f"{key}_ms"))
    return row._replace(before=told(before), after=told(after))


def _bits(sheet: Sheet) -> float | None:
    size = sheet.number("model", "bytes")
    return _quotient(None if size is None else 8.0 * size, sheet.number("model", "parameters"))


def _quotient(number: float | None, by: float | None) -> float | None:
    """Return what a number is of another, where both are there, the other is above 0, and it can be said."""
    if number is None or by is None or by <= 0:
        return None
    quotient = float(number) / float(by)
    return quotient if isfinite(quotient) else None


def _shares(sheet: Sheet, key: str) -> dict[str, float]:
    """Return the share of each layer that was kept, or would be, in the order of the network."""
    kept = sheet.mapping("compression", key)
    numbers = {name: Sheet(kept).number(name) for name in kept}
    return {name: share for name, share in numbers.items() if share is not None and 0 < share <= 1}


def _bars(shares: Mapping[str, float], whole: Mapping[str, float], alike: Mapping[str, float]) -> Markup:
    """Return a bar for each of these layers of all, by the share kept of it; names where there is room.

    A line across is the share of it that a plan keeps which treats all alike.
    """
    height = 250
    foot, right = height - BOTTOM, WIDTH - RIGHT
    y = Scale(0.0, 1.0, foot, TOP)
    parts = [text("tick", 4, TOP - 18, "share kept")]
    for tick in y.ticks(4):
        parts += [path("grid", f"M{LEFT} {y(tick):.1f}H{right}"), text("tick end", LEFT - 8, y(tick) + 4, short(tick))]
    slot = (right - LEFT) / len(shares)
    wide = min(0.8 * slot, 40.0)
    free = 0.0  # from there on, for names
    for place, (name, share) in enumerate(shares.items()):
        middle, top = LEFT + (place + 0.5) * slot, y(share)
        bar = f"M{middle - wide / 2:.1f} {foot}V{top:.1f}h{wide:.1f}V{foot}z"
        parts.append(path("share strong" if share < 1 else "share", bar, f"{name}: {share:.3g}"))
        if name in alike:
            line = f"M{middle - slot / 2:.1f} {y(alike[name]):.1f}h{slot:.1f}"
            parts.append(path("alike", line, f"{name}: {alike[name]:.3g} where all are alike"))
        if len(shares) <= _NUMBERED:
            parts.append(text("tick middle", middle, top - 5, f"{share:.2f}"))
        half = _LETTER * min(len(name), _LONGEST) / 2
        at = min(max(middle, half), WIDTH - half)
        if at - half >= free:
            parts.append(path("axis", f"M{middle:.1f} {foot}v5"))
            parts.append(text("tick middle", at, foot + 19, name, longest=_LONGEST))
            free = at + half + _APART
    parts += [path("axis", f"M{LEFT} {foot}H{right}"), text("tick end", right, foot + 37, "layer, first to last")]
    low, high = min(whole.values()), max(whole.values())
    title = f"share kept of each of {len(whole):,} layers, {low:.3g} to {high:.3g}"
    return picture("plot", WIDTH, height, title, parts)

"""Draws a comparison for print: curves with confidence bands, and average ranks; told apart without colour too."""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from automl.comparison import significance
from automl.errors import printable

if TYPE_CHECKING:
    from automl.comparison.methods import Method, Problem

Array = NDArray[np.float64]
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000", "#56b4e9", "#e69f00")  # Okabe & Ito
_DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))
_MARKS = "osD^vPX*"
_POINTS = 400  # of a line
_UNITS = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that a figure is the same everywhere
    "svg.hashsalt": "automl",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # TrueType, as publishers ask for
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def curves(problems: Sequence[Problem]) -> dict[str, bytes]:
    """Return what was best so far against trials and against the clock, a row of panels a problem, as pdf and svg.

    A line is the mean over the seeds, from where each of them has a value, with a band of its 95 % confidence
    interval. What a run found stays its best after it has ended.
    """
    return _figure((11, 3.4 * len(problems)), lambda figure: _draw_curves(figure, problems))


def diagrams(problems: Sequence[Problem]) -> dict[str, bytes]:
    """Return average ranks, a diagram a problem, as pdf and svg; bars join methods that the test cannot part.

    Without scikit-posthocs, which draws critical-difference diagrams, ranks are points on lines.
    """
    heights = [1.3 + 0.3 * max(len(problem.methods), 2) for problem in problems]
    return _figure((8.5, sum(heights)), lambda figure: _draw_ranks(figure, problems, heights))


def has_bars() -> bool:
    """Say whether scikit-posthocs is there to draw critical-difference diagrams."""
    return importlib.util.find_spec("scikit_posthocs") is not None


def _figure(size: tuple[float, float], draw: Any) -> dict[str, bytes]:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    written = {}
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # names may be in any script
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        for kind, metadata in (("pdf", {"CreationDate": None}), ("svg", {"Date": None})):
            stream = io.BytesIO()
            figure.savefig(stream, format=kind, metadata=metadata)
            written[kind] = stream.getvalue()
    return written


def _draw_curves(figure: Any, problems: Sequence[Problem]) -> None:
    looks = _looks(problems)
    panels = figure.subplots(len(problems), 2, squeeze=False, sharey="row")
    for row, problem in zip(panels, problems, strict=True):
        last = max((course.clock[-1] for method in problem.methods for course in method.courses.values()), default=0.0)
        unit, name = next((unit for unit in _UNITS if last >= unit[0]), _UNITS[-1])
        lines = []
        for method in problem.methods:
            for axes, (grid, rows) in zip(row, (_by_trials(method), _by_clock(method, unit)), strict=True):
                if len(rows):
                    lines.append(_draw_line(axes, grid, rows, looks[method.name]))
        _look_at_the_good(row[0], problem, lines)
        row[0].xaxis.get_major_locator().set_params(integer=True)
        _label(row[0], problem.name, "trials", problem.objective)
        _label(row[1], "", f"{name} of the study's clock", "")
    methods = list(looks)
    handles = [_sample(looks[name]) for name in methods]
    figure.legend(handles, [_text(name) for name in methods], loc="outside lower center", ncols=2, frameon=False)


def _by_trials(method: Method) -> tuple[Array, Array]:
    """Return numbers of trials, and by run what was best after so many, from where all have a value."""
    if not method.values:
        return np.empty(0), np.empty((0, 0))
    starts = [int(np.isnan(values).sum()) for values in method.values.values()]
    longest = max(map(len, method.values.values()))
    grid = np.unique(np.linspace(max(starts) + 1, longest, _POINTS).astype(int))
    rows = [values[np.minimum(grid, len(values)) - 1] for values in method.values.values()]
    return grid.astype(float), np.array(rows)


def _by_clock(method: Method, unit: float) -> tuple[Array, Array]:
    """Return times in the unit, and by run what was best by then, from where all have a value."""
    if not method.values:
        return np.empty(0), np.empty((0, 0))
    pairs = [(method.courses[seed].clock, values) for seed, values in method.values.items()]
    start = max(clock[int(np.isnan(values).sum())] for clock, values in pairs)
    grid = np.linspace(start, max(clock[-1] for clock, _ in pairs), _POINTS)
    rows = [values[np.searchsorted(clock, grid, side="right") - 1] for clock, values in pairs]
    return grid / unit, np.array(rows)


def _draw_line(axes: Any, grid: Array, rows: Array, look: dict[str, Any]) -> Array:
    mean = np.asarray(rows.mean(axis=0))
    axes.plot(grid, mean, drawstyle="steps-post", markevery=(0.1 * look["zorder"] % 0.13, 0.13), **look)
    if len(rows) > 1:
        half = significance.margins(rows)
        axes.fill_between(grid, mean - half, mean + half, step="post", color=look["color"], alpha=0.15, linewidth=0)
    return mean


def _look_at_the_good(axes: Any, problem: Problem, lines: Sequence[Array]) -> None:
    """Leave out of sight what was best in the first tenth of the lines: it is far from all that follows."""
    if lines:
        seen = np.concatenate([line[len(line) // 10 :] for line in lines])
        room = 0.12 * float(np.ptp(seen))
        if room:
            axes.set_ylim(seen.min() - room, seen.max() + room)


def _draw_ranks(figure: Any, problems: Sequence[Problem], heights: Sequence[float]) -> None:
    looks = _looks(problems)
    panels = figure.subplots(len(problems), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, problem in zip(panels, problems, strict=True):
        if len(problem.methods) < 2 or not problem.seeds:
            axes.set_axis_off()
            axes.set_title(f"{_text(problem.name)}: nothing to rank", fontsize=9)
            continue
        ranks = significance.ranks(problem.table)
        said = f"average rank over {len(problem.seeds)} seeds"
        if len(problem.seeds) > 1 and len(problem.methods) > 2:
            said += f", Friedman p = {significance.friedman(problem.table):.2g}"
        if has_bars():
            said += "; bars: no difference found (Wilcoxon, Holm)"
        axes.set_title(f"{_text(problem.name)}: {said}", fontsize=9, pad=16)
        (_draw_bars if has_bars() else _draw_points)(axes, problem, ranks, looks)


def _draw_bars(axes: Any, problem: Problem, ranks: Array, looks: dict[str, dict[str, Any]]) -> None:
    from pandas import DataFrame, Series
    from scikit_posthocs import critical_difference_diagram

    drawn = critical_difference_diagram(
        Series(ranks),  # by number, not by name: what is in sets would come in another order each time
        DataFrame(significance.pairwise(problem.table)),
        alpha=significance.LEVEL,
        ax=axes,
        label_fmt_left="{label}",
        label_fmt_right="{label}",
        text_h_margin=0.02 * len(ranks),
        color_palette={place: looks[method.name]["color"] for place, method in enumerate(problem.methods)},
    )
    axes.spines["top"].set_visible(True)
    axes.set_xlim(0.9, len(ranks) + 0.1)
    axes.set_xticks(range(1, len(ranks) + 1))
    for label in drawn["labels"]:
        place = int(label.get_text())
        label.set_color("black")
        label.set_text(f"{_text(problem.methods[place].name)} ({ranks[place]:.2f})")


def _draw_points(axes: Any, problem: Problem, ranks: Array, looks: dict[str, dict[str, Any]]) -> None:
    order = np.argsort(-ranks, kind="stable")
    for height, place in enumerate(order):
        look = looks[problem.methods[place].name]
        axes.hlines(height, 1, ranks[place], color=look["color"], linestyle=look["linestyle"])
        axes.plot(ranks[place], height, color=look["color"], marker=look["marker"])
    axes.set_yticks(
        range(len(order)), [f"{_text(problem.methods[place].name)} ({ranks[place]:.2f})" for place in order]
    )
    axes.set_xlim(0.9, len(ranks) + 0.1)
    axes.set_ylim(-0.5, len(order) - 0.5)


def _looks(problems: Sequence[Problem]) -> dict[str, dict[str, Any]]:
    """Return colour, dashes and mark of each method by its name, alike in all panels."""
    names = dict.fromkeys(method.name for problem in problems for method in problem.methods)
    return {
        name: {
            "color": _COLOURS[number % len(_COLOURS)],
            "linestyle": _DASHES[number % len(_DASHES)],
            "marker": _MARKS[number % len(_MARKS)],
            "markersize": 4,
            "linewidth": 1.3,
            "zorder": 3 + number,
        }
        for number, name in enumerate(names)
    }


def _sample(look: dict[str, Any]) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], **look)


def _label(axes: Any, title: str, below: str, beside: str) -> None:
    axes.set_title(_text(title), fontsize=9, loc="left")
    axes.set_xlabel(_text(below))
    axes.set_ylabel(_text(beside))


def _text(name: str) -> str:
    """Return a name as matplotlib shows it: no mathematics, no control characters, not endlessly long."""
    shown = printable(name if len(name) <= 90 else f"{name[:89]}…")
    return shown.replace("$", r"\$")

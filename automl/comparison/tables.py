"""The table of a comparison, for TeX, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import floor, log10
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING

from automl.comparison import significance
from automl.comparison.markings import cell, markdown, tex

if TYPE_CHECKING:
    from automl.comparison.methods import Method, Problem

_HEADINGS = (
    "problem",
    "method",
    "seeds",
    "mean",
    "deviation",
    "median",
    "95 % interval",
    "mean rank",
    "p against random",
    "test accuracy",
    "failed trials",
)


@dataclass(frozen=True)
class Row:
    """What a method reached on a problem; None where there is nothing to tell."""

    problem: Problem
    method: Method
    rank: float | None
    p: float | None  # of being no different from random search, corrected

    @property
    def finals(self) -> list[float]:
        return list(self.method.finals.values())

    @property
    def tests(self) -> list[float]:
        """The test accuracy of each run that has one."""
        return [course.test for course in self.method.courses.values() if course.test is not None]

    @property
    def numbers(self) -> dict[str, float | int | None]:
        """The columns of the table, by their heading."""
        finals, tests, courses = self.finals, self.tests, list(self.method.courses.values())
        low, high = significance.interval(finals) or (None, None)
        return {
            "seeds": len(finals),
            "mean": fmean(finals) if finals else None,
            "deviation": stdev(finals) if len(finals) > 1 else None,
            "median": median(finals) if finals else None,
            "low": low,
            "high": high,
            "mean_rank": self.rank,
            "p_against_random": self.p,
            "test_mean": fmean(tests) if tests else None,
            "test_deviation": stdev(tests) if len(tests) > 1 else None,
            "trials": fmean([len(course.clock) for course in courses]) if courses else None,
            "evaluations": fmean([course.evaluations for course in courses]) if courses else None,
            "seconds": fmean([course.clock[-1] for course in courses]) if courses else None,
            "failed_trials": sum(course.failed for course in courses + self.method.left_out),
            "runs_left_out": len(self.method.left_out),
        }


def best_of(problem: Problem, rows: Sequence[Row]) -> Row | None:
    """Return the row with the best mean on a problem."""
    found = [row for row in rows if row.problem is problem and row.finals]
    return max(found, key=lambda row: problem.sign * fmean(row.finals), default=None)


def _cells(row: Row, rows: Sequence[Row]) -> list[str]:
    """Return the cells of a row for readers, rounded to what the deviations of its problem allow."""
    numbers = row.numbers
    spreads = [spread for other in rows if other.problem is row.problem and (spread := other.numbers["deviation"])]
    digits = min(max(1 - floor(log10(min(spreads))), 0), 8) if spreads else 4

    def shown(value: float | None, digits: int = digits) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    low, high, p = numbers["low"], numbers["high"], row.p
    test = shown(numbers["test_mean"], 4)
    if numbers["test_deviation"] is not None:
        test += f" ± {shown(numbers['test_deviation'], 4)}"
    return [
        str(numbers["seeds"]),
        *(shown(numbers[name]) for name in ("mean", "deviation", "median")),
        "-" if low is None else f"{shown(low)} to {shown(high)}",
        shown(row.rank, 2),
        "-" if p is None else f"{p:.2g}",
        test,
        str(numbers["failed_trials"]),
    ]


def as_tex(rows: Sequence[Row]) -> str:
    """Return a tabular by booktabs, the best mean of a problem in bold."""

    def line(cells: Iterable[str]) -> str:
        return " & ".join(cells) + r" \\" + "\n"

    body = ""
    for row in rows:
        cells = [cell.replace("±", r"$\pm$") for cell in _cells(row, rows)]
        if row is best_of(row.problem, rows):
            cells[1] = rf"\textbf{{{cells[1]}}}"
        body += line([tex(row.problem.name), tex(row.method.name), *cells])
    objectives = dict.fromkeys(tex(row.problem.objective) for row in rows)
    return (
        f"% {'; '.join(objectives)}. Needs \\usepackage{{booktabs}}\n"
        f"\\begin{{tabular}}{{ll{'r' * (len(_HEADINGS) - 2)}}}\n\\toprule\n"
        f"{line(map(tex, _HEADINGS))}\\midrule\n{body}\\bottomrule\n\\end{{tabular}}\n"
    )


def as_markdown(rows: Sequence[Row]) -> str:
    """Return a table, the best mean of a problem in bold."""

    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |\n"

    text = line(_HEADINGS) + line(["---", "---", *["---:"] * (len(_HEADINGS) - 2)])
    for row in rows:
        cells = _cells(row, rows)
        if row is best_of(row.problem, rows):
            cells[1] = f"**{cells[1]}**"
        text += line([markdown(row.problem.name), markdown(row.method.name), *cells])
    return text


def as_csv(rows: Sequence[Row]) -> str:
    """Return all numbers unrounded; no value is an empty cell."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["problem", "method", "objective", "goal", *rows[0].numbers])
    for row in rows:
        names = map(cell, (row.problem.name, row.method.name, row.problem.objective, row.problem.goal))
        writer.writerow([*names, *("" if value is None else value for value in row.numbers.values())])
    return stream.getvalue()

"""Compares the methods of sweeps: figures, tables, tests and references for a paper, and what to beware of."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from automl.comparison import figures, significance
from automl.comparison.methods import Course, Method, Problem, components, problems
from automl.comparison.references import bibliography
from automl.comparison.tables import Row, as_csv, as_markdown, as_tex, best_of
from automl.config import command
from automl.errors import AutoMLError, BadInput, StorageError, printable
from automl.files import make_folders, write_text, write_whole
from automl.runs import is_run, read_json

FEW = 5  # seeds below which chance and merit cannot be told apart
_ALIKE = 1.1  # budgets whose ratio is no more than this are equal


def compare(folders: Sequence[Path], out: Path) -> list[str]:
    """Compare the runs of sweeps, or runs given one by one; return what was found and what to beware of, in sentences.

    Writes curves and ranks (PDF, SVG), the table (TeX, Markdown, CSV), references.bib and commands.txt into ``out``.
    Raises BadInput where there is nothing to compare, where objectives differ, or where matplotlib is missing.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise BadInput("automl compare draws with matplotlib: pip install 'automl-lightweight[compare]'")
    paths: dict[Path, Path] = {}
    commands: list[str] = []
    warnings: list[str] = []
    for folder in folders:
        for path in _gather(folder, commands, warnings):
            paths.setdefault(path.resolve(), path)
    courses = []
    for path in paths.values():
        try:
            courses.append(Course.read(path))
        except AutoMLError as error:
            warnings.append(f"{path} is left out: {error}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # what its lines hold is not ours
            reason = f"{type(error).__name__}: {error}"
            warnings.append(f"{path} is left out, for another version wrote it, or a hand ({reason})")
    if not courses:
        given = ", ".join(map(str, folders))
        raise BadInput(
            f"no run in {given} can be compared{''.join(f'; {warning}' for warning in warnings[:3])}: give the folder "
            "of a sweep, or run folders"
        )
    found = problems(courses)
    rows = [row for problem in found for row in _rows(problem)]
    _write(out, found, rows, [component for course in courses for component in components(course.heading)], commands)
    findings = [sentence for problem in found for sentence in _findings(problem, rows)]
    cautions = [sentence for problem in found for sentence in _cautions(problem)]
    if not figures.has_bars() and any(len(problem.methods) > 1 for problem in found):
        cautions.append(
            "ranks are drawn without the bars that join methods alike: pip install 'automl-lightweight[compare]'"
        )
    return [printable(sentence) for sentence in findings + warnings + cautions]


def _gather(folder: Path, commands: list[str], warnings: list[str]) -> list[Path]:
    """Return the run folders of a sweep, or of one run; note their commands, and what is wrong with jobs."""
    if (folder / "sweep.json").is_file():
        return _jobs(folder, commands, warnings)
    within = [folder] if is_run(folder) else sorted(filter(is_run, folder.glob("*/")), key=_number)
    if not within:
        raise BadInput(
            f"{folder} is neither a run folder nor a sweep's: give what automl -m printed last, or run folders"
        )
    for path in within:
        typed = read_json(path / "data.json").get("command") if (path / "data.json").is_file() else None
        commands.append(printable(str(typed)) if typed else f"# of {printable(str(path))} no command is known")
    return within


def _jobs(folder: Path, commands: list[str], warnings: list[str]) -> list[Path]:
    sweep = read_json(folder / "sweep.json")
    commands.append(f"# {printable(str(sweep.get('command', 'automl -m')))}")
    within, failed = [], []
    for number, job in enumerate(sweep.get("jobs", ())):
        try:
            words = command(list(map(str, job["words"])))
            typed = printable(str(job["command"])) if "command" in job else words
            path = None if job["folder"] is None else folder / Path(str(job["folder"])).name  # never outside of it
            ended = job["exit"]
        except (KeyError, TypeError) as error:
            raise BadInput(f"{folder / 'sweep.json'} is no list of jobs ({error}): give its run folders") from error
        commands.append(typed if ended == 0 else f"{typed}    # {_ended(ended)}")
        if ended != 0:
            failed.append(f"job {number}, {_ended(ended)}: {typed}")
        if path is not None and is_run(path):
            within.append(path)
    if failed:
        more = f"; and {len(failed) - 3} more, see commands.txt" if len(failed) > 3 else ""
        warnings.append(
            f"{len(failed)} of {len(sweep['jobs'])} jobs of {folder} failed or are unfinished: {'; '.join(failed[:3])}"
            f"{more}; go on with automl resume {shlex.quote(str(folder))}"
        )
    return within


def _ended(code: Any) -> str:
    return "not finished" if code is None else f"exit {code}"


def _number(folder: Path) -> tuple[float, str]:
    first = folder.name.partition("-")[0]
    return (int(first) if first.isdecimal() else float("inf"), folder.name)


def _rows(problem: Problem) -> list[Row]:
    ranks: list[float] | None = None
    if len(problem.methods) > 1 and problem.seeds:
        ranks = significance.ranks(problem.table).tolist()
    baseline = problem.baseline
    others = [method for method in problem.methods if method is not baseline]
    tested = significance.against(baseline.finals, [method.finals for method in others]) if baseline else []
    p = dict(zip((id(method) for method in others), tested, strict=False))
    return [
        Row(problem, method, None if ranks is None else ranks[place], p.get(id(method)))
        for place, method in enumerate(problem.methods)
    ]


def _write(
    out: Path,
    found: Sequence[Problem],
    rows: Sequence[Row],
    used: Iterable[tuple[str, str]],
    commands: Sequence[str],
) -> None:
    try:
        make_folders(out)
    except StorageError as error:
        reason = getattr(error.__cause__, "strerror", error)
        raise StorageError(f"cannot make the folder {out}: {reason}; give another one by --out DIR") from error
    for name, drawn in (("curves", figures.curves(found)), ("ranks", figures.diagrams(found))):
        for kind, data in drawn.items():
            write_whole(out / f"{name}.{kind}", data)
    write_text(out / "table.tex", as_tex(rows))
    write_text(out / "table.md", as_markdown(rows))
    write_text(out / "table.csv", as_csv(rows))
    write_text(out / "references.bib", bibliography(dict.fromkeys(used)))
    write_text(out / "commands.txt", "\n".join(dict.fromkeys(commands)) + "\n")


def _findings(problem: Problem, rows: Sequence[Row]) -> list[str]:
    """Return who is best on a problem, and whether that is more than random search finds."""
    best = best_of(problem, rows)
    if best is None:
        return [f"{problem.name}: no run is finished with a trial that counts, so nothing is compared"]
    mean, interval = fmean(best.finals), significance.interval(best.finals)
    seeds = f"{len(best.finals)} seeds" if len(best.finals) > 1 else "one seed"
    sure = f" (95 % interval {interval[0]:.5g} to {interval[1]:.5g}, {seeds})" if interval else f" ({seeds})"
    found = [f"{problem.name}: the best mean {problem.objective} is {mean:.5g}{sure}, by {best.method.name}"]
    if len(problem.methods) == 1:
        return [*found, f"{problem.name}: there is one method only, {best.method.name}: nothing to rank or to test"]
    baseline = problem.baseline
    if baseline is None:
        return [*found, f"{problem.name}: random search is not among the methods: add strategy=random to the sweep"]
    others = [row for row in rows if row.problem is problem and row.method is not baseline]
    kept = [f"{row.method.name} ({_p(row.p)})" for row in others if not _beats(row, baseline)]
    if kept:
        found.append(f"{problem.name}: random search, {baseline.name}, is not beaten by {', '.join(kept)}")
    beaten = [f"{row.method.name} ({_p(row.p)})" for row in others if _beats(row, baseline)]
    if beaten:
        found.append(f"{problem.name}: random search, {baseline.name}, is beaten by {', '.join(beaten)}")
    return found


def _beats(row: Row, baseline: Method) -> bool:
    """Say whether a method is better than random search by more than chance, over their common seeds."""
    seeds = row.method.finals.keys() & baseline.finals.keys()
    gains = [row.problem.sign * (row.method.finals[seed] - baseline.finals[seed]) for seed in seeds]
    return row.p is not None and row.p < significance.LEVEL and sum(gains) > 0


def _p(value: float | None) -> str:
    return "no common seed" if value is None else f"corrected p = {value:.2g}"


def _cautions(problem: Problem) -> list[str]:
    """Return what a reader of a problem's figures must know of how they came about."""
    found = []
    for why, applies in _LEFT_OUT.items():
        runs = [str(one.folder) for method in problem.methods for one in method.left_out if applies(one)]
        if runs:
            more = f" and {len(runs) - 3} more" if len(runs) > 3 else ""
            count = "1 run is" if len(runs) == 1 else f"{len(runs)} runs are"
            found.append(f"{problem.name}: {count} left out, {why}: {', '.join(runs[:3])}{more}")
    few = [f"{method.name} {len(method.finals)}" for method in problem.methods if len(method.finals) < FEW]
    if few:
        found.append(f"{problem.name}: fewer than {FEW} seeds ({', '.join(few)}): type 'seed=range({FEW})' or more")
    if len(problem.methods) > 1:
        found += _uneven(problem)
    return found


_LEFT_OUT: dict[str, Callable[[Course], bool]] = {
    "unfinished (automl resume goes on with each)": lambda course: not course.is_finished,
    "for no trial counted (all failed or broke a limit)": lambda one: one.is_finished and not one.fidelity,
    "for an equal run of the same seed is there": lambda course: course.is_finished and bool(course.fidelity),
}


def _uneven(problem: Problem) -> list[str]:
    """Return in what the methods of a problem were not tried alike."""
    found = []
    counts = {len(method.finals) for method in problem.methods}
    common = len(problem.seeds)
    if len(counts) > 1 or common < max(counts):
        found.append(
            f"{problem.name}: the methods have {common} seeds in common, on which the ranks rest; each test against "
            "random search rests on the seeds that its two methods share"
        )
    tests = len(problem.methods) - 1
    needed = significance.seeds_needed(tests)
    if problem.baseline is not None and FEW <= min(counts) < needed:
        found.append(
            f"{problem.name}: with {min(counts)} seeds and {tests} comparisons no difference could be significant: "
            f"type 'seed=range({needed})' or more"
        )
    tried = [method for method in problem.methods if method.courses]
    budgets = [
        tuple(fmean(values) for values in zip(*map(_budget, method.courses.values()), strict=True)) for method in tried
    ]
    if tried and not (_alike([budget[1] for budget in budgets]) or _alike([budget[2] for budget in budgets], 1.0)):
        each = ", ".join(
            f"{method.name} {trials:,.4g} trials, {evaluations:,.4g} evaluations, {seconds:,.4g} seconds"
            for method, (trials, evaluations, seconds) in zip(tried, budgets, strict=True)
        )
        found.append(f"{problem.name}: the budgets differ, so compare the curves where they end together: {each}")
    highest = {method.name: max(course.fidelity for course in method.courses.values()) for method in tried}
    if len(set(highest.values())) > 1:
        each = ", ".join(f"{name} {fidelity:.3g}" for name, fidelity in highest.items())
        found.append(f"{problem.name}: the highest fidelities differ, so the values are not alike: {each}")
    return found


def _budget(course: Course) -> tuple[float, float, float]:
    return float(len(course.clock)), course.evaluations, float(course.clock[-1])


def _alike(values: Sequence[float], least: float = 0.0) -> bool:
    return least <= min(values) and max(values) <= _ALIKE * min(values)

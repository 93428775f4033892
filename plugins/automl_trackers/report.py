"""Writes a run as one page that needs no network: what was found, how sure that is, and how to go on."""

from __future__ import annotations

import base64
import hashlib
import shlex
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge
from markupsafe import Markup

from automl import Objective, Trial, hookimpl, pareto
from automl.drawing.graph import draw
from automl.drawing.layout import MOST_EDGES
from automl.drawing.markup import short, shown
from automl.files import write_text
from automl.joining import apart
from automl.runs import Run
from automl_trackers import plots, steps, tables, verdict
from automl_trackers.choices import choices
from automl_trackers.sheet import Sheet
from automl_trackers.shrinking import shrinking

if TYPE_CHECKING:
    import jinja2

    from automl.study import Study

_TEMPLATES = Path(__file__).parent / "templates"
_PRICES = ("parameters", "multiply_adds", "latency_ms")


@dataclass
class HTMLReport:
    """Writes ``report.html`` into the run folder when a study has ended.

    A table of more than ``rows`` trials shows the best, the front, the failures by reason and the newest.
    """

    rows: Annotated[int, Ge(10)] = 1_000

    @hookimpl
    def automl_study_finished(self, study: Study) -> None:
        """Write the report of a study that has a folder."""
        if study.directory is not None:
            self.write(study.directory)

    def write(self, directory: Path) -> Path:
        """Write the report of a run folder, finished or not; return where it is.

        Raises JournalError for a damaged journal, BadInput for a summary of another schema, StorageError where
        it cannot be written.
        """
        path = directory / "report.html"
        write_text(path, page(Run(directory), self.rows))
        return path


def page(run: Run, rows: int = 1_000) -> str:
    """Return the report of a run as HTML."""
    style, script = ((_TEMPLATES / name).read_text() for name in ("style.css", "script.js"))
    return _template().render(
        style=Markup(style),  # noqa: S704 - a file of this package
        script=Markup(script),  # noqa: S704 - a file of this package
        policy=f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'",
        **_contents(run, rows),
    )


@cache
def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else shown(value, 20_000),
    )
    environment.filters["short"] = short
    return environment.get_template("report.html.j2")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _contents(run: Run, rows: int) -> dict[str, Any]:
    sheet, heading = Sheet(run.summary), Sheet(run.heading)
    trials, objective = run.trials, run.objectives[0]
    finished = [trial for trial in trials if trial.is_scored]
    smaller = shrinking(sheet, heading)
    weighed = choices(trials)
    alone = weighed is not None and steps.are_steps(trials)  # then none is the best, and the last tells what is derived
    best = run.best if finished and not alone else None
    network = weighed.last if weighed is not None and alone else best
    knee = sheet.number("knee")
    groups = tables.failures(trials)
    price, priced, front = _priced(run, objective) if not alone else (None, [], [])
    listed_front = front or ([] if alone else run.front)
    return {
        "title": _title(heading) or run.directory.name,
        "folder": shlex.quote(_folder(run.directory)),
        "folder_in_python": repr(_folder(run.directory)),
        "sheet": sheet,
        "objective": objective,
        "objectives": run.objectives,
        "trials": trials,
        "finished": finished,
        "failed": sum(trial.error is not None for trial in trials),
        "rejected": sum(trial.is_rejected for trial in trials),
        "interrupted": run.interrupted,
        "duplicates": run.duplicates,
        "total": sheet.number("trials", "total"),
        "best": best,
        "choices": weighed,
        "alone": alone,
        "network": network,
        "decisions": None if network is None else tables.decisions(network.architecture.values),
        "comparison": verdict.comparison(sheet, finished, best, objective),
        "verdict": verdict.words(sheet),
        "interval": verdict.interval(sheet),
        "median": statistics.median(trial.metrics[objective.metric] for trial in finished) if finished else None,
        "is_random": heading.text("strategy") == "random",
        "strategy": heading.text("strategy"),
        "splits": [
            (name, int(count))
            for name in ("train", "validation", "test")
            if (count := sheet.number("data", name)) is not None
        ],
        "classes": [str(name) for name in sheet.items("data", "classes")],
        "curve": plots.curve(trials, objective) if trials and not alone else None,
        "cost": plots.cost(priced, front, price[0], price[1], best) if price is not None else None,
        "price": price,
        "front": front,
        "volume": sheet.number("hypervolume", "value"),
        "knee": None if knee is None else int(knee),
        "cells": _cells(sheet) if not alone or _is_of(sheet, network) else [],
        "shrinking": smaller,
        "retraining": _retraining(sheet),
        "eight_bits": _eight_bits(sheet),
        "groups": groups[: tables.GROUPS],
        "other_groups": groups[tables.GROUPS :],
        "table": tables.table(run, listed_front, groups, rows),
        "provenance": [(str(name), str(whence)) for name, whence in sheet.mapping("provenance").items()],
        "has_model": (run.directory / "model.safetensors").exists(),
        "more": _more(sheet, len(trials)),
        "versions": [(str(name), str(version)) for name, version in sheet.mapping("versions").items()],
        "figures": dict(run.summary),
    }


def _title(heading: Sheet) -> str:
    """Return what was searched, how, and on what; of a space that others join, whose networks they are and by what."""
    joined = [heading.text("space")]
    if heading.mapping("space"):
        joined = [Sheet(part).text("name") for part in apart(heading.mapping("space")) if part is not None]
    return " · ".join(name for name in (*joined, heading.text("strategy"), heading.text("task")) if name)


def _priced(run: Run, objective: Objective) -> tuple[tuple[str, str] | None, list[Trial], list[Trial]]:
    """Return the metric and the cost to draw against each other, the trials that have both, and their front.

    The front is of the trials at the highest fidelity reached: less training makes no network better.
    """
    finished = [trial for trial in run.trials if trial.is_scored]
    metric = "accuracy" if any("accuracy" in trial.metrics for trial in finished) else objective.metric
    for price in _PRICES:
        both = [trial for trial in finished if price in trial.metrics and metric in trial.metrics]
        if both and metric != price and (metric != objective.metric or objective.goal == "max"):
            front = pareto.front(both, [Objective(metric), Objective(price, "min")])
            if front:
                return (metric, price), both, front
    return None, [], []


def _cells(sheet: Sheet) -> list[tuple[str, Markup | None, list[tuple[str, str, str]]]]:
    cells = []
    for name, edges in list(sheet.mapping("graph").items())[:8]:
        triples = (
            [(str(edge[0]), str(edge[1]), str(edge[2])) for edge in edges if _is_edge(edge)]
            if isinstance(edges, list)
            else []
        )
        if triples:
            cells.append((str(name), draw(triples, str(name)), triples[:MOST_EDGES]))
    return cells


def _is_of(sheet: Sheet, network: Trial | None) -> bool:
    """Say whether the graph in the summary is that of a trial's network."""
    found = sheet.mapping("found") or sheet.mapping("best", "decisions")
    return network is not None and found == network.architecture.values


def _is_edge(edge: object) -> bool:
    return isinstance(edge, list | tuple) and len(edge) == 3


def _retraining(sheet: Sheet) -> Markup | None:
    curve = [Sheet(row) for row in sheet.items("retrain", "curve") if isinstance(row, Mapping)]
    first = 0 if curve and curve[0].number("fidelity") == 0 else 1
    numbered = [(epoch, row.number("accuracy")) for epoch, row in enumerate(curve, first)]
    points = [(float(epoch), accuracy) for epoch, accuracy in numbered if accuracy is not None]
    if len(points) < 2:
        return None
    epochs = len(curve) - 1 + first
    return plots.line(points, "accuracy", "epoch", f"validation accuracy after each of {epochs:,} epochs of retraining")


def _eight_bits(sheet: Sheet) -> list[tuple[str, float, float, float]]:
    """Return a row for the float network and one for that in eight bits: accuracy, bytes, milliseconds."""
    rows = []
    form = sheet.text("int8", "form") or ""
    for kind, name in (("float", "float"), ("int8", form)):
        accuracy = sheet.number("int8", "test", kind, "accuracy")
        size = sheet.number("int8", "versions", name, "bytes")
        latency = sheet.number("int8", "versions", name, "latency_ms")
        if accuracy is not None and size is not None and latency is not None:
            rows.append((kind if kind == name else f"{kind}, {name}", accuracy, size, latency))
    return rows


def _folder(directory: Path) -> str:
    """Return the folder as one would type it."""
    full = directory.resolve()
    return str(full.relative_to(Path.cwd()) if full.is_relative_to(Path.cwd()) else full)


def _more(sheet: Sheet, told: int) -> int:
    """Return a total of trials to go on to: that of an unfinished search, else three times as many."""
    total = int(sheet.number("trials", "total") or 0)
    return total if told < total else max(3 * told, 20)

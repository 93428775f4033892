"""Methods on problems: runs that share everything but the seed, read, sorted and named.

Space and task make a *problem*, of a network that is made smaller how it was trained and how much may be left of it,
and of the innermost evaluator its name and the keys that name data: table, dataset, root. All other settings make a
*method*: the strategy, the compressor, the evaluators around the innermost one, how that one trains, the executor. How
many trials were asked for makes neither: that is a budget.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl import pareto
from automl.errors import BadInput
from automl.joining import apart
from automl.runs import Run
from automl.trial import Limit, Objective, evaluations, full

Array = NDArray[np.float64]
_PROBLEM = ("space", "task", "weights", "retrain")
_DATA = ("name", "table", "dataset", "root")  # of the innermost evaluator
_JOINING = ("compressor", "hyperparameters")  # the space
_NOTHING = "null"
_NEITHER = ("seed", "data", "objectives", "limits")


@dataclass(frozen=True)
class Course:
    """How one run went, trial by trial, in the order of telling.

    ``scores`` has a row a trial, a column an objective, higher better, and NaN for a trial that does not count: it
    failed, broke a limit, or is of lower fidelity than the highest that one reached. ``clock`` has the seconds of the
    study's clock when each ended. ``evaluations`` is their cost, in full ones.
    """

    folder: Path
    heading: Mapping[str, Any]
    objectives: tuple[Objective, ...]
    limits: tuple[Limit, ...]
    scores: Array
    clock: Array
    evaluations: float
    fidelity: float
    failed: int
    test: float | None
    is_finished: bool

    @classmethod
    def read(cls, folder: Path) -> Course:
        """Read a run folder; raises BadInput or JournalError where it is none, or damaged."""
        run = Run(folder)
        trials, summary = run.trials, run.summary
        if not run.heading:
            raise BadInput(f"{folder} has an empty journal: it was stopped before its first trial, so start it again")
        counted = {id(trial): trial.scores for trial in full(trials)}
        nothing = (np.nan,) * len(run.objectives)
        total = summary.get("trials", {}).get("total")
        return cls(
            folder,
            run.heading,
            run.objectives,
            run.limits,
            np.array([counted.get(id(trial), nothing) for trial in trials], float).reshape(-1, len(run.objectives)),
            np.maximum.accumulate(np.array([trial.ended for trial in trials], float)),
            evaluations(trials),
            max((trial.fidelity for trial in trials if id(trial) in counted), default=0.0),
            sum(trial.error is not None for trial in trials),
            summary.get("test", {}).get("accuracy", summary.get("recorded", {}).get("test_accuracy")),
            bool(summary) and (len(trials) == total or summary.get("ending") is not None),
        )

    @property
    def seed(self) -> int:
        return int(self.heading.get("seed", 0))


@dataclass
class Method:
    """The runs that differ in their seed alone.

    ``values`` has by seed the best value so far after each trial, in the objective's own direction, NaN before there
    is one; ``left_out`` are runs that are unfinished or in which no trial counted.
    """

    name: str
    settings: Mapping[str, Any]
    courses: dict[int, Course] = field(default_factory=dict)
    left_out: list[Course] = field(default_factory=list)
    values: dict[int, Array] = field(default_factory=dict)

    @cached_property
    def finals(self) -> dict[int, float]:
        """By seed, what the run found."""
        return {seed: float(values[-1]) for seed, values in self.values.items()}

    @property
    def is_random(self) -> bool:
        """Whether it is random search, whatever evaluates."""
        return bool(_component(self.settings.get("strategy"))["name"] == "random")


@dataclass
class Problem:
    """What several methods were tried on; ``goal`` says which values of ``objective`` are better."""

    name: str
    objective: str
    goal: str
    methods: list[Method]

    @property
    def sign(self) -> float:
        """1 where higher values are better, -1 where lower ones are."""
        return 1.0 if self.goal == "max" else -1.0

    @cached_property
    def seeds(self) -> list[int]:
        """The seeds that all methods have in common."""
        return sorted(set.intersection(*(set(method.finals) for method in self.methods)))

    @cached_property
    def table(self) -> Array:
        """What was found, higher better: a row a common seed, a column a method."""
        return self.sign * np.array([[method.finals[seed] for method in self.methods] for seed in self.seeds], float)

    @cached_property
    def baseline(self) -> Method | None:
        """Random search, the plain one first; None where it was not tried."""
        found = [method for method in self.methods if method.is_random]
        return min(found, key=lambda method: "inner" in _component(method.settings.get("evaluator")), default=None)


def problems(courses: Sequence[Course]) -> list[Problem]:
    """Return the problems of these runs, each with its methods, in the order of their first runs.

    Of runs with equal settings and seed, the one with the most trials counts. Raises BadInput where objectives differ.
    """
    groups: dict[str, dict[str, list[Course]]] = {}
    parts: dict[str, Mapping[str, Any]] = {}
    for course in courses:
        first = courses[0]
        if (course.objectives, course.limits) != (first.objectives, first.limits):
            raise BadInput(
                f"{first.folder} and {course.folder} have different objectives ({_said(first)}; {_said(course)}), so "
                "they cannot be compared: give runs of one objective"
            )
        keys = []
        for part in _part(course.heading):
            keys.append(json.dumps(part, sort_keys=True))
            parts[keys[-1]] = part
        groups.setdefault(keys[0], {}).setdefault(keys[1], []).append(course)
    titles = names([parts[key] for key in groups], "space", "compressor.budget")
    return [
        _problem(title, [(parts[key], runs) for key, runs in methods.items()])
        for title, methods in zip(titles, groups.values(), strict=True)
    ]


def names(settings: Sequence[Mapping[str, Any]], *otherwise: str) -> list[str]:
    """Return a name for each, of that in which they differ, as it is typed: strategy=evolution,population=50.

    Fields are told apart among components of one name. Where nothing differs, it is the components ``otherwise``.
    """
    flat = [list(_components(one)) for one in settings]
    options: dict[str, set[str]] = {}
    values: dict[tuple[str, str, str], set[str]] = {}
    for one in flat:
        for path, name, fields in one:
            options.setdefault(path, set()).add(name)
            for key, value in fields.items():
                values.setdefault((path, name, key), set()).add(value)
    found: list[str] = []
    for one in flat:
        words = []
        for path, name, fields in one:
            differing = [f",{key}={value}" for key, value in fields.items() if len(values[path, name, key]) > 1]
            if differing or len(options[path]) > 1:
                words.append(f"{path}={name}{''.join(differing)}")
        if not words:
            there = [f"{path}={name}" for path, name, _ in one if path in otherwise and name != _NOTHING]
            words = there or [f"{otherwise[-1]}=?"]
        title = " ".join(words)
        found.append(f"{title} ({found.count(title) + 1})" if title in found else title)
    return found


def components(heading: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the kind and the name of every component of a study, nested ones included."""
    heading = _typed_apart(heading)
    for path, name, _ in _components(
        {key: heading[key] for key in ("space", *_JOINING, "strategy", "evaluator") if key in heading}
    ):
        yield path.split(".")[0], name


def _typed_apart(heading: Mapping[str, Any]) -> dict[str, Any]:
    """Return a study's settings with what joins the space beside it: a compressor, and ranges of hyperparameters."""
    one = apart(heading.get("space"))
    joining = {"compressor": one.compressor, "hyperparameters": one.hyperparameters}
    return {**heading, "space": one.space, **{key: value for key, value in joining.items() if value is not None}}


def _component(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) and "name" in value else {"name": str(value)}


def _components(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield the path, the name and the fields of every component, nested ones after those around them."""
    for key, value in settings.items():
        fields = _component(value)
        name = str(fields.pop("name"))
        nested = {key: inner for key, inner in fields.items() if isinstance(inner, Mapping) and "name" in inner}
        yield prefix + key, name, {key: _typed(value) for key, value in fields.items() if key not in nested}
        yield from _components(nested, f"{prefix}{key}.")


def _typed(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _part(heading: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return which of a study's settings make its problem, and which its method."""
    heading = _typed_apart(heading)
    problem = {key: heading[key] for key in _PROBLEM if key in heading}
    method = {key: value for key, value in heading.items() if key not in (*_PROBLEM, *_NEITHER)}
    if "evaluator" in heading:
        evaluator = innermost = _component(heading["evaluator"])
        while isinstance(innermost.get("inner"), Mapping):
            innermost["inner"] = innermost = dict(innermost["inner"])
        problem["evaluator"] = {key: innermost[key] for key in _DATA if key in innermost}
        for key in _DATA[1:]:
            innermost.pop(key, None)
        method["evaluator"] = evaluator
    compressor = _component(heading.get("compressor", _NOTHING))
    budget, resource = (compressor.pop(key, None) for key in ("budget", "resource"))
    problem["compressor.budget"] = {"name": _typed(budget), **({} if budget is None else {"resource": resource})}
    return problem, {"compressor": compressor, "hyperparameters": _NOTHING, **method}


def _problem(title: str, groups: Sequence[tuple[Mapping[str, Any], Sequence[Course]]]) -> Problem:
    methods = []
    titles = names([part for part, _ in groups], *_JOINING, "strategy")
    for name, (settings, courses) in zip(titles, groups, strict=True):
        method = Method(name, settings)
        for course in sorted(courses, key=lambda course: (course.seed, -len(course.clock))):
            counts = course.is_finished and not np.isnan(course.scores).all()
            if counts and course.seed not in method.courses:
                method.courses[course.seed] = course
            else:
                method.left_out.append(course)
        methods.append(method)
    objectives = groups[0][1][0].objectives
    if len(objectives) == 1:
        for method in methods:
            method.values = {seed: _best_so_far(one.scores, objectives[0]) for seed, one in method.courses.items()}
        return Problem(title, _metric(objectives[0]), objectives[0].goal, methods)
    found = [course.scores for method in methods for course in method.courses.values()]
    if found:
        everything = np.concatenate(found)
        low, high = np.nanmin(everything, axis=0), np.nanmax(everything, axis=0)
        for method in methods:
            method.values = {seed: _volume_so_far(one.scores, low, high) for seed, one in method.courses.items()}
    return Problem(title, f"hypervolume of {' and '.join(map(_metric, objectives))}", "max", methods)


def _best_so_far(scores: Array, objective: Objective) -> Array:
    return np.fmax.accumulate(scores[:, 0]) * (1.0 if objective.goal == "max" else -1.0)


def _volume_so_far(scores: Array, low: Array, high: Array) -> Array:
    """Return after each trial the front's share of the box between the worst and the best of each objective."""
    shares = (scores - low) / np.where(high > low, high - low, 1.0)
    front: list[tuple[float, ...]] = []
    volume, volumes = np.nan, []
    for row in shares:
        point = tuple(row.tolist())
        if not np.isnan(row).any() and not any(other == point or pareto.dominates(other, point) for other in front):
            front = [other for other in front if not pareto.dominates(point, other)] + [point]
            volume = pareto.hypervolume(front, (0.0,) * len(point))
        volumes.append(volume)
    return np.array(volumes)


def _metric(objective: Objective) -> str:
    name = objective.metric
    for cost in objective.costs:
        name = cost.describe(name)
    return name


def _said(course: Course) -> str:
    goals = [f"{_metric(one)} {one.goal}" for one in course.objectives]
    return ", ".join(goals + [f"{limit.metric} limited to {limit.bound:g}" for limit in course.limits])

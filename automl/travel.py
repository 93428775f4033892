"""What a worker is given: a search's components by their settings, its trials by their decisions."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

from automl.compressor import Compressor
from automl.errors import BadInput
from automl.evaluator import Evaluator
from automl.space import Space
from automl.trial import NOTHING, Candidate, Report, Trial

_GIVEN = ("space", "task", "objectives", "limits", "folder", "trainer", "device")  # what an evaluator is given again


class Packed(NamedTuple):
    """A trial as it travels; its architecture is read from the decisions.

    ``before`` is its parent, and of that the trials that it goes on from: those whose weights it inherited stay behind.
    """

    number: int
    seed: int
    decisions: Mapping[str, Any]
    fidelity: float
    parent: int | None
    notes: Mapping[str, Any]
    reports: list[tuple[dict[str, float], float]]
    before: Packed | None


class _Made(NamedTuple):
    """A component by its class and its settings, from which it is made again."""

    kind: type[Any]
    settings: dict[str, Any]


def pack(evaluator: Evaluator) -> bytes:
    """Return all that a worker needs to evaluate as this evaluator, which was started, would here.

    The task is given with its images, so that the data need not be where the worker is. Classes and functions that
    cannot be imported, as those of a notebook, travel by value. Raises BadInput naming what cannot travel.
    """
    parts: dict[str, Any] = {
        "space": _recipe(evaluator.space),
        "task": evaluator.task,
        "evaluator": _recipe(evaluator),
        "trainer": None if evaluator.trainer is None else _recipe(evaluator.trainer),
        "device": evaluator.device,
        "objectives": tuple(evaluator.objectives),
        "limits": tuple(evaluator.limits),
        "folder": None if evaluator.folder is None else Path(evaluator.folder).absolute(),
    }
    try:
        return _dumps(parts)
    except Exception as error:
        for name, part in parts.items():
            _refuse(name, part)
        raise BadInput(
            f"the search cannot be sent to a worker ({_said(error)}): type executor=local, which sends nothing"
        ) from error


def unpack(packed: bytes) -> Evaluator:
    """Return the evaluator, started."""
    parts = pickle.loads(packed)  # noqa: S301  # from the process that started this one
    space, task, evaluator = _made(parts["space"]), parts["task"], _made(parts["evaluator"])
    evaluator.objectives, evaluator.limits, evaluator.folder = parts["objectives"], parts["limits"], parts["folder"]
    evaluator.trainer, evaluator.device = _made(parts["trainer"]), parts["device"]
    if task is not None:
        space.check(task)
    evaluator.start(space, task)
    return evaluator  # type: ignore[no-any-return]


def pack_trial(trial: Trial) -> Packed:
    """Return a trial as it travels."""
    return _packed(trial, trial.parent)


def unpack_trial(packed: Packed, space: Space[Any]) -> Trial:
    """Return the trial of one that has travelled, in that space."""
    architecture = space.read(packed.decisions)
    candidate = Candidate(architecture, packed.fidelity, packed.parent, packed.notes or NOTHING)
    trial = Trial(packed.number, candidate, packed.seed)
    trial.reports = [Report(metrics, fidelity) for metrics, fidelity in packed.reports]
    trial.parent = None if packed.before is None else unpack_trial(packed.before, space)
    return trial


def _packed(trial: Trial, before: Trial | None) -> Packed:
    candidate = trial.candidate
    return Packed(
        trial.number,
        trial.seed,
        candidate.architecture.to_json(),
        candidate.fidelity,
        candidate.parent,
        dict(candidate.notes),
        [(dict(report.metrics), report.fidelity) for report in trial.reports],
        None if before is None else _packed(before, before.continued),
    )


def _recipe(component: Any) -> Any:
    """Return how a component is made: a dataclass by its fields, and another as it is, less what starting gave it."""
    if not isinstance(component, Space | Evaluator | Compressor):
        return component
    if is_dataclass(component):
        settings = {field.name: getattr(component, field.name) for field in fields(component) if field.init}
        return _Made(type(component), {name: _recipe(value) for name, value in settings.items()})
    given = _GIVEN if isinstance(component, Evaluator) else ()
    attributes = {name: _recipe(value) for name, value in vars(component).items() if name not in given}
    return _Made(type(component), {"__dict__": attributes})


def _made(recipe: Any) -> Any:
    """Return the component of a recipe."""
    if not isinstance(recipe, _Made):
        return recipe
    settings = {name: _made(value) for name, value in recipe.settings.items()}
    if "__dict__" not in settings:
        return recipe.kind(**settings)
    component = object.__new__(recipe.kind)
    vars(component).update({name: _made(value) for name, value in settings["__dict__"].items()})
    return component


def _refuse(name: str, part: Any) -> None:
    """Raise BadInput, naming the field, for the innermost part of a component that cannot be pickled."""
    try:
        _dumps(part)
    except Exception as error:
        if isinstance(part, _Made):
            inside = part.settings.get("__dict__", part.settings)
        else:
            inside = getattr(part, "__dict__", {})
        for field, value in inside.items():
            _refuse(f"{name}.{field}", value)
        kind = part.kind.__name__ if isinstance(part, _Made) else type(part).__name__
        raise BadInput(
            f"{name} is a {kind}, which cannot be sent to a worker ({_said(error)}): make it where it is used, in "
            "start or evaluate, or type executor=local, which sends nothing"
        ) from None


def _dumps(value: Any) -> bytes:
    import cloudpickle

    return cloudpickle.dumps(value)  # type: ignore[no-any-return]


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

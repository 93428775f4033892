"""The contract of evaluators."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from automl.evaluator import Evaluator
from automl.space import Space
from automl.task import Task
from automl.trial import Candidate, Report, Trial


def check_evaluator(factory: Callable[[], Evaluator], space: Space[Any], task: Task, *, seed: int = 0) -> None:
    """Raise AssertionError, in a sentence, where the evaluators that the factory makes break their contract.

    Reports of finite numbers, each better informed than the last up to fidelity 1; the same for the same trial;
    and content with being closed after any of them.
    """
    architecture = space.sample(random.Random(seed))
    told = []
    for _ in range(2):
        evaluator = factory()
        evaluator.start(space, task)
        reports = list(evaluator.evaluate(Trial(0, Candidate(architecture), seed)))
        name = type(evaluator).__name__
        assert reports, f"{name} ends without a report"
        fidelities = [report.fidelity for report in reports]
        assert fidelities == sorted(set(fidelities)), f"{name} reports fidelities that do not rise: {fidelities}"
        assert fidelities[0] >= 0, f"{name} reports fidelity {fidelities[0]}, which is not in [0, 1]"
        assert fidelities[-1] == 1.0, f"{name} does not reach fidelity 1: {fidelities}"
        for report in reports:
            for metric, value in report.metrics.items():
                assert type(value) in (int, float), f"{name} reports {metric} as {value!r}, which is no number"
        told.append([_without_clock(report) for report in reports])
    assert told[0] == told[1], f"{name} reports differently of the same trial: draw from trial.seed alone"
    evaluator = factory()
    evaluator.start(space, task)
    running = evaluator.evaluate(Trial(0, Candidate(architecture), seed))
    next(running)
    close = getattr(running, "close", None)
    if close is not None:
        close()


def _without_clock(report: Report) -> tuple[float, dict[str, float]]:
    return report.fidelity, {name: value for name, value in report.metrics.items() if "second" not in name}

"""A trial is one candidate, what was reported of it, and what that is worth."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from automl.decisions import Architecture

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a strategy asks to have evaluated.

    ``fidelity`` in (0, 1] is the share of the full schedule. ``parent`` is the number of the trial to go on
    from. ``notes`` travel to the journal and back in ``Trial.candidate``.
    """

    architecture: Architecture
    fidelity: float = 1.0
    parent: int | None = None
    notes: Mapping[str, Any] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class Report:
    """What an evaluator says of a candidate, each report better informed than the last.

    ``fidelity`` in (0, 1] is the share of the full schedule that the metrics rest on.
    """

    metrics: Mapping[str, float]
    fidelity: float = 1.0
    gradients: Mapping[str, Sequence[float]] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric to make as large ("max") or as small ("min") as can be, within a hard limit if there is one."""

    metric: str
    goal: Literal["max", "min"] = "max"
    limit: float | None = None

    def score(self, metrics: Mapping[str, float]) -> float:
        """Return the metric so that higher is better."""
        value = metrics[self.metric]
        return value if self.goal == "max" else -value

    def violation(self, metrics: Mapping[str, float]) -> float:
        """Return by which share of the limit the metric breaks it; 0 where it does not."""
        if self.limit is None:
            return 0.0
        over = self.limit - metrics[self.metric] if self.goal == "max" else metrics[self.metric] - self.limit
        return max(over, 0.0) / (abs(self.limit) or 1.0)


class Trial:
    """One evaluation of one candidate, under its number.

    ``seed`` seeds all that the evaluator draws. ``error`` is the reason, as text, where the trial failed.
    ``scores`` has the value of each objective, higher better; ``violation`` by how much hard limits are broken.
    """

    __slots__ = ("candidate", "error", "number", "reports", "scores", "seconds", "seed", "traceback", "violation")

    def __init__(self, number: int, candidate: Candidate, seed: int) -> None:
        self.number = number
        self.candidate = candidate
        self.seed = seed
        self.reports: list[Report] = []
        self.error: str | None = None
        self.traceback: str | None = None
        self.scores: tuple[float, ...] = ()
        self.violation = 0.0
        self.seconds = 0.0

    @property
    def architecture(self) -> Architecture:
        return self.candidate.architecture

    @property
    def metrics(self) -> Mapping[str, float]:
        """The metrics of the last report, the best informed; empty before the first."""
        return self.reports[-1].metrics if self.reports else NOTHING

    @property
    def score(self) -> float:
        """The value of the first objective, higher better; minus infinity where the trial failed."""
        return self.scores[0] if self.scores and self.error is None else -math.inf

    @property
    def merit(self) -> tuple[float, float]:
        """What trials are ranked by: legal before illegal, less illegal before more (Deb, 2000), then the score."""
        if self.error is not None or not self.scores:
            return (-math.inf, -math.inf)
        return (-self.violation, self.scores[0])

    def judge(self, objectives: Sequence[Objective]) -> None:
        """Score the trial by its last report; raises KeyError for a metric that was not reported."""
        metrics = self.metrics
        self.scores = tuple([objective.score(metrics) for objective in objectives])
        self.violation = sum([objective.violation(metrics) for objective in objectives if objective.limit is not None])

    def __repr__(self) -> str:
        told = f"failed: {self.error}" if self.error is not None else dict(self.metrics)
        return f"Trial({self.number}, {told})"


def merit(trial: Trial) -> tuple[float, float]:
    """Return what trials are ranked by, as a key for max and sorted."""
    return trial.merit


def by_reason(trials: Sequence[Trial]) -> list[tuple[str, list[Trial]]]:
    """Return the failed trials grouped by reason, numbers in it aside, the largest group first.

    Each group is named by the reason of its first trial.
    """
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.error is not None:
            groups.setdefault(re.sub(r"[0-9.]+", "#", trial.error), []).append(trial)
    return [(group[0].error or "", group) for group in sorted(groups.values(), key=len, reverse=True)]


def best(trials: Sequence[Trial]) -> Trial | None:
    """Return the best finished trial at the highest fidelity reached, the earliest of equals; None if all failed."""
    finished = [trial for trial in trials if trial.error is None and trial.scores]
    if not finished:
        return None
    highest = max(trial.reports[-1].fidelity for trial in finished)
    return max((trial for trial in finished if trial.reports[-1].fidelity == highest), key=merit)

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
_NO_ERROR = 1e-6


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a strategy asks to have evaluated.

    ``fidelity`` in (0, 1] is the share of the full schedule. ``parent`` is the number of the trial to go on from; one
    of another architecture hands its weights down. ``notes`` travel to the journal and back in ``Trial.candidate``.
    """

    architecture: Architecture
    fidelity: float = 1.0
    parent: int | None = None
    notes: Mapping[str, Any] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class Report:
    """What an evaluator says of a candidate, each report better informed than the last.

    ``fidelity`` in [0, 1] is the share of the full schedule that the metrics rest on: 0 for what needs no training.
    """

    metrics: Mapping[str, float]
    fidelity: float = 1.0
    gradients: Mapping[str, Sequence[float]] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class Cost:
    """A factor on an objective: (metric / target) to the power alpha up to the target, beta beyond (MnasNet, 2019)."""

    metric: str
    target: float
    alpha: float = -0.07
    beta: float = -0.07

    def of(self, value: float, metrics: Mapping[str, float]) -> float:
        """Return the value times its factor: 1 at the target, whatever the powers."""
        share = max(metrics[self.metric], 1e-12) / self.target
        return value * float(share ** (self.alpha if share <= 1 else self.beta))

    def describe(self, name: str) -> str:
        """Return in words what becomes of the value of that name."""
        return f"{name} x cost of {self.metric}"


@dataclass(frozen=True, slots=True)
class LogCost:
    """The reward of AMC that holds the accuracy: -(error + 1e-6) x log of a count of 1 or more (He et al., 2018).

    The error is what an accuracy lacks to 1. The 1e-6 is ours: where there is no error, the smaller one is better.
    """

    metric: str

    def of(self, value: float, metrics: Mapping[str, float]) -> float:
        """Return the reward of an accuracy."""
        return -(1 - value + _NO_ERROR) * math.log(max(metrics[self.metric], 1.0))

    def describe(self, name: str) -> str:
        """Return in words what becomes of the value of that name."""
        return f"-(1 - {name}) x log of {self.metric}"


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric to make as large ("max") or as small ("min") as can be, weighed by costs."""

    metric: str
    goal: Literal["max", "min"] = "max"
    costs: tuple[Cost | LogCost, ...] = ()

    def score(self, metrics: Mapping[str, float]) -> float:
        """Return what the metrics are worth, so that higher is better."""
        value = metrics[self.metric]
        for cost in self.costs:
            value = cost.of(value, metrics)
        return value if self.goal == "max" else -value

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that the score rests on."""
        return (self.metric, *(cost.metric for cost in self.costs))


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound that a metric must keep: at most ("min") or at least ("max") so much."""

    metric: str
    bound: float
    goal: Literal["max", "min"] = "min"

    def violation(self, metrics: Mapping[str, float]) -> float:
        """Return by which share of the bound the metric breaks it; 0 where it does not."""
        over = metrics[self.metric] - self.bound if self.goal == "min" else self.bound - metrics[self.metric]
        return max(over, 0.0) / (abs(self.bound) or 1.0)


def in_floats(report: Report) -> Report:
    """Return the report with its metrics as floats, NaN for what is no number."""
    if all(value.__class__ is float for value in report.metrics.values()):
        return report
    metrics = {}
    for name, value in report.metrics.items():
        try:
            metrics[name] = value if value.__class__ is int else math.nan if isinstance(value, str) else float(value)
            math.isfinite(metrics[name])
        except (TypeError, ValueError, OverflowError):
            metrics[name] = math.nan
    return Report(metrics, report.fidelity, report.gradients)


class Trial:
    """One evaluation of one candidate, under its number.

    ``seed`` seeds all that the evaluator draws. ``parent`` is that of the candidate, where there is one. ``error``
    is the reason, as text, where the trial failed. ``scores`` has the value of each objective, higher better, and is
    empty for a trial that was rejected before they were known; ``violation`` says by how much limits are broken.
    ``began`` and ``ended`` are seconds of the study's clock.
    """

    __slots__ = (
        "began",
        "candidate",
        "ended",
        "error",
        "number",
        "parent",
        "reports",
        "scores",
        "seed",
        "traceback",
        "violation",
    )

    def __init__(self, number: int, candidate: Candidate, seed: int) -> None:
        self.number = number
        self.candidate = candidate
        self.seed = seed
        self.reports: list[Report] = []
        self.error: str | None = None
        self.traceback: str | None = None
        self.scores: tuple[float, ...] = ()
        self.violation = 0.0
        self.parent: Trial | None = None
        self.began = 0.0
        self.ended = 0.0

    @property
    def architecture(self) -> Architecture:
        return self.candidate.architecture

    @property
    def continued(self) -> Trial | None:
        """The trial whose training goes on here: its parent, if that is of the same architecture."""
        return self.parent if self.parent is not None and self.parent.architecture == self.architecture else None

    @property
    def metrics(self) -> Mapping[str, float]:
        """The metrics of the last report, the best informed; empty before the first."""
        return self.reports[-1].metrics if self.reports else NOTHING

    @property
    def study_seed(self) -> int:
        """The seed of the study, by which what its trials have in common is drawn."""
        return self.seed >> 32

    @property
    def seconds(self) -> float:
        """How long it took, by the study's clock."""
        return self.ended - self.began

    @property
    def fidelity(self) -> float:
        """The share of the full schedule that its last report rests on; 0 before the first."""
        return self.reports[-1].fidelity if self.reports else 0.0

    @property
    def is_scored(self) -> bool:
        """Whether it has a value for each objective."""
        return self.error is None and bool(self.scores)

    @property
    def is_rejected(self) -> bool:
        """Whether it was ended for breaking a limit, before it was trained."""
        return self.error is None and self.violation > 0 and not self.scores

    @property
    def state(self) -> str:
        """How it ended, in a word: finished, failed or rejected."""
        return "failed" if self.error is not None else "rejected" if self.is_rejected else "finished"

    @property
    def score(self) -> float:
        """The value of the first objective, higher better; minus infinity where the trial failed or was rejected."""
        return self.scores[0] if self.is_scored else -math.inf

    @property
    def merit(self) -> tuple[float, float]:
        """What trials are ranked by: legal before illegal, less illegal before more (Deb, 2000), then the score."""
        if self.error is not None or not (self.scores or self.violation):
            return (-math.inf, -math.inf)
        return (-self.violation, self.scores[0] if self.scores else -math.inf)

    @property
    def rank(self) -> tuple[bool, float, tuple[float, float]]:
        """What makes a trial the best of a study: to be legal, then the fidelity reached, then its merit."""
        legal = self.is_scored and not self.violation
        return (legal, self.fidelity if legal else 0.0, self.merit)

    def judge(self, objectives: Sequence[Objective], limits: Sequence[Limit] = ()) -> None:
        """Score the trial by its last report.

        Raises KeyError for a metric that was not reported, unless the trial breaks a limit that was.
        """
        metrics = self.metrics
        if limits:
            self.violation = sum([limit.violation(metrics) for limit in limits if limit.metric in metrics])
            if self.violation and not all(name in metrics for one in objectives for name in one.metrics):
                self.scores = ()
                return
        self.scores = tuple([objective.score(metrics) for objective in objectives])

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


def records(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return one flat record a trial: its number, state, metrics, and decisions by name."""
    return [
        {
            "trial": trial.number,
            "state": trial.state,
            "reason": trial.error,
            "fidelity": trial.candidate.fidelity,
            "seconds": trial.seconds,
            **trial.metrics,
            **trial.architecture.to_json(),
        }
        for trial in trials
    ]


def full(trials: Sequence[Trial]) -> list[Trial]:
    """Return the finished trials that break no limit, at the highest fidelity that one of them reached."""
    legal = [trial for trial in trials if trial.is_scored and not trial.violation]
    highest = max((trial.fidelity for trial in legal), default=0.0)
    return [trial for trial in legal if trial.fidelity == highest]


def evaluations(trials: Sequence[Trial]) -> float:
    """Return what the trials cost, in full evaluations: shares of the schedule, less those that they went on from."""
    return sum(trial.fidelity - (trial.continued.fidelity if trial.continued else 0.0) for trial in trials)


def best(trials: Sequence[Trial]) -> Trial | None:
    """Return the best trial at the highest fidelity that a legal one reached, the earliest of equals.

    Where none is legal, that which breaks the limits least; None if all failed.
    """
    finished = full(trials) or [trial for trial in trials if trial.error is None and trial.violation]
    return max(finished, key=merit, default=None)


class Worth:
    """One number for each trial, higher better, for strategies that learn from numbers.

    A legal trial is worth its first score. One that breaks limits is worth less than any legal one seen, the more it
    breaks them the less; a failed one least of all.
    """

    def __init__(self) -> None:
        self._low = math.inf
        self._high = -math.inf

    def see(self, trial: Trial) -> None:
        """Take note of what legal trials are worth."""
        if trial.is_scored and not trial.violation:
            self._low = min(self._low, trial.scores[0])
            self._high = max(self._high, trial.scores[0])

    def of(self, trial: Trial) -> float:
        """Return what the trial is worth among those seen."""
        if trial.is_scored and not trial.violation:
            return trial.scores[0]
        known = self._low <= self._high
        low, spread = (self._low, (self._high - self._low) or 1.0) if known else (0.0, 1.0)
        if trial.error is not None or not trial.violation:
            return low - spread
        return low - spread * trial.violation / (1 + trial.violation)

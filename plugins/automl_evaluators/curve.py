"""Ends a trial whose learning curve, extrapolated, will hardly come to more than the best did."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain
from math import ceil, isfinite
from random import Random
from typing import Annotated, Any

from annotated_types import Ge, Gt, Lt

from automl import (
    BadInput,
    Evaluator,
    Limit,
    Objective,
    Report,
    Space,
    Strategy,
    Task,
    Trial,
    Wrapper,
)
from automl.strategy import Around
from automl_evaluators.schedule import Schedule

log = logging.getLogger("automl")


@dataclass
class Curve(Wrapper):
    """Extrapolates learning curves and ends those that are not worth going on with (Domhan et al., IJCAI 2015).

    Every so many steps (epochs) eleven families of curves are fitted to what the trial and those that it goes on from
    measured so far of the first objective's metric, and sampled by MCMC. The report then says three more things of the
    metric at the end of the full schedule: ``predicted``, what is expected; ``predicted_std``, its standard deviation;
    and ``predicted_bound``, what it will be better than with the probability ``threshold`` only, noise included. The
    trial ends where the best trial that was trained in full is better than that bound, and than all that this one
    measured. The strategy is then told what was expected; the journal keeps what was measured.

    Curves between 0 and 1 are extrapolated, better by rising or by falling (an error share), and those between -1
    and 0. The prior holds each family, not their mean alone, to curves that end no lower than they began. A curve that
    leaves 0 to 1, or that no family fits, is trained to its end. With several objectives, a trial ends where a full
    one is better as above and as good in all others, as they are now.
    """

    inner: Evaluator
    threshold: Annotated[float, Gt(0), Lt(1)] = 0.05
    first: Annotated[int, Ge(2)] = 4  # measured values before the first extrapolation
    every: Annotated[int, Ge(1)] | None = None  # steps between extrapolations; null: a tenth of the schedule
    certain: Annotated[float, Gt(0)] | None = None  # also end a trial where predicted_std is below this; paper: 0.005
    ceiling: Annotated[float, Ge(1)] = 1.0  # that curves may end at; the authors' release, not for shares alone: 100
    walkers: Annotated[int, Ge(4)] = 100  # of the MCMC; raised to twice the dimensions and two
    samples: Annotated[int, Ge(2)] = 500  # of each walker; the authors' release: 2500, of which 500 burn in
    burn_in: Annotated[int, Ge(1)] = 250  # samples that are left out at the beginning
    thinning: Annotated[int, Ge(1)] = 10  # one sample in so many is used

    def __post_init__(self) -> None:
        if self.samples - self.burn_in < self.thinning:
            raise BadInput(
                f"evaluator.samples={self.samples} leaves none after evaluator.burn_in={self.burn_in} and "
                f"evaluator.thinning={self.thinning}: give at least {self.burn_in + self.thinning}"
            )

    def start(self, space: Space[Any], task: Task) -> None:
        if find_spec("emcee") is None:
            raise BadInput(
                "evaluator=curve samples by emcee, which is not installed: type pip install 'automl-lightweight[bayes]'"
            )
        super().start(space, task)
        self._refuse_schedules()
        steps = self.inner.steps()
        if steps is None and space.finishes:
            raise BadInput(
                "evaluator=curve extrapolates what is measured step by step, and what a compressor made is judged as "
                "it is, without an epoch of fine-tuning: type evaluator.inner.tuning=10"
            )
        if steps is None:
            raise BadInput(
                f"evaluator=curve extrapolates what is measured step by step, but what its inner evaluator, "
                f"{type(self.inner).__name__}, evaluates is whole: type evaluator/inner=training, or "
                "evaluator/inner=tabular evaluator.inner.table=spikenas"
            )
        self.whole: int = steps
        self._warned = False

    def evaluate(self, trial: Trial) -> Iterator[Report]:
        measured = [report for one in _ancestors(trial) for report in one.reports]
        for report in self.inner.evaluate(trial):
            measured.append(report)
            yield self._foreseen(trial, measured)

    def schedule(self, strategy: Strategy) -> Strategy:
        return Terminating(self.inner.schedule(strategy), self.objectives, self.limits, self.certain)

    def _foreseen(self, trial: Trial, measured: Sequence[Report]) -> Report:
        """Return the last report, with what the metric comes to in the end where that is due."""
        report = measured[-1]
        if not self.objectives:
            return report
        metric = self.objectives[0].metric
        step = round(report.fidelity * self.whole)
        curve = {round(one.fidelity * self.whole): one.metrics[metric] for one in measured if metric in one.metrics}
        curve.pop(0, None)
        is_last = report.fidelity >= trial.candidate.fidelity
        is_due = step in curve and step % (self.every or ceil(self.whole / 10)) == 0 and len(curve) >= self.first
        if is_last or not is_due or not all(map(isfinite, curve.values())):
            return report
        foreseen = self._extrapolated(list(curve), list(curve.values()), trial.seed)
        return Report({**report.metrics, **foreseen}, report.fidelity, report.gradients)

    def _extrapolated(self, steps: Sequence[int], values: Sequence[float], seed: int) -> dict[str, float]:
        """Return the metrics that say what the curve comes to; none where that cannot be said."""
        from automl_evaluators.curve_model import Sampling, extrapolate

        sign = 1.0 if self.objectives[0].goal == "max" else -1.0
        scores = [sign * value for value in values]
        shift = 0.0 if min(scores) >= 0 else 1.0  # so that the curve rises within [0, 1]
        if not all(0 <= score + shift <= 1 for score in scores):
            self._warn(values)
            return {}
        sampling = Sampling(self.walkers, self.samples, self.burn_in, self.thinning)
        shares = [score + shift for score in scores]
        prediction = extrapolate(steps, shares, self.whole, (seed, len(shares)), sampling, self.ceiling)
        if prediction is None or not 0 <= prediction.mean <= 1:
            return {}
        return {
            "predicted": sign * (prediction.mean - shift),
            "predicted_std": prediction.std,
            "predicted_bound": sign * (prediction.bound(self.threshold) - shift),
        }

    def _warn(self, values: Sequence[float]) -> None:
        if not self._warned:
            self._warned = True
            log.warning(
                "evaluator=curve extrapolates shares, between 0 and 1, but %s was between %g and %g: "
                "such trials are trained to their end",
                self.objectives[0].metric,
                min(values),
                max(values),
            )

    def _refuse_schedules(self) -> None:
        for inner in self.within():
            if isinstance(inner, Curve):
                raise BadInput("evaluator=curve is around evaluator.inner=curve: leave one out")
            if isinstance(inner, Schedule):
                raise BadInput(
                    f"evaluator=curve is around evaluator.inner={inner.name}, whose promotions rest on what was "
                    f"measured, not predicted: type evaluator={inner.name} evaluator/inner=curve"
                )


class Terminating(Around):
    """Ends trials whose predicted bound is worse than a trial that was told in full; else the inner strategy decides.

    The inner strategy is told of an ended trial as if it had come to what was expected of it.
    """

    def __init__(
        self,
        inner: Strategy,
        objectives: Sequence[Objective],
        limits: Sequence[Limit] = (),
        certain: float | None = None,
    ) -> None:
        super().__init__(inner)
        self.objectives = objectives
        self.limits = limits
        self.certain = certain

    def start(self, space: Space[Any], rng: Random) -> None:
        super().start(space, rng)
        self.full: list[tuple[float, ...]] = []  # the scores of trials trained in full; no other is as good in all

    def keep(self, trial: Trial) -> bool:
        return super().keep(trial) and not (self.full and self._is_hopeless(trial))

    def tell(self, trial: Trial) -> None:
        if trial.is_scored and not trial.violation and trial.fidelity > 1 - 1e-9:
            self._note(trial.scores)
        super().tell(self._expected(trial))

    def _is_hopeless(self, trial: Trial) -> bool:
        """Say whether a trial that was told in full is better than this one was and will hardly not be."""
        metrics = trial.metrics
        if "predicted_bound" not in metrics or not all(
            name in metrics for one in self.objectives for name in one.metrics
        ):
            return False
        first, *others = self.objectives
        reports = chain.from_iterable(one.reports for one in (*_ancestors(trial), trial))
        seen = [report.metrics[first.metric] for report in reports if first.metric in report.metrics]
        reached = max(first.score({**metrics, first.metric: value}) for value in seen)
        bound = first.score({**metrics, first.metric: metrics["predicted_bound"]})
        rest = [one.score(metrics) for one in others]
        sure = self.certain is not None and metrics["predicted_std"] < self.certain
        return any(full[0] >= reached and (full[0] > bound or sure) and _as_good(full[1:], rest) for full in self.full)

    def _note(self, scores: tuple[float, ...]) -> None:
        if not any(_as_good(full, scores) for full in self.full):
            self.full = [full for full in self.full if not _as_good(scores, full)] + [scores]

    def _expected(self, trial: Trial) -> Trial:
        """Return the trial as it would have ended, where it was ended before."""
        ended = trial.is_scored and trial.fidelity < trial.candidate.fidelity - 1e-9
        if not ended or "predicted" not in trial.metrics:
            return trial
        expected = Trial(trial.number, trial.candidate, trial.seed)
        expected.parent, expected.began, expected.ended = trial.parent, trial.began, trial.ended
        metrics = {**trial.metrics, self.objectives[0].metric: trial.metrics["predicted"]}
        expected.reports = [*trial.reports, Report(metrics, 1.0)]
        expected.judge(self.objectives, self.limits)
        return expected


def _ancestors(trial: Trial) -> list[Trial]:
    """Return the trials that this one goes on from, the first first."""
    found: list[Trial] = []
    before = trial.continued
    while before is not None:
        found.insert(0, before)
        before = before.continued
    return found


def _as_good(scores: Sequence[float], others: Sequence[float]) -> bool:
    return all(score >= other for score, other in zip(scores, others, strict=True))

"""How a study stands at one moment: what a tracker reads while the study goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from automl import pareto
from automl.trial import NOTHING, Limit, Objective, Report, Trial, best, evaluations, records

if TYPE_CHECKING:
    from automl.study import Study


class First(Sequence[Trial]):
    """The first so many of a list of trials that only grows: a copy that costs nothing."""

    def __init__(self, trials: Sequence[Trial], count: int) -> None:
        self._trials = trials
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> Trial: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Trial]: ...

    def __getitem__(self, place: int | slice) -> Trial | Sequence[Trial]:
        if isinstance(place, slice):
            return [self._trials[index] for index in range(*place.indices(self._count))]
        if not -self._count <= place < self._count:
            raise IndexError(place)
        return self._trials[place % self._count]


class Told:
    """Who has trials that were told, in the order of telling, and can be asked what came of them."""

    trials: Sequence[Trial]
    objectives: tuple[Objective, ...]

    @property
    def best(self) -> Trial | None:
        """The best trial so far; None where none has finished."""
        return best(self.trials)

    @property
    def front(self) -> list[Trial]:
        """The trials that none dominates in the objectives."""
        return pareto.front(self.trials, self.objectives)

    @property
    def evaluations(self) -> float:
        """What the trials cost, in full evaluations."""
        return evaluations(self.trials)

    @property
    def failed(self) -> list[Trial]:
        """The trials that failed, in the order of telling."""
        return [trial for trial in self.trials if trial.error is not None]

    def to_records(self) -> list[dict[str, Any]]:
        """Return one flat record a trial: its number, state, metrics, and decisions by name."""
        return records(self.trials)


@dataclass(frozen=True)
class Standing(Told):
    """What a study was at an event; it has the names that a study has, and does not change.

    ``config`` is the config as it was composed, its interpolations not resolved, so that it carries no secrets.
    """

    trials: Sequence[Trial]  # told, in the order of telling
    objectives: tuple[Objective, ...]
    limits: tuple[Limit, ...]
    total: int
    seed: int
    directory: Path | None = None
    duplicates: int = 0
    ending: str | None = None
    summary: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    config: Mapping[str, Any] = field(default_factory=lambda: NOTHING)

    @classmethod
    def of(cls, study: Study) -> Standing:
        """Return how a study stands now."""
        return cls(
            First(study.trials, len(study.trials)),
            study.objectives,
            study.limits,
            study.total,
            study.seed,
            study.directory,
            study.duplicates,
            study.ending,
            study.summary,
            study.config,
        )


def still(trial: Trial) -> Trial:
    """Return a running trial as it is now; its gradients are left out."""
    copy = Trial(trial.number, trial.candidate, trial.seed)
    copy.reports = [Report(report.metrics, report.fidelity) for report in trial.reports]
    copy.parent, copy.began, copy.ended = trial.parent, trial.began, trial.ended
    return copy

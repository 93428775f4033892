"""What the multi-fidelity schedules share: the rungs, cut from the schedule of the evaluator within."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar

from annotated_types import Ge

from automl import Architecture, BadInput, Evaluator, Space, Strategy, Task, Wrapper
from automl_evaluators.brackets import Bracket, ladder

log = logging.getLogger("automl")


@dataclass
class Schedule(Wrapper):
    """Train many for a little and few for long: ``resource`` steps (epochs) at most, ``lowest`` at least.

    A rung has about ``eta`` times the steps of the one below, and the last has exactly ``resource``: all steps of
    the evaluator within where it is null. A candidate's fidelity is its rung's share of those.
    """

    name: ClassVar[str]

    inner: Evaluator
    resource: Annotated[int, Ge(1)] | None = None
    eta: Annotated[int, Ge(2)] = 3
    lowest: Annotated[int, Ge(1)] = 1

    def start(self, space: Space[Any], task: Task) -> None:
        super().start(space, task)
        self._refuse_two_schedules()
        whole = self.inner.steps()
        if whole is None and space.finishes:
            raise BadInput(
                f"evaluator={self.name} goes on with the trials that did well, and what a compressor made is judged as "
                "it is, without an epoch of fine-tuning to go on with: type evaluator.inner.tuning=9"
            )
        if whole is None:
            raise BadInput(
                f"evaluator={self.name} goes on with the trials that did well, but what its inner evaluator, "
                f"{type(self.inner).__name__}, evaluates is whole and cannot be gone on with: type "
                "evaluator/inner=training, or evaluator/inner=tabular evaluator.inner.table=spikenas"
            )
        if self.resource is not None and self.resource > whole:
            raise BadInput(
                f"evaluator.resource={self.resource} is more than the {whole} steps of the inner evaluator: "
                f"give at most {whole}"
            )
        self.whole: int = whole
        resource = self.resource or whole
        if self.lowest > resource:
            raise BadInput(
                f"evaluator.lowest={self.lowest} is more than the {resource} steps of the highest rung: "
                f"give at most {resource}"
            )
        self.ladder = ladder(resource, self.eta, self.lowest)

    @abstractmethod
    def brackets(self) -> Sequence[Bracket]:
        """Return the brackets of one pass, in order."""

    @abstractmethod
    def promoting(self, strategy: Strategy) -> Strategy:
        """Return the strategy around that one which follows the brackets."""

    def schedule(self, strategy: Strategy) -> Strategy:
        settings = [(field.name, getattr(self, field.name)) for field in fields(self) if field.name != "inner"]
        log.info(
            "%s (%s), configurations@steps: %s",
            self.name,
            ", ".join(f"{name}={'null' if value is None else value}" for name, value in settings),
            "; ".join(" ".join(map(str, bracket)) for bracket in self.brackets()),
        )
        return self.promoting(self.inner.schedule(strategy))

    def estimate(self, architecture: Architecture) -> float | None:
        """Return the seconds of a mean trial of a pass, where a promotion pays for the steps beyond its parent's."""
        seconds = self.inner.estimate(architecture)
        trials, steps = 0, 0
        for bracket in self.brackets():
            before = 0
            for rung in bracket:
                trials += rung.size
                steps += rung.size * (rung.steps - before)
                before = rung.steps
        return None if seconds is None else seconds * steps / (trials * self.whole)

    def _refuse_two_schedules(self) -> None:
        for inner in self.within():
            if isinstance(inner, Schedule):
                raise BadInput(
                    f"evaluator={self.name} is around evaluator.inner={inner.name}, and only one of them can say how "
                    f"far a candidate is trained: leave one out"
                )

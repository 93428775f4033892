"""Children that begin with the weights of a parent, so that a few epochs are enough to judge them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Annotated, Any

from annotated_types import Ge

from automl import Architecture, BadInput, Candidate, Evaluator, Report, Space, Strategy, Task, Trial, Wrapper
from automl.files import remove_folder
from automl.pareto import ranked
from automl.strategy import Around
from automl_evaluators.promoting import goes_on
from automl_evaluators.training import Training


@dataclass
class Morphism(Wrapper):
    """Train each candidate from the weights of a parent, not from scratch (Elsken et al., 2018; Real et al., 2017).

    The parent is one of the ``parents`` best trials so far: that which the space says is nearest (``Space.kinship``),
    the best of those as near. It is whatever the strategy's, so that `strategy=evolution` on the space `morphisms` is a
    Lamarckian evolution and `strategy=reinforce` there is EAS (Cai et al., 2018).

    Networks of `morphisms` begin by computing what their parent does; ``noise`` is how much the copies that make a
    layer wider differ, as a share of the weights' deviation, for exact copies would learn alike for ever. In other
    spaces those tensors are taken over that have the name (decision, operation, place) and the shape that they had in
    the parent. The schedule of the training is then begun anew, the learning rate included (warm restart).

    Metrics, besides those of the evaluator within: inherited, the share of the parameters that were the parent's;
    morphism_error, how far an output was from the parent's before training; lineage_epochs, the epochs trained in
    all, those of the ancestors included. A child is cheap because they paid: compare networks by these too.
    """

    inner: Evaluator
    parents: Annotated[int, Ge(1)] = 20
    noise: Annotated[float, Ge(0)] = 0.01

    def start(self, space: Space[Any], task: Task) -> None:
        super().start(space, task)
        within = [*self.within()]
        for inner in within:
            if isinstance(inner, Morphism):
                raise BadInput("evaluator=morphism is around evaluator.inner=morphism: leave one out")
        training = within[-1]
        if not isinstance(training, Training):
            raise BadInput(
                f"evaluator=morphism hands weights down, and its inner evaluator, {type(training).__name__}, keeps "
                "none: type evaluator/inner=training"
            )
        if space.finishes:
            raise BadInput(
                "evaluator=morphism has networks begin with the weights of others, and those that a compressor makes "
                "have the weights of the network that they are made of: type evaluator=training"
            )
        training.hand_down(self.noise)

    def metrics(self) -> frozenset[str] | None:
        inner = self.inner.metrics()
        return None if inner is None else inner | {"inherited", "morphism_error", "lineage_epochs"}

    def evaluate(self, trial: Trial) -> Iterator[Report]:
        epochs, parent, before = self.steps() or 0, trial.parent, 0.0
        for report in self.inner.evaluate(trial):
            if parent is not None and parent is trial.continued:
                before = parent.metrics["lineage_epochs"] - parent.fidelity * epochs
            elif parent is not None and report.metrics["inherited"]:
                before = parent.metrics["lineage_epochs"]
            yield replace(report, metrics={**report.metrics, "lineage_epochs": before + report.fidelity * epochs})

    def schedule(self, strategy: Strategy) -> Strategy:
        return Descending(self.inner.schedule(strategy), self.key, self.parents, self.folder)


class Descending(Around):
    """Gives a strategy's candidates parents among the best trials so far.

    The weights of trials that are not among them any more, and of no child that is being evaluated, are deleted. Those
    of trials that were trained in part are left, for they may be gone on with.
    """

    def __init__(
        self, inner: Strategy, key: Callable[[Architecture], Hashable | None], most: int, folder: Path | None
    ) -> None:
        super().__init__(inner)
        self.key = key
        self.most = most
        self.folder = folder

    def start(self, space: Space[Any], rng: Random) -> None:
        super().start(space, rng)
        self._best: list[Trial] = []  # whose weights are kept, the best first
        self._told: set[int] = set()
        self._given: dict[Hashable, int | None] = {}  # the parent by what is known of an architecture
        self._running: Counter[int | None] = Counter()  # children by parent
        self._dropped: set[int] = set()  # trials that are not among the best, and have children that are running

    def ask(self) -> Candidate | None:
        candidate = super().ask()
        if candidate is not None and candidate.parent is None:
            candidate = replace(candidate, parent=self._parent(candidate.architecture))
        if candidate is not None:
            self._running[candidate.parent] += 1
        return candidate

    def tell(self, trial: Trial) -> None:
        self._running[trial.candidate.parent] -= 1
        if trial.number not in self._told:
            self._told.add(trial.number)
            if goes_on(trial):
                self._take(trial)
        for number in [number for number in self._dropped if not self._running[number]]:
            self._dropped.remove(number)
            if self.folder is not None:
                remove_folder(self.folder / str(number))
        super().tell(trial)

    def _parent(self, architecture: Architecture) -> int | None:
        """Return the nearest of the best trials; of an architecture that was met before, what was its parent then."""
        key = self.key(architecture)
        if key in self._given:
            return self._given[key]
        kin = {trial.number: self.space.kinship(architecture, trial.architecture) or 0.0 for trial in self._best}
        near = {number: kinship for number, kinship in kin.items() if kinship}
        parent = max(near, key=near.__getitem__, default=None)  # the best of those as near
        if key is not None:
            self._given[key] = parent
        return parent

    def _take(self, trial: Trial) -> None:
        *kept, last = ranked([*self._best, trial])
        if len(kept) < self.most:
            kept.append(last)
        elif last.candidate.fidelity == 1.0:
            self._dropped.add(last.number)
        self._best = kept

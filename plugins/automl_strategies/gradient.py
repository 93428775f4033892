"""What strategies share that weigh all options at once and climb the gradients of the weights."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Annotated, Any, ClassVar, NamedTuple

from annotated_types import Ge, Gt, Lt

from automl import Architecture, Candidate, Op, Options, Space, Strategy, Trial
from automl.decisions import MISFIT, Soft, takes_soft
from automl_strategies.adam import Adam
from automl_strategies.collapse import Watch, figures

NOTHING = "none"  # the operation that carries nothing is never derived


class Weighed(NamedTuple):
    """The weights of a decision's options, and how they follow from its logits: as softmax(scale x logits + ...)."""

    weights: tuple[float, ...]
    shares: Sequence[float]
    scale: float = 1.0


@dataclass
class Gradient(Strategy):
    """A logit for each option of each decision between operations, climbed by Adam; derived classes say how.

    Decisions of other kinds, of which not all options can be had at once, are drawn by their logits and learnt from by
    the score function: the logarithm of the probability times how much better the loss is than its moving average
    (Williams, 1992). Where options are sets of something, all of it is taken, and derived is the set whose members
    have the strongest operations.

    What is derived has, for each decision, the option of the largest weight, but never "none". The notes of each
    candidate tell the mean ``entropy`` of the shares of the options, over its maximum, and the share of ``skips`` among
    the derived operations; every ``look`` trials (0: never) they have all shares. Where skips are more than ``alarm``,
    or the curvature that the evaluator may report has grown by more than ``growth``, a warning says that the search has
    collapsed (``collapse.Watch``), and with ``guard`` it ends at the last architecture that was sound.
    """

    several: ClassVar[bool] = False
    gradients: ClassVar[bool] = True
    stateful: ClassVar[bool] = True
    part: ClassVar[int] = 1  # of the channels, 1 / part goes through the operations

    learning_rate: Annotated[float, Gt(0)] = 3e-4
    weight_decay: Annotated[float, Ge(0)] = 1e-3
    deviation: Annotated[float, Ge(0)] = 1e-3  # of the logits at first
    look: Annotated[int, Ge(0)] = 50
    alarm: Annotated[float, Gt(0), Lt(1)] = 0.5
    growth: Annotated[float, Gt(1)] | None = 1.333
    guard: bool = False

    def start(self, space: Space[Any], rng: Random) -> None:
        super().start(space, rng)
        self.logits: dict[str, list[float]] = {}
        self.running: dict[int, dict[str, Weighed]] = {}  # by the identity of the architecture
        self.adam = Adam(self.learning_rate, (0.5, 0.999), self.weight_decay)
        self.average: float | None = None  # of the loss, for what is drawn
        self.asked = 0
        self.watch = Watch(self.alarm, self.growth)
        self._known_members: dict[str, dict[Any, list[str]]] = {}  # by set and member, the decisions that are its
        self._operations: dict[str, Sequence[Op]] = {}  # by soft decision, its options

    # asking

    def ask(self) -> Candidate | None:
        if self.watch.collapsed and self.guard:
            return None
        weighed: dict[str, Weighed] = {}

        def relax(name: str, domain: Any) -> Any:
            if not isinstance(domain, Options):
                return domain.sample(self.rng.random)
            if domain.together is not None:
                return domain.together
            if takes_soft(domain):
                logits = self._logits_of(name, domain.count)
                weighed[name] = self.weigh(name, logits)
                self._operations[name] = domain.options
                return Soft(weighed[name].weights, self.part)
            logits = self._logits_of(self._drawn(name, domain.count), domain.count)
            return self.rng.choices(domain.options, softmax(logits))[0]

        relaxed = self.space.make(relax)
        child = self._derived(relaxed.values, {name: self.strength(name) for name in weighed})
        architecture = Architecture(child.values, child.domains, relaxed.blueprint, weights=relaxed.weights)
        self.asked += 1
        self.running[id(architecture)] = weighed
        return Candidate(architecture, notes={**self.how(), **self._seen(child, weighed)})

    @abstractmethod
    def weigh(self, name: str, logits: Sequence[float]) -> Weighed:
        """Return the weights of a decision's options, by their logits and, where they are drawn, by ``rng``."""

    def slopes(
        self, weighed: Mapping[str, Weighed], gradients: Mapping[str, Sequence[float]]
    ) -> dict[str, Sequence[float]]:
        """Return the gradients of the logits, given those of the weights."""
        return {name: through_softmax(weighed[name], gradient) for name, gradient in gradients.items()}

    def how(self) -> Mapping[str, Any]:
        """Return the notes that tell the evaluator how gradients are to be taken."""
        return {"order": "first"}

    def strength(self, name: str) -> list[float]:
        """Return how strong each option of a decision is, by which networks are derived."""
        return softmax(self.logits[name])

    # telling

    def tell(self, trial: Trial) -> None:
        weighed = self.running.pop(id(trial.architecture), {})
        if trial.error is not None or not trial.reports:
            return
        report = trial.reports[-1]
        slopes = self.slopes(weighed, report.gradients)
        loss = report.metrics.get("loss", -trial.score)
        if self.average is not None:
            for name, domain in trial.architecture.domains.items():
                drawn = name if domain.count is None else self._drawn(name, domain.count)
                if drawn in self.logits and name not in weighed:
                    chosen = domain.options.index(trial.architecture.values[name])
                    shares = softmax(self.logits[drawn])
                    advantage = loss - self.average
                    slopes[drawn] = [advantage * ((place == chosen) - share) for place, share in enumerate(shares)]
        self.average = loss if self.average is None else 0.95 * self.average + 0.05 * loss
        self.adam.step(self.logits, slopes)
        if not self.watch.collapsed:
            self.watch.see(trial)
            if self.watch.collapsed:
                self.watch.warn(self.guard)

    def recommend(self, trials: Sequence[Trial]) -> Architecture:
        """Return what is derived now, or what was before a collapse where the search is guarded."""
        told = [trial for trial in trials if trial.error is None]
        if not told:
            return super().recommend(trials)
        if self.watch.collapsed and self.guard and self.watch.sound is not None:
            return self.space.read(self.watch.sound.to_json())
        return self.space.read(told[-1].architecture.to_json())

    # deriving

    def _derived(self, values: Mapping[str, Any], strengths: Mapping[str, Sequence[float]]) -> Architecture:
        """Return the network of the strongest options; what was drawn is kept."""

        def derive(name: str, domain: Any) -> Any:
            if name in strengths:
                return domain.options[_strongest(domain, strengths[name])]
            if isinstance(domain, Options) and domain.together is not None:
                return self._strongest_set(name, domain, values, strengths)
            drawn = domain.fit(values[name]) if name in values else MISFIT
            return domain.sample(self.rng.random) if drawn is MISFIT else drawn

        return self.space.make(derive)

    def _strongest_set(
        self, name: str, domain: Options[Any], values: Mapping[str, Any], strengths: Mapping[str, Sequence[float]]
    ) -> Any:
        """Return the option whose members have the strongest operations.

        A member's are the decisions that are made only where it is in the set.
        """
        members = self._members(name, domain, values)
        best = {
            member: max(
                (
                    share
                    for one in names
                    for share, op in zip(strengths[one], self._operations[one], strict=True)
                    if op.name != NOTHING
                ),
                default=0.0,
            )
            for member, names in members.items()
        }
        return max(domain.options, key=lambda option: sum(best[member] for member in option))

    def _members(self, name: str, domain: Options[Any], values: Mapping[str, Any]) -> dict[Any, list[str]]:
        """Return the soft decisions that belong to each member of a set, found once by leaving each out."""
        if name not in self._known_members:

            def names_with(kept: tuple[Any, ...]) -> dict[str, Any]:
                def follow(other: str, options: Any) -> Any:
                    if other == name:
                        return kept
                    if isinstance(options, Options) and options.together is not None:
                        return options.together
                    return options.options[0] if other not in values else values[other]

                made = self.space.make(follow)
                return {one: options for one, options in made.domains.items() if takes_soft(options)}

            together: tuple[Any, ...] = domain.together or ()
            whole = names_with(together)
            self._known_members[name] = {
                member: [
                    one for one in whole if one not in names_with(tuple(other for other in together if other != member))
                ]
                for member in together
            }
        return self._known_members[name]

    def _seen(self, child: Architecture, weighed: Mapping[str, Weighed]) -> dict[str, Any]:
        """Return the figures that are watched, and now and then all shares."""
        shares = {name: softmax(self.logits[name]) for name in weighed}
        seen: dict[str, Any] = figures(shares.values(), child)
        if self.look and (self.asked - 1) % self.look == 0:
            seen["shares"] = {
                name: {op.name: round(one, 4) for op, one in zip(self._operations[name], share, strict=True)}
                for name, share in shares.items()
            }
        return seen

    def _drawn(self, name: str, count: int) -> str:
        """Return the name of a drawn decision's logits: it has others where it has other options, as others decide."""
        return name if len(self.logits.get(name, ())) in (0, count) else f"{name}/{count}"

    def _logits_of(self, name: str, count: int) -> list[float]:
        if name not in self.logits:
            self.logits[name] = [self.rng.gauss(0.0, self.deviation) for _ in range(count)]
        return self.logits[name]

    # going on

    def state(self) -> Mapping[str, Any]:
        return {
            "logits": self.logits,
            "adam": self.adam.state(),
            "average": self.average,
            "asked": self.asked,
        }

    def restore(self, state: Mapping[str, Any], trials: Sequence[Trial]) -> None:
        self.logits = {name: list(logits) for name, logits in state["logits"].items()}
        self.adam.restore(state["adam"])
        self.average, self.asked = state["average"], state["asked"]
        for trial in trials:
            self.watch.see(trial)
        if self.watch.collapsed:
            self.watch.warn(self.guard)


def softmax(logits: Sequence[float]) -> list[float]:
    """Return the shares that logits stand for."""
    highest = max(logits)
    powers = [math.exp(logit - highest) for logit in logits]
    total = sum(powers)
    return [power / total for power in powers]


def through_softmax(weighed: Weighed, gradient: Sequence[float]) -> list[float]:
    """Return the gradient of the logits, given that of the shares."""
    mean = sum(share * one for share, one in zip(weighed.shares, gradient, strict=True))
    return [weighed.scale * share * (one - mean) for share, one in zip(weighed.shares, gradient, strict=True)]


def _strongest(domain: Options[Op], shares: Sequence[float]) -> int:
    """Return the place of the largest share, the first of equals, "none" aside where there is another."""
    places = [place for place, op in enumerate(domain.options) if op.name != NOTHING] or range(domain.count)
    return max(places, key=lambda place: shares[place])

"""Bayesian optimisation by a Gaussian process over encodings of architectures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Annotated, Any

import numpy
from annotated_types import Ge
from scipy.special import ndtri

from automl import Architecture, BadInput, Candidate, Options, Space, Strategy, Trial, Worth
from automl.errors import near_miss
from automl_strategies.encodings import ENCODINGS, Array, Columns, Encoder, Features, scaled, unscaled
from automl_strategies.expected_improvement import log_expected_improvement
from automl_strategies.gaussian_process import GaussianProcess

_PARENTS = 10  # the best so many are mutated
_TRIES = 100  # draws for an architecture that is new
_GROWTH = 1.1  # by so much the points grow before the model's parameters are chosen again
_SHARE = 0.05  # of the sum of all objectives, beside the worst of them (Knowles, 2006)


@dataclass
class GP(Strategy):
    """A Gaussian process over encodings of an architecture, and expected improvement (BANANAS: White et al., 2021).

    The first ``startup`` trials are drawn at random. Then the model is asked about ``candidates`` new architectures,
    a third of them drawn at random and the others the best with one or two decisions changed, and that with the
    largest expected improvement is evaluated; what is running counts as what it is expected to come to ("kriging
    believer": Ginsbourger et al., 2010). ``encodings`` says what the model sees: the ``options`` and ``numbers``
    decided on, the ``counts`` of options, and where the space is of graphs the ``operations`` that lead somewhere and
    the ``paths``; what each is worth the model finds out.

    It models the largest fidelity with at least ``startup`` trials. An ask takes time cubic in the trials modelled,
    at most ``points`` of them: the best half, and of the others those that came last. Several objectives are
    weighed anew in each ask (ParEGO: Knowles, 2006).
    """

    startup: Annotated[int, Ge(1)] = 5
    candidates: Annotated[int, Ge(1)] = 300
    points: Annotated[int, Ge(2)] = 300
    encodings: tuple[str, ...] = ENCODINGS

    def __post_init__(self) -> None:
        for name in self.encodings:
            if name not in ENCODINGS:
                raise BadInput(
                    f"strategy.encodings has {name!r}, which is no encoding{near_miss(name, ENCODINGS)}: "
                    f"choose among {', '.join(ENCODINGS)}"
                )

    def start(self, space: Space[Any], rng: Random) -> None:
        super().start(space, rng)
        self.encoder = Encoder(space, self.encodings)
        if not self.encoder.names:
            raise BadInput(
                f"strategy.encodings={list(self.encodings)} leaves nothing to see of {type(space).__name__}, which "
                "is no space of graphs: add options or counts"
            )
        self.shown: list[int] = []  # the places of the encodings that any of the trials modelled has features of
        self.model = GaussianProcess()
        self.fitted = 0  # trials there were when the model's parameters were chosen
        self.rungs: dict[float, dict[Architecture, Trial]] = {}  # by fidelity
        self.outcasts: dict[Architecture, Trial] = {}  # failed or rejected: of no fidelity, and of them all
        self.running: list[Architecture] = []
        self.met: set[Any] = set()  # told or running, as they are and by their canonical form

    def ask(self) -> Candidate:
        told = self._modelled()
        architecture = self._drawn() if len(told) < self.startup else self._chosen(told)
        self.running.append(architecture)
        self._meet(architecture)
        return Candidate(architecture)

    def tell(self, trial: Trial) -> None:
        if trial.architecture in self.running:
            self.running.remove(trial.architecture)
        self._meet(trial.architecture)
        if trial.error is not None or not trial.scores:
            self.outcasts[trial.architecture] = trial
        else:
            self.rungs.setdefault(trial.fidelity, {})[trial.architecture] = trial

    def _modelled(self) -> Sequence[Trial]:
        """Return the trials of the largest fidelity with enough of them, else of that with most, and the outcasts."""
        enough = [fidelity for fidelity, told in self.rungs.items() if len(told) >= self.startup]
        rung = self.rungs[max(enough)] if enough else max(self.rungs.values(), key=len, default={})
        return list({**self.outcasts, **rung}.values())

    def _drawn(self) -> Architecture:
        """Draw an architecture at random, a new one where there is one at hand."""
        for _ in range(_TRIES):
            architecture = self.space.sample(self.rng)
            if self._is_new(architecture):
                break
        return architecture

    def _chosen(self, told: Sequence[Trial]) -> Architecture:
        """Return the candidate of the largest expected improvement, a new one where there is one at hand."""
        worths = _worths(told, self.rng)
        order = sorted(range(len(told)), key=lambda place: (-worths[place], told[place].number))
        if len(order) > self.points:
            half = self.points // 2
            last = sorted(order[half:], key=lambda place: told[place].number)[half - self.points :]
            order = order[:half] + last
        points = [told[place].architecture for place in order]
        pool = list(dict.fromkeys(self._proposals(points[:_PARENTS])))
        if pool and any(map(any, self.encoder(points[0]))):
            self._learn(points, standardised(numpy.array([worths[place] for place in order])), len(told))
            for place in numpy.argsort(-self._improvement(pool), kind="stable"):
                architecture: Architecture = pool[place]
                if self._is_new(architecture):
                    return architecture
        return self._drawn()

    def _proposals(self, parents: Sequence[Architecture]) -> Iterator[Architecture]:
        """Yield architectures that were not met, drawn at random and mutated from the parents by one and by two."""
        space, rng = self.space, self.rng
        for number in range(self.candidates):
            if number % 3 == 0:
                architecture = space.sample(rng)
            else:
                architecture = self._changed(parents[int(rng.random() * len(parents))], number % 3)
            if architecture not in self.met:
                yield architecture

    def _changed(self, architecture: Architecture, count: int) -> Architecture:
        """Change so many decisions, or where there are numbers every other time take small steps with some of them."""
        rng, domains = self.rng, architecture.domains
        free = [name for name, domain in domains.items() if domain.count != 1]
        numbers = [name for name in free if not isinstance(domains[name], Options)]
        if not numbers or rng.random() < 0.5:
            return self.space.mutate(architecture, rng, rng.sample(free, min(count, len(free))))
        values = dict(architecture.values)
        size = 10 ** -rng.uniform(0.5, 2.5)  # of the interval: far, or near to refine
        always = numbers[int(rng.random() * len(numbers))]
        for name in numbers:
            domain = domains[name]
            if not isinstance(domain, Options) and (name == always or rng.random() < 0.5):
                values[name] = unscaled(domain, scaled(domain, values[name]) + rng.gauss(0, size))
        return self.space.complete(values, rng)

    def _learn(self, points: Sequence[Architecture], targets: Array, told: int) -> None:
        """Condition the model on the points, and on what runs as if it came to what the model expects of it."""
        encoded = list(zip(*map(self.encoder, points), strict=True))
        shown = [place for place, features in enumerate(encoded) if any(features)]
        if shown != self.shown:
            self.shown, self.model, self.fitted = shown, GaussianProcess(), 0
        self.columns = [Columns(encoded[place]) for place in shown]
        squares = [columns.squares() for columns in self.columns]
        if not self.fitted <= told < self.fitted * _GROWTH:  # fewer: of a larger fidelity
            self.model.fit(squares, targets)
            self.fitted = told
        self.model.condition(squares, targets)
        self.best = float(targets.max())
        known = set(points)
        running = [architecture for architecture in self.running if architecture not in known]
        if running:
            believed, _ = self.model.predict(self._squares(running))
            self.columns = [Columns(features) for features in self._encoded([*points, *running])]
            self.model.condition(
                [columns.squares() for columns in self.columns], numpy.concatenate([targets, believed])
            )

    def _improvement(self, pool: Sequence[Architecture]) -> Array:
        mean, deviation = self.model.predict(self._squares(pool))
        return log_expected_improvement(mean, deviation, self.best)

    def _squares(self, architectures: Sequence[Architecture]) -> list[Array]:
        encoded = self._encoded(architectures)
        return [columns.squares(features) for columns, features in zip(self.columns, encoded, strict=True)]

    def _encoded(self, architectures: Sequence[Architecture]) -> list[tuple[Features, ...]]:
        """Return the features of all architectures, by those encodings that are shown."""
        encoded = [self.encoder(architecture) for architecture in architectures]
        return [tuple([one[place] for one in encoded]) for place in self.shown]

    def _meet(self, architecture: Architecture) -> None:
        self.met.add(architecture)
        self.met.add(self._form(architecture))

    def _is_new(self, architecture: Architecture) -> bool:
        return architecture not in self.met and self._form(architecture) not in self.met

    def _form(self, architecture: Architecture) -> Any:
        form = self.space.canonical(architecture.blueprint)
        return architecture if form is None else ("form", form)


def standardised(worths: Array) -> Array:
    """Return the targets as normal scores: what a normal number of the same rank would be, equals alike; variance 1.

    So the failed, and the hopeless, do not hide what tells the good ones apart, and it makes no difference whether
    accuracy is searched by, or error, or the logarithm of either (Gaussian copula: Salinas et al., 2020).
    """
    order = numpy.sort(worths)
    ranks = (numpy.searchsorted(order, worths, "left") + numpy.searchsorted(order, worths, "right")) / 2
    scores: Array = ndtri(ranks / len(worths))
    scores -= scores.mean()
    return scores / (scores.std() or 1.0)


def _worths(told: Sequence[Trial], rng: Random) -> list[float]:
    """Return one number a trial, higher better; of several objectives by weights drawn anew."""
    count = max(len(trial.scores) for trial in told)
    if count > 1:
        told = _weighed(told, [rng.expovariate(1.0) for _ in range(count)])
    worth = Worth()
    for trial in told:
        worth.see(trial)
    return [worth.of(trial) for trial in told]


def _weighed(told: Sequence[Trial], weights: Sequence[float]) -> list[Trial]:
    """Return the trials with one score each: the augmented Chebyshev norm of how far they are from the best of each."""
    legal = numpy.array([trial.scores for trial in told if trial.error is None and not trial.violation], float)
    if not len(legal):
        return list(told)
    high = legal.max(axis=0)
    spread = high - legal.min(axis=0)
    spread[spread == 0] = 1.0
    shares = numpy.array(weights) / sum(weights)
    weighed = []
    for trial in told:
        one = Trial(trial.number, trial.candidate, trial.seed)
        one.error, one.violation = trial.error, trial.violation
        if trial.scores:
            short = shares * (high - numpy.array(trial.scores)) / spread
            one.scores = (-float(short.max() + _SHARE * short.sum()),)
        weighed.append(one)
    return weighed

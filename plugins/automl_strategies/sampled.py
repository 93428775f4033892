"""What the strategies by Optuna's samplers share: a sampler answers our decisions, and reads our trials as its own.

Samplers look at a study and its trials; ``Seen`` and ``Observed`` have just what they look at, in memory, because
Optuna's own copy a trial for each decision. Everything else of Optuna, its loop included, is left out.
"""

from abc import abstractmethod
from collections.abc import Callable, Container
from random import Random
from typing import Any, ClassVar

import numpy
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState

from automl import Architecture, Candidate, Integer, Options, Real, Space, Strategy, Trial

Domain = Real | Integer | Options[Any]
REPEATS = 3  # so many known architectures in a row, and the next is drawn at random
LEGAL: dict[str, float] = {}


class Parameter:
    """A decision under one domain, as a sampler knows it: options are known by their places.

    A decision whose domain depends on others is another parameter under each domain.
    """

    __slots__ = ("distribution", "domain", "name")

    def __init__(self, name: str, domain: Domain, ordered: bool) -> None:
        self.name = name
        self.domain = domain
        self.distribution: BaseDistribution
        if isinstance(domain, Options):
            places = range(domain.count)
            self.distribution = IntDistribution(0, places[-1]) if ordered else CategoricalDistribution(places)
        elif isinstance(domain, Integer):
            self.distribution = IntDistribution(domain.low, domain.high, domain.log)
        else:
            self.distribution = FloatDistribution(domain.low, domain.high, domain.log)

    def holds(self, domain: Domain) -> bool:
        """Say whether that domain is this parameter's."""
        mine = self.domain
        if mine is domain or mine == domain:
            return True
        return isinstance(mine, Options) and isinstance(domain, Options) and mine.options == domain.options

    def place(self, value: Any) -> float:
        """Return what the sampler knows a value by."""
        return self.domain.index(value) if isinstance(self.domain, Options) else value

    def value(self, place: float) -> Any:
        """Return the value that the sampler means, within the domain whatever rounding did."""
        domain = self.domain
        if isinstance(domain, Options):
            return domain.options[int(place)]
        return domain.fit(int(place) if isinstance(domain, Integer) else float(place))


Answers = Callable[[Parameter], float | None]


def by_domain(parameter: Parameter) -> None:
    """Leave a decision to its domain, and so to its prior."""


class Observed:
    """What samplers read of one of Optuna's trials: running, or complete with values and constraints."""

    __slots__ = ("_trial_id", "constraints", "number", "params", "state", "system_attrs", "trial", "values")

    def __init__(self, number: int) -> None:
        self.number = self._trial_id = number
        self.state = TrialState.RUNNING
        self.params: dict[str, float] = {}
        self.system_attrs: dict[str, Any] = {}
        self.values: list[float] = []
        self.constraints = LEGAL
        self.trial: Trial | None = None

    @property
    def value(self) -> float:
        """The first value."""
        return self.values[0]

    def complete(self, trial: Trial) -> None:
        """Take what the trial came to."""
        self.trial = trial
        self.state = TrialState.COMPLETE
        self.values = [float(score) for score in trial.scores]
        if trial.violation > 0:
            self.constraints = {"limits": trial.violation}


class Seen:
    """What samplers read of one of Optuna's studies: the trials to learn from, and how many objectives they have."""

    _study_id = 0

    def __init__(self) -> None:
        self.trials: list[Observed] = []
        self.directions = [StudyDirection.MAXIMIZE]
        self.direction = StudyDirection.MAXIMIZE
        self.asked = Observed(-1)
        self._storage = self

    def _is_multi_objective(self) -> bool:
        return len(self.directions) > 1

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[Observed]:
        return [trial for trial in self.trials if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Keep what a sampler notes of the trial that it is asked for."""
        self.asked.system_attrs[key] = value


class Sampled(Strategy):
    """Decisions made by a sampler of Optuna; derived classes bring it, and say what it sees."""

    ordered: ClassVar[bool] = False  # options are integers by their place, and not categories

    def start(self, space: Space[Any], rng: Random) -> None:
        super().start(space, rng)
        self.study: Any = Seen()  # Any: it stands in for an optuna.Study
        self.asked = 0
        self.repeats = 0  # in a row
        self.running: dict[int, tuple[Architecture, Observed]] = {}  # by the identity of the architecture
        self.numbers: set[int] = set()  # of the trials told
        self.parameters: dict[str, list[Parameter]] = {}  # by decision
        self.shared: dict[str, BaseDistribution] = {}  # the parameters that all told architectures have
        self.groups: list[dict[str, BaseDistribution]] = []  # those that are met together or not at all
        self.met: set[str] = set()
        self._forms: set[frozenset[str]] = set()
        self.generator = self.bring()

    @abstractmethod
    def bring(self) -> numpy.random.RandomState:
        """Make the sampler, and return the generator that it draws from."""

    @abstractmethod
    def draw(self, asked: Observed) -> Answers:
        """Return how the sampler answers, parameter by parameter; None where the domain shall."""

    @abstractmethod
    def learn(self, told: Observed) -> None:
        """Take in what a trial came to."""

    def ask(self) -> Candidate:
        asked = self.study.asked = Observed(self.asked)
        self.asked += 1
        answers: Answers = by_domain
        if self.repeats < REPEATS:
            self.generator.seed(self.rng.getrandbits(32))
            answers = self.draw(asked)
        random = self.rng.random

        def answer(name: str, domain: Domain) -> Any:
            if domain.count == 1:
                return domain.options[0]
            parameter = self.parameter(name, domain)
            place = answers(parameter)
            return domain.sample(random) if place is None else parameter.value(place)

        architecture = self.space.make(answer)
        asked.params = self.places(architecture)
        self.running[id(architecture)] = architecture, asked
        return Candidate(architecture)

    def tell(self, trial: Trial) -> None:
        _, told = self.running.pop(id(trial.architecture), (None, None))
        self.repeats = self.repeats + 1 if trial.number in self.numbers else 0
        self.numbers.add(trial.number)
        if trial.error is not None:
            return
        if told is None:  # gone on with, told once more, or asked for by another
            told = Observed(self.asked)
            self.asked += 1
            told.params = self.places(trial.architecture)
        told.complete(trial)
        if self.several and len(trial.scores) > 1:
            self.study.directions = [StudyDirection.MAXIMIZE] * len(trial.scores)
        self._meet(trial.architecture, told)
        self.learn(told)

    def parameter(self, name: str, domain: Domain) -> Parameter:
        """Return the decision under that domain as the sampler knows it; the first is known by the decision's name."""
        known = self.parameters.setdefault(name, [])
        for parameter in known:
            if parameter.holds(domain):
                return parameter
        known.append(Parameter(f"{name}\0{len(known)}" if known else name, domain, self.ordered))
        return known[-1]

    def places(self, architecture: Architecture) -> dict[str, float]:
        """Return what was decided as the sampler knows it, without what could not be chosen."""
        places = {}
        for name, domain in architecture.domains.items():
            if domain.count != 1:
                parameter = self.parameter(name, domain)
                places[parameter.name] = parameter.place(architecture.values[name])
        return places

    def _meet(self, architecture: Architecture, told: Observed) -> None:
        """Learn from the parameters of an architecture which of them go together."""
        form = frozenset(told.params)
        if form in self._forms:
            return
        first = not self._forms
        self._forms.add(form)
        self.met |= form
        mine: dict[str, BaseDistribution] = {}
        for name, domain in architecture.domains.items():
            if domain.count != 1:
                parameter = self.parameter(name, domain)
                mine[parameter.name] = parameter.distribution
        mine = dict(sorted(mine.items()))
        self.shared = mine if first else {name: self.shared[name] for name in self.shared if name in mine}
        parts = []
        for group in self.groups:
            parts.append({name: group[name] for name in group if name in mine})
            parts.append({name: group[name] for name in group if name not in mine})
            mine = {name: mine[name] for name in mine if name not in group}
        self.groups = [part for part in (*parts, mine) if part]

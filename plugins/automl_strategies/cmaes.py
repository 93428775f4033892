"""CMA-ES: a normal distribution over all decisions at once, moved and shaped by the better half of its samples."""

from dataclasses import dataclass
from importlib.util import find_spec
from random import Random
from typing import Annotated, Any, ClassVar

import numpy
from annotated_types import Ge
from optuna.samplers import CmaEsSampler

from automl import BadInput, Space, Trial, Worth
from automl_strategies.sampled import Answers, Observed, Sampled, by_domain


@dataclass
class CMAES(Sampled):
    """CMA-ES (Hansen, 2016), by Optuna: it sees options by their place, so that it works on every space.

    Decisions that not all architectures share are drawn at random; where fewer turn out to be shared than before,
    it begins anew with those. ``population`` is 4 + 3 ln n for n decisions where it is not given.
    """

    several: ClassVar[bool] = False
    ordered: ClassVar[bool] = True

    startup: Annotated[int, Ge(1)] = 1
    population: Annotated[int, Ge(2)] | None = None

    def __post_init__(self) -> None:
        if find_spec("cmaes") is None:
            raise BadInput(
                "strategy=cmaes needs an optional part that is not installed: pip install 'automl-lightweight[bayes]'"
            )

    def start(self, space: Space[Any], rng: Random) -> None:
        super().start(space, rng)
        self.worth = Worth()

    def bring(self) -> numpy.random.RandomState:
        self.sampler = CmaEsSampler(
            n_startup_trials=0, popsize=self.population, warn_independent_sampling=False, seed=0
        )
        return self.sampler._cma_rng.rng

    def draw(self, asked: Observed) -> Answers:
        trials = self.study.trials
        if len(self.numbers) < self.startup:
            return by_domain
        for told in trials:
            told.values = [self.worth.of(told.trial)]
        drawn = self.sampler.sample_relative(self.study, asked, self.shared)  # type: ignore[arg-type]
        return lambda parameter: drawn.get(parameter.name)

    def tell(self, trial: Trial) -> None:
        self.worth.see(trial)
        before = len(self.shared)
        super().tell(trial)
        if len(self.shared) < before:
            self.study.trials.clear()
            for _, running in self.running.values():
                running.system_attrs.clear()

    def learn(self, told: Observed) -> None:
        trials, notes = self.study.trials, told.system_attrs
        trials.append(told)
        trials.sort(key=lambda one: one.number)
        generation = self.sampler._attr_key_generation
        if f"{self.sampler._attr_key_optimizer}:0" in notes:  # it holds all that was learnt of generations before
            self.study.trials = [one for one in trials if one.system_attrs.get(generation, -1) >= notes[generation]]

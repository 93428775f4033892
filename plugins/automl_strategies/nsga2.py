"""NSGA-II: generations bred from those that none dominates, and of them from the least crowded."""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy
from annotated_types import Ge, Le
from optuna.samplers import NSGAIISampler

from automl_strategies.sampled import Answers, Observed, Sampled, by_domain


@dataclass
class NSGA2(Sampled):
    """NSGA-II (Deb et al., 2002), by Optuna: uniform crossover, mutation by drawing a decision anew.

    Decisions that not all architectures share are drawn anew too. Trials asked for while the last of a generation
    are running still belong to it, so a generation can be larger by the number of workers.
    """

    population: Annotated[int, Ge(2)] = 50
    crossover: Annotated[float, Ge(0), Le(1)] = 0.9
    swapping: Annotated[float, Ge(0), Le(1)] = 0.5
    mutation: Annotated[float, Ge(0), Le(1)] | None = None

    def bring(self) -> numpy.random.RandomState:
        self.sampler = _Sampler(
            population_size=self.population,
            crossover_prob=self.crossover,
            swapping_prob=self.swapping,
            mutation_prob=self.mutation,
            seed=0,
        )
        return self.sampler._rng.rng

    def draw(self, asked: Observed) -> Answers:
        sampler = self.sampler
        if len(sampler.members) >= self.population:
            sampler.breed(self.study)
        asked.system_attrs["generation"] = sampler.generation
        if not sampler.parents:
            return by_domain
        drawn = sampler.sample_relative(self.study, asked, self.shared)  # type: ignore[arg-type]
        return lambda parameter: drawn.get(parameter.name)

    def learn(self, told: Observed) -> None:
        if told.system_attrs.get("generation", self.sampler.generation) == self.sampler.generation:
            self.sampler.members.append(told)


class _Sampler(NSGAIISampler):
    """Optuna's, holding the one generation and the parents that it needs; Optuna's own goes through all trials."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.generation = 0
        self.members: list[Any] = []  # told, of this generation
        self.parents: list[Any] = []

    def breed(self, study: Any) -> None:
        """Select the parents of the next generation; a rejected trial is as bad as the worst of the others."""
        everyone = self.members + self.parents
        known = [told.trial.scores for told in everyone if told.trial.scores]
        worst = [min(column) for column in zip(*known, strict=True)] or [0.0] * len(study.directions)
        for told in everyone:
            if not told.trial.scores:
                told.values = worst
        self.parents = sorted(self.select_parent(study, self.generation + 1), key=lambda told: told.number)
        self.generation += 1
        self.members = []

    def get_trial_generation(self, study: Any, trial: Any) -> int:
        return self.generation

    def get_population(self, study: Any, generation: int) -> list[Any]:
        return self.members

    def get_parent_population(self, study: Any, generation: int) -> list[Any]:
        return self.parents

"""Hard limits: a search finds its way into a region that almost no sample lies in."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import pytest

from automl import Evaluator, Limit, Objective, Report, Space
from automl.plugins import Registry
from automl.study import Study
from automl.testing import NO_TASK

LAYERS, WIDTHS = 12, (8, 16, 32, 64, 128)


class Widths(Space):
    """A width a layer; what it costs is the sum of products of neighbours, as with convolutions."""

    def describe(self, choose):
        return [choose(f"layer.{number}.width", WIDTHS) for number in range(LAYERS)]

    def build(self, blueprint, task):
        raise NotImplementedError


@dataclass
class Costed(Evaluator):
    """Says first what an architecture costs, then how good it is: the wider, the better."""

    trained: int = 0

    def evaluate(self, trial) -> Iterator[Report]:
        widths = trial.architecture.blueprint
        cost = float(sum(a * b for a, b in pairwise(widths)))
        yield Report({"parameters": cost}, 0.0)
        self.trained += 1
        yield Report({"parameters": cost, "accuracy": sum(width**0.5 for width in widths) / 140})


@cache
def narrow(share=1e-4, samples=200_000):
    """Return the cost below which one sample in ten thousand lies."""
    rng = random.Random(0)
    costs = []
    for _ in range(samples):
        widths = [WIDTHS[int(rng.random() * len(WIDTHS))] for _ in range(LAYERS)]
        costs.append(sum(a * b for a, b in pairwise(widths)))
    return sorted(costs)[int(share * samples)]


def search(strategy, seed, trials):
    evaluator = Costed()
    registry = Registry()
    study = Study(
        Widths(),
        registry.build("strategy", {"name": strategy}),
        evaluator,
        NO_TASK,
        (Objective("accuracy"),),
        limits=(Limit("parameters", narrow()),),
        trials=trials,
        seed=seed,
    )
    study.run()
    assert evaluator.trained == sum(trial.is_scored for trial in study.trials)
    assert evaluator.trained == sum(trial.violation == 0 for trial in study.trials)
    return study


def test_random_search_does_not_find_the_narrow_region():
    found = [search("random", seed, 500).best.violation == 0 for seed in range(5)]
    assert sum(found) <= 2


@pytest.mark.parametrize(
    ("strategy", "trials"),
    [
        ("evolution", 500),
        ("nsga2", 500),
        pytest.param("tpe", 200, marks=pytest.mark.slow),
        pytest.param("gp", 100, marks=pytest.mark.slow),
    ],
)
def test_a_search_finds_its_way_into_a_region_of_one_in_ten_thousand(strategy, trials):
    for seed in range(5):
        study = search(strategy, seed, trials)
        assert study.best.violation == 0, (strategy, seed, study.best.metrics)
        rejected = [trial for trial in study.trials if trial.is_rejected]
        assert all(trial.fidelity == 0 and "accuracy" not in trial.metrics for trial in rejected)
        assert study.best.metrics["parameters"] <= narrow()
        assert all(trial.violation == 0 for trial in study.front)

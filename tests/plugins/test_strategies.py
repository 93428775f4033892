from __future__ import annotations

import csv
import gzip
import random
from dataclasses import dataclass
from itertools import product
from math import comb, sqrt
from statistics import fmean

import pytest

from automl import (
    BadInput,
    Candidate,
    Evaluator,
    Integer,
    Limit,
    Objective,
    Op,
    Options,
    Real,
    Report,
    Space,
    Trial,
    TrialFailed,
)
from automl.study import Study
from automl.testing import NO_TASK, Checksum, ToySpace, check_strategy
from automl_strategies.evolution import Evolution
from automl_strategies.grid import Grid
from automl_strategies.random import Random


@pytest.mark.parametrize(
    "factory",
    [Random, Evolution, lambda: Evolution(population=3, tournament=3), lambda: Evolution(5, 1, identity=0.5), Grid],
    ids=["random", "evolution", "greedy", "walk", "grid"],
)
def test_ours_keep_the_contract(factory):
    check_strategy(factory)


def told(strategy, number, score, architecture=None, error=None):
    """Tell the strategy of a trial of that score, and return it."""
    trial = Trial(number, Candidate(architecture or strategy.space.sample(random.Random(number))), 0)
    trial.reports = [Report({"accuracy": score})]
    trial.error = error
    if error is None:
        trial.judge((Objective("accuracy"),))
    strategy.tell(trial)
    return trial


def started(strategy, space=None):
    strategy.start(ToySpace(6, 5) if space is None else space, random.Random(0))
    return strategy


def parents(strategy, asks):
    """Ask so often and return who was the parent: mutation changes one decision, so all others give it away."""
    strategy.identity = 1.0  # a child is its parent unchanged
    strategy.asked = strategy.population
    return [strategy.ask().architecture for _ in range(asks)]


def test_the_oldest_dies_even_when_it_is_the_best():
    strategy = started(Evolution(population=4, tournament=2))
    trials = [told(strategy, number, 1.0 - number / 10) for number in range(4)]
    assert list(strategy.alive) == trials
    newest = told(strategy, 4, 0.01)
    assert list(strategy.alive) == [*trials[1:], newest]
    assert max(strategy.alive, key=lambda trial: trial.score) is trials[1]


def test_the_population_stays_as_it_is_and_the_history_is_kept():
    sizes = []

    class Watched(Evolution):
        def tell(self, trial):
            super().tell(trial)
            sizes.append(len(self.alive))

    study = Study(
        ToySpace(8, 4), Watched(population=7, tournament=3), Checksum(), NO_TASK, (Objective("accuracy"),), trials=60
    )
    study.run()
    assert sizes[:7] == [1, 2, 3, 4, 5, 6, 7]
    assert set(sizes[7:]) == {7}
    assert len(study.trials) == 60
    assert study.strategy.recommend(study.trials) == study.best.architecture  # of the history, not the population


@pytest.mark.parametrize(("population", "tournament", "best"), [(100, 25, 0.2222), (50, 10, 0.1829), (10, 3, 0.271)])
def test_a_tournament_picks_by_rank_with_replacement(population, tournament, best):
    strategy = started(Evolution(population=population, tournament=tournament))
    scores = list(range(population))
    random.Random(1).shuffle(scores)
    trials = {}
    for number, score in enumerate(scores):
        trial = told(strategy, number, score, ToySpace(1, population).read({"d0": score}))
        trials[trial.architecture] = score
    asks = 40_000
    picked = [population - trials[parent] for parent in parents(strategy, asks)]  # rank 1 is the best
    expected = [
        ((population - rank + 1) ** tournament - (population - rank) ** tournament) / population**tournament
        for rank in range(1, population + 1)
    ]
    assert expected[0] == pytest.approx(best, abs=1e-4)
    for rank in (1, 2, 3, 5, population):
        share, wanted = picked.count(rank) / asks, expected[rank - 1]
        assert share == pytest.approx(wanted, abs=5 * sqrt(wanted / asks) + 1e-4)
    without_replacement = comb(population - 1, tournament - 1) / comb(population, tournament)
    assert abs(picked.count(1) / asks - without_replacement) > 0.01


def test_a_binary_tournament_selects_with_the_intensity_of_the_theory():
    strategy, rng = started(Evolution(population=4000, tournament=2)), random.Random(2)
    scores = {}
    for number in range(4000):
        trial = told(strategy, number, rng.gauss(0, 1), ToySpace(1, 4000).read({"d0": number}))
        scores[trial.architecture] = trial.score
    mean = fmean(scores.values())
    assert fmean(scores[parent] for parent in parents(strategy, 20_000)) - mean == pytest.approx(0.5642, abs=0.03)


def test_a_tournament_of_one_is_a_random_walk():
    strategy = started(Evolution(population=5, tournament=1))
    numbers = {}
    for number in range(5):
        numbers[told(strategy, number, float(number), ToySpace(1, 5).read({"d0": number})).architecture] = number
    picked = [numbers[parent] for parent in parents(strategy, 20_000)]
    assert [picked.count(number) / 20_000 for number in range(5)] == pytest.approx([0.2] * 5, abs=0.015)


def test_a_child_is_its_parent_with_one_decision_changed_or_now_and_then_unchanged():
    strategy = started(Evolution(population=1, tournament=1))
    parent = told(strategy, 0, 1.0).architecture
    strategy.asked = 1
    changes = []
    for _ in range(20_000):
        child = strategy.ask().architecture
        changes.append(sum(child.values[name] != parent.values[name] for name in parent.values))
    assert set(changes) == {0, 1}
    assert changes.count(0) / 20_000 == pytest.approx(0.05, abs=0.01)


def test_a_failed_trial_is_never_a_parent():
    strategy = started(Evolution(population=3, tournament=3, identity=1.0))
    for number in range(3):
        assert strategy.ask() is not None
        told(strategy, number, 0.9, error="out of memory")
    assert strategy.ask() is not None  # with nobody alive yet, another is drawn
    good = told(strategy, 3, 0.1)
    for number in range(4, 9):
        told(strategy, number, 0.9, error="out of memory")
    assert {strategy.ask().architecture for _ in range(20)} == {good.architecture}


def test_what_breaks_a_limit_loses_against_all_that_does_not():
    strategy = started(Evolution(population=2, tournament=2, identity=1.0))
    for number, (accuracy, madds) in enumerate([(0.9, 20), (0.1, 10)]):
        trial = Trial(number, Candidate(ToySpace(1, 2).read({"d0": number})), 0)
        trial.reports = [Report({"accuracy": accuracy, "madds": madds})]
        trial.judge([Objective("accuracy")], [Limit("madds", 10)])
        strategy.tell(trial)
    strategy.asked = 2
    picked = [strategy.ask().architecture.values["d0"] for _ in range(4_000)]
    assert picked.count(1) / 4_000 == pytest.approx(0.75, abs=0.03)  # only a tournament of the other alone is lost


def test_a_tournament_larger_than_its_population_is_refused():
    with pytest.raises(BadInput, match=r"strategy\.tournament=3 is larger than strategy\.population=2: give at most 2"):
        Evolution(population=2, tournament=3)


def test_random_search_is_uniform_over_the_tree_of_decisions():
    class Branching(ToySpace):
        def describe(self, choose):
            deep = choose("deep", [False, True])
            return deep, choose("leaf", range(9)) if deep else None

    strategy = started(Random(), Branching())
    drawn = [strategy.ask().architecture.values["deep"] for _ in range(20_000)]
    assert drawn.count(True) / 20_000 == pytest.approx(0.5, abs=0.015)  # over networks it would be 0.9


def test_evolution_survives_an_evaluator_that_fails_often():
    class Fragile(Checksum):
        def evaluate(self, trial):
            if trial.number >= 3 and random.Random(trial.seed).random() < 0.7:
                raise TrialFailed("fragile")
            return super().evaluate(trial)

    study = Study(ToySpace(8, 4), Evolution(5, 2), Fragile(), NO_TASK, (Objective("accuracy"),), trials=100)
    study.run()
    assert len(study.trials) == 100
    assert 40 < len(study.failed) < 90
    assert all(trial.error is None for trial in study.strategy.alive)


OPERATIONS = Options([Op(name, lambda: None) for name in ("none", "skip", "conv1x1", "conv3x3", "pool")])
EDGES = ("01", "02", "12", "03", "13", "23")


class Cells(Space[tuple[int, ...]]):
    """The cells of NAS-Bench-201: one of five operations on each of six edges (Dong & Yang, 2020)."""

    def describe(self, choose):
        return tuple([OPERATIONS.index(choose(f"edge.{edge}", OPERATIONS)) for edge in EDGES])

    def build(self, blueprint, task):
        raise NotImplementedError


@dataclass
class Table(Evaluator):
    """Looks up what training would have come to."""

    accuracies: dict[tuple[int, ...], float]

    def evaluate(self, trial):
        yield Report({"accuracy": self.accuracies[trial.architecture.blueprint]})


@pytest.fixture(scope="module")
def table(data):
    path = data / "nasbench201" / "nb201.csv.gz"
    if not path.exists():
        pytest.skip(f"no NAS-Bench-201 at {path}")
    with gzip.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    cells = [tuple(int(row[f"op{edge}"]) for edge in EDGES) for row in rows]
    trained = {cell: float(row["c10_val_acc_12ep"]) for cell, row in zip(cells, rows, strict=True)}
    final = {cell: float(row["c10_test_acc"]) for cell, row in zip(cells, rows, strict=True)}
    assert len(trained) == 15_625
    assert max(trained.values()) == pytest.approx(84.892, abs=0.001)
    assert max(final.values()) == pytest.approx(94.373, abs=0.01)
    return trained, final


SEEDS = 40


@pytest.mark.slow
@pytest.mark.parametrize(
    ("factory", "validation", "spread", "test"),
    [(Random, 83.72, 0.55, 93.76), (lambda: Evolution(population=10, tournament=3), 84.25, 0.61, 93.96)],
    ids=["random", "evolution"],
)
def test_a_hundred_evaluations_of_nasbench201_find_what_they_are_known_to_find(
    table, factory, validation, spread, test
):
    trained, final = table
    found, ends = [], []
    for seed in range(SEEDS):
        study = Study(Cells(), factory(), Table(trained), NO_TASK, (Objective("accuracy"),), trials=100, seed=seed)
        study.run()
        found.append(study.best.score)
        ends.append(final[study.best.architecture.blueprint])
    print(f"validation {fmean(found):.2f} (known {validation}), test {fmean(ends):.2f} (known {test}), {SEEDS} seeds")
    assert fmean(found) == pytest.approx(validation, abs=3 * spread / sqrt(SEEDS))
    assert fmean(ends) == pytest.approx(test, abs=0.25)


@pytest.mark.slow
def test_five_hundred_evaluations_of_evolution_nearly_reach_the_optimum(table):
    trained, _ = table
    found = []
    for seed in range(20):
        strategy = Evolution(population=50, tournament=10)
        study = Study(Cells(), strategy, Table(trained), NO_TASK, (Objective("accuracy"),), trials=500, seed=seed)
        study.run()
        found.append(study.best.score)
    print(f"validation {fmean(found):.2f} (known 84.81), 20 seeds")
    assert fmean(found) == pytest.approx(84.81, abs=3 * 0.23 / sqrt(20))


# grid search


def test_a_grid_is_every_architecture_once_and_then_nothing():
    strategy = started(Grid(), ToySpace(3, 2))
    asked = [strategy.ask() for _ in range(9)]
    assert [tuple(candidate.architecture.values.values()) for candidate in asked[:8]] == [*product((0, 1), repeat=3)]
    assert asked[8] is None


def test_a_grid_has_points_in_an_interval():
    class Rates(Space):
        def describe(self, choose):
            return (
                choose("rate", Real(1e-4, 1.0, log=True)),
                choose("width", Integer(1, 9)),
                choose("few", Integer(1, 2)),
            )

        def build(self, blueprint, task):
            raise NotImplementedError

    found = [architecture.blueprint for architecture in Rates().enumerate(points=3)]
    assert [round(rate, 6) for rate, _, _ in found[::6]] == [1e-4, 1e-2, 1.0]
    assert found[:6] == [(1e-4, width, few) for width in (1, 5, 9) for few in (1, 2)]
    assert len(found) == 18
    assert Real(0, 1).spread(1) == (0,)
    with pytest.raises(BadInput, match="cannot be run through"):
        next(Rates().enumerate())


def test_a_study_of_a_grid_ends_with_the_space():
    study = Study(ToySpace(2, 2), Grid(), Checksum(), NO_TASK, (Objective("accuracy"),), trials=20)
    study.run()
    assert len(study.trials) == 4
    assert study.best.score == max(trial.score for trial in study.trials)

from __future__ import annotations

import math
import random

import pytest

from automl import Candidate, Cost, Limit, LogCost, Objective, Report, Trial, Worth, best, merit
from automl.testing import OBJECTIVES, ToySpace


def trial(number=0, *, error=None, objectives=OBJECTIVES, limits=(), fidelity=1.0, **metrics):
    told = Trial(number, Candidate(ToySpace().sample(random.Random(number)), fidelity), seed=number)
    told.error = error
    if metrics:
        told.reports.append(Report(metrics, fidelity))
        if error is None:
            told.judge(objectives, limits)
    return told


def test_scores_are_higher_for_the_better_in_both_directions():
    up, down = Objective("accuracy"), Objective("loss", "min")
    told = trial(objectives=(up, down), accuracy=0.9, loss=0.25)
    assert told.scores == (0.9, -0.25)
    assert told.score == 0.9


@pytest.mark.parametrize(
    ("goal", "limit", "value", "violation"),
    [
        ("min", 100.0, 90.0, 0.0),
        ("min", 100.0, 100.0, 0.0),
        ("min", 100.0, 150.0, 0.5),
        ("max", 0.8, 0.9, 0.0),
        ("max", 0.8, 0.4, 0.5),
        ("min", 0.0, 2.0, 2.0),
        ("max", -2.0, -3.0, 0.5),
    ],
)
def test_a_limit_is_broken_by_a_share_of_it(goal, limit, value, violation):
    assert Limit("x", limit, goal).violation({"x": value}) == pytest.approx(violation)


def test_what_breaks_a_limit_ranks_after_all_that_does_not():
    limits = (Limit("madds", 100),)
    legal = trial(0, limits=limits, accuracy=0.1, madds=100)
    little = trial(1, limits=limits, accuracy=0.8, madds=110)
    much = trial(2, limits=limits, accuracy=0.9, madds=200)
    failed = trial(3, error="no")
    assert sorted([much, failed, little, legal], key=merit, reverse=True) == [legal, little, much, failed]
    assert failed.score == -math.inf


def test_the_best_is_the_earliest_of_equals_at_the_highest_fidelity():
    low, first, second, failed = (
        trial(0, fidelity=0.5, accuracy=0.9),
        trial(1, accuracy=0.5),
        trial(2, accuracy=0.5),
        trial(3, error="no", accuracy=0.99),
    )
    assert best([low, failed, first, second]) is first
    assert best([low]) is low
    assert best([failed]) is None
    assert best([]) is None


def test_the_last_report_counts():
    told = trial(accuracy=0.2)
    told.reports.append(Report({"accuracy": 0.4}))
    told.judge((Objective("accuracy"),))
    assert told.score == 0.4
    assert told.metrics == {"accuracy": 0.4}
    assert Trial(0, told.candidate, 0).metrics == {}


def test_a_metric_that_was_not_reported_cannot_be_judged():
    with pytest.raises(KeyError):
        trial(loss=0.1)


def test_trials_say_how_they_ended():
    assert repr(trial(3, accuracy=0.5)) == "Trial(3, {'accuracy': 0.5})"
    assert repr(trial(4, error="out of memory")) == "Trial(4, failed: out of memory)"


@pytest.mark.parametrize(
    ("alpha", "beta", "accuracy", "latency", "target", "reward"),
    [
        (-0.07, -0.07, 0.5, 1, 1, 0.50000),  # the three and five figures of MnasNet's own arithmetic
        (-0.07, -0.07, 0.525, 2, 1, 0.50013),
        (0.0, -1.0, 0.75, 60, 75, 0.75),
        (0.0, -1.0, 0.75, 90, 75, 0.625),
        (-0.3, -0.9, 0.42, 7, 7, 0.42),  # at the target the powers do not matter
    ],
)
def test_a_cost_is_a_factor_on_the_objective(alpha, beta, accuracy, latency, target, reward):
    objective = Objective("accuracy", costs=(Cost("latency", target, alpha, beta),))
    assert objective.score({"accuracy": accuracy, "latency": latency}) == pytest.approx(reward, abs=5e-6)
    in_seconds = Objective("accuracy", costs=(Cost("latency", target / 1e3, alpha, beta),))
    assert in_seconds.score({"accuracy": accuracy, "latency": latency / 1e3}) == pytest.approx(reward, abs=5e-6)
    beyond = [objective.score({"accuracy": accuracy, "latency": target * k}) for k in (1.1, 1.5, 3)]
    assert beyond == sorted(beyond, reverse=True)


def test_the_reward_that_holds_the_accuracy_is_error_times_the_logarithm_of_a_count():  # AMC (10)
    objective = Objective("accuracy", costs=(LogCost("multiply_adds"),))
    assert objective.metrics == ("accuracy", "multiply_adds")

    def reward(accuracy, count):
        return objective.score({"accuracy": accuracy, "multiply_adds": count})

    assert reward(0.7, 1e6) == pytest.approx(-0.3 * math.log(1e6), abs=2e-5)
    for count in (10, 1e6, 5e9):
        risen = [reward(accuracy, count) for accuracy in (0.0, 0.1, 0.5, 0.99, 0.9999, 1.0)]
        assert risen == sorted(set(risen))
    for accuracy in (0.0, 0.5, 0.999, 1.0):  # without an error too
        fallen = [reward(accuracy, count) for count in (5e9, 1e9, 999_999_999, 1e6, 10)]
        assert fallen == sorted(set(fallen))
    assert reward(0.70, 1e8) > reward(0.71, 2e8)  # half the cost is worth a point here, the error being large
    assert reward(0.98, 1e8) < reward(0.99, 2e8)  # and here not


def test_a_trial_rejected_before_training_ranks_by_how_far_off_it_is():
    limits = (Limit("madds", 100),)
    legal = trial(0, limits=limits, accuracy=0.1, madds=100)
    trained = trial(1, limits=limits, accuracy=0.8, madds=150)
    near, far = trial(2, limits=limits, madds=110), trial(3, limits=limits, madds=300)
    assert near.is_rejected
    assert not trained.is_rejected
    assert sorted([far, trained, near, legal], key=merit, reverse=True) == [legal, near, trained, far]
    assert best([far, trained, near]) is near
    assert best([far, near, legal]) is legal
    with pytest.raises(KeyError):
        trial(4, limits=limits, madds=90)


def test_worth_is_one_order_of_legal_illegal_and_failed():
    limits = (Limit("madds", 100),)
    good, bad = trial(0, limits=limits, accuracy=0.9, madds=1), trial(1, limits=limits, accuracy=0.5, madds=1)
    near, far = trial(2, limits=limits, madds=110), trial(3, limits=limits, accuracy=1.0, madds=1e9)
    failed = trial(4, error="no")
    everything = [good, bad, near, far, failed]
    worth = Worth()
    assert worth.of(near) > worth.of(far) >= worth.of(failed)  # before a legal one is known
    for one in everything:
        worth.see(one)
    values = [worth.of(one) for one in everything]
    assert values == sorted(values, reverse=True)
    assert values[:2] == [0.9, 0.5]
    assert values[4] == pytest.approx(0.1)
    assert 0.1 < values[3] < values[2] < 0.5

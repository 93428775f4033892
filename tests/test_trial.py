from __future__ import annotations

import math
import random

import pytest

from automl import Candidate, Objective, Report, Trial, best, merit
from automl.testing import OBJECTIVES, ToySpace


def trial(number=0, *, error=None, objectives=OBJECTIVES, fidelity=1.0, **metrics):
    told = Trial(number, Candidate(ToySpace().sample(random.Random(number)), fidelity), seed=number)
    told.error = error
    if metrics:
        told.reports.append(Report(metrics, fidelity))
        if error is None:
            told.judge(objectives)
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
        ("min", None, 1e9, 0.0),
    ],
)
def test_a_limit_is_broken_by_a_share_of_it(goal, limit, value, violation):
    assert Objective("x", goal, limit).violation({"x": value}) == pytest.approx(violation)


def test_what_breaks_a_limit_ranks_after_all_that_does_not():
    objectives = (Objective("accuracy"), Objective("madds", "min", limit=100))
    legal = trial(0, objectives=objectives, accuracy=0.1, madds=100)
    little = trial(1, objectives=objectives, accuracy=0.8, madds=110)
    much = trial(2, objectives=objectives, accuracy=0.9, madds=200)
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

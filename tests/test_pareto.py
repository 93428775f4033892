from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl import Candidate, Objective, Report, Trial
from automl.pareto import dominates, front
from automl.testing import ToySpace

NAMES = ("accuracy", "madds", "latency")


def trials(rows, objectives):
    told = []
    for number, row in enumerate(rows):
        one = Trial(number, Candidate(ToySpace().sample(random.Random(0))), 0)
        one.reports.append(Report(dict(zip(NAMES, row, strict=False))))
        one.judge(objectives)
        told.append(one)
    return told


@given(
    st.integers(1, 3).flatmap(
        lambda width: st.tuples(
            st.lists(st.tuples(*[st.integers(0, 5)] * width), max_size=30),
            st.tuples(*[st.sampled_from(["max", "min"])] * width),
        )
    )
)
def test_the_front_is_what_brute_force_finds(drawn):
    rows, goals = drawn
    objectives = tuple(Objective(name, goal) for name, goal in zip(NAMES, goals, strict=False))
    told = trials(rows, objectives)
    expected = {
        one.scores: one.number
        for one in reversed(told)  # the earliest of equals stands for all
        if not any(dominates(other.scores, one.scores) for other in told)
    }
    kept = front(told, objectives)
    assert {one.scores: one.number for one in kept} == expected
    assert len(kept) == len(expected)
    assert [one.scores for one in kept] == sorted((one.scores for one in kept), reverse=True)


@pytest.mark.parametrize(
    ("a", "b", "answer"),
    [((1, 1), (1, 1), False), ((2, 1), (1, 1), True), ((2, 0), (1, 1), False), ((1,), (0,), True), ((0,), (1,), False)],
)
def test_domination_is_better_somewhere_and_worse_nowhere(a, b, answer):
    assert dominates(a, b) is answer


def test_failed_and_illegal_trials_are_never_on_the_front():
    objectives = (Objective("accuracy"), Objective("madds", "min", limit=100))
    good, illegal, failed, silent = trials([(0.5, 90), (0.9, 110), (0.99, 1), (0.6, 50)], objectives)
    failed.error = "no"
    silent.reports[-1] = Report({"accuracy": 0.6})
    assert front([good, illegal, failed, silent], objectives) == [good]
    assert front([], objectives) == []

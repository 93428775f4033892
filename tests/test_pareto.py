from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl import Candidate, Limit, Objective, Report, Trial
from automl.pareto import crowding, dominates, front, hypervolume, knee, ranked, worst
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
    objectives = (Objective("accuracy"), Objective("madds", "min"))
    good, illegal, failed, silent = trials([(0.5, 90), (0.9, 110), (0.99, 1), (0.6, 50)], objectives)
    illegal.judge(objectives, [Limit("madds", 100)])
    failed.error = "no"
    silent.reports[-1] = Report({"accuracy": 0.6})
    assert front([good, illegal, failed, silent], objectives) == [good]
    assert front([], objectives) == []


POINTS = st.integers(1, 3).flatmap(
    lambda width: st.tuples(st.just(width), st.lists(st.tuples(*[st.integers(0, 6)] * width), max_size=8))
)


@given(POINTS)
def test_the_volume_is_that_of_the_cells_that_are_dominated(case):
    width, points = case
    cells = [(x,) for x in range(6)]
    for _ in range(width - 1):
        cells = [(*cell, x) for cell in cells for x in range(6)]
    covered = sum(any(all(p > c for p, c in zip(point, cell, strict=True)) for point in points) for cell in cells)
    assert hypervolume(points, (0,) * width) == covered


def test_the_volume_of_the_card_is_exact():
    assert hypervolume([(1, 2), (2, 1)], (0, 0)) == 3
    assert hypervolume([(1, 2), (2, 1), (1, 1)], (0, 0)) == 3  # a dominated point adds nothing
    assert hypervolume([], (0, 0)) == hypervolume([(0, 5)], (0, 0)) == 0


def test_the_front_of_the_card_is_its_first_three():
    told = trials([(1, 5), (2, 4), (3, 3), (2, 2)], OBJECTIVES)
    assert {trial.number for trial in front(told, OBJECTIVES)} == {0, 1, 2}


OBJECTIVES = (Objective("accuracy"), Objective("madds"))


def test_ranking_goes_by_fronts_then_by_loneliness_then_by_limits_then_by_failure():
    told = trials([(1, 5), (4, 4), (5, 1), (4.1, 3.9), (1, 1), (9, 9), (9, 9), (9, 9)], OBJECTIVES)
    told[5].judge(OBJECTIVES, [Limit("madds", 3)])
    told[6].judge(OBJECTIVES, [Limit("madds", 8)])
    told[7].error = "no"
    order = [trial.number for trial in ranked(told)]
    assert set(order[:2]) == {0, 2}  # the ends of the front
    assert set(order[2:4]) == {1, 3}
    assert order[4:] == [4, 6, 5, 7]


def test_ranking_by_one_score_is_by_merit_and_the_earlier_of_equals_first():
    told = trials([(0.3,), (0.9,), (0.3,), (0.5,)], (Objective("accuracy"),))
    assert [trial.number for trial in ranked(told)] == [1, 3, 0, 2]
    assert ranked([]) == []


def test_crowding_is_the_perimeter_of_the_box_that_a_point_has_to_itself():
    assert crowding([(0, 4), (1, 2), (3, 1), (4, 0)]) == [float("inf"), 0.75 + 0.75, 0.75 + 0.5, float("inf")]
    assert crowding([]) == []


def test_the_knee_is_farthest_beyond_the_line_through_the_ends():
    points = [(0.0, 100.0), (0.8, 90.0), (0.9, 20.0), (1.0, 0.0)]
    assert knee(points) == 1
    assert knee([(1.0, 1.0)]) == 0
    assert worst(points) == (0.0, 0.0)

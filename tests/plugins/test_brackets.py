"""The tables of Hyperband and successive halving: as published, and in whole steps at both ends."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl_evaluators.brackets import halving, hyperband, ladder

CEIL = """81@1 27@3 9@9 3@27 1@81
34@3 11@9 3@27 1@81
15@9 5@27 1@81
8@27 2@81
5@81"""
FLOOR = """81@1 27@3 9@9 3@27 1@81
27@3 9@9 3@27 1@81
9@9 3@27 1@81
6@27 2@81
5@81"""


def written(brackets) -> str:
    return "\n".join(" ".join(map(str, bracket)) for bracket in brackets)


@pytest.mark.parametrize(
    ("rounding", "table", "resources"),
    [("ceil", CEIL, [405, 363, 351, 378, 405]), ("floor", FLOOR, [405, 324, 243, 324, 405])],
)
def test_both_published_tables_are_made_by_one_option(rounding, table, resources):
    brackets = hyperband(ladder(81, 3), 3, rounding)
    assert written(brackets) == table
    assert [sum(rung.size * rung.steps for rung in bracket) for bracket in brackets] == resources


@pytest.mark.parametrize(
    ("resource", "eta", "count"),
    [
        (81, 3, 5),
        (243, 3, 6),
        (59049, 3, 11),
        (59049, 9, 6),
        (1000, 10, 4),
        (10**6, 10, 7),
        (80, 3, 4),
        (82, 3, 5),
        (1, 3, 1),
        (2, 3, 1),
    ],
)
def test_no_bracket_is_lost_at_exact_powers(resource, eta, count):
    for rounding in ("ceil", "floor"):
        assert len(hyperband(ladder(resource, eta), eta, rounding)) == count


@pytest.mark.parametrize(
    ("resource", "lowest", "steps"),
    [
        (10, 1, [1, 3, 10]),
        (100, 1, [1, 4, 11, 33, 100]),
        (82, 1, [1, 3, 9, 27, 82]),
        (80, 1, [3, 9, 27, 80]),
        (100, 4, [11, 33, 100]),
        (81, 81, [81]),
    ],
)
def test_the_last_rung_is_the_resource_where_that_is_no_power(resource, lowest, steps):
    assert ladder(resource, 3, lowest) == steps


@given(st.integers(1, 10**6), st.integers(2, 12), st.integers(1, 50), st.sampled_from(["ceil", "floor"]))
def test_rungs_rise_strictly_in_whole_steps_and_sizes_fall(resource, eta, lowest, rounding):
    lowest = min(lowest, resource)
    steps = ladder(resource, eta, lowest)
    assert steps == sorted(set(steps)), "two rungs of one number of steps"
    assert steps[0] >= lowest
    assert steps[-1] == resource
    brackets = hyperband(steps, eta, rounding)
    assert [len(bracket) for bracket in brackets] == list(range(len(steps), 0, -1))
    assert brackets[-1] == ((len(steps), resource),)
    for bracket in brackets:
        assert bracket[-1].size >= 1
        for rung, following in pairwise(bracket):
            assert following.size == rung.size // eta


def test_few_configurations_still_reach_the_top_one_at_a_time():
    assert written([halving(5, [1, 3, 9, 27], 3)]) == "5@1 1@3 1@9 1@27"

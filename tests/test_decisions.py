from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl import Architecture, BadInput, Integer, Op, Options, Real
from automl.decisions import MISFIT, as_domain


def nothing():
    raise AssertionError("no test makes a module")


RANGES = [(1e-5, 0.1), (1e-3, 10), (3e-4, 5e-3), (1e-8, 1.0), (0.1, 0.1)]


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_a_log_range_never_leaves_its_ends(low, high):
    domain, rng = Real(low, high, log=True), random.Random(0)
    drawn = [domain.sample(rng.random) for _ in range(100_000)]
    assert low <= min(drawn) <= max(drawn) <= high
    assert len(set(drawn)) == (1 if low == high else len(drawn))
    assert domain.sample(lambda: 0.0) >= low
    assert domain.sample(lambda: math.nextafter(1, 0)) <= high
    below = sum(value < math.sqrt(low * high) for value in drawn)
    assert low == high or abs(below / len(drawn) - 0.5) < 0.01
    for value in (low, high, *drawn[:1000]):
        assert domain.decode(json.loads(json.dumps(domain.encode(value)))) == value
        assert domain.fit(value) == value


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_a_mutated_number_stays_in_its_range_and_changes(low, high):
    domain, rng = Real(low, high, log=True), random.Random(0)
    value = domain.sample(rng.random)
    for _ in range(10_000):
        value, before = domain.other(value, rng.random), value
        assert low <= value <= high
        assert value != before or low == high


@pytest.mark.parametrize(
    "domain",
    [
        Real(1e-5, math.nextafter(1e-5, 1), log=True),
        Real(1.0, math.nextafter(1.0, 2)),
        Integer(10**17, 10**17 + 1, log=True),
        Options(("a", "b"), prior=(1, 0)),
        Options(("a", "b"), prior=(1, 1e-300)),
    ],
    ids=repr,
)
def test_the_other_of_two_values_is_found_however_unlikely(domain):
    domain, rng = as_domain("x", domain), random.Random(0)
    ends = domain.options if isinstance(domain, Options) else (domain.low, domain.high)
    assert domain.other(ends[0], rng.random) == ends[1]
    assert domain.other(ends[1], rng.random) == ends[0]


def test_an_integer_log_range_gives_each_the_width_of_its_interval():
    domain, rng = Integer(1, 4, log=True), random.Random(0)
    drawn = [domain.sample(rng.random) for _ in range(100_000)]
    shares = [drawn.count(k) / len(drawn) for k in range(1, 5)]
    assert shares == pytest.approx([math.log((k + 0.5) / (k - 0.5)) / math.log(9) for k in range(1, 5)], abs=0.01)
    assert shares == pytest.approx([0.500, 0.232, 0.153, 0.114], abs=0.01)


def test_steps_that_do_not_divide_are_exactly_the_range():
    domain, rng = as_domain("width", range(1, 11, 4)), random.Random(0)
    drawn = [domain.sample(rng.random) for _ in range(100_000)]
    assert set(drawn) == {1, 5, 9}
    assert [drawn.count(k) / len(drawn) for k in (1, 5, 9)] == pytest.approx([1 / 3] * 3, abs=0.01)


@pytest.mark.parametrize(
    "domain",
    [
        range(5, 5),
        [],
        (),
        Options(()),
        Real(1, 0),
        Integer(3, 2),
        Integer(0, 8, log=True),
        Real(0, 1, log=True),
        Real(-1, 1, log=True),
        Real(math.nan, 1),
        Real(0, math.inf),
        Real(-1e308, 1.7e308),
        Options(("a", "b"), prior=(1,)),
        Options(("a", "b"), prior=(0, 0)),
        Options(("a", "b"), prior=(2, -1)),
        Options(("a", "b"), prior=(math.nan, 1)),
        {"a", "b"},
        "ab",
        None,
        iter([1, 2]),
    ],
    ids=lambda domain: type(domain).__name__,
)
def test_a_domain_that_holds_nothing_is_refused_naming_the_decision(domain):
    with pytest.raises(BadInput, match=r"'layer\.width'"):
        as_domain("layer.width", domain)


@pytest.mark.parametrize("options", [[1, 1.0], [0, False], [1, True], [(1, 2), (1.0, 2)], ["a", Op("a", nothing)]])
def test_options_that_cannot_be_told_apart_are_refused_naming_both(options):
    for offered in (options, tuple(options), Options(options)):
        with pytest.raises(BadInput) as refused:
            as_domain("width", offered)
        assert all(repr(option) in str(refused.value) for option in options)
        assert "'width'" in str(refused.value)


@pytest.mark.parametrize(
    "options", [[[1, 2]], [{}], [float("nan")], [object()], [b"x"], [1j], [(1, float("nan"))], [float("inf"), 1.0]]
)
def test_options_that_no_journal_could_hold_are_refused(options):
    with pytest.raises(BadInput, match="'width'"):
        as_domain("width", options)


@pytest.mark.parametrize(
    "options",
    [["1", 1], [None, 0, ""], [(3, 5), (5, 3)], [0.1 + 0.2, 0.3], [True, 2, 2.5, "True"], [((1,), 2), (1, 2)]],
)
def test_options_that_look_alike_stay_apart_with_their_types(options):
    domain = as_domain("width", options)
    for option in options:
        back = domain.decode(json.loads(json.dumps(domain.encode(option))))
        assert back == option
        assert type(back) is type(option)
        assert domain.fit(option) is back
        assert domain.options[domain.index(option)] is back


def test_a_value_of_another_type_does_not_fit():
    assert as_domain("width", [1, 2]).fit(1.0) is MISFIT
    assert as_domain("width", [1, 2]).fit(True) is MISFIT
    assert as_domain("width", [1, 2]).fit([1]) is MISFIT
    assert Integer(0, 3).fit(True) is MISFIT
    assert Integer(0, 3).fit(1.5) is MISFIT
    assert Real(0, 1).fit("0.5") is MISFIT
    assert Real(0, 1).fit(math.nan) is MISFIT


def test_an_interval_clips_what_does_not_fit():
    assert Integer(2, 5).fit(9) == 5
    assert Integer(2, 5).fit(-9) == 2
    assert Real(0, 1).fit(10**400) == 1.0
    assert Real(0, 1).fit(-math.inf) == 0.0


@pytest.mark.parametrize(
    ("domain", "value"),
    [
        (Integer(0, 3), 4),
        (Integer(0, 3), 1.0),
        (Integer(0, 3), True),
        (Integer(0, 3), "1"),
        (Real(0, 1), 1.5),
        (Real(0, 1), True),
        (Real(0, 1), math.nan),
        (Real(0, 1), None),
        ([1, 2], 1.0),
        ([1, 2], "1"),
        ([1, 2], {}),
        ([(3, 5)], [3, 5, 5]),
        ([(3, 5)], [3, 5.0]),
    ],
    ids=repr,
)
def test_decoding_is_strict(domain, value):
    with pytest.raises(ValueError):
        as_domain("x", domain).decode(value)


def test_options_are_drawn_by_their_prior():
    domain, rng = as_domain("kind", Options(("a", "b", "c", "d"), prior=(6, 3, 1, 0))), random.Random(0)
    drawn = [domain.sample(rng.random) for _ in range(50_000)]
    assert [drawn.count(kind) / len(drawn) for kind in "abcd"] == pytest.approx([0.6, 0.3, 0.1, 0], abs=0.01)
    others = [domain.other("a", rng.random) for _ in range(50_000)]
    assert [others.count(kind) / len(others) for kind in "abcd"] == pytest.approx([0, 0.75, 0.25, 0], abs=0.01)


@given(st.integers(-1000, 1000), st.integers(0, 1000), st.booleans(), st.randoms(use_true_random=False))
def test_another_integer_is_another_of_the_range(low, width, log, rng):
    domain = Integer(max(low, 1) if log else low, (max(low, 1) if log else low) + width, log)
    value = domain.sample(rng.random)
    other = domain.other(value, rng.random)
    assert value in domain
    assert other in domain
    assert (other != value) == (width > 0)


def test_another_option_is_uniform_over_the_rest():
    domain, rng = as_domain("kind", list("abcd")), random.Random(0)
    others = [domain.other("b", rng.random) for _ in range(40_000)]
    assert [others.count(kind) / len(others) for kind in "abcd"] == pytest.approx([1 / 3, 0, 1 / 3, 1 / 3], abs=0.01)


def test_operations_are_equal_by_name_and_know_their_decision():
    class Module:
        automl_choice = None

    chosen = Op("conv", Module).chosen_by("layer.0")
    assert chosen == Op("conv", nothing)
    assert chosen != Op("pool", Module)
    assert hash(chosen) == hash(Op("conv", nothing))
    assert chosen().automl_choice == ("layer.0", "conv")
    assert Op("conv", Module)().automl_choice is None


def test_equal_lists_of_options_are_checked_once():
    assert as_domain("a", [1, 2]) is as_domain("b", [1, 2])
    assert as_domain("a", range(3)) is as_domain("b", range(3))
    assert as_domain("a", [1, 2]) is not as_domain("a", [1.0, 2])
    first, second = (Op("conv", nothing),), (Op("conv", lambda: None),)
    assert as_domain("a", first) is not as_domain("a", second)  # equal by name, but other code
    assert as_domain("a", first) is as_domain("a", first)


def test_architectures_are_equal_and_hashed_by_their_values():
    domain = as_domain("x", [1, 2, None])
    one, same, other = (Architecture({"x": value}, {"x": domain}, blueprint=object()) for value in (1, 1, 2))
    assert one == same
    assert len({one, same, other}) == 2
    assert one != other
    assert one != {"x": 1}
    assert eval(repr(one), {"Architecture": dict}) == {"x": 1}


def test_domains_say_what_they_hold():
    assert str(Real(0, 1)) == "a number from 0 to 1"
    assert str(Integer(2, 5)) == "an integer from 2 to 5"
    assert str(Options(("a", (1, 2), Op("conv", nothing)))) == "one of a, [1, 2], conv"
    assert str(Options(range(100))).endswith("19, ...")
    assert repr(Options(("a",))) == "Options(['a'])"

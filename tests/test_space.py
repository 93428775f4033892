from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl import BadInput, Integer, Options, Real, Space
from automl.testing import ConditionalSpace, ToySpace, check_space


class Networkless(Space[Any]):
    def build(self, blueprint, task):
        raise NotImplementedError


@dataclass
class One(Networkless):
    """A single decision."""

    domain: Any

    def describe(self, choose):
        return choose("x", self.domain)


@dataclass
class Node:
    """A decision of a random space: its domain, and what is decided below each of its first options."""

    kind: str
    size: int
    below: list[list[Node]] = field(default_factory=list)


@dataclass
class Tree(Networkless):
    """A random space: conditions nest, and the domains called "narrowed" depend on the decision before."""

    nodes: list[Node]

    def describe(self, choose):
        return self._decide(choose, self.nodes, "")

    def _decide(self, choose, nodes, prefix):
        decided, before = [], 0
        for number, node in enumerate(nodes):
            value = choose(f"{prefix}{number}", self._domain(node, before))
            before = int(value * 10) if isinstance(value, float) else {"a": 0, "b": 1, "c": 2, "d": 3}.get(value, value)
            chosen = before % len(node.below) if node.below else 0
            decided.append(
                (value, self._decide(choose, node.below[chosen], f"{prefix}{number}.") if node.below else ())
            )
        return tuple(decided)

    def _domain(self, node, before):
        match node.kind:
            case "options":
                return list("abcd"[: node.size])
            case "prior":
                return Options("abcd"[: node.size], prior=range(1, node.size + 1))
            case "range":
                return range(0, 2 * node.size, 2)
            case "integer":
                return Integer(-1, node.size)
            case "log":
                return Integer(1, node.size, log=True)
            case "real":
                return Real(0.01, 0.01 * node.size, log=node.size % 2 == 0)
            case "narrowed":
                return Integer(0, node.size + before % 3)
            case "moved":
                return range(before % 3, before % 3 + node.size)


KINDS = ["options", "prior", "range", "integer", "log", "narrowed", "moved"]


def spaces(*, reals: bool):
    leaf = st.builds(Node, st.sampled_from([*KINDS, *(["real"] if reals else [])]), st.integers(1, 4))
    nodes = st.recursive(
        st.lists(leaf, min_size=1, max_size=3),
        lambda below: st.lists(
            st.builds(Node, st.sampled_from(KINDS), st.integers(1, 4), st.lists(below, min_size=1, max_size=2)),
            min_size=1,
            max_size=2,
        ),
        max_leaves=6,
    )
    return st.builds(Tree, nodes)


def small(space, limit=400):
    found = []
    for architecture in space.enumerate():
        found.append(architecture)
        if len(found) > limit:
            return None
    return found


@given(spaces(reals=True), st.integers(0, 2**32))
@settings(max_examples=150)
def test_any_space_keeps_the_contract(space, seed):
    check_space(space, samples=3, seed=seed)


@pytest.mark.parametrize(
    "space", [ToySpace(), ToySpace(1, 1), ConditionalSpace(), ConditionalSpace(rate=False)], ids=repr
)
def test_the_toy_spaces_keep_the_contract(space):
    check_space(space)


@given(spaces(reals=False), st.integers(0, 2**32))
def test_enumeration_is_complete_and_without_repeats(space, seed):
    every = small(space)
    if every is None:
        return
    assert len(set(every)) == len(every) == space.size()
    rng = random.Random(seed)
    drawn = space.sample(rng)
    assert drawn in set(every)
    wanted = {name: drawn.values[name] for name in drawn.values if rng.random() < 0.5}
    agreeing = [one for one in every if all(one.values.get(name, value) == value for name, value in wanted.items())]
    assert list(space.enumerate(wanted)) == agreeing
    assert drawn in agreeing


@given(spaces(reals=False), st.integers(0, 2**32))
@settings(max_examples=30)
def test_mutations_reach_every_architecture(space, seed):
    every = small(space, 40)
    if every is None:
        return
    rng = random.Random(seed)
    reached, waiting = {every[0]}, [every[0]]
    while waiting:
        one = waiting.pop()
        for _ in range(400):
            mutant = space.mutate(one, rng)
            if mutant not in reached:
                reached.add(mutant)
                waiting.append(mutant)
    assert reached == set(every)


@given(spaces(reals=True), st.randoms(use_true_random=False))
def test_completing_follows_what_applies(space, rng):
    one, other = space.sample(rng), space.sample(rng)
    known = {name: value for name, value in other.values.items() if rng.random() < 0.5}
    completed = space.complete(known, rng)
    for name, domain in completed.domains.items():
        if name in known:
            fitting = domain.fit(known[name])
            assert completed.values[name] == fitting or type(fitting) is object
    assert space.complete(one.values, rng) == one


def test_what_depends_on_a_mutated_decision_is_clipped_or_drawn_anew():
    @dataclass
    class Narrowing(Networkless):
        def describe(self, choose):
            width = choose("width", [2, 8])
            channels = choose("channels", Integer(1, width))
            kind = choose("kind", ["a", "b"] if width == 2 else ["c", "d"])
            return width, channels, kind, choose("depth", range(1, 3)) if kind == "c" else None

    space, rng = Narrowing(), random.Random(0)
    wide = space.read({"width": 8, "channels": 7, "kind": "c", "depth": 2})
    for _ in range(20):
        narrow = space.mutate(wide, rng, ["width"])
        assert narrow.values["width"] == 2
        assert narrow.values["channels"] == 2
        assert narrow.values["kind"] in "ab"
        assert "depth" not in narrow.values
    other = space.mutate(wide, rng, ["kind", "channels"])
    assert other.values["width"] == 8
    assert other.values["kind"] == "d"
    assert other.values["channels"] != 7


def test_crossing_takes_a_group_whole_from_either_parent():
    class Grouped(Networkless):
        def describe(self, choose):
            return [[choose(f"stage.{i}.{part}", range(100)) for part in "abc"] for i in range(3)]

    space, rng = Grouped(), random.Random(0)
    mother, father = space.sample(rng), space.sample(rng)
    seen = set()
    for _ in range(200):
        child = space.cross(mother, father, rng)
        sides = []
        for stage in range(3):
            names = [f"stage.{stage}.{part}" for part in "abc"]
            taken = [child.values[name] for name in names]
            assert taken in ([mother.values[name] for name in names], [father.values[name] for name in names])
            sides.append(taken == [mother.values[name] for name in names])
        seen.add(tuple(sides))
    assert len(seen) == 8


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"depth": 1, "width": 4}, "decision 'layer.0.kind' is missing: give it one of conv, pool, skip"),
        ({"depth": 9}, "decision 'depth' is 9, but must be one of 1, 2, 3"),
        ({"depth": True}, "decision 'depth' is True, but must be one of 1, 2, 3"),
        ({"depth": "1"}, "decision 'depth' is '1', but must be one of 1, 2, 3"),
        ({"depth": 1, "width": 9}, "decision 'width' is 9, but must be an integer from 1 to 8"),
    ],
)
def test_reading_names_what_is_wrong_or_missing(values, word):
    with pytest.raises(BadInput) as refused:
        ConditionalSpace().read(values)
    assert str(refused.value) == word


def test_reading_names_what_is_too_much_and_its_near_miss():
    values = ToySpace(2).sample(random.Random(0)).to_json()
    with pytest.raises(BadInput, match=r"decision 'd11' is not asked for here \(did you mean 'd1'\?\): leave it out"):
        ToySpace(2).read({**values, "d11": 0})


@pytest.mark.parametrize(("low", "high"), [(1e-5, 0.1), (1e-3, 10), (3e-4, 5e-3), (1e-8, 1.0), (0.1, 0.1)])
def test_reading_accepts_every_number_it_wrote(low, high):
    space, rng = One(Real(low, high, log=True)), random.Random(0)
    ends = [space.complete({"x": end}, rng) for end in (low, high)]
    for architecture in [*ends, *(space.sample(rng) for _ in range(2_000))]:
        assert space.read(json.loads(json.dumps(architecture.to_json()))) == architecture
    with pytest.raises(BadInput, match="'x'"):
        space.read({"x": math.nextafter(high, math.inf)})


def test_a_name_used_twice_is_refused():
    class Twice(Networkless):
        def describe(self, choose):
            return choose("kind", [1, 2]), choose("kind", [1, 2])

    with pytest.raises(BadInput, match="space Twice makes the decision 'kind' twice"):
        Twice().sample(random.Random(0))


def test_contexts_describe_decisions_to_the_strategy():
    architecture = ConditionalSpace().sample(random.Random(1))
    depth = architecture.values["depth"]
    assert architecture.contexts == {f"layer.{i}.kind": (i / depth, 1.0) for i in range(depth)}
    assert ToySpace().sample(random.Random(0)).contexts == {}


def test_where_nothing_is_free_mutation_gives_the_same_architecture():
    space, rng = ToySpace(3, 1), random.Random(0)
    only = space.sample(rng)
    assert space.mutate(only, rng) is only
    fixed = One(Real(0.1, 0.1, log=True))
    assert fixed.mutate(fixed.sample(rng), rng).values == {"x": 0.1}


@pytest.mark.parametrize(
    ("space", "size"),
    [
        (ToySpace(3, 4), 64),
        (ToySpace(2, 1), 1),
        (ConditionalSpace(), math.inf),
        (One(Real(0, 1)), math.inf),
        (One(Real(1, 1)), 1),
        (One(Integer(0, 9)), 10),
    ],
    ids=repr,
)
def test_the_size_of_a_small_space_is_exact(space, size):
    assert space.size() == size


def test_the_size_of_a_large_space_is_estimated():
    assert ToySpace(12, 4).size() == pytest.approx(4**12)
    exact = 4 * sum((5 * width) ** depth for width in range(1, 9) for depth in range(1, 4))
    assert ConditionalSpace(rate=False).size() == pytest.approx(exact, rel=0.15)
    assert One(Integer(0, 10**12)).size() == 10**12 + 1  # and no list of them is made


def test_real_numbers_behind_many_others_make_a_space_endless():
    class Late(Networkless):
        def describe(self, choose):
            numbers = [choose(f"n{i}", range(10)) for i in range(6)]
            return numbers, choose("rate", Real(0, 1)) if numbers[0] == 9 else None

    assert Late().size() == math.inf


def test_enumerating_real_numbers_is_refused_unless_given():
    space = ConditionalSpace()
    with pytest.raises(BadInput, match=r"decision 'rate' is a number from .* cannot be run through: give it a value"):
        list(space.enumerate({"depth": 1, "width": 1}))
    given_all = list(space.enumerate({"depth": 1, "width": 1, "rate": 0.01}))
    assert len(given_all) == len(set(given_all)) == 5 * 4
    assert list(space.enumerate({"depth": 7})) == []

"""Random architectures are uniform over what is asked for: decisions, or all architectures."""

import math
import random
from collections import Counter

import pytest

from automl.plugins import Registry
from automl.testing import check_space

REGISTRY = Registry()
SMALL = {
    "pnas": {"blocks": 2, "reductions": 0, "operations": ("sep3x3",)},
    "chain": {"stages": 2, "depth": 2, "operations": ("sep3x3", "skip")},
    "dpp_net": {"layers": 2, "normalisations": ("bn",), "convolutions": ("conv1x1", "conv3x3", "depthwise3x3")},
    "auto_net": {
        "layers": 3,
        "units": (4, 5),
        "dropout": 0.0,
        "activations": ("relu", "tanh"),
        "initialisations": ("uniform",),
    },
    "blockqnn": {"layers": 2},
    "tree_cell": {"depth": 2, "channels": 4, "operations": ("identity",)},
    "metaqnn": {"resolution": 4, "limit": 2, "filters": (8,), "widths": (8, 4)},
}


def make(name, uniform):
    return REGISTRY.build("space", {"name": name, **SMALL[name], "uniform": uniform})


def chance(architecture):
    """Return how likely a space draws an architecture."""
    shares = 1.0
    for name, value in architecture.values.items():
        domain = architecture.domains[name]
        prior = getattr(domain, "prior", None)
        shares *= 1 / domain.count if prior is None else prior[domain.index(value)]
    return shares


@pytest.mark.parametrize("name", SMALL)
def test_every_architecture_is_as_likely_as_any_other(name):
    space = make(name, "architectures")
    chances = [chance(architecture) for architecture in space.enumerate()]
    assert len(chances) == space.size()
    assert all(math.isclose(one, 1 / space.size()) for one in chances)
    by_decisions = [chance(architecture) for architecture in make(name, "decisions").enumerate()]
    assert sum(by_decisions) == pytest.approx(1)
    assert max(by_decisions) > 1.5 * min(by_decisions)


@pytest.mark.parametrize("name", SMALL)
def test_samples_have_the_chances_of_their_priors(name):
    space, rng = make(name, "architectures"), random.Random(0)
    size = space.size()
    drawn = Counter(space.sample(rng) for _ in range(20 * size if size < 500 else 10_000))
    if size < 500:
        assert len(drawn) == size
        assert sum((count - 20) ** 2 / 20 for count in drawn.values()) < size + 5 * math.sqrt(2 * size)


@pytest.mark.parametrize("name", SMALL)
def test_the_contract_of_spaces_holds(name):
    check_space(make(name, "architectures"), samples=3)


def test_large_spaces_can_be_drawn_from_whatever_their_size():
    rng = random.Random(0)
    for name, fields in {
        "pnas": {"blocks": 200},
        "chain": {"depth": 500},
        "dpp_net": {"layers": 300},
        "auto_net": {"layers": 200},
        "blockqnn": {"layers": 60},
        "tree_cell": {"depth": 5, "channels": 32},
    }.items():
        space = REGISTRY.build("space", {"name": name, **fields, "uniform": "architectures"})
        values = space.sample(rng).values
        assert len(values) > 100, f"{name} draws a small one of so many: {values}"


NETWORKS = {
    "darts": {"nodes": 3, "reductions": 0, "operations": ("skip", "sep3x3")},
    "nasrl": {"layers": 3, "kernels": (1,), "filters": (4, 8)},
    "nasrl, pooled": {"layers": 4, "kernels": (1,), "filters": (4,), "pools": (2,)},
    "nasbench201": {},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_known_in_how_many_ways_each_network_is_told(name):
    space = REGISTRY.build("space", {"name": name.partition(",")[0], **NETWORKS[name]})
    everything = list(space.enumerate())
    told = Counter(space.canonical(architecture.blueprint) for architecture in everything)
    for architecture in random.Random(0).sample(everything, min(len(everything), 600)):
        assert space.tellings(architecture.blueprint) == told[space.canonical(architecture.blueprint)]
    assert max(told.values()) > 1
    if name == "nasbench201":
        assert len(told) == 5_425


@pytest.mark.parametrize("name", ["darts", "nasrl"])
def test_every_network_is_as_likely_as_any_other(name):
    fields, rng = {"name": name, **NETWORKS[name]}, random.Random(0)
    few = {"nodes": 2} if name == "darts" else {"filters": (4,)}
    space = REGISTRY.build("space", {**fields, **few, "uniform": "networks"})
    networks = {space.canonical(architecture.blueprint) for architecture in space.enumerate()}
    drawn = Counter(space.canonical(space.sample(rng).blueprint) for _ in range(40 * len(networks)))
    assert set(drawn) == networks
    deviation = sum((count - 40) ** 2 / 40 for count in drawn.values())
    assert deviation < len(networks) + 5 * math.sqrt(2 * len(networks))
    even = REGISTRY.build("space", {**fields, **few})
    skewed = Counter(even.canonical(even.sample(rng).blueprint) for _ in range(40 * len(networks)))
    assert sum((count - 40) ** 2 / 40 for count in skewed.values()) > 2 * deviation


def test_networks_are_drawn_one_by_one_by_the_seed_at_the_default_scale():
    for name in ("darts", "nasrl", "nasbench201"):
        space = REGISTRY.build("space", {"name": name, "uniform": "networks"})
        one, other = (space.sample(random.Random(1)) for _ in range(2))
        assert one == other
        assert space.read(one.to_json()) == one

"""What every compressor owes every family of networks."""

from __future__ import annotations

import copy
import functools

import pytest
import torch

from automl import measure
from automl.compressor import Compressed
from automl.plugins import Registry
from automl_tasks.synthetic import Synthetic
from given import FAMILIES, Given, Lending, of_family

COMPRESSORS = {
    "pruning": {"name": "pruning", "budget": 0.8, "criterion": "l2"},
    "pruning, all channels in one ranking": {"name": "pruning", "across": "global", "budget": 0.8},
    "amc": {"name": "amc", "budget": 0.8, "keep": [0.5, 1.0]},
}
WHOLE = {
    "pruning": {"keep": 1.0, "budget": None},
    "pruning, all channels in one ranking": {"keep": 1.0, "budget": None},
    "amc": {"budget": None},
}
FEW = [("residual", "pruning"), ("depthwise", "pruning"), ("depthwise", "amc"), ("shuffled, two", "amc")]
IMAGE = (3, 16, 16)


@functools.cache
def task():
    made = Synthetic(count=40, size=16, channels=3, labels=4, batch_size=8)
    made.prepare(0)
    return made


@functools.cache
def network(family):
    return of_family(family, task())


def compressed(one, name, share=0.9, **settings):
    space = Compressed(Given(one), Registry().build("compressor", {**COMPRESSORS[name], "recalibrate": 0, **settings}))
    space.check(task())
    architecture = space.make(lambda _, domain: domain.fit(share))
    return space, architecture, space.finish(copy.deepcopy(one), architecture.blueprint, Lending(task()))


@pytest.mark.parametrize(
    ("family", "name"), [*((family, "pruning, all channels in one ranking") for family in FAMILIES), *FEW]
)
def test_it_makes_a_network_really_smaller_once(family, name):
    whole = network(family)
    space, architecture, smaller = compressed(whole, name)
    assert measure.multiply_adds(smaller, IMAGE) <= 0.8 * measure.multiply_adds(whole, IMAGE)
    assert measure.parameters(smaller) < measure.parameters(whole)
    with torch.no_grad():
        found = smaller(torch.rand(2, *IMAGE))
    again = space.rebuild(architecture.blueprint, task(), smaller.automl_form)
    assert {key: value.shape for key, value in again.state_dict().items()} == {
        key: value.shape for key, value in smaller.state_dict().items()
    }
    assert torch.isfinite(found).all()


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("family", ["residual", "shuffled, two"])
def test_kept_whole_it_is_the_same_network_also_after_another_compression(family, name):
    _, _, once = compressed(network(family), name)
    _, _, twice = compressed(once, name, share=1.0, **WHOLE[name])
    images = torch.rand(2, *IMAGE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(once(images), twice(images))


@pytest.mark.parametrize("name", COMPRESSORS)
def test_equal_plans_make_equal_bytes(name):
    one, other = (compressed(network("depthwise"), name)[2].state_dict() for _ in range(2))
    assert all(torch.equal(one[key], other[key]) for key in one)

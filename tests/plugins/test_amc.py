"""AMC: the shares of the layers as decisions, described by the layers, within a budget."""

from __future__ import annotations

import copy
import random

import pytest
import torch

from automl import BadInput
from automl.compressor import Compressed
from automl.measure import multiply_adds, parameters
from automl_compressors.amc import AMC
from automl_compressors.channels import Channels
from automl_tasks.synthetic import Synthetic
from given import Given, Lending, plain, residual

IMAGE = (3, 8, 8)


def task():
    made = Synthetic(count=60, size=8, channels=3, labels=4, batch_size=16)
    made.prepare(0)
    return made


def compressed(network, **settings):
    space = Compressed(Given(network), AMC(**settings))
    space.check(task())
    return space


@pytest.mark.parametrize("make", [plain, residual])
@pytest.mark.parametrize("resource", ["multiply_adds", "parameters"])
@pytest.mark.parametrize(("budget", "round_to"), [(0.3, 1), (0.5, 1), (0.5, 4)])
def test_no_network_exceeds_the_budget_by_exact_recount(make, resource, budget, round_to):
    network = make()
    space = compressed(network, budget=budget, resource=resource, round_to=round_to, keep=(0.05, 1.0))
    channels = Channels.of(network, IMAGE)
    most = budget * channels.cost({}, resource)
    rng = random.Random(0)
    count = {"multiply_adds": lambda one: multiply_adds(one, IMAGE), "parameters": parameters}[resource]
    for number in range(500):
        widths = dict(space.make(lambda _, domain: domain.sample(lambda: rng.random() ** 0.3)).blueprint.plan.widths)
        assert channels.cost(widths, resource) <= most
        if number < 3:
            kept = {name: range(width) for name, width in widths.items()}
            assert count(channels.prune(network, kept)) == channels.cost(widths, resource)


def test_the_form_has_the_plan_as_costly_that_treats_all_layers_alike():
    network = residual()
    space = compressed(network, budget=0.5, recalibrate=0)
    found = space.finish(copy.deepcopy(network), space.sample(random.Random(0)).blueprint, Lending(task()))
    form, channels = found.automl_form["compressed"], Channels.of(network, IMAGE)
    units = {name: group.units for name, group in channels.groups.items()}

    def cost(shares):
        return channels.cost({name: round(share * units[name]) for name, share in shares.items()}, "multiply_adds")

    assert cost(form["alike"]) <= cost(form["kept"])
    wider = {name: min(1.0, share + 1.01 / units[name]) for name, share in form["alike"].items()}
    assert cost(wider) > cost(form["kept"])
    assert max(form["alike"].values()) - min(form["alike"].values()) < max(1 / one for one in units.values())


def test_where_there_is_room_a_decision_stands():
    space = compressed(plain(), budget=0.9)
    wide = space.make(lambda name, domain: domain.fit(0.5))
    assert set(wide.values.values()) == {0.5}


def test_the_budget_clips_the_last_decisions():
    network = plain()
    space = compressed(network, budget=0.5)
    greedy = space.make(lambda name, domain: domain.fit(1.0))
    shares = list(greedy.values.values())
    assert shares[0] == 1.0
    assert shares[-1] < 1.0
    widths = dict(greedy.blueprint.plan.widths)
    channels = Channels.of(network, IMAGE)
    last = list(widths)[-1]
    assert channels.cost({**widths, last: widths[last] + 1}, "multiply_adds") > 0.5 * channels.cost({}, "multiply_adds")


def test_every_decision_has_eleven_features():
    space = compressed(plain((8, 12, 16, 16)), budget=0.5)
    architecture = space.sample(random.Random(0))
    shares = list(architecture.values.values())
    rows = list(architecture.contexts.values())
    assert {len(row) for row in rows} == {11}
    assert all(0 <= number <= 1 for row in rows for number in row)
    place, outputs, inputs, height, width, stride, kernel, cost, reduced, rest, before = zip(*rows, strict=True)
    assert place == pytest.approx((0, 1 / 3, 2 / 3, 1))
    assert outputs == (0, 0.5, 1, 1)
    assert inputs == pytest.approx((0, 5 / 13, 9 / 13, 1))
    assert height == width == stride == kernel == (0, 0, 0, 0)
    assert cost[0] == 0
    assert cost[3] == 1
    assert reduced[0] == 0
    assert list(reduced) == sorted(reduced)
    assert list(rest) == sorted(rest, reverse=True)
    assert rest[3] == 0
    widths = architecture.blueprint.plan.widths
    units = [8, 12, 16, 16]
    assert before == pytest.approx((1, *(kept / all_ for (_, kept), all_ in zip(widths[:-1], units[:-1], strict=True))))
    assert all(
        abs(kept / all_ - share) <= 1 / all_ for (_, kept), all_, share in zip(widths, units, shares, strict=True)
    )


def test_the_search_judges_the_network_that_is_shipped():
    network = residual()
    space = compressed(network, budget=0.5)
    architecture = space.sample(random.Random(3))
    images = torch.rand(2, *IMAGE)
    outputs = []
    for _ in range(2):
        smaller = space.finish(copy.deepcopy(network), architecture.blueprint, Lending(task()))
        outputs.append(smaller.eval()(images))
    assert torch.equal(*outputs)


def test_layers_that_an_addition_joins_are_one_decision():
    architecture = compressed(residual(), budget=0.5).sample(random.Random(0))
    assert list(architecture.values) == ["keep.0", "keep.1.one", "keep.2.one"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"budget": 0.001}, "cannot be met: the narrowest network that the settings allow has 0.0"),
        ({"keep": (0.5, 0.5)}, "leaves nothing to decide"),
    ],
)
def test_what_cannot_be_is_said(settings, sentence):
    with pytest.raises(BadInput, match=sentence):
        compressed(plain(), **settings).sample(random.Random(0))

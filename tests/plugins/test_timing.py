"""Budgets of latency: a formula of the widths, learnt from a table of kernels, and compressors that keep to it."""

from __future__ import annotations

import copy
import functools
import json
import random
import shutil
from collections import Counter

import pytest
from torch import nn

from automl import BadInput, latency_table, load, measure
from automl.cli import main
from automl.compressor import Compressed
from automl.deploy import Deployed
from automl.kernels import cut
from automl.latency_model import CALL
from automl.latency_table import Network, Table
from automl_compressors.amc import AMC
from automl_compressors.channels import Channels
from automl_compressors.pruning import Pruning
from automl_compressors.timing import Timing
from automl_tasks.synthetic import Synthetic
from given import Given, of_family, plain, residual

IMAGE = (3, 16, 16)
GROUPS = 12  # of a network, which become narrower


@functools.cache
def task():
    made = Synthetic(count=40, size=16, channels=3, labels=4, batch_size=8)
    made.prepare(0)
    return made


def kernels(network):
    return [one.kernel for one in cut(Deployed.of(copy.deepcopy(network), task()), task().input)]


def takes(kernel):
    """Return what a kernel takes on a machine that is as slow as it has to multiply, to read and to write."""
    return 0.001 + 1e-7 * kernel.multiply_adds + 2e-7 * kernel.elements


def narrowed(network, channels, rng):
    kept = {name: range(rng.randint(1, channels.groups[name].units)) for name in list(channels.groups)[:GROUPS]}
    return channels.prune(network, kept), {name: len(units) for name, units in kept.items()}


def table(network, *, networks=12, image=IMAGE):
    """Return a table of such a machine that knows networks with layers of random widths, and the whole one."""
    channels, rng = Channels.of(network, IMAGE), random.Random(0)
    known = [network, *(narrowed(network, channels, rng)[0] for _ in range(networks))]
    operations = {kernel.name: takes(kernel) for one in known for kernel in kernels(one)}
    return Table("latency_ms", None, image, {CALL: 0.02, **operations})


def formula(network, made):
    channels = Channels.of(network, IMAGE)
    groups = list(channels.groups)[:GROUPS]
    cost, whole = Timing(made, "t.json").cost(copy.deepcopy(network).to("meta"), channels, groups, task())
    return channels, cost, whole


@pytest.mark.slow  # cuts each network as often as it has layers
@pytest.mark.parametrize("family", ["plain", "residual", "dense", "depthwise", "shuffled, two", "interleaved"])
def test_the_formula_is_what_the_kernels_of_the_narrower_network_take(family):
    """The machine is one whose kernels the formula can say exactly: so it is exact for widths that were never timed."""
    network = of_family(family, task())
    channels, cost, whole = formula(network, table(network))
    assert whole == pytest.approx(0.02 + sum(map(takes, kernels(network))), rel=1e-9)
    assert cost.of(channels.units({})) == pytest.approx(whole, rel=1e-6)
    rng = random.Random(7)
    for _ in range(3):
        smaller, widths = narrowed(network, channels, rng)
        found = cost.of(channels.units(widths))
        assert found == pytest.approx(0.02 + sum(map(takes, kernels(smaller))), rel=1e-6)
        assert found < whole


def test_what_kernels_sum_to_is_corrected_by_whole_networks():
    network = plain()
    made = table(network)
    channels, alone, whole = formula(network, made)
    rng = random.Random(3)
    smaller = [network, *(narrowed(network, channels, rng)[0] for _ in range(5))]
    sums = [0.02 + sum(map(takes, kernels(one))) for one in smaller]
    names = [Counter(kernel.name for kernel in kernels(one)) for one in smaller]
    made.operations |= {kernel.name: takes(kernel) for one in smaller for kernel in kernels(one)}
    made.networks = [Network(counts, 0.8 * time - 0.01) for counts, time in zip(names, sums, strict=True)]
    _, corrected, taken = formula(network, made)
    assert taken == pytest.approx(0.8 * whole - 0.01)
    _, widths = narrowed(network, channels, rng)
    units = channels.units(widths)
    assert corrected.of(units) == pytest.approx(0.8 * alone.of(units) - 0.01, rel=1e-5)
    made.networks = [Network(names[0], 1.3 * sums[0])] * 4  # all alike: there is no line through them
    assert formula(network, made)[2] == pytest.approx(1.3 * whole)


def test_no_layer_that_is_narrower_takes_longer():
    """Whatever the machine: here what a kernel takes has nothing to do with how wide it is."""
    network = plain()
    made, rng = table(network), random.Random(0)
    made.operations = {name: rng.random() for name in made.operations}
    channels, cost, _ = formula(network, made)
    for _ in range(100):
        widths = {name: rng.randint(2, group.units) for name, group in channels.groups.items()}
        name = rng.choice([*widths])
        assert cost.of(channels.units({**widths, name: widths[name] - 1})) <= cost.of(channels.units(widths)) + 1e-12


def compressed(network, compressor):
    space = Compressed(Given(network), compressor)
    space.check(task())
    return space


@pytest.fixture
def written(tmp_path):
    """Return what writes the table of a network, and gives its file's name."""

    def write(network, **settings):
        table(network, **settings).write(tmp_path / "t.json")
        return str(tmp_path / "t.json")

    return write


@pytest.mark.parametrize("make", [plain, residual])
@pytest.mark.parametrize(("budget", "round_to"), [(0.6, 1), (0.8, 4)])
def test_no_network_exceeds_the_budget_by_recount_of_its_kernels(make, budget, round_to, written):
    network = make()
    settings = {"resource": "latency_ms", "latencies": written(network), "budget": budget, "keep": (0.05, 1.0)}
    space = compressed(network, AMC(round_to=round_to, **settings))
    channels = Channels.of(network, IMAGE)
    most = budget * (0.02 + sum(map(takes, kernels(network))))
    rng = random.Random(0)
    wide = 0.0
    for number in range(60):
        chosen = space.make(lambda _, domain: domain.sample(lambda: rng.random() ** 0.3))
        kept = {name: range(width) for name, width in chosen.blueprint.plan.widths}
        taken = 0.02 + sum(map(takes, kernels(channels.prune(network, kept))))
        assert taken <= most * (1 + 1e-6), number
        wide = max(wide, taken)
    assert wide > 0.7 * most


@pytest.mark.parametrize("across", ["uniform", "layers", "global"])
def test_rules_keep_to_it_as_well(across, written):
    network = residual()
    settings = {"resource": "latency_ms", "latencies": written(network), "recalibrate": 0}
    space = compressed(network, Pruning(across=across, budget=0.7, **settings))
    chosen = space.sample(random.Random(0))
    smaller = space.build(chosen.blueprint, task())
    whole, left = (0.02 + sum(map(takes, kernels(one))) for one in (network, smaller))
    assert left <= 0.7 * whole * (1 + 1e-6)


def test_a_budget_of_all_leaves_all(written):
    network = plain()
    space = compressed(network, Pruning(resource="latency_ms", latencies=written(network), budget=1.0, recalibrate=0))
    smaller = space.build(space.sample(random.Random(0)).blueprint, task())
    assert measure.parameters(smaller) == measure.parameters(network)


def test_layers_are_described_by_the_latency_that_is_left(written):
    """The ninth feature, the share that earlier layers are rid of, is of what the budget is of."""
    network = plain((8, 12, 16, 16))
    rows = [
        [*compressed(network, AMC(**settings)).make(lambda _, domain: domain.fit(0.3)).contexts.values()]
        for settings in ({"budget": 0.9}, {"budget": 0.9, "resource": "latency_ms", "latencies": written(network)})
    ]
    assert [one[:8] for one in rows[0]] == [one[:8] for one in rows[1]]
    assert 0 < rows[1][2][8] < rows[0][2][8]  # calls and maps remain where products went


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"resource": "latency_ms"}, r"needs a table of the device: give compressor.latencies=FILE; automl latency b"),
        (
            {"latencies": "t.json"},
            "is of no use to compressor.resource=multiply_adds: type compressor.resource=latency",
        ),
        (
            {"resource": "latency_ms", "latencies": "t.json", "budget": None},
            "where compressor.budget is null: give the",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, told):
    with pytest.raises(BadInput, match=told):
        AMC(**settings)


def test_tables_that_do_not_fit_are_refused(written, tmp_path):
    network = plain()
    settings = {"resource": "latency_ms", "latencies": str(tmp_path / "t.json")}
    with pytest.raises(BadInput, match=r"compressor.latencies=.*t.json cannot be read \(No such file"):
        compressed(network, Pruning(**settings))
    written(network, image=(3, 8, 8))
    with pytest.raises(BadInput, match="is of images of 3x8x8, and here they are 3x16x16: make another"):
        compressed(network, Pruning(**settings))
    written(network, networks=0)
    with pytest.raises(BadInput, match=r"has one width alone of 'convolution: .* of 1x3x16x16': make a table of"):
        compressed(network, Pruning(**settings))
    written(nn.Sequential(nn.Conv2d(3, 8, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)))
    with pytest.raises(BadInput, match=r"has no kernel like 'convolution: .*': make a table of this space and compre"):
        compressed(network, Pruning(**settings))
    written(network)
    with pytest.raises(BadInput, match=r"budget=0.01 of the milliseconds cannot be met: the narrowest network that"):
        compressed(network, Pruning(budget=0.01, **settings))


@pytest.mark.slow  # exports two networks and all kernels, and searches
def test_what_is_found_by_a_table_needs_it_no_more(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["+space=vgg_cifar", "space.width=0.0625", "task=synthetic", "task.count=60", "seed=1", "+compressor=amc"]
    assert main(["latency", "build", "--out", "t.json", *words, "compressor.budget=null", "--networks", "8"]) == 0
    capsys.readouterr()
    made = latency_table.read(tmp_path / "t.json", "latency_ms", "t.json")
    search = ["compressor.resource=latency_ms", "compressor.latencies=t.json", "compressor.budget=0.8", "runs=runs"]
    more = ["strategy=random", "trials=3", "retrain.epochs=1", "retrain.tuning=0"]
    assert main([*words, *search, *more]) == 0
    folder = tmp_path / capsys.readouterr().out.splitlines()[-1]
    whole, smaller = (kernels_of(load(place)) for place in (folder / "before", folder))
    assert {one.name for one in whole} <= made.operations.keys()
    assert sum(one.multiply_adds for one in smaller) < sum(one.multiply_adds for one in whole)
    settings = json.loads((folder / "architecture.json").read_text())["space"]["compressor"]
    assert settings["latencies"] is None
    made.operations[CALL] += 1e-6
    made.write(tmp_path / "t.json")
    assert main(["resume", str(folder), "trials=4"]) == 2
    assert "is of another study: its weights is" in capsys.readouterr().err
    elsewhere = tmp_path / "elsewhere" / "run"
    shutil.copytree(folder, elsewhere)
    (tmp_path / "t.json").unlink()
    assert [one.name for one in kernels_of(load(elsewhere))] == [one.name for one in smaller]


def kernels_of(deployed):
    return [one.kernel for one in cut(deployed, deployed.input)]

"""The Gaussian process over encodings of architectures, part by part and as a search."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import numpy
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm

from automl import BadInput, Candidate, Integer, Limit, Objective, Op, Real, Report, Space, Trial
from automl.study import Study
from automl.testing import NO_TASK, Checksum, ConditionalSpace, Scripted, ToySpace, check_strategy
from automl_spaces.nasbench201 import NASBench201
from automl_spaces.nasnet import NASNet
from automl_strategies.cell_paths import MOST, operations_and_paths
from automl_strategies.encodings import Columns, Encoder, counts, numbers, options, scaled, unscaled
from automl_strategies.expected_improvement import log_expected_improvement
from automl_strategies.gaussian_process import GaussianProcess, kernel, loss, prior
from automl_strategies.gp import GP, standardised

OBJECTIVES = (Objective("accuracy"),)


def cell(*operations):
    """Return the cell of NAS-Bench-201 with those operations: 0 none, 1 skip, 2 and 3 convolutions, 4 pool."""
    names = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
    space = NASBench201()
    decided = space.sample(random.Random(0)).values
    return space.read({name: names[place] for name, place in zip(decided, operations, strict=True)})


def paths(architecture):
    return operations_and_paths(NASBench201().graph(architecture.blueprint))[1]


def squared(one, other):
    return sum((one.get(name, 0) - other.get(name, 0)) ** 2 for name in {*one, *other})


# Encodings


def test_an_option_is_one_apart_from_another_and_from_none():
    space = ConditionalSpace()
    one = space.read(
        {"depth": 1, "width": 4, "layer.0.kind": "conv", "layer.0.kernel": [3, 3], "layer.0.channels": 2}
        | {"momentum": 0.9, "rate": 1e-4}
    )
    kernel_changed = space.complete(one.values | {"layer.0.kernel": (5, 5)}, random.Random(0))
    assert squared(options(one), options(kernel_changed)) == pytest.approx(1)
    absent = space.complete(one.values | {"layer.0.kind": Op("pool", lambda: None)}, random.Random(0))
    assert "layer.0.kernel" not in options(absent)
    assert squared(options(one), options(absent)) == pytest.approx(1 + 1)  # of another kind, without a kernel
    assert numbers(one) == numbers(absent)


def test_a_number_is_where_it_is_in_its_interval_and_lacks_where_it_is_not_decided():
    space = ConditionalSpace()
    values = {"depth": 1, "width": 4, "layer.0.kind": "pool", "layer.0.channels": 2}
    low = space.read(values | {"momentum": 0.9, "rate": 1e-4})
    high = space.read(values | {"momentum": 0.9, "rate": 1e-1})
    none = space.read(values | {"momentum": None})
    assert squared(numbers(low), numbers(high)) == pytest.approx(1)
    assert squared(numbers(low), numbers(none)) == pytest.approx(0.5)
    assert options(low) == options(high)


def test_numbers_are_scaled_to_their_interval_and_back():
    assert scaled(Real(1e-4, 1e-2, log=True), 1e-3) == pytest.approx(0.5)
    assert scaled(Integer(0, 10), 4) == pytest.approx(0.4)
    assert scaled(Real(2.0, 2.0), 2.0) == 0
    assert unscaled(Real(1e-4, 1e-2, log=True), 0.5) == pytest.approx(1e-3)
    assert unscaled(Integer(0, 10), 0.44) == 4
    assert unscaled(Real(0.1, 0.3, log=True), 1.5) == 0.3
    assert unscaled(Integer(1, 8, log=True), -0.5) == 1


def test_counts_are_of_decisions_that_differ_by_numbers_in_their_names():
    space = ConditionalSpace()
    one = space.read(
        {"depth": 2, "width": 4, "layer.0.kind": "pool", "layer.0.channels": 4, "layer.1.kind": "pool"}
        | {"layer.1.channels": 1, "momentum": None}
    )
    counted = counts(one)
    assert counted["layer.#.kind=pool"] == 2
    assert counted["layer.#.channels="] == pytest.approx(1 + 0)  # of 1 to 4
    assert counted["momentum=None"] == 1


def test_options_that_look_alike_are_told_apart():
    space = ConditionalSpace()
    one = space.sample(random.Random(0))
    number, text = (space.complete(one.values | {"momentum": value}, random.Random(0)) for value in (0.9, "0.9"))
    assert set(options(number)) != set(options(text))


def test_distances_are_exact_for_features_that_no_row_has():
    rows = [{"a": 1.0, "b": 2.0}, {"b": 1.0}, {}]
    others = [{"a": 0.5, "c": 3.0}, {"d": 1.0}]
    columns = Columns(rows)
    assert columns.squares(others) == pytest.approx(
        numpy.array([[squared(other, row) for row in rows] for other in others])
    )
    assert columns.squares() == pytest.approx(numpy.array([[squared(one, row) for row in rows] for one in rows]))
    assert Columns([{}]).squares([{}]).tolist() == [[0.0]]


# Paths


def test_a_path_is_its_operations_without_what_changes_nothing():
    assert paths(cell(3, 2, 0, 1, 4, 3)) == {
        "cell: input": 1.0,
        "cell: input > nor_conv_3x3 > avg_pool_3x3": 1.0,
        "cell: input > nor_conv_1x1 > nor_conv_3x3": 1.0,
    }
    assert paths(cell(0, 0, 3, 0, 3, 3)) == {}  # the output is never reached
    assert paths(cell(0, 0, 3, 2, 3, 3)) == {"cell: input > nor_conv_1x1": 1.0}  # inner nodes are no inputs


def test_only_operations_on_a_way_from_input_to_output_are_counted():
    graph = NASBench201().graph
    dead = cell(3, 2, 0, 3, 0, 4)  # nothing reads node 1
    assert operations_and_paths(graph(dead.blueprint))[0] == {
        "cell: nor_conv_1x1": 1,
        "cell: nor_conv_3x3": 1,
        "cell: avg_pool_3x3": 1,
    }
    assert counts(dead)["edge#.op=nor_conv_3x3"] == 2


def test_paths_do_not_depend_on_what_inner_nodes_are_called():
    edges = [("input", "1", "a"), ("input", "2", "b"), ("1", "2", "c"), ("1", "output", "d"), ("2", "output", "e")]
    other = {"1": "7", "2": "3"}
    renamed = [(other.get(source, source), other.get(target, target), op) for source, target, op in reversed(edges)]
    first, second = operations_and_paths({"cell": edges}), operations_and_paths({"cell": renamed})
    assert (dict(sorted(first[0].items())), dict(sorted(first[1].items()))) == (
        dict(sorted(second[0].items())),
        dict(sorted(second[1].items())),
    )
    assert len(first[1]) == 3


def test_cells_that_are_one_graph_are_encoded_alike():
    one, other = cell(3, 2, 0, 0, 4, 1), cell(2, 3, 0, 0, 1, 4)  # the two inner nodes exchanged
    space = NASBench201()
    assert space.canonical(one.blueprint) == space.canonical(other.blueprint)
    encoder = Encoder(space, ("operations", "paths"))
    assert encoder(one) == encoder(other)
    assert options(one) != options(other)


def test_the_cells_and_the_inputs_of_nasnet_are_told_apart():
    space = NASNet()
    encoded = Encoder(space, ("paths",))(space.sample(random.Random(0)))[0]
    starts = {path.split(" > ")[0] for path in encoded}
    assert starts <= {f"{kind}: h[{state}]" for kind in ("normal", "reduce") for state in ("k-1", "k-2")}
    assert {path.split(":")[0] for path in encoded} == {"normal", "reduce"}


def test_of_a_graph_with_very_many_paths_the_most_common_are_kept():
    nodes = ["input", *map(str, range(12)), "output"]
    edges = [(a, b, op) for a, b in pairwise(nodes) for op in ("x", "y", "skip")]
    operations, found = operations_and_paths({"cell": edges})
    assert len(found) == MOST
    assert operations == {"cell: x": 13, "cell: y": 13, "cell: skip": 13}
    assert operations_and_paths({"cell": [*edges, ("3", "2", "x")]})[1] == {}  # a circle has no paths, and no end


# The Gaussian process


def some_squares(points, encodings=2, seed=0):
    generator = numpy.random.default_rng(seed)
    vectors = [generator.integers(0, 2, (points, 6)).astype(float) for _ in range(encodings)]
    return [((one[:, None] - one[None]) ** 2).sum(-1) for one in vectors]


def test_the_posterior_is_that_of_the_joint_normal_distribution():
    squares = some_squares(9)
    targets = numpy.sin(numpy.arange(6.0))
    process = GaussianProcess()
    process.parameters = numpy.array([-0.5, -1.0, 0.3, 0.7, -2.0])
    process.condition([square[:6, :6] for square in squares], targets)
    mean, deviation = process.predict([square[6:, :6] for square in squares])
    joint = kernel(squares, process.parameters)
    solve = numpy.linalg.inv(joint[:6, :6] + (math.exp(-2.0) + 1e-6) * numpy.eye(6))
    assert mean == pytest.approx(joint[6:, :6] @ solve @ targets)
    assert deviation**2 == pytest.approx(numpy.diag(joint[6:, 6:] - joint[6:, :6] @ solve @ joint[:6, 6:]))


def test_the_loss_is_minus_the_logarithm_of_likelihood_times_prior():
    squares, targets = some_squares(7), numpy.cos(numpy.arange(7.0))
    centre = prior(squares)
    parameters = centre + numpy.array([0.2, -0.4, 0.5, -0.1, 0.3])
    covariance = kernel(squares, parameters) + (math.exp(parameters[-1]) + 1e-6) * numpy.eye(7)
    expected = -multivariate_normal.logpdf(targets, numpy.zeros(7), covariance) - norm.logpdf(parameters - centre).sum()
    constants = 0.5 * math.log(2 * math.pi) * (7 + 5)
    assert loss(parameters, squares, targets, centre)[0] + constants == pytest.approx(expected)


def test_the_gradient_is_that_of_finite_differences():
    squares, targets = some_squares(12, 3), numpy.cos(numpy.arange(12.0))
    centre = prior(squares)
    parameters = centre + 0.3
    step = 1e-5
    _, gradient = loss(parameters, squares, targets, centre)
    for place, offset in enumerate(numpy.eye(len(parameters)) * step):
        ends = [loss(parameters + sign * offset, squares, targets, centre)[0] for sign in (1, -1)]
        assert gradient[place] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=1e-6)


def test_the_kernel_of_real_cells_is_positive_semidefinite():
    space, rng = NASBench201(), random.Random(0)
    encoder = Encoder(space, ("options", "counts", "operations", "paths"))
    features = [encoder(space.sample(rng)) for _ in range(120)]
    squares = [Columns(one).squares() for one in zip(*features, strict=True)]
    covariance = kernel(squares, prior(squares))
    assert numpy.linalg.eigvalsh(covariance).min() > -1e-10
    assert numpy.diag(covariance) == pytest.approx(1)


def test_fitting_gives_the_weight_to_the_encoding_that_explains_the_targets():
    generator = numpy.random.default_rng(0)
    told, untold = generator.normal(size=(40, 2)), generator.normal(size=(40, 2))
    squares = [((one[:, None] - one[None]) ** 2).sum(-1) for one in (untold, told)]
    targets = numpy.sin(told[:, 0]) + told[:, 1]
    process = GaussianProcess(iterations=50)
    process.fit(squares, (targets - targets.mean()) / targets.std())
    weights = numpy.exp(process.parameters[:2])
    assert weights[1] > 4 * weights[0]
    assert math.exp(process.parameters[-1]) < 0.05


@pytest.mark.parametrize(("mean", "deviation", "best"), [(0.3, 1.0, 0.0), (-2.0, 0.7, 0.5), (-3.0, 0.5, 0.0)])
def test_the_expected_improvement_is_the_integral(mean, deviation, best):
    density = norm(mean, deviation).pdf
    integral, _ = quad(lambda value: (value - best) * density(value), best, best + 12 * deviation, epsabs=0)
    found = log_expected_improvement(numpy.array([mean]), numpy.array([deviation]), best)[0]
    assert found == pytest.approx(math.log(integral), rel=1e-6)


def test_the_expected_improvement_is_told_apart_where_it_is_no_number_any_more():
    z = numpy.array([-0.999, -1.001, -50.0, -9_999.0, -10_001.0, -1e6])
    found = log_expected_improvement(z, numpy.ones_like(z), 0.0)
    assert numpy.isfinite(found).all()
    assert (numpy.diff(found) < 0).all()
    assert found[2] == pytest.approx(norm.logpdf(50) - 2 * math.log(50) + math.log1p(-3 / 50**2), abs=1e-5)


# The strategy


@pytest.mark.parametrize(
    "factory",
    [
        lambda: GP(candidates=12),
        lambda: GP(startup=2, candidates=6, points=6),
        lambda: GP(startup=30, encodings=("counts",)),
    ],
    ids=["default", "few", "startup"],
)
def test_it_keeps_the_contract(factory):
    check_strategy(factory, trials=12)


def told(strategy, number, candidate, scores=(), *, fidelity=1.0, error=None, violation=0.0):
    trial = Trial(number, candidate, 0)
    trial.scores, trial.error, trial.violation = tuple(scores), error, violation
    trial.reports = [Report({}, fidelity)]
    strategy.tell(trial)


def started(strategy, space):
    strategy.start(space, random.Random(0))
    return strategy


class Numbers(Space):
    """Two real numbers and an integer, all by their own scale."""

    def describe(self, choose):
        return choose("x", Real(0.0, 1.0)), choose("rate", Real(1e-5, 1.0, log=True)), choose("n", Integer(1, 100))

    def build(self, blueprint, task):
        raise NotImplementedError


def near(blueprint):
    x, rate, n = blueprint
    return -((x - 0.3) ** 2) - ((math.log10(rate) + 2) / 5) ** 2 - ((n - 71) / 100) ** 2


def test_it_finds_numbers_that_random_search_does_not_in_five_times_the_trials():
    space, found, drawn = Numbers(), [], []
    for seed in range(4):
        strategy, rng = GP(), random.Random(seed)
        strategy.start(space, rng)
        scores = []
        for number in range(40):
            candidate = strategy.ask()
            scores.append(near(candidate.architecture.blueprint))
            told(strategy, number, candidate, [scores[-1]])
        found.append(max(scores))
        drawn.append(max(near(space.sample(rng).blueprint) for _ in range(200)))
    assert numpy.mean(found) > numpy.mean(drawn)


def test_it_asks_for_nothing_twice_while_there_is_something_new():
    strategy = started(GP(candidates=30), ToySpace(3, 3))
    asked = []
    for number in range(27):
        candidate = strategy.ask()
        asked.append(candidate.architecture)
        if number % 2:  # the others are running all along
            told(strategy, number, candidate, [sum(candidate.architecture.blueprint)])
    assert len(set(asked[:20])) == 20
    assert strategy.ask() is not None


def test_what_is_running_is_believed_to_come_to_what_is_expected_and_so_is_not_crowded_around():
    strategy = started(GP(), Numbers())
    for number in range(12):
        candidate = Candidate(Numbers().sample(random.Random(number)))
        told(strategy, number, candidate, [near(candidate.architecture.blueprint)])
    running = [strategy.ask().architecture]
    mean, deviation = strategy.model.predict(strategy._squares(running))
    strategy.ask()
    believed, left = strategy.model.predict(strategy._squares(running))
    assert believed == pytest.approx(mean)
    assert left < 0.8 * deviation
    told(strategy, 12, Candidate(running[0]), [-1.0])
    assert running[0] not in strategy.running


def test_it_models_the_largest_fidelity_with_enough_trials():
    strategy, rng = started(GP(startup=3), ToySpace(6, 5)), random.Random(0)
    for number in range(12):
        fidelity = 0.1 if number < 8 else 1.0
        told(strategy, number, Candidate(strategy.space.sample(rng)), [number], fidelity=fidelity)
    assert sorted(trial.number for trial in strategy._modelled()) == [8, 9, 10, 11]
    told(strategy, 12, Candidate(strategy.space.sample(rng)), error="out of memory")
    assert len(strategy._modelled()) == 5  # what failed would fail at any fidelity


def test_a_larger_fidelity_without_enough_trials_is_left_out():
    strategy, rng = started(GP(startup=3), ToySpace(6, 5)), random.Random(0)
    for number in range(10):
        fidelity = 0.1 if number < 8 else 1.0
        told(strategy, number, Candidate(strategy.space.sample(rng)), [number], fidelity=fidelity)
    assert [trial.number for trial in strategy._modelled()] == list(range(8))


def test_an_architecture_told_again_is_one_point_with_what_was_told_last():
    strategy = started(GP(), ToySpace(6, 5))
    candidate = strategy.ask()
    told(strategy, 0, candidate, [0.5])
    told(strategy, 0, candidate, [0.7])
    assert [trial.scores for trial in strategy._modelled()] == [(0.7,)]


def test_targets_are_normal_scores_and_what_failed_does_not_drown_the_good():
    worths = numpy.array([-1e9, -1e9, 0.1, 0.2, 0.90, 0.91, 0.92, 0.93, 0.94])
    targets = standardised(worths)
    assert targets.mean() == pytest.approx(0)
    assert targets.std() == pytest.approx(1)
    assert targets[0] == targets[1]
    assert (numpy.diff(targets[1:]) > 0).all()
    assert targets[-1] - targets[-5] > 1
    assert standardised(numpy.log(worths + 2e9)) == pytest.approx(targets)
    assert standardised(numpy.zeros(4)).tolist() == [0.0] * 4


def test_nan_and_infinity_are_failures_to_it():
    values = [math.nan, math.inf, -math.inf, 0.1, 0.2, 0.3]
    script = {number: {"accuracy": value} for number, value in enumerate(values)}
    strategy = GP(startup=2, candidates=20)
    study = Study(ToySpace(6, 5), strategy, Scripted(script), NO_TASK, OBJECTIVES, trials=12)
    study.run()
    assert [trial.number for trial in study.failed] == [0, 1, 2]
    assert sorted(trial.number for trial in strategy.outcasts.values()) == [0, 1, 2]
    assert numpy.isfinite(strategy.model.parameters).all()
    assert study.best.number >= 5


def test_it_goes_on_where_all_fails():
    strategy = started(GP(candidates=20), ToySpace(6, 5))
    asked = []
    for number in range(12):
        candidate = strategy.ask()
        asked.append(candidate.architecture)
        told(strategy, number, candidate, error="out of memory")
    assert len(set(asked)) == 12


def test_a_goal_of_min_is_that_of_max_with_the_sign_changed():
    class Loss(Checksum):
        def evaluate(self, trial):
            for report in super().evaluate(trial):
                accuracy = report.metrics["accuracy"]
                yield Report({"accuracy": accuracy, "loss": -accuracy}, report.fidelity)

    decided = []
    for objective in (Objective("accuracy"), Objective("loss", "min")):
        study = Study(ConditionalSpace(), GP(candidates=30), Loss(), NO_TASK, (objective,), trials=20)
        study.run()
        decided.append([trial.architecture for trial in study.trials])
    assert decided[0] == decided[1]


def test_a_space_of_two_architectures_is_exhausted_after_two():
    study = Study(ToySpace(1, 2), GP(), Checksum(), NO_TASK, OBJECTIVES, trials=100)
    study.run()
    assert len(study.trials) == 2


def test_it_finds_its_way_into_a_narrow_region():
    class Narrow(Checksum):
        def evaluate(self, trial):
            decided = trial.architecture.blueprint
            yield Report({"parameters": float(sum(decided))}, 0.0)
            yield Report({"parameters": float(sum(decided)), "accuracy": 0.5 + 0.1 * decided[0]})

    space = ToySpace(8, 5)  # 45 of 390,625 architectures are within the limit
    study = Study(space, GP(), Narrow(), NO_TASK, OBJECTIVES, limits=(Limit("parameters", 2),), trials=60)
    study.run()
    assert sum(trial.is_rejected for trial in study.trials) > 5
    assert study.best.violation == 0
    assert study.best.architecture.blueprint[0] == 2


def test_several_objectives_are_followed_along_their_whole_front():
    class Both(Checksum):
        def evaluate(self, trial):
            decided = trial.architecture.blueprint
            yield Report(
                {"accuracy": sum(decided) / 32, "size": float(sum(place * one for place, one in enumerate(decided)))}
            )

    objectives = (Objective("accuracy"), Objective("size", "min"))
    strategy = GP(candidates=100)
    assert strategy.several
    study = Study(ToySpace(8, 5), strategy, Both(), NO_TASK, objectives, trials=70)
    study.run()
    best = {
        trial.scores
        for trial in study.trials
        if not any(
            all(a >= b for a, b in zip(other.scores, trial.scores, strict=True)) and other.scores != trial.scores
            for other in study.trials
        )
    }
    accuracies = [accuracy for accuracy, _ in best]
    assert len(best) >= 12
    assert min(accuracies) < 0.3
    assert max(accuracies) > 0.9


def test_of_more_trials_than_points_the_best_and_the_last_are_modelled():
    strategy, rng = started(GP(points=10, candidates=20), ToySpace(8, 5)), random.Random(0)
    for number in range(40):
        told(strategy, number, Candidate(strategy.space.sample(rng)), [float(number % 20)])
    seen = []
    strategy._learn = lambda points, targets, trials: (
        seen.append((points, targets, trials)) or GP._learn(strategy, points, targets, trials)
    )
    strategy.ask()
    ((points, targets, trials),) = seen
    modelled = strategy._modelled()
    numbers = [next(trial.number for trial in modelled if trial.architecture == point) for point in points]
    assert trials == 40
    assert sorted(numbers[:5]) == [17, 18, 19, 38, 39]  # of equals the earliest
    assert sorted(numbers[5:]) == [33, 34, 35, 36, 37]
    assert targets.argmax() == 0


def test_an_encoding_that_is_none_is_refused():
    with pytest.raises(BadInput, match=r"strategy\.encodings has 'path', .*did you mean 'paths'.*: choose among"):
        GP(encodings=("path",))
    with pytest.raises(BadInput, match=r"encodings=\['paths'\] leaves nothing to see of ToySpace"):
        started(GP(encodings=("paths",)), ToySpace())


def test_what_no_architecture_has_takes_no_part():
    strategy = started(GP(startup=2), ToySpace(4, 3))
    for number in range(4):
        told(strategy, number, strategy.ask(), [float(number)])
    assert [strategy.encoder.names[place] for place in strategy.shown] == ["options", "counts"]
    blind = started(GP(startup=2, encodings=("numbers",)), ToySpace(4, 3))
    for number in range(6):
        told(blind, number, blind.ask(), [float(number)])  # without a feature at all it draws at random
    assert blind.model.parameters is None


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_it_finds_the_best_cell_of_nasbench201(data, dataset):
    from automl_evaluators.tabular import Tabular

    found = []
    for seed in range(4):
        evaluator = Tabular(dataset=dataset, root=str(data))
        study = Study(NASBench201(), GP(), evaluator, NO_TASK, OBJECTIVES, trials=100, seed=seed)
        study.run()
        found.append(study.best.score)
    optimum = {"cifar10": 0.84892, "cifar100": 0.6132}[dataset]
    assert sum(score == pytest.approx(optimum, abs=1e-6) for score in found) >= 3

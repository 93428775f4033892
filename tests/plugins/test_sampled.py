"""Optuna's samplers answer our decisions: as in Optuna's own loop where that can, and where it cannot, sensibly."""

from __future__ import annotations

import csv
import gzip
import random
from dataclasses import dataclass
from importlib.util import find_spec
from math import sqrt
from statistics import fmean
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from automl import BadInput, Candidate, Evaluator, Integer, Objective, Op, Options, Real, Report, Space, Trial
from automl.pareto import hypervolume
from automl.study import Study
from automl.testing import NO_TASK, Checksum, ConditionalSpace, Scripted, ToySpace, check_strategy
from automl_strategies import cmaes as cmaes_module
from automl_strategies.cmaes import CMAES
from automl_strategies.nsga2 import NSGA2
from automl_strategies.sampled import REPEATS
from automl_strategies.tpe import TPE

needs_cmaes = pytest.mark.skipif(find_spec("cmaes") is None, reason="the package cmaes is not installed")
ALL = [
    pytest.param(lambda: TPE(startup=4), id="tpe"),
    pytest.param(lambda: NSGA2(population=6), id="nsga2"),
    pytest.param(lambda: CMAES(population=4), id="cmaes", marks=needs_cmaes),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "factory",
    [
        *ALL,
        pytest.param(lambda: TPE(startup=3, group=False), id="tpe together"),
        pytest.param(lambda: TPE(startup=3, multivariate=False), id="tpe independent"),
    ],
)
def test_ours_keep_the_contract(factory):
    check_strategy(factory, trials=14)


@dataclass
class Branching(Space[Any]):
    """Conditions, a prior, a decision that is none, and one of everything; no domain depends on another decision."""

    def describe(self, choose):
        kind = choose("kind", Options(["conv", "pool"], prior=(3, 1)))
        depth = choose("depth", Integer(1, 40, log=True))
        kernel = choose("kernel", [1, 3, 5]) if kind == "conv" else None
        return kind, depth, kernel, choose("rate", Real(1e-4, 1e-1, log=True)), choose("only", ["one"])

    def build(self, blueprint, task):
        raise NotImplementedError


@dataclass
class Settings(Space[Any]):
    """Numbers alone, of which all always apply."""

    def describe(self, choose):
        return [choose("a", Real(0.0, 1.0)), choose("b", Integer(0, 9)), choose("c", Real(1e-3, 10, log=True))]

    def build(self, blueprint, task):
        raise NotImplementedError


def scored(number, candidate, scores, violation=0.0, error=None, fidelity=1.0):
    trial = Trial(number, candidate, 0)
    trial.reports = [Report({"accuracy": 0.5}, fidelity)]
    trial.scores, trial.violation, trial.error = scores, violation, error
    return trial


def started(strategy, space):
    strategy.start(space, random.Random(0))
    return strategy


def asks(strategy, trials, judge, workers=1):
    """Ask and tell one by one, or so many at once, and return what was told; reseed as a study does."""
    told = []
    while len(told) < trials:
        batch = []
        for _ in range(workers):
            strategy.rng.seed(f"ask/{len(told) + len(batch)}")
            batch.append(strategy.ask())
        for candidate in batch:
            strategy.rng.seed(f"tell/{len(told)}")
            told.append(judge(len(told), candidate))
            strategy.tell(told[-1])
    return told


def quality(architecture):
    """Return two numbers that pull apart, of whatever was decided."""
    places = [
        domain.index(value) / domain.count if isinstance(domain, Options) else (value - domain.low) / domain.high
        for value, domain in zip(architecture.values.values(), architecture.domains.values(), strict=True)
    ]
    return sum(places), -sum([place**2 for place in places])


def by_optuna(kind, space, trials, judge, startup, **settings):
    """Return the architectures of Optuna's own loop, where what we draw by domain is drawn so too."""
    rng, met, told = random.Random(0), set(), []
    asked = {}

    class Reference(kind):
        def sample_independent(self, study, trial, name, distribution):
            if kind is not optuna.samplers.TPESampler or len(told) < startup or name not in met:
                value = asked["domain"].sample(rng.random)
                return asked["domain"].index(value) if isinstance(asked["domain"], Options) else value
            return super().sample_independent(study, trial, name, distribution)

        def get_parent_population(self, study, generation):  # NSGA-II's; in another order the first time, else in this
            return sorted(super().get_parent_population(study, generation), key=lambda told: told.number)

    sampler = Reference(seed=0, **settings)
    first = judge(0, Candidate(space.sample(rng)))
    study = optuna.create_study(sampler=sampler, directions=["maximize"] * len(first.scores))
    for number in range(trials):
        rng.seed(f"ask/{number}")
        generator = sampler._cma_rng if kind is optuna.samplers.CmaEsSampler else sampler._rng
        generator.rng.seed(rng.getrandbits(32))
        trial = study.ask()

        def answer(name, domain, trial=trial):
            asked["domain"] = domain
            if isinstance(domain, Options):
                return domain.options[trial.suggest_categorical(name, range(domain.count))]
            if isinstance(domain, Integer):
                return trial.suggest_int(name, domain.low, domain.high, log=domain.log)
            return domain.fit(float(trial.suggest_float(name, domain.low, domain.high, log=domain.log)))

        told.append(judge(number, Candidate(space.make(answer))))
        if told[-1].violation:
            trial.set_constraint("limits", told[-1].violation)
        study.tell(trial, list(told[-1].scores))
        met |= trial.params.keys()
    return [trial.architecture for trial in told]


def one_objective(number, candidate):
    return scored(number, candidate, quality(candidate.architecture)[:1])


def two_within_a_limit(number, candidate):
    scores = quality(candidate.architecture)
    return scored(number, candidate, scores, violation=max(0.0, scores[0] - 1.5))


@pytest.fixture
def quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("judge", [one_objective, two_within_a_limit])
@pytest.mark.parametrize("space", [Branching(), ToySpace(6, 4)], ids=["branching", "toy"])
@pytest.mark.parametrize(("multivariate", "group"), [(True, True), (True, False), (False, False)])
def test_tpe_decides_as_in_optunas_own_loop(space, judge, multivariate, group):
    ours = asks(started(TPE(startup=5, multivariate=multivariate, group=group), space), 40, judge)
    theirs = by_optuna(
        optuna.samplers.TPESampler, space, 40, judge, 5, multivariate=multivariate, group=group, n_startup_trials=5
    )
    assert [trial.architecture for trial in ours] == theirs


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("judge", [one_objective, two_within_a_limit])
@pytest.mark.parametrize("space", [Branching(), ToySpace(6, 4)], ids=["branching", "toy"])
def test_nsga2_decides_as_in_optunas_own_loop(space, judge):
    ours = asks(started(NSGA2(population=8), space), 60, judge)
    theirs = by_optuna(optuna.samplers.NSGAIISampler, space, 60, judge, 0, population_size=8)
    assert [trial.architecture for trial in ours] == theirs


@needs_cmaes
@pytest.mark.usefixtures("quiet")
def test_cmaes_decides_as_in_optunas_own_loop():
    ours = asks(started(CMAES(), Settings()), 60, one_objective)
    theirs = by_optuna(
        optuna.samplers.CmaEsSampler,
        Settings(),
        60,
        one_objective,
        1,
        n_startup_trials=1,
        warn_independent_sampling=False,
    )
    assert [trial.architecture for trial in ours] == theirs
    assert fmean(trial.score for trial in ours[40:]) > fmean(trial.score for trial in ours[:10])


def test_the_start_follows_the_domains_and_their_priors():
    strategy = started(TPE(startup=2_000), Branching())
    drawn = [trial.architecture.values["kind"] for trial in asks(strategy, 2_000, one_objective)]
    assert drawn.count("conv") / 2_000 == pytest.approx(0.75, abs=0.03)


def test_a_sampler_sees_the_decisions_that_were_made_and_no_others():
    strategy = started(TPE(startup=2), Branching())
    asks(strategy, 30, one_objective)
    seen = [told.params.keys() for told in strategy.rungs[1.0]]
    assert {"kind", "depth", "rate"} in seen
    assert {"kind", "depth", "rate", "kernel"} in seen
    assert all(names - {"kernel"} == {"kind", "depth", "rate"} for names in seen)
    assert [sorted(group) for group in strategy.groups] in (
        [["depth", "kind", "rate"], ["kernel"]],
        [["kernel"], ["depth", "kind", "rate"]],
    )


def test_a_decision_is_one_parameter_a_domain_whatever_objects_bring_it():
    class Wavering(ToySpace):
        def describe(self, choose):
            width = choose("width", [2, 3])
            op = choose("op", [Op("conv", lambda: None), Op("pool", lambda: None)])
            return width, op.name, choose("channels", Integer(1, width)), choose("kernel", range(width))

    strategy = started(TPE(startup=2), Wavering())
    asks(strategy, 40, one_objective)
    assert [len(strategy.parameters[name]) for name in ("width", "op", "channels", "kernel")] == [1, 1, 2, 2]
    assert {len(told.params) for told in strategy.rungs[1.0]} == {4}


def test_running_trials_count_as_bad():
    strategy = started(TPE(startup=5), ToySpace(6, 4))
    asks(strategy, 10, one_objective)
    for _ in range(7):
        assert strategy.ask() is not None
    seen = strategy.study._get_trials(states=(TrialState.RUNNING,))
    assert len(seen) == 6
    assert all(len(running.params) == 6 for running in seen)


def test_tpe_models_the_largest_fidelity_with_enough_trials():
    strategy = started(TPE(startup=10), ToySpace(1, 3))

    def told_at(fidelity, numbers, good):
        """Tell of one good trial in ten."""
        for number in numbers:
            place = good if number % 10 == 0 else (good + 1 + number % 2) % 3
            candidate = Candidate(strategy.space.read({"d0": place}), fidelity)
            strategy.tell(scored(number, candidate, (float(place == good),), fidelity=fidelity))

    def favoured():
        asked = []
        for _ in range(200):
            asked.append(strategy.ask().architecture.values["d0"])
            strategy.running.clear()  # else it would think worse of what it asked for already
        return max(range(3), key=asked.count), max(map(asked.count, range(3)))

    assert favoured()[1] < 100  # drawn at random
    told_at(1 / 9, range(30), 0)
    assert favoured() == (0, 200)
    told_at(1.0, range(30, 39), 2)
    assert favoured() == (0, 200)  # nine are not enough
    told_at(1.0, range(39, 40), 2)
    assert favoured() == (2, 200)
    told_at(1 / 3, range(40, 80), 1)
    assert favoured() == (2, 200)


def test_tpe_in_hyperband_is_told_of_every_rung():
    from automl_evaluators.hyperband import Hyperband

    @dataclass
    class Curves(Checksum):
        def steps(self):
            return 9

        def evaluate(self, trial):
            final = next(iter(super().evaluate(trial))).metrics["accuracy"]
            yield Report({"accuracy": final * trial.candidate.fidelity}, trial.candidate.fidelity)

    strategy = TPE(startup=6)
    study = Study(ToySpace(6, 4), strategy, Hyperband(Curves()), NO_TASK, (Objective("accuracy"),), trials=60)
    study.run()
    counts = {round(fidelity * 9): len(told) for fidelity, told in strategy.rungs.items()}
    assert counts.keys() == {1, 3, 9}
    assert sum(counts.values()) >= 60
    assert strategy._modelled() is strategy.rungs[1.0]
    promoted = next(trial for trial in study.trials if trial.candidate.parent is not None)
    assert (
        sum(told.trial.architecture == promoted.architecture for rung in strategy.rungs.values() for told in rung) > 1
    )


@pytest.mark.parametrize("factory", ALL)
def test_what_is_rejected_leads_the_way_to_what_is_legal(factory):
    def judge(number, candidate):
        over = sum(candidate.architecture.blueprint) - 4  # one sample in a hundred thousand is legal
        return scored(number, candidate, (), over / 4) if over > 0 else scored(number, candidate, (0.5,))

    told = asks(started(factory(), ToySpace(10, 4)), 300, judge)
    assert sum(not trial.is_rejected for trial in told) > 10


@pytest.mark.parametrize("factory", ALL)
def test_illegal_trials_are_known_before_any_score_is(factory):
    def judge(number, candidate):
        if number < 12 or number % 3 == 0:
            return scored(number, candidate, (), 0.1 * (number % 5 + 1))
        return scored(number, candidate, quality(candidate.architecture), 0.2 * (number % 2))

    strategy = factory()
    assert len(asks(started(strategy, ConditionalSpace()), 50, judge, workers=3)) >= 50


@pytest.mark.parametrize("factory", ALL)
def test_failed_trials_are_never_seen(factory):
    nan, inf = float("nan"), float("inf")
    script = {0: {"accuracy": nan}, 1: {"accuracy": inf}, 2: {"accuracy": -inf}, 9: {"accuracy": nan}}

    class Watched(type(factory())):
        def learn(self, told):
            seen.append(told)
            super().learn(told)

    seen = []
    settings = vars(factory())
    evaluator = Scripted({**script, **{number: {"accuracy": number / 40} for number in (3, 4, 5, 6, 7, 8)}})
    study = Study(ToySpace(6, 4), Watched(**settings), evaluator, NO_TASK, (Objective("accuracy"),), trials=30)
    study.run()
    assert [trial.number for trial in study.failed] == [0, 1, 2, 9]
    assert {told.trial.number for told in seen} == set(range(30)) - {0, 1, 2, 9}
    assert all(0 <= told.values[0] <= 1 for told in seen if told.values)


@pytest.mark.parametrize("factory", ALL)
def test_less_of_a_loss_and_more_of_its_negative_are_one_search(factory):
    class Signed(Checksum):
        def evaluate(self, trial):
            for report in super().evaluate(trial):
                accuracy = report.metrics["accuracy"]
                yield Report({"loss": 1 - accuracy, "gain": accuracy - 1}, report.fidelity)

    def decisions(objective):
        study = Study(ConditionalSpace(), factory(), Signed(), NO_TASK, (objective,), trials=30)
        study.run()
        return [trial.architecture for trial in study.trials], study.best.number

    assert decisions(Objective("loss", "min")) == decisions(Objective("gain", "max"))


@pytest.mark.parametrize("factory", ALL)
@pytest.mark.parametrize("up", [1, -1])
def test_a_log_range_never_leaves_its_ends(factory, up):
    ranges = [(1e-5, 0.1), (1e-3, 10), (3e-4, 5e-3), (1e-8, 1.0), (0.1, 0.1), (0.1, 0.1 + 1e-12)]

    class Rates(ToySpace):
        def describe(self, choose):
            return [
                *(choose(f"rate.{number}", Real(low, high, log=True)) for number, (low, high) in enumerate(ranges)),
                choose("width", Integer(1, 1000, log=True)),
            ]

    def judge(number, candidate):
        return scored(number, candidate, (up * sum(candidate.architecture.blueprint),))

    for trial in asks(started(factory(), Rates()), 80, judge):
        for value, (low, high) in zip(trial.architecture.blueprint[:-1], ranges, strict=True):
            assert low <= value <= high
        assert type(trial.architecture.blueprint[-1]) is int
        assert 1 <= trial.architecture.blueprint[-1] <= 1000


@pytest.mark.parametrize("factory", ALL)
def test_a_space_that_is_exhausted_ends_the_search(factory):
    study = Study(ToySpace(1, 2), factory(), Checksum(), NO_TASK, (Objective("accuracy"),), trials=100)
    study.run()
    assert len(study.trials) == 2
    assert "exhausted" in study.ending
    assert study.duplicates > 0


@pytest.mark.parametrize("factory", ALL)
def test_what_repeats_itself_is_helped_out_at_random(factory):
    strategy = started(factory(), ToySpace(6, 4))
    asks(strategy, 40, one_objective)
    best = strategy.ask()
    for _ in range(REPEATS):
        strategy.tell(scored(7, best, (1.0,)))
    assert strategy.repeats == REPEATS
    strategy.rng.seed("the same")
    asked = strategy.ask().architecture
    strategy.rng.seed("the same")
    assert asked == strategy.space.sample(strategy.rng)


def test_two_objectives_spread_over_the_front():
    def judge(number, candidate):
        blueprint = candidate.architecture.blueprint  # as many zeros at the left as ones at the right
        left = next((place for place, value in enumerate(blueprint) if value != 0), len(blueprint))
        right = next((place for place, value in enumerate(reversed(blueprint)) if value != 1), len(blueprint))
        return scored(number, candidate, (float(left), float(right)))

    def volume(trials):
        return hypervolume([trial.scores for trial in trials], (-1.0, -1.0))

    space = ToySpace(16, 2)
    draws = random.Random(0)
    drawn = volume([judge(number, Candidate(space.sample(draws))) for number in range(400)])
    for strategy in (NSGA2(population=20), TPE()):
        assert volume(asks(started(strategy, space), 400, judge)) > 1.3 * drawn


def test_a_generation_is_larger_than_the_population_by_less_than_the_workers():
    sizes = []

    class Watched(NSGA2):
        def draw(self, asked):
            before = self.sampler.generation, len(self.sampler.members)
            answers = super().draw(asked)
            if self.sampler.generation > before[0]:
                sizes.append(before[1])
                assert len(self.sampler.parents) == self.population
            return answers

    def judge(number, candidate):
        error = "out of memory" if number % 7 == 0 else None
        return scored(number, candidate, quality(candidate.architecture), error=error)

    asks(started(Watched(population=8), ToySpace(8, 4)), 200, judge, workers=3)
    assert len(sizes) > 15
    assert set(sizes) <= {8, 9, 10}


def test_cmaes_asks_for_the_package_that_it_needs(monkeypatch):
    monkeypatch.setattr(cmaes_module, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"strategy=cmaes needs .*: pip install 'automl-lightweight\[bayes\]'"):
        CMAES()


@needs_cmaes
def test_cmaes_begins_anew_where_fewer_decisions_are_shared():
    class Rarely(ToySpace):
        def describe(self, choose):
            whole = choose("whole", Real(0.0, 1.0))
            half = choose("half", Real(0.0, 1.0))
            return whole, choose("third", Real(0.0, 1.0)) if half > 0.2 else None

    def judge(number, candidate):
        if number == 30:
            candidate = Candidate(strategy.space.complete({"half": 0.0}, strategy.rng))
        return scored(number, candidate, (candidate.architecture.values["half"],))

    strategy = started(CMAES(), Rarely())
    asks(strategy, 30, judge)
    assert set(strategy.shared) == {"whole", "half", "third"}
    asks(strategy, 80, judge)
    assert set(strategy.shared) == {"whole", "half"}
    assert any("cma:generation" in told.system_attrs for told in strategy.study.trials)
    assert len(strategy.study.trials) < 20  # what an optimiser has learnt from is let go


OPERATIONS = Options([Op(name, lambda: None) for name in ("none", "skip", "conv1x1", "conv3x3", "pool")])
EDGES = ("01", "02", "12", "03", "13", "23")


class Cells(Space[tuple[int, ...]]):
    """The cells of NAS-Bench-201: one of five operations on each of six edges (Dong & Yang, 2020)."""

    def describe(self, choose):
        return tuple([OPERATIONS.index(choose(f"edge.{edge}", OPERATIONS)) for edge in EDGES])

    def build(self, blueprint, task):
        raise NotImplementedError


@dataclass
class Table(Evaluator):
    """Looks up what training would have come to."""

    accuracies: dict[tuple[int, ...], float]

    def evaluate(self, trial):
        yield Report({"accuracy": self.accuracies[trial.architecture.blueprint]})


@pytest.mark.slow
def test_decisions_modelled_together_beat_each_by_itself_on_nasbench201(data):
    path = data / "nasbench201" / "nb201.csv.gz"
    if not path.exists():
        pytest.skip(f"no NAS-Bench-201 at {path}")
    with gzip.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    table = {tuple(int(row[f"op{edge}"]) for edge in EDGES): float(row["c10_val_acc_12ep"]) for row in rows}
    seeds, means = 20, {}
    for multivariate in (True, False):
        found = []
        for seed in range(seeds):
            strategy = TPE(multivariate=multivariate)
            study = Study(Cells(), strategy, Table(table), NO_TASK, (Objective("accuracy"),), trials=100, seed=seed)
            study.run()
            found.append(study.best.score)
        means[multivariate] = fmean(found)
    print(f"together {means[True]:.2f} (known 84.62), alone {means[False]:.2f} (known 83.94), {seeds} seeds")
    assert means[True] == pytest.approx(84.62, abs=3 * 0.33 / sqrt(seeds))
    assert means[False] == pytest.approx(83.94, abs=3 * 0.89 / sqrt(seeds))
    assert means[True] > means[False] + 0.2

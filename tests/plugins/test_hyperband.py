"""Hyperband, successive halving and ASHA: brackets exact under any workers, restarts, failures and repeats."""

import json
import logging
import random
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

import pytest
import yaml

from automl import (
    BadInput,
    Candidate,
    Evaluator,
    Limit,
    Objective,
    Report,
    Strategy,
    Study,
    Trial,
    TrialFailed,
    Wrapper,
)
from automl.executor import Simulated
from automl.journal import Journal, read
from automl.pareto import dominates, ranked
from automl.testing import NO_TASK, ConditionalSpace, ToySpace, check_evaluator, check_strategy, story
from automl_evaluators.asha import ASHA, Asynchronous, _Crowd, _Line
from automl_evaluators.brackets import Rung, hyperband, ladder
from automl_evaluators.hyperband import Hyperband
from automl_evaluators.promoting import Synchronous, goes_on, seniority
from automl_evaluators.successive_halving import SuccessiveHalving
from automl_strategies.evolution import Evolution
from automl_strategies.random import Random

SCHEDULES = (Hyperband, SuccessiveHalving, ASHA)
ACCURACY = (Objective("accuracy"),)
CONF = Path(__file__).parents[2] / "conf" / "evaluator"


@dataclass
class Curves(Evaluator):
    """Learning curves that cross, by the decisions alone; a trial with a parent goes on where that ended."""

    length: int = 9
    failing: int = 0  # one in so many architectures fails; 0: none

    def steps(self) -> int:
        return self.length

    def evaluate(self, trial: Trial) -> Iterator[Report]:
        drawn = zlib.crc32(json.dumps(trial.architecture.to_json()).encode())
        if self.failing and drawn % self.failing == 0:
            raise TrialFailed("it does")
        final, slowness = drawn % 1000 / 1000, 1 + drawn // 1000 % 10
        begun = 0 if trial.parent is None else round(trial.parent.candidate.fidelity * self.length)
        for step in range(begun + 1, round(trial.candidate.fidelity * self.length) + 1):
            accuracy = final * step / (step + slowness)
            metrics = {"accuracy": accuracy, "loss": -accuracy, "parameters": drawn % 7, "seconds": step - begun}
            yield Report(metrics, step / self.length)


@dataclass
class Finite(Strategy):
    """Asks for so many different architectures, and then for nothing more."""

    count: int

    def start(self, space, rng):
        super().start(space, rng)
        self.left = list(range(self.count))

    def ask(self):
        return Candidate(self.space.read({"d0": self.left.pop(0)})) if self.left else None


@dataclass
class StopsHalfWay(Wrapper):
    """Schedules that the strategy keeps only the trials of an even first decision beyond the first step."""

    inner: Evaluator

    def schedule(self, strategy):
        strategy = self.inner.schedule(strategy)
        strategy.keep = lambda trial: trial.architecture.values["d0"] % 2 == 0
        return strategy


def search(evaluator, strategy=None, space=None, trials=60, objectives=ACCURACY, **options) -> Study:
    space = ToySpace(6, 5) if space is None else space
    study = Study(space, strategy or Random(), evaluator, NO_TASK, objectives, trials=trials, **options)
    study.run()
    return study


def rungs(trials) -> dict[int, dict[int, list[Trial]]]:
    """Return the trials of each rung of each bracket."""
    found = defaultdict(lambda: defaultdict(list))
    for trial in trials:
        found[trial.candidate.notes.get("bracket", 0)][trial.candidate.notes["rung"]].append(trial)
    return found


def check_brackets(trials, table, eta, whole) -> int:
    """Check every bracket against the table and its survivors; return how many are complete."""
    complete = 0
    by_number = {trial.number: trial for trial in trials}
    for number, bracket in sorted(rungs(trials).items()):
        plan = table[number % len(table)]
        for rung, told in sorted(bracket.items()):
            assert len(told) <= plan[rung].size
            assert all(trial.candidate.fidelity == plan[rung].steps / whole for trial in told)
            if rung == 0:
                assert all(trial.candidate.parent is None for trial in told)
                continue
            below = bracket[rung - 1]
            assert len(below) == plan[rung - 1].size, "a rung was promoted from before all of it was told"
            best = ranked(sorted(below, key=seniority))[: len(below) // eta]
            parents = [trial.candidate.parent for trial in told]
            assert set(parents) <= {trial.number for trial in best}
            assert len(set(parents)) == len(parents), "promoted twice"
            assert all(by_number[trial.candidate.parent].architecture == trial.architecture for trial in told)
        if len(bracket) == len(plan) and len(bracket[len(plan) - 1]) == plan[-1].size:
            assert [len(told) for _, told in sorted(bracket.items())] == [rung.size for rung in plan]
            complete += 1
    return complete


def drive(strategy, evaluator, workers, trials, order, objectives=ACCURACY, space=None, limits=()) -> list[Trial]:
    """Ask for as many trials at once as there are workers, and tell one of them, in order or at random."""
    space = space or ToySpace(8, 9)
    rng, mixed = random.Random(1), random.Random(order)
    evaluator.objectives = objectives
    evaluator.start(space, NO_TASK)
    strategy = evaluator.schedule(strategy)
    strategy.start(space, rng)
    asked: list[Trial] = []
    running: list[Trial] = []
    told: list[Trial] = []
    while len(told) < trials:
        while len(running) < workers:
            candidate = strategy.ask()
            if candidate is None:
                break
            trial = Trial(len(asked), candidate, 0)
            trial.parent = None if candidate.parent is None else asked[candidate.parent]
            asked.append(trial)
            running.append(trial)
        if not running:
            break
        trial = running.pop(0 if order is None else mixed.randrange(len(running)))
        try:
            trial.reports = list(evaluator.evaluate(trial))
            trial.judge(objectives, limits)
        except TrialFailed as error:
            trial.error = str(error)
        told.append(trial)
        strategy.tell(trial)
    return told


@pytest.mark.parametrize("rounding", ["ceil", "floor"])
@pytest.mark.parametrize(("length", "eta"), [(27, 3), (10, 3), (16, 4)])
def test_brackets_are_the_tables_and_survivors_the_best_of_their_rung(length, eta, rounding):
    study = search(Hyperband(Curves(length), eta=eta, rounding=rounding), trials=150)
    assert check_brackets(study.trials, hyperband(ladder(length, eta), eta, rounding), eta, length) >= 5
    assert max(trial.candidate.fidelity for trial in study.trials) == 1.0


def test_any_number_of_workers_and_order_of_tells_makes_the_same_brackets():
    table = hyperband(ladder(9, 3), 3, "ceil")
    seen = []
    for workers, order in [(1, None), (2, 0), (2, 1), (5, None), (5, 2), (5, 3), (30, 4)]:
        told = drive(Random(), Hyperband(Curves(9)), workers, 400, order)
        assert check_brackets(told, table, 3, 9) >= 9
        seen.append(
            {
                (number, rung): {trial.architecture for trial in trials}
                for number, bracket in rungs(told).items()
                for rung, trials in bracket.items()
                if number < 9
            }
        )
    assert all(brackets == seen[0] for brackets in seen)


def test_workers_never_idle():
    for schedule in SCHEDULES:
        evaluator = schedule(Curves(27))
        evaluator.start(ToySpace(8, 9), NO_TASK)
        strategy = evaluator.schedule(Random())
        strategy.start(ToySpace(8, 9), random.Random(0))
        assert all(strategy.ask() is not None for _ in range(100))


def test_a_promotion_is_a_trial_that_goes_on_from_its_parent_and_each_step_is_trained_once():
    study = search(Hyperband(Curves(9)), trials=17)  # one bracket is 9@1 3@3 1@9
    top = study.trials[12]
    assert top.candidate.fidelity == 1.0
    assert [report.fidelity for report in top.reports] == [step / 9 for step in range(4, 10)]
    assert [report.fidelity for report in top.parent.reports] == [2 / 9, 3 / 9]
    assert top.parent.parent.parent is None
    assert study.best.fidelity == 1.0
    assert top.candidate.notes["bracket"] == 0
    assert top.candidate.notes["rung"] == 2


def test_a_resource_below_the_whole_schedule_is_never_passed():
    study = search(Hyperband(Curves(100), resource=9), trials=40)
    assert max(trial.candidate.fidelity for trial in study.trials) == 9 / 100
    assert check_brackets(study.trials, hyperband(ladder(9, 3), 3, "ceil"), 3, 100) >= 2


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_factor_beyond_the_resource_is_random_search_in_full(schedule):
    plain, scheduled = search(Curves(9), trials=20), search(schedule(Curves(9), eta=10), trials=20)
    assert [trial.architecture for trial in scheduled.trials] == [trial.architecture for trial in plain.trials]
    assert all(trial.candidate.fidelity == 1.0 and trial.candidate.parent is None for trial in scheduled.trials)


def test_successive_halving_repeats_one_bracket():
    told = search(SuccessiveHalving(Curves(9), configurations=12), trials=68).trials
    assert check_brackets(told, [(Rung(12, 1), Rung(4, 3), Rung(1, 9))], 3, 9) == 4
    told = search(SuccessiveHalving(Curves(9), lowest=3), trials=8).trials
    assert check_brackets(told, [(Rung(3, 3), Rung(1, 9))], 3, 9) == 2


def test_failed_and_rejected_trials_are_never_promoted():
    table = hyperband(ladder(9, 3), 3, "ceil")
    study = search(Hyperband(Curves(9, failing=2)), trials=90)
    parents = {trial.candidate.parent for trial in study.trials}
    assert any(trial.error for trial in study.trials)
    assert not any(trial.error for trial in study.trials if trial.number in parents)
    assert check_brackets(study.trials, table, 3, 9) >= 3
    told = drive(Random(), Hyperband(Curves(9, failing=1)), 2, 30, 0)
    assert {trial.candidate.notes["bracket"] for trial in told} >= {0, 1, 2}  # none survives: the next one begins


def test_legal_trials_are_promoted_before_better_ones_that_break_a_limit():
    limits = (Limit("parameters", 2.0),)
    told = drive(Random(), Hyperband(Curves(9)), 3, 120, 5, limits=limits)
    assert check_brackets(told, hyperband(ladder(9, 3), 3, "ceil"), 3, 9) >= 6
    for bracket in rungs(told).values():
        promoted = {trial.candidate.parent for trial in bracket[1]}
        below = {trial.number: trial for trial in bracket[0]}
        if any(below[number].violation for number in promoted):
            assert all(number in promoted for number, trial in below.items() if not trial.violation)


def test_of_equal_trials_the_one_with_fewer_parameters_goes_on_then_the_older():
    class Equal(Curves):
        def evaluate(self, trial):
            yield Report({"accuracy": 0.5, "parameters": float(trial.number < 3)}, trial.candidate.fidelity)

    told = drive(Random(), Hyperband(Equal(9)), 1, 12, None)
    assert [trial.candidate.parent for trial in told if trial.candidate.parent is not None] == [3, 4, 5]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_trials_that_were_stopped_on_their_way_are_not_promoted(schedule):
    study = search(schedule(StopsHalfWay(Curves(9)), lowest=3), trials=60)
    numbers = {trial.candidate.parent for trial in study.trials} - {None}
    stopped = {trial.number for trial in study.trials if trial.fidelity < trial.candidate.fidelity}
    assert stopped
    assert numbers
    assert not numbers & stopped


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("strategy", [Random, lambda: Evolution(population=4, tournament=2)])
def test_both_directions_are_decided_alike(schedule, strategy):
    stories = [
        [trial.candidate for trial in search(schedule(Curves(9)), strategy(), objectives=objectives).trials]
        for objectives in [ACCURACY, (Objective("loss", "min"),)]
    ]
    assert stories[0] == stories[1]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_study_killed_at_any_line_ends_as_if_it_had_not_been(schedule):
    check_strategy(
        lambda: Evolution(population=4, tournament=2),
        (ConditionalSpace(), ToySpace(2, 4)),
        trials=22,
        evaluator=lambda: schedule(Curves(9, failing=5)),
    )


@pytest.mark.parametrize(
    "strategy",
    [
        lambda: Synchronous(Evolution(4, 2), 9, lambda architecture: architecture, 3, hyperband([1, 3, 9], 3, "ceil")),
        lambda: Asynchronous(Evolution(4, 2), 9, lambda architecture: architecture, 3, [1, 3, 9]),
        lambda: Asynchronous(Random(), 9, lambda architecture: None, 3, [1, 3, 9], 1),
    ],
)
def test_the_strategy_around_keeps_the_contract_of_strategies(strategy):
    check_strategy(strategy, (ToySpace(), ConditionalSpace()), trials=20)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_several_workers_killed_at_any_line_leave_the_brackets_exact(schedule, tmp_path):
    def run(path: Path) -> Study:
        space = ToySpace(6, 5)
        return search(
            schedule(Curves(9)), space=space, trials=40, executor=Simulated(workers=3), journal=Journal(path, {})
        )

    unbroken = run(tmp_path / "unbroken")
    written = (tmp_path / "unbroken").read_bytes()
    for number, (_, end) in list(enumerate(read(tmp_path / "unbroken")))[::7]:
        (tmp_path / str(number)).write_bytes(written[:end])
        resumed = run(tmp_path / str(number))
        assert sorted(trial.number for trial in resumed.trials) == list(range(40))
        events = [record["event"] for record in story(tmp_path / str(number))]
        assert events.count("finished") == 40
        if schedule is Hyperband:
            assert check_brackets(resumed.trials, hyperband(ladder(9, 3), 3, "ceil"), 3, 9) >= 2
    assert len(unbroken.trials) == 40


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_small_space_ends_by_itself_at_full_fidelity(schedule, workers):
    study = search(schedule(Curves(9)), space=ToySpace(1, 2), trials=100, executor=Simulated(workers=workers))
    assert study.ending
    assert study.best.fidelity == 1.0
    assert study.duplicates
    asked = [(trial.architecture, trial.candidate.fidelity, trial.candidate.parent) for trial in study.trials]
    assert workers > 1 or len(set(asked)) == len(asked), "evaluated again"


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("count", [1, 2, 5, 20])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_strategy_with_no_more_to_ask_for_has_its_best_trained_in_full(schedule, count, workers):
    study = search(schedule(Curves(9)), Finite(count), ToySpace(1, 20), executor=Simulated(workers=workers))
    assert study.ending.startswith("the strategy asked for nothing more")
    assert len({trial.architecture for trial in study.trials}) == count
    assert study.best.fidelity == 1.0


def test_one_architecture_takes_one_place_among_the_survivors():
    space = ToySpace(1, 4)  # 9 configurations of a rung are of 4 architectures
    study = search(SuccessiveHalving(Curves(9)), space=space, trials=8)
    first = [trial for trial in study.trials if trial.candidate.notes["bracket"] == 0]
    promoted = [trial.architecture for trial in first if trial.candidate.notes["rung"] == 1]
    assert len(promoted) == len(set(promoted)) == 3
    assert study.duplicates >= 5


def test_the_network_that_was_trained_goes_on_and_not_one_that_looks_like_it():
    class Mirrored(ToySpace):
        def canonical(self, blueprint):
            return tuple(sorted(blueprint))

    study = search(SuccessiveHalving(Curves(9)), space=Mirrored(2, 5), trials=60)
    assert study.duplicates
    for trial in study.trials:
        assert trial.parent is None or trial.parent.architecture == trial.architecture


def test_the_inner_strategy_is_told_of_every_rung_and_its_notes_come_back():
    @dataclass
    class Noting(Random):
        def start(self, space, rng):
            super().start(space, rng)
            self.asked, self.told = 0, []

        def ask(self):
            self.asked += 1
            return Candidate(self.space.sample(self.rng), notes={"mine": self.asked})

        def tell(self, trial):
            self.told.append((trial.number, trial.candidate.notes["mine"]))

    for schedule in SCHEDULES:
        noting = Noting()
        study = search(schedule(Curves(9)), noting, trials=30)
        assert [number for number, _ in noting.told] == [trial.number for trial in study.trials]
        notes = dict(noting.told)
        assert all(trial.parent is None or notes[trial.number] == notes[trial.parent.number] for trial in study.trials)
        assert study.strategy.several == noting.several


def algorithm2(told, eta, top) -> tuple[int, int] | None:
    """Return what Algorithm 2 promotes, as rung and trial, by looking at all that was told."""
    promoted = {trial.candidate.parent for trial in told[1]}
    for rung in reversed(range(top)):
        here = [trial for trial in told[0] if trial.candidate.notes["rung"] == rung]
        best = sorted(here, key=lambda trial: (-trial.merit[0], -trial.merit[1], *seniority(trial)))
        for trial in best[: len(here) // eta]:
            if trial.number not in promoted and goes_on(trial):
                return rung + 1, trial.number
    return None


@pytest.mark.parametrize(("workers", "order"), [(1, None), (2, 0), (5, 1), (40, 2)])
@pytest.mark.parametrize("failing", [0, 3])
def test_asha_promotes_what_algorithm_2_of_its_paper_does(workers, order, failing):
    asked: list[Trial] = []
    told: list[Trial] = []
    checked = 0

    class Watched(ASHA):
        def schedule(self, strategy):
            strategy = super().schedule(strategy)
            ask, tell = strategy.ask, strategy.tell

            def watched_ask():
                nonlocal checked
                expected = algorithm2((told, asked), 3, 3)
                candidate = ask()
                asked.append(Trial(len(asked), candidate, 0))
                got = None if candidate.parent is None else (candidate.notes["rung"], candidate.parent)
                assert got == expected
                checked += got is not None
                return candidate

            def watched_tell(trial):
                told.append(trial)
                tell(trial)

            strategy.ask, strategy.tell = watched_ask, watched_tell
            return strategy

    trials = drive(Random(), Watched(Curves(27, failing=failing)), workers, 150, order)
    assert checked > 25
    assert {trial.candidate.fidelity for trial in trials} == {1 / 27, 3 / 27, 9 / 27, 1.0}


def test_ashas_early_stopping_rate_leaves_out_the_lowest_rungs():
    study = search(ASHA(Curves(27), bracket=2), trials=40)
    assert {trial.candidate.fidelity for trial in study.trials} == {9 / 27, 1.0}


def crowded(number, *scores, error=None, violation=0.0) -> Trial:
    trial = Trial(number, Candidate(ToySpace(1, 2).sample(random.Random(0))), 0)
    trial.reports = [Report({}, 1.0)]
    trial.scores, trial.error, trial.violation = scores, error, violation
    return trial


def test_with_one_objective_both_orders_of_ashas_rungs_agree():
    rng = random.Random(0)
    line, crowd = _Line(), _Crowd(1)
    for number in range(300):
        trial = crowded(number, rng.random(), violation=rng.choice([0.0, 0.0, rng.random()]))
        if rng.random() < 0.1:
            trial.error = "failed"
        line.add(trial)
        crowd.add(trial)
        for _ in range(2):
            assert line.promote(len(line) // 3) is crowd.promote(len(crowd) // 3)


def test_with_several_objectives_ashas_rungs_count_who_dominates():
    rng = random.Random(0)
    crowd = _Crowd(3)
    for number in range(150):  # beyond the room that there is at first
        scores = [float(rng.randrange(4)) for _ in range(3)]
        crowd.add(crowded(number, *scores, violation=rng.choice([0.0, 0.0, 0.5, 1.0])))
    for one, above in zip(crowd._trials, crowd._above, strict=False):
        dominating = [
            other.violation < one.violation
            or (other.violation == one.violation and dominates(other.scores, one.scores))
            for other in crowd._trials
        ]
        assert above == sum(dominating)


def test_with_several_objectives_asha_promotes_from_the_front():
    crowd = _Crowd(2)
    for trial in [crowded(0, 1.0, 1.0), crowded(1, 2.0, 2.0), crowded(2, 3.0, 1.0), crowded(3, 9.0, 9.0, error="x")]:
        crowd.add(trial)
    assert [crowd.promote(3), crowd.promote(3), crowd.promote(3)][:2] == [crowd._trials[1], crowd._trials[2]]
    assert crowd.promote(2) is None
    objectives = (Objective("accuracy"), Objective("parameters", "min"))
    for schedule in SCHEDULES:
        study = search(schedule(Curves(9)), trials=60, objectives=objectives)
        assert max(trial.candidate.fidelity for trial in study.trials) == 1.0


def test_an_evaluator_that_cannot_be_gone_on_with_is_refused():
    class Whole(Curves):
        def steps(self):
            return None

    with pytest.raises(BadInput, match="Whole, evaluates is whole and cannot be gone on with: type evaluator/inner="):
        Hyperband(Whole()).start(ToySpace(), NO_TASK)


@pytest.mark.parametrize(
    ("evaluator", "message"),
    [
        (Hyperband(Curves(9), resource=10), r"evaluator.resource=10 is more than the 9 steps .* give at most 9"),
        (ASHA(Curves(9), resource=3, lowest=4), r"evaluator.lowest=4 is more than the 3 steps .* give at most 3"),
        (ASHA(Curves(9), bracket=3), r"evaluator.bracket=3 leaves out all 3 rungs: give at most 2"),
        (Hyperband(StopsHalfWay(ASHA(Curves(9)))), "evaluator=hyperband is around evaluator.inner=asha, .* leave one"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_a_sentence(evaluator, message):
    with pytest.raises(BadInput, match=message):
        evaluator.start(ToySpace(), NO_TASK)


def test_the_log_says_the_brackets_and_the_rounding(caplog):
    caplog.set_level(logging.INFO, "automl")
    search(Hyperband(Curves(9), rounding="floor"), trials=1)
    assert "hyperband (resource=null, eta=3, lowest=1, rounding=floor)" in caplog.text
    assert "9@1 3@3 1@9; 3@3 1@9; 3@9" in caplog.text


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_they_evaluate_what_they_are_around(schedule):
    check_evaluator(lambda: schedule(Curves(9)), ToySpace(), NO_TASK)


def test_a_mean_trial_is_estimated_by_what_a_pass_trains():
    class Timed(Curves):
        def estimate(self, architecture):
            return 90.0

    evaluator = Hyperband(Timed(9))
    evaluator.start(ToySpace(), NO_TASK)
    steps = (9 + 3 * 2 + 1 * 6) + (5 * 3 + 1 * 6) + 3 * 9
    assert evaluator.estimate(None) == pytest.approx(90 * steps / 9 / (13 + 6 + 3))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_config_lists_every_field_in_order_with_its_default(schedule):
    values = yaml.safe_load((CONF / f"{schedule.name}.yaml").read_text(encoding="utf-8"))
    assert values.pop("defaults") == [{"/evaluator@inner": "training"}, "_self_"]
    assert values.pop("name") == schedule.name
    assert list(values) == [field.name for field in fields(schedule) if field.name != "inner"]
    assert values == {field.name: field.default for field in fields(schedule) if field.default is not MISSING}

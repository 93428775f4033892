from __future__ import annotations

import gc
import json
import random
import signal
import subprocess
import sys
import time
import tracemalloc
import weakref
from dataclasses import dataclass

import pytest

from automl import Candidate, Evaluator, Objective, Report, Strategy, TrialFailed
from automl.errors import JournalError, SearchFailed
from automl.files import Lines
from automl.journal import Journal
from automl.known import MANY
from automl.study import Study
from automl.testing import NO_TASK, OBJECTIVES, Checksum, ConditionalSpace, Scripted, ToySpace, story
from automl_strategies.evolution import Evolution
from automl_strategies.random import Random

STRATEGIES = {"random": Random, "evolution": lambda: Evolution(population=4, tournament=2)}
each_strategy = pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES)


def search(
    strategy=Random,
    evaluator=None,
    space=None,
    trials=6,
    path=None,
    objectives=OBJECTIVES,
    seed=0,
):
    return Study(
        ConditionalSpace() if space is None else space,
        strategy() if callable(strategy) else strategy,
        Checksum() if evaluator is None else evaluator,
        NO_TASK,
        objectives,
        trials=trials,
        seed=seed,
        journal=None if path is None else Journal(path, {"space": "toy"}),
    )


def finished(study):
    study.run()
    return study


def decisions(study):
    return [trial.architecture.to_json() for trial in study.trials]


class Interrupted(Checksum):
    """Is interrupted when it has reported so often in all."""

    def __init__(self, after):
        super().__init__(reports=3)
        self.after = after

    def evaluate(self, trial):
        for report in super().evaluate(trial):
            if self.after == 0:
                raise KeyboardInterrupt
            self.after -= 1
            yield report


@each_strategy
def test_an_interrupted_study_goes_on_as_if_it_had_not_been(tmp_path, strategy):
    told = finished(search(strategy, Checksum(3), trials=8, path=tmp_path / "unbroken"))
    for after in range(24):
        path = tmp_path / f"after{after}"
        broken = search(strategy, Interrupted(after), trials=8, path=path)
        with pytest.raises(KeyboardInterrupt):
            broken.run()
        assert len(broken.trials) == after // 3
        assert broken.failed == []
        resumed = finished(search(strategy, Checksum(3), trials=8, path=path))
        assert resumed.replayed == after // 3
        assert decisions(resumed) == decisions(told)
        assert [trial.scores for trial in resumed.trials] == [trial.scores for trial in told.trials]
        assert [trial.seed for trial in resumed.trials] == [trial.seed for trial in told.trials]
        assert story(path) == story(tmp_path / "unbroken")


KILLED = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_study import Checksum, Evolution, search

class Slow(Checksum):
    def evaluate(self, trial):
        for report in super().evaluate(trial):
            time.sleep(0.002)
            yield report

search(lambda: Evolution(population=4, tournament=2), Slow(2), trials=60, path=Path(sys.argv[1])).run()
"""


@pytest.mark.slow
def test_a_study_that_is_killed_again_and_again_ends_as_the_unbroken_one(tmp_path, request):
    path, unbroken = tmp_path / "journal", tmp_path / "unbroken"
    finished(search(lambda: Evolution(population=4, tournament=2), Checksum(2), trials=60, path=unbroken))
    rng = random.Random(0)
    whole = unbroken.stat().st_size
    sizes = sorted(rng.randrange(1, whole) for _ in range(10))
    killed = 0
    for size in [*sizes, None]:
        process = subprocess.Popen([sys.executable, "-c", KILLED, path, request.path.parent])
        while process.poll() is None:
            if size is not None and path.exists() and path.stat().st_size >= size:
                time.sleep(rng.random() * 0.01)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.001)
        code = process.wait()
        killed += code == -signal.SIGKILL
        assert code in (0, -signal.SIGKILL)
    assert killed >= 8
    assert story(path) == story(unbroken)


def test_a_trial_that_was_running_is_interrupted_and_nobody_is_told_of_it(tmp_path):
    told = []

    class Listening(Random):
        def tell(self, trial):
            told.append(trial.number)

    path = tmp_path / "journal"
    with pytest.raises(KeyboardInterrupt):
        search(Listening, Interrupted(9), path=path).run()
    assert [record["event"] for record in story(path)][-1] == "started"
    told.clear()
    resumed = search(Listening, Checksum(3), path=path)
    resumed.start()
    assert told == [0, 1, 2]
    assert resumed.running == {}  # trial 3 will be asked for again, under its number
    resumed.close()


@each_strategy
def test_the_number_of_trials_is_a_total(tmp_path, strategy):
    path = tmp_path / "journal"
    finished(search(strategy, path=path))
    before = path.read_bytes()
    for trials in (6, 4):  # the same again; fewer than there are
        again = finished(search(strategy, Scripted({}, 0.0), trials=trials, path=path))
        assert again.replayed == len(again.trials) == 6
        assert path.read_bytes() == before
    longer = finished(search(strategy, trials=10, path=path))
    assert (longer.replayed, len(longer.trials)) == (6, 10)
    fresh = finished(search(strategy, trials=10, path=tmp_path / "fresh"))
    assert decisions(longer) == decisions(fresh)
    assert story(path) == story(tmp_path / "fresh")


def test_an_evaluator_without_a_report_or_the_metric_is_a_failed_trial(tmp_path):
    path = tmp_path / "journal"
    study = finished(search(evaluator=Scripted({2: None, 3: {"loss": 0.5}, 4: {}}), path=path))
    assert [trial.error for trial in study.trials] == [
        None,
        None,
        "no report",
        "no metric `accuracy`; it reported: loss",
        "no metric `accuracy`; it reported: none",
        None,
    ]
    resumed = finished(search(evaluator=Scripted({}), trials=7, path=path))
    assert [trial.error for trial in resumed.trials][:6] == [trial.error for trial in study.trials]
    assert len(resumed.failed) == 3


@each_strategy
@pytest.mark.parametrize("objectives", [1, 2])
def test_nan_and_infinity_are_failures_and_not_scores(tmp_path, strategy, objectives):
    script = {number: {"accuracy": float(text), "size": 1.0} for number, text in enumerate(("nan", "inf", "-inf"))}
    script |= {number: {"accuracy": (number - 2) / 10, "size": number} for number in (3, 4, 5)}
    path = tmp_path / "journal"
    goals = (Objective("accuracy"), Objective("size", "min"))[:objectives]
    study = finished(search(strategy, Scripted(script), ToySpace(12, 4), path=path, objectives=goals))
    assert [trial.error for trial in study.trials[:3]] == [f"accuracy was {text}" for text in ("nan", "inf", "-inf")]
    assert study.best is study.trials[5]
    assert study.front == (study.trials[5:2:-1] if objectives == 2 else [study.trials[5]])
    assert all(trial.metrics == {} for trial in study.failed)

    def refuse(constant):
        raise AssertionError(constant)

    for line in path.read_text().splitlines():
        json.loads(line, parse_constant=refuse)


@dataclass
class Signed(Evaluator):
    """Reports a checksum of the decisions with a sign, and fails now and then."""

    metric: str
    sign: int

    def evaluate(self, trial):
        if trial.number % 7 == 3:
            raise TrialFailed("now and then")
        (report,) = Checksum().evaluate(trial)
        yield Report({self.metric: self.sign * report.metrics["accuracy"]})


@each_strategy
def test_both_directions_make_the_same_search(strategy):
    up = finished(search(strategy, Signed("gain", 1), trials=40, objectives=(Objective("gain"),)))
    down = finished(search(strategy, Signed("loss", -1), trials=40, objectives=(Objective("loss", "min"),)))
    assert decisions(up) == decisions(down)
    assert up.best.number == down.best.number
    assert [trial.number for trial in up.front] == [trial.number for trial in down.front]
    assert [trial.merit for trial in up.trials] == [trial.merit for trial in down.trials]
    assert min(up.trials, key=lambda trial: trial.merit).error is not None


@each_strategy
@pytest.mark.parametrize("population", [4])
def test_a_space_with_fewer_architectures_than_trials_ends_by_itself(tmp_path, strategy, population):
    path = tmp_path / "journal"
    study = finished(search(strategy, space=ToySpace(1, 2), trials=100, path=path))
    assert len(study.trials) == 2
    assert study.ending == "the space is exhausted: all its 2 architectures are evaluated"
    assert study.duplicates > 0
    assert [record["event"] for record in story(path)].count("duplicate") == study.duplicates
    again = finished(search(strategy, space=ToySpace(1, 2), trials=100, path=path))
    assert (again.ending, again.duplicates, len(again.trials)) == (study.ending, study.duplicates, 2)


def test_a_space_whose_descriptions_come_to_few_networks_ends_by_itself():
    class Symmetric(ToySpace):
        def canonical(self, blueprint):
            return tuple(sorted(blueprint))

    study = finished(search(space=Symmetric(2, 3), trials=100))
    assert len(study.trials) == 6
    assert study.ending == "the space is exhausted: all its 6 architectures are evaluated"


def test_a_strategy_that_proposes_nothing_new_ends_the_search():
    class Stubborn(Strategy):
        def ask(self):
            return Candidate(self.space.complete({f"d{i}": 0 for i in range(10)}, self.rng))

    study = finished(search(Stubborn, space=ToySpace(10, 4)))
    assert len(study.trials) == 1
    assert study.duplicates == MANY
    assert study.ending == "the strategy proposed nothing new in 20,000 asks, so the search ends here"


def test_a_strategy_that_asks_for_nothing_more_ends_the_search(tmp_path):
    class Three(Random):
        def ask(self):
            self.asked = getattr(self, "asked", 0) + 1
            return super().ask() if self.asked <= 3 else None

    assert len(finished(search(Three, path=tmp_path / "journal")).trials) == 3


def test_a_repeated_architecture_is_told_and_costs_nothing(tmp_path):
    told, evaluated = [], []

    class Listening(Random):
        def tell(self, trial):
            told.append((trial.number, trial.score))

    class Counting(Checksum):
        def evaluate(self, trial):
            evaluated.append(trial.number)
            return super().evaluate(trial)

    path = tmp_path / "journal"
    study = finished(search(Listening, Counting(), ToySpace(2, 2), trials=4, path=path))
    assert evaluated == [0, 1, 2, 3]
    assert len(told) == 4 + study.duplicates
    assert study.duplicates > 0
    assert set(told) == {(trial.number, trial.score) for trial in study.trials}
    before = list(told)
    told.clear()
    search(Listening, Counting(), ToySpace(2, 2), trials=4, path=path).start()
    assert told == before


def test_an_evaluator_that_is_not_repeatable_evaluates_again():
    class Noisy(Checksum):
        repeatable = False

    study = finished(search(evaluator=Noisy(), space=ToySpace(1, 2), trials=20))
    assert len(study.trials) == 20
    assert study.duplicates == 0


def test_failures_are_counted_and_the_study_goes_on():
    rng = random.Random(0)
    failing = {number: ValueError("no shape fits") for number in rng.sample(range(10, 100), 73)}
    study = finished(search(evaluator=Scripted(failing), trials=100))
    assert len(study.failed) == 73
    assert {trial.error for trial in study.failed} == {"ValueError: no shape fits"}
    assert all("ValueError" in trial.traceback for trial in study.failed)


@pytest.mark.parametrize("trials", [1, 3, 100])
def test_a_study_whose_first_trials_all_fail_alike_stops_with_a_word(tmp_path, trials):
    script = {number: TrialFailed(f"needs {number} images, got 2.5") for number in range(100)}
    first = min(trials, 5)
    with pytest.raises(
        SearchFailed, match=rf"the first {first} trials all failed .* needs 0 images, got 2.5"
    ) as failed:
        search(evaluator=Scripted(script), trials=trials, path=tmp_path / "journal").run()
    assert failed.value.exit_code == 1
    assert [record["event"] for record in story(tmp_path / "journal")].count("failed") == first


def test_a_study_whose_first_trials_fail_for_different_reasons_goes_on():
    script = {number: TrialFailed("abcdefgh"[number]) for number in range(6)}
    study = finished(search(evaluator=Scripted(script), trials=7))
    assert len(study.trials) == 7


def test_a_trial_that_is_not_kept_is_stopped_and_scored():
    class Impatient(Random):
        def keep(self, trial):
            return trial.reports[-1].fidelity < 0.5

    study = finished(search(Impatient, Checksum(4)))
    assert [len(trial.reports) for trial in study.trials] == [2] * 6
    assert all(trial.error is None and trial.scores for trial in study.trials)


def test_what_a_failed_trial_held_is_gone_before_the_next_ask():
    class Block(bytearray):
        """Memory that can be watched."""

    blocks = []

    class Watching(Random):
        def ask(self):
            assert [block() for block in blocks] == [None] * len(blocks)
            return super().ask()

    class Hungry(Checksum):
        def evaluate(self, trial):
            block = Block(1 << 20)
            blocks.append(weakref.ref(block))
            if trial.number % 2:
                raise MemoryError
            yield from super().evaluate(trial)

    gc.disable()
    try:
        study = finished(search(Watching, Hungry(), trials=20))
    finally:
        gc.enable()
    assert len(blocks) == 20
    assert {trial.error for trial in study.failed} == {"out of memory"}


def test_the_seed_decides_the_search():
    assert decisions(finished(search(seed=1))) == decisions(finished(search(seed=1)))
    assert decisions(finished(search(seed=1))) != decisions(finished(search(seed=2)))


def test_a_journal_of_another_space_or_strategy_is_refused_naming_the_trial_and_both_answers(tmp_path):
    path = tmp_path / "journal"
    finished(search(path=path, space=ToySpace(3, 3), trials=12))
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"for trial \d+ the journal has d\d=\d.*, the strategy now asks for d\d=\d"):
        search(lambda: Evolution(population=2, tournament=2), path=path, space=ToySpace(3, 3), trials=12).run()
    with pytest.raises(JournalError, match=r"for trial 0 the journal has d0=., .* now asks for depth=2"):
        search(path=path, space=ConditionalSpace(), trials=12).run()

    class Silent(Random):
        def ask(self):
            return None

    with pytest.raises(JournalError, match=r"for trial 0 the journal has .*d0.*, the strategy now asks for nothing"):
        search(Silent, path=path, space=ToySpace(3, 3), trials=12).run()
    assert path.read_bytes() == before


def test_types_of_look_alike_options_survive_resuming(tmp_path):
    class Alike(ToySpace):
        def describe(self, choose):
            return choose("a", ["1", 1, None]), choose("b", [(3, 5), (5, 3)]), choose("c", [0.1 + 0.2, 0.3])

    path = tmp_path / "journal"
    finished(search(space=Alike(), path=path))
    resumed = finished(search(space=Alike(), path=path, trials=8))
    fresh = finished(search(space=Alike(), trials=8))
    assert [trial.architecture for trial in resumed.trials] == [trial.architecture for trial in fresh.trials]
    assert [[*map(type, trial.architecture.values.values())] for trial in resumed.trials] == [
        [*map(type, trial.architecture.values.values())] for trial in fresh.trials
    ]


LARGE = 20_000


@pytest.mark.slow
@each_strategy
def test_a_large_study_writes_the_same_for_every_trial_and_is_read_back_exactly(tmp_path, monkeypatch, strategy):
    sizes, opened = [], []
    append, begin = Lines.append, Lines.__init__
    monkeypatch.setattr(Lines, "append", lambda self, line: sizes.append(len(line)) or append(self, line))
    monkeypatch.setattr(
        Lines, "__init__", lambda self, *given, **named: opened.append(1) or begin(self, *given, **named)
    )
    path, space = tmp_path / "journal", ToySpace(20, 4)
    study = finished(search(strategy, space=space, trials=LARGE, path=path))
    assert len(opened) == 1
    assert path.stat().st_size == sum(sizes)
    early, late = sum(sizes[300:3300]), sum(sizes[-3000:])
    assert early <= late <= early * 1.05  # line numbers have more digits
    assert study.best is max(study.trials, key=lambda trial: trial.score)
    assert study.front == [study.best]
    resumed = finished(search(strategy, space=space, trials=LARGE + 10, path=path))
    assert (resumed.replayed, len(resumed.trials)) == (LARGE, LARGE + 10)
    assert decisions(resumed)[:LARGE] == decisions(study)


@pytest.mark.slow
@each_strategy
def test_a_trial_of_twenty_decisions_is_kept_in_four_kilobytes(tmp_path, strategy):
    study = search(strategy, space=ToySpace(20, 4), trials=6_000, path=tmp_path / "journal")
    held = []

    class Weighed(Checksum):
        def evaluate(self, trial):
            if trial.number % 1000 == 0:
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])
            return super().evaluate(trial)

    study.evaluator = Weighed()
    tracemalloc.start()
    try:
        study.run()
    finally:
        tracemalloc.stop()
    assert (held[-1] - held[1]) / (1000 * (len(held) - 2)) <= 4096

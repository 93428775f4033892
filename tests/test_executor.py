from __future__ import annotations

import gc
import math
import random
import sys
import weakref

import psutil
import pytest

from automl import BadInput, Candidate, Evaluator, Report, Study, Trial, TrialFailed
from automl.errors import JournalError, SearchFailed, StorageError
from automl.executor import Failure, Local, Simulated, find
from automl.journal import Journal, read
from automl.testing import NO_TASK, Scripted, ToySpace
from automl_strategies.random import Random


def run(evaluator, number=0):
    trial = Trial(number, Candidate(ToySpace().sample(random.Random(0))), 0)
    executor = Local()
    executor.start(evaluator, 0.0)
    executor.submit(trial)
    assert not executor.free
    told, event = executor.next()
    assert told is trial
    return executor, event


class Block(bytearray):
    """Memory that can be watched."""


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


class Hungry(Evaluator):
    """Raises from a nested frame that holds a block of memory, and the error that it keeps in a variable."""

    def __init__(self, error, megabytes=1):
        self.error, self.size = error, megabytes << 20
        self.blocks = []

    def evaluate(self, trial):
        block = Block(self.size)
        block[::4096] = b"x" * len(block[::4096])  # so that the memory is really taken
        self.blocks.append(weakref.ref(block))
        try:
            self._nested(block)
        except Exception as error:
            kept = error  # a cycle: the error, its traceback, this frame
            raise kept from ValueError("a cause")
        yield Report({"accuracy": 1.0})

    def _nested(self, block):
        try:
            raise KeyError(len(block))
        except KeyError:
            raise self.error("CUDA out of memory, says the driver at length") from None


@pytest.mark.parametrize("error", [MemoryError, OutOfMemoryError])
def test_a_trial_out_of_memory_leaves_nothing_behind(error):
    evaluator = Hungry(error)
    gc.disable()
    try:
        executor, failure = run(evaluator)
        assert executor.free
        assert failure.reason == "out of memory"
        assert "_nested" in failure.traceback
        assert evaluator.blocks[0]() is None
    finally:
        gc.enable()


def test_memory_does_not_grow_over_trials_that_run_out_of_it():
    evaluator, process, resident = Hungry(MemoryError, megabytes=100), psutil.Process(), []
    gc.disable()
    try:
        for _ in range(20):
            run(evaluator)
            resident.append(process.memory_info().rss)
    finally:
        gc.enable()
    assert resident[-1] - resident[1] < 100 << 20


class Two(Exception):
    """Takes two arguments and passes one on."""

    def __init__(self, first, second):
        super().__init__(first)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TrialFailed("diverged: loss was nan at epoch 1"), "diverged: loss was nan at epoch 1"),
        (ValueError("no such\nlayer"), "ValueError: no such\nlayer"),
        (Two("one", "two"), "Two: one"),
        (SystemExit(3), "SystemExit: 3"),
        (
            ExceptionGroup("several", [ValueError("one"), TypeError("two")]),
            "ExceptionGroup: several (2 sub-exceptions)",
        ),
        (ValueError("x" * 5000), "ValueError: " + "x" * 988),
        (StopIteration("early"), "RuntimeError: generator raised StopIteration"),
    ],
    ids=lambda case: type(case).__name__,
)
def test_what_an_evaluator_raises_is_the_reason_as_text(error, reason):
    executor, failure = run(Scripted({0: error}))
    assert isinstance(failure, Failure)
    assert failure.reason == reason
    assert type(error).__name__ in failure.traceback
    assert executor.free


class NoGenerator(Evaluator):
    def __init__(self, answer):
        self.answer = answer

    def evaluate(self, trial):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_an_evaluator_need_not_be_a_generator():
    assert run(NoGenerator(iter([Report({"accuracy": 1.0})])))[1] == Report({"accuracy": 1.0})
    assert run(NoGenerator([Report({"accuracy": 1.0})]))[1] == Report({"accuracy": 1.0})
    assert run(NoGenerator(ValueError("at once")))[1].reason == "ValueError: at once"
    assert run(NoGenerator(None))[1].reason.startswith("TypeError")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), StorageError("disk"), JournalError("journal")])
def test_what_ends_a_study_is_no_failed_trial(error):
    with pytest.raises(type(error)):
        run(Scripted({0: error}))


def test_the_end_of_an_evaluation_is_told():
    executor, event = run(Scripted({0: None}))
    assert event is None
    assert executor.free


def test_a_stopped_evaluation_is_closed():
    class Closed(Evaluator):
        closed = False

        def evaluate(self, trial):
            try:
                yield Report({"accuracy": 0.1}, 0.5)
                yield Report({"accuracy": 0.2}, 1.0)
            finally:
                self.closed = True

    evaluator = Closed()
    evaluator.start(ToySpace(), NO_TASK)
    executor, _ = run(evaluator)
    assert not evaluator.closed
    executor.close()
    assert evaluator.closed
    assert executor.free
    executor.close()


def test_long_chains_of_errors_are_told_and_let_go():
    class Chained(Evaluator):
        def evaluate(self, trial):
            yield from self._deep(50)

        def _deep(self, depth):
            if depth == 0:
                raise ValueError("deepest")
            try:
                yield from self._deep(depth - 1)
            except ValueError as error:
                error.__cause__ = error.__context__ or error  # a ring, which Python itself would not close
                raise ValueError(f"depth {depth}") from error

    _, failure = run(Chained())
    assert failure.reason == "ValueError: depth 50"
    assert len(failure.traceback) <= 20_000
    assert sys.exc_info() == (None, None, None)


class Recorded(Evaluator):
    """Takes ``seconds`` by trial number, in two reports."""

    def __init__(self, seconds):
        self.seconds = seconds

    def evaluate(self, trial):
        for share in (0.5, 1.0):
            yield Report({"accuracy": share, "seconds": share * self.seconds[trial.number % len(self.seconds)]}, share)


def simulated(seconds, workers, trials=6, hours=None, strategy=None, path=None):
    journal = None if path is None else Journal(path, {})
    study = Study(
        ToySpace(9, 4),
        strategy or Random(),
        Recorded(seconds),
        NO_TASK,
        trials=trials,
        executor=Simulated(hours, workers),
        journal=journal,
    )
    study.run()
    return study


def test_simulated_workers_bring_results_in_the_order_of_the_clock():
    study = simulated([50, 10, 10, 100, 10, 10], workers=2)
    assert [(trial.number, trial.began, trial.ended) for trial in study.trials] == [
        (1, 0, 10),
        (2, 10, 20),
        (0, 0, 50),
        (4, 50, 60),
        (5, 60, 70),
        (3, 20, 120),
    ]
    assert simulated([50, 10, 10, 100, 10, 10], workers=1).executor.clock == 190


def test_simulated_workers_run_no_more_trials_than_they_are():
    study = simulated([7, 3, 5], workers=3, trials=30)
    events = [(trial.began, 1) for trial in study.trials] + [(trial.ended, -1) for trial in study.trials]
    busy = most = 0
    for _, change in sorted(events):
        busy += change
        most = max(most, busy)
    assert most == 3


def test_no_trial_is_begun_or_told_after_the_hours():
    study = simulated([1200, 900], workers=2, trials=100, hours=0.5)
    assert all(trial.ended <= 1800 for trial in study.trials)
    assert [trial.number for trial in study.trials] == [1, 0]
    assert len(study.running) == 2
    assert study.ending == "0.5 hours are spent, after 2 of 100 trials"


class Halving(Random):
    """Keeps none whose number is odd."""

    def keep(self, trial):
        return trial.number % 2 == 0


def test_a_simulated_trial_that_is_not_kept_frees_its_worker_at_once():
    study = simulated([100], workers=1, trials=4, strategy=Halving())
    assert [(trial.began, trial.ended) for trial in study.trials] == [(0, 100), (100, 150), (150, 250), (250, 300)]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_a_simulated_study_goes_on_from_any_line_of_its_journal(tmp_path, workers):
    def told(study):
        return [(trial.number, trial.began, trial.ended, trial.architecture) for trial in study.trials]

    unbroken = simulated([50, 10, 10, 100, 10, 10], workers, 12, strategy=Halving(), path=tmp_path / "unbroken")
    written = (tmp_path / "unbroken").read_bytes()
    for number, (_, end) in enumerate(read(tmp_path / "unbroken")):
        path = tmp_path / f"resumed{number}"
        path.write_bytes(written[:end])
        resumed = simulated([50, 10, 10, 100, 10, 10], workers, 12, strategy=Halving(), path=path)
        assert told(resumed) == told(unbroken)


@pytest.mark.parametrize("seconds", [{}, {"seconds": math.nan}, {"seconds": -1.0}, {"seconds": math.inf}])
def test_a_simulated_trial_without_its_seconds_fails(seconds):
    class Timeless(Evaluator):
        def evaluate(self, trial):
            yield Report({"accuracy": 0.5, **seconds})

    study = Study(ToySpace(), Random(), Timeless(), NO_TASK, trials=1, executor=Simulated())
    with pytest.raises(SearchFailed, match="no metric `seconds`, by which executor simulated goes"):
        study.run()


def test_an_unknown_executor_is_refused_by_name():
    with pytest.raises(BadInput, match="no executor is named 'rays'; there are local, simulated, processes, ray"):
        find("rays")


class Repeating(Random):
    """Asks for each architecture twice in a row."""

    def ask(self):
        self.asked = getattr(self, "asked", -1) + 1
        if self.asked % 2 == 0:
            self.last = super().ask()
        return Candidate(self.last.architecture)

    def tell(self, trial):
        self.told = [*getattr(self, "told", []), trial.number]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_repeat_of_a_running_trial_waits_for_it_and_is_told_with_it(tmp_path, workers):
    study = simulated([50, 10, 30], workers, 9, strategy=Repeating(), path=tmp_path / "unbroken")
    assert len({trial.architecture for trial in study.trials}) == 9
    assert study.duplicates in (8, 9)  # of the last trial the repeat need not be asked for
    told = study.strategy.told
    assert all(told.count(number) == 2 for number in range(8))
    written = (tmp_path / "unbroken").read_bytes()
    for number, (_, end) in enumerate(read(tmp_path / "unbroken")):
        path = tmp_path / f"resumed{number}"
        path.write_bytes(written[:end])
        resumed = simulated([50, 10, 30], workers, 9, strategy=Repeating(), path=path)
        assert resumed.strategy.told == told


@pytest.mark.parametrize("workers", [2, 5])
def test_a_space_smaller_than_the_workers_is_evaluated_once(workers):
    study = Study(ToySpace(1, 3), Random(), Recorded([5]), NO_TASK, trials=100, executor=Simulated(None, workers))
    study.run()
    assert sorted(trial.architecture.values["d0"] for trial in study.trials) == [0, 1, 2]
    assert study.ending == "the space is exhausted: all its 3 architectures are evaluated"

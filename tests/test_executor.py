from __future__ import annotations

import gc
import random
import sys
import weakref

import psutil
import pytest

from automl import Candidate, Evaluator, Report, Trial, TrialFailed
from automl.errors import JournalError, StorageError
from automl.executor import Failure, Local
from automl.testing import NO_TASK, Scripted, ToySpace


def run(evaluator, number=0):
    trial = Trial(number, Candidate(ToySpace().sample(random.Random(0))), 0)
    executor = Local(evaluator)
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
    executor.stop()
    assert evaluator.closed
    assert executor.free
    executor.stop()


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

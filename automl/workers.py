"""The driver's side of workers: hands trials out, takes what comes back, and tries again what was lost."""

from __future__ import annotations

import logging
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt

from automl import travel
from automl.errors import BadInput, StorageError
from automl.evaluator import Evaluator
from automl.executor import Event, Executor, Failure
from automl.strategy import Strategy
from automl.trial import Report, Trial
from automl.worker import Answer

TRIES = 3  # of a trial, or of a worker's start, after which it is given up
_POLL = 0.5  # seconds between two looks at the memory of workers
_GIB = 1 << 30
_log = logging.getLogger("automl")


class Worker(ABC):
    """One worker, as its driver sees it."""

    @abstractmethod
    def send(self, word: Literal["start", "begin", "go_on", "stop"], *values: Any) -> None:
        """Send a request, which is answered by one Answer; of a worker that is dead nothing is said here."""

    @abstractmethod
    def kill(self) -> None:
        """End it at once, and all that it started; may be called twice."""

    def resident(self) -> int | None:
        """Return how many bytes of memory it holds, those of its children included; None if that is not known."""
        return None


class Death(str):
    """That a worker died, and how, in words: ``signal 9``."""

    __slots__ = ()


class _Job:
    """A trial on its way."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.events: deque[Event] = deque()  # that came and were not yet handed on
        self.reached = trial.fidelity if trial.reports else -inf  # fidelity; what is no better informed is no news
        self.deaths = 0
        self.is_left = False  # by the study, so that what still comes of it is of no interest
        self.over: str | None = None  # the limit that it was killed for
        self.began = 0.0


class _Seat:
    """The place of a worker, who may be replaced."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.worker: Worker | None = None
        self.is_ready = False
        self.waits = False  # for the study to say whether its trial goes on
        self.job: _Job | None = None
        self.starts = 0  # in a row that went wrong
        self.facts: Mapping[str, Any] = {}


@dataclass
class Workers(Executor):
    """Candidates are evaluated by several workers, each in a process of its own; here is what they have in common.

    What travels is settings, decisions and numbers. A worker that dies is replaced, and its trial tried again under its
    number, ``TRIES`` times in all. A trial that takes longer than ``trial_minutes``, or whose worker holds more than
    ``trial_memory`` GiB, is killed and fails.

    With ``ordered`` the study sees what it would with one worker, whatever comes first: ``ahead`` trials are asked for
    before the first of them is told, and told in that order. A trial then goes on without waiting for its strategy's
    word, which comes in its turn.
    """

    workers: Annotated[int, Ge(1)] = 2
    ordered: bool = False
    ahead: Annotated[int, Ge(1)] = 8
    trial_minutes: Annotated[float, Gt(0)] | None = None
    trial_memory: Annotated[float, Gt(0)] | None = None

    open: ClassVar[frozenset[str]] = frozenset({"hours", "workers", "trial_minutes", "trial_memory"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self._zero = time.monotonic()
        self._seats: list[_Seat] = []
        self._jobs: dict[int, _Job] = {}  # by trial, in the order of asking
        self._queue: deque[_Job] = deque()  # that no worker has
        self._arrived: deque[_Job] = deque()  # one entry an event that was not yet handed on
        self._reporting: _Job | None = None  # whose report was handed on last
        if self.ordered and self.workers > self.ahead:
            raise BadInput(
                f"executor.workers={self.workers} are more than the executor.ahead={self.ahead} trials that are asked "
                f"for ahead: give executor.ahead={self.workers}, which changes what is decided, or fewer workers"
            )

    @abstractmethod
    def hire(self, number: int) -> Worker:
        """Return a new worker for the place of that number, from 0."""

    def parcel(self, packed: bytes) -> Any:
        """Return what stands for the packed search where it is sent to every worker."""
        return packed

    @abstractmethod
    def listen(self, seconds: float | None) -> Iterable[tuple[Worker, Answer | Death]]:
        """Yield what came of any worker, waiting for it as long as that; None: until something does."""

    def check(self, evaluator: Evaluator, strategy: Strategy) -> None:
        name = type(evaluator).__name__.lower()
        if evaluator.stateful:
            raise BadInput(
                f"evaluator {name} learns from trial to trial, in one process: type executor=local, or "
                "evaluator=training, which several workers can do"
            )
        if strategy.gradients:
            raise BadInput("a strategy that learns from gradients needs them at hand: type executor=local")

    def start(self, evaluator: Evaluator, clock: float) -> None:
        super().start(evaluator, clock)
        self._packed = self.parcel(travel.pack(evaluator))
        if self.workers > 1 and any(name.startswith("latency") for name in evaluator.wanted):
            _log.warning(
                "latencies are measured while %d workers are busy, which makes them longer and less alike: "
                "executor.workers=1 measures them alone",
                self.workers,
            )
        self._seats = [_Seat(number) for number in range(self.workers)]
        try:
            for seat in self._seats:
                self._hire(seat)
            while not all(seat.is_ready for seat in self._seats):
                self._listen(None)
        except BaseException:
            self.close()
            raise
        self._zero = time.monotonic() - clock

    def facts(self) -> Mapping[str, Any]:
        return {"workers": [dict(seat.facts) for seat in self._seats]}

    @property
    def clock(self) -> float:
        return time.monotonic() - self._zero

    @property
    def free(self) -> bool:
        return len(self._jobs) < (self.ahead if self.ordered else self.workers)

    def submit(self, trial: Trial) -> None:
        job = self._jobs[trial.number] = _Job(trial)
        self._queue.append(job)
        self._hand_out()

    def next(self) -> tuple[Trial, Event]:
        if self._reporting is not None:
            self._go_on(self._reporting)
            self._reporting = None
        while True:
            job = self._first()
            if job is not None:
                event = job.events.popleft()
                if isinstance(event, Report):
                    self._reporting = job
                else:
                    del self._jobs[job.trial.number]
                return job.trial, event
            if self.is_over:
                return next(iter(self._jobs.values())).trial, None
            self._listen(self._patience())

    def stop(self, trial: Trial) -> None:
        job = self._jobs.pop(trial.number)
        job.is_left = True
        job.events.clear()
        self._reporting = None
        if job in self._queue:
            self._queue.remove(job)
        for seat in self._seats:
            if seat.job is job and seat.waits:
                self._send(seat, "stop")

    def close(self) -> None:
        for seat in self._seats:
            if seat.worker is not None:
                seat.worker.kill()
                seat.worker = None
        for waiting in (self._jobs, self._queue, self._arrived):
            waiting.clear()
        self._reporting = None

    def _first(self) -> _Job | None:
        """Return the trial whose event is handed on next; None where that has not come yet."""
        if self.ordered:
            head = next(iter(self._jobs.values()))
            return head if head.events else None
        while self._arrived:
            job = self._arrived.popleft()
            if job.events:  # else it was left since
                return job
        return None

    def _go_on(self, job: _Job) -> None:
        for seat in self._seats:
            if seat.job is job and seat.waits and not job.events:
                self._send(seat, "go_on")

    def _send(self, seat: _Seat, word: Literal["start", "begin", "go_on", "stop"], *values: Any) -> None:
        assert seat.worker is not None
        seat.waits = False
        seat.worker.send(word, *values)

    def _hire(self, seat: _Seat) -> None:
        seat.is_ready = seat.waits = False
        seat.worker = self.hire(seat.number)
        path = [place or "." for place in sys.path]
        self._send(seat, "start", path, self._packed)

    def _hand_out(self) -> None:
        for seat in self._seats:
            if self._queue and seat.is_ready and seat.job is None:
                job = seat.job = self._queue.popleft()
                job.began = time.monotonic()
                self._send(seat, "begin", travel.pack_trial(job.trial))

    def _listen(self, seconds: float | None) -> None:
        """Take what comes, at least for so long, and see that no trial is over its limits."""
        self._look_at_limits()
        for worker, answer in self.listen(seconds):
            seat = next((seat for seat in self._seats if seat.worker is worker), None)
            if seat is None:
                continue
            if isinstance(answer, Death):
                self._take_death(seat, answer)
            else:
                self._take(seat, answer)
        self._hand_out()

    def _take(self, seat: _Seat, answer: Answer) -> None:
        job = seat.job
        for level, text in answer.said:
            _log.log(level, "%s", text)
        match answer.kind:
            case "ready":
                seat.is_ready, seat.starts, seat.facts = True, 0, answer.facts
            case "refused":
                raise BadInput(f"a worker cannot begin: {answer.text}")
            case "broken":
                raise StorageError(answer.text)
            case "stopped":
                seat.job = None
            case "reported":
                assert job is not None
                self._take_report(seat, job, Report(answer.metrics, answer.fidelity))
            case "ended" | "failed":
                assert job is not None
                seat.job = None
                self._settle(job, None if answer.kind == "ended" else Failure(answer.text, answer.traceback))

    def _take_report(self, seat: _Seat, job: _Job, report: Report) -> None:
        if job.is_left:
            self._send(seat, "stop")
        elif job.deaths and report.fidelity <= job.reached:  # of a trial that is tried again
            self._send(seat, "go_on")
        else:
            job.reached = max(job.reached, report.fidelity)
            job.events.append(report)
            self._arrived.append(job)
            seat.waits = True
            if self.ordered and job is not next(iter(self._jobs.values())):
                self._send(seat, "go_on")

    def _settle(self, job: _Job, event: Event) -> None:
        if not job.is_left:
            job.events.append(event)
            self._arrived.append(job)

    def _take_death(self, seat: _Seat, death: Death) -> None:
        """Have another worker in that place, and the trial tried again by whoever is free first."""
        assert seat.worker is not None
        seat.worker.kill()  # what it may have left running
        job, seat.job = seat.job, None
        if not seat.is_ready:
            seat.starts += 1
            if seat.starts == TRIES:
                raise BadInput(f"a worker died ({death}) {TRIES} times while it started, so nothing can be evaluated")
        if job is not None and job.over is not None:
            self._settle(job, Failure(job.over, ""))
        elif job is not None and not job.is_left:
            job.deaths += 1
            if job.deaths == TRIES:
                self._settle(job, Failure(f"worker died ({death}) {TRIES} times", ""))
            else:
                self._queue.appendleft(job)
                text = f"a worker died ({death}) in trial {job.trial.number}, which is tried again"
                _log.warning("%s", text)
        self._hire(seat)

    def _look_at_limits(self) -> None:
        """Kill what takes too long or too much."""
        for seat in self._seats:
            job = seat.job
            if job is None or seat.worker is None or job.over is not None or seat.waits:
                continue
            if self.trial_minutes is not None and time.monotonic() - job.began > 60 * self.trial_minutes:
                job.over = f"over its time limit of {self.trial_minutes:g} minutes"
            elif self.trial_memory is not None:
                held = (seat.worker.resident() or 0) / _GIB
                if held > self.trial_memory:
                    job.over = f"over its memory limit of {self.trial_memory:g} GiB ({held:.1f} GiB)"
            if job.over is not None:
                self._take_death(seat, Death(job.over))

    def _patience(self) -> float | None:
        """Return for how long nothing has to be looked at."""
        waits = [inf if self.hours is None else self.hours * 3600 - self.clock + 0.001]
        if self.trial_memory is not None:
            waits.append(_POLL)
        if self.trial_minutes is not None:
            ends = [seat.job.began + 60 * self.trial_minutes for seat in self._seats if seat.job is not None]
            waits += [end - time.monotonic() + 0.001 for end in ends]
        least = min(waits)
        return None if least == inf else max(least, 0.0)

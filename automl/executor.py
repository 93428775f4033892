"""Where candidates run: here, one after the other, in simulated parallel, or elsewhere (workers.py)."""

from __future__ import annotations

import heapq
import importlib
import logging
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Annotated, Any, ClassVar, NamedTuple

from annotated_types import Ge, Gt

from automl.errors import BadInput, JournalError, StorageError, TrialFailed
from automl.evaluator import Evaluator
from automl.strategy import Strategy
from automl.trial import Report, Trial

_log = logging.getLogger("automl")


class Failure(NamedTuple):
    """Why a trial failed, as text alone: a traceback object would keep every tensor of its frames alive."""

    reason: str
    traceback: str


Event = Report | Failure | None  # a report of a trial, its failure, or its end


@dataclass
class Executor(ABC):
    """Where candidates run. The study submits trials, then takes their events one by one.

    After ``hours`` on its clock no trial is begun, and those still running are left.
    """

    hours: Annotated[float, Gt(0)] | None = None
    needs: ClassVar[frozenset[str]] = frozenset()  # metrics that it goes by
    open: ClassVar[frozenset[str]] = frozenset({"hours"})  # settings that may be others when a run is gone on with

    def __post_init__(self) -> None:
        self.say: Callable[[str], None] = _log.info  # tells the user a line

    def check(self, evaluator: Evaluator, strategy: Strategy) -> None:  # noqa: B027
        """Raise BadInput where these two cannot work here; called before anything is written."""

    def start(self, evaluator: Evaluator, clock: float) -> None:
        """Begin, or go on at so many seconds."""
        self.evaluator = evaluator

    def facts(self) -> Mapping[str, Any]:
        """Return what the run notes of where its candidates ran."""
        return {}

    @property
    @abstractmethod
    def clock(self) -> float:
        """The seconds since the study began, interruptions aside."""

    @property
    def is_over(self) -> bool:
        """Whether the hours are spent."""
        return self.hours is not None and self.clock > self.hours * 3600

    @property
    @abstractmethod
    def free(self) -> bool:
        """Whether another trial can be submitted."""

    @abstractmethod
    def submit(self, trial: Trial) -> None:
        """Begin a trial, at the moment that it ``began``."""

    def begin_again(self, began: float) -> float:
        """Return when a trial that was interrupted begins again, on this clock."""
        return self.clock

    @abstractmethod
    def next(self) -> tuple[Trial, Event]:
        """Return the next event, waiting for it.

        After a report the trial goes on when this is called again, unless it is stopped before. Once the hours are
        spent what is returned is of no account.
        """

    @abstractmethod
    def stop(self, trial: Trial) -> None:
        """End a trial, for example because its strategy does not keep it."""

    @abstractmethod
    def close(self) -> None:
        """End all that is running."""


@dataclass
class Local(Executor):
    """Evaluates in this process, one candidate after the other."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._running: tuple[Trial, Generator[Report]] | None = None
        self._zero = time.monotonic()

    def start(self, evaluator: Evaluator, clock: float) -> None:
        super().start(evaluator, clock)
        self._zero = time.monotonic() - clock

    def facts(self) -> Mapping[str, Any]:
        torch = sys.modules.get("torch")  # where none was needed, there are no threads of it
        return {} if torch is None else {"threads": torch.get_num_threads()}

    @property
    def clock(self) -> float:
        return time.monotonic() - self._zero

    @property
    def free(self) -> bool:
        return self._running is None

    def submit(self, trial: Trial) -> None:
        self._running = (trial, begun(self.evaluator, trial))

    def next(self) -> tuple[Trial, Event]:
        assert self._running is not None
        trial, reports = self._running
        event = advance(reports)
        if not isinstance(event, Report):
            self._running = None
        return trial, event

    def stop(self, trial: Trial) -> None:
        self.close()

    def close(self) -> None:
        if self._running is not None:
            _, reports = self._running
            self._running = None
            reports.close()


@dataclass
class Simulated(Executor):
    """Looks recorded results up at once, and hands them on as so many workers would have brought them.

    The evaluator reports in the metric ``seconds`` how long its trial has taken so far. Events come in the order of
    the simulated clock; trials that end at one moment, in the order of asking.
    """

    workers: Annotated[int, Ge(1)] = 1
    needs = frozenset({"seconds"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self._now = 0.0
        self._running: dict[int, Generator[Report]] = {}
        self._events: list[tuple[float, int, Trial, Event]] = []  # a heap with the next event of each running trial
        self._reporting: tuple[float, Trial] | None = None  # whose last report was handed on, and when

    def start(self, evaluator: Evaluator, clock: float) -> None:
        super().start(evaluator, clock)
        self._now = clock

    @property
    def clock(self) -> float:
        return self._now

    @property
    def free(self) -> bool:
        return len(self._running) < self.workers

    def submit(self, trial: Trial) -> None:
        self._running[trial.number] = begun(self.evaluator, trial)
        self._look_up(trial, trial.began)

    def begin_again(self, began: float) -> float:
        return began

    def next(self) -> tuple[Trial, Event]:
        if self._reporting is not None:
            moment, trial = self._reporting
            self._look_up(trial, moment)
        moment, _, trial, event = heapq.heappop(self._events)
        self._now = max(self._now, moment)
        self._reporting = (moment, trial) if isinstance(event, Report) else None
        if self._reporting is None:
            del self._running[trial.number]
        return trial, event

    def stop(self, trial: Trial) -> None:
        self._reporting = None
        self._running.pop(trial.number).close()

    def close(self) -> None:
        for reports in self._running.values():
            reports.close()
        self._running.clear()
        self._events.clear()
        self._reporting = None

    def _look_up(self, trial: Trial, moment: float) -> None:
        """Have the trial's next event wait for its moment; its end comes with its last report."""
        event = advance(self._running[trial.number])
        if isinstance(event, Report):
            seconds = event.metrics.get("seconds", inf)
            if not 0 <= seconds < inf:
                event = Failure("no metric `seconds`, by which executor simulated goes", "")
            else:
                moment = max(moment, trial.began + seconds)
        heapq.heappush(self._events, (moment, trial.number, trial, event))


EXECUTORS = {
    "local": "automl.executor:Local",
    "simulated": "automl.executor:Simulated",
    "processes": "automl.processes:Processes",
    "ray": "automl.cluster:Ray",
}


def find(name: object) -> type[Executor]:
    """Return the executor of that name; raises BadInput for none."""
    if not isinstance(name, str) or name not in EXECUTORS:
        raise BadInput(f"no executor is named {name!r}; there are {', '.join(EXECUTORS)}")
    module, _, attribute = EXECUTORS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)  # type: ignore[no-any-return]


def begun(evaluator: Evaluator, trial: Trial) -> Generator[Report]:
    """Yield the reports of a trial."""
    yield from evaluator.evaluate(trial)  # so that one that is no generator raises in next, too


def advance(reports: Generator[Report]) -> Event:
    """Return the next event of a trial: whatever its evaluator raises is a failure, but for what ends a study."""
    try:
        report = next(reports)
        if not isinstance(report, Report):
            raise TypeError(f"the evaluator yielded {type(report).__name__}, which is no Report")
        return report
    except StopIteration:
        return None
    except (StorageError, JournalError):
        raise
    except (Exception, SystemExit) as error:
        return _failure(error)


def _failure(error: BaseException) -> Failure:
    try:
        said = str(error)
    except Exception:
        said = "it has no text"
    text = "".join(traceback.format_exception(error))
    for link in _chain(error):
        traceback.clear_frames(link.__traceback__)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Failure("out of memory", text[-20_000:])
    if isinstance(error, TrialFailed):
        return Failure(said[:1_000], text[-20_000:])
    return Failure(f"{type(error).__name__}: {said}"[:1_000], text[-20_000:])


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and all that it came from, each once."""
    waiting, seen = [error], set()
    while waiting:
        link = waiting.pop()
        if id(link) not in seen:
            seen.add(id(link))
            yield link
            group = link.exceptions if isinstance(link, BaseExceptionGroup) else ()
            waiting += [other for other in (link.__cause__, link.__context__, *group) if other is not None]

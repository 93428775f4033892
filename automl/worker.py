"""The worker's side: evaluates one trial at a time, and answers each request by one event, as plain values."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Generator, Mapping
from typing import Any, Literal, NamedTuple

from automl import travel
from automl.errors import AutoMLError
from automl.executor import Failure, advance, begun
from automl.trial import Report, Trial, in_floats

Kind = Literal["ready", "refused", "reported", "ended", "failed", "stopped", "broken"]


class Answer(NamedTuple):
    """What a worker says: of itself (ready, refused), of its trial, or that the study cannot go on (broken).

    ``text`` and ``traceback`` are the reason where something went wrong: errors travel as text alone, for many cannot
    be pickled, and of those that can be many cannot be rebuilt.
    """

    kind: Kind
    metrics: Mapping[str, float] = {}
    fidelity: float = 0.0
    text: str = ""
    traceback: str = ""
    facts: Mapping[str, Any] = {}
    said: tuple[tuple[int, str], ...] = ()  # what was logged meanwhile: level and text, for the driver's log


class _Notes(logging.Handler):
    """Keeps what is logged until it is sent."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.kept: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append((record.levelno, _whole(record.getMessage())))

    def take(self) -> tuple[tuple[int, str], ...]:
        kept, self.kept = self.kept, []
        return tuple(kept)


class Desk:
    """Where a worker works; its requests are begin, go on and stop, each answered before the next comes."""

    def start(self, path: list[str], packed: bytes, environment: Mapping[str, str]) -> Answer:
        """Take what the search is about; the path and the environment are set first, for torch reads them once."""
        os.environ.update(environment)
        self._notes = _Notes()
        log = logging.getLogger("automl")
        log.handlers, log.propagate = [self._notes], False
        log.setLevel(logging.INFO)
        sys.path.extend(place for place in path if place not in sys.path)
        try:
            self._evaluator = travel.unpack(packed)
        except AutoMLError as error:
            return Answer("refused", text=str(error))
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            return Answer("refused", text=text[:1_000], traceback=traceback.format_exc()[-20_000:])
        self._trial: Trial | None = None
        self._reports: Generator[Report] | None = None
        return Answer("ready", facts=facts(), said=self._notes.take())

    def begin(self, packed: travel.Packed) -> Answer:
        """Begin a trial; its first event."""
        try:
            self._trial = travel.unpack_trial(packed, self._evaluator.space)
        except Exception as error:
            text = f"its decisions cannot be read by the worker: {type(error).__name__}: {error}"
            return Answer("failed", text=text[:1_000], traceback=traceback.format_exc()[-20_000:])
        self._reports = begun(self._evaluator, self._trial)
        return self.go_on()

    def go_on(self) -> Answer:
        """Go on with the trial; its next event."""
        return self._advance()._replace(said=self._notes.take())

    def _advance(self) -> Answer:
        assert self._reports is not None
        assert self._trial is not None
        try:
            event = advance(self._reports)
        except AutoMLError as error:  # of the disk or of the journal: no trial's fault
            return Answer("broken", text=str(error))
        if event is None:
            return Answer("ended")
        if isinstance(event, Failure):
            return Answer("failed", text=_whole(event.reason), traceback=_whole(event.traceback))
        try:
            event = in_floats(event)
            if not self._trial.reports or event.fidelity > self._trial.fidelity:
                self._trial.reports.append(event)
            return Answer("reported", dict(event.metrics), float(event.fidelity))
        except Exception as error:
            return Answer("failed", text=f"a report that is none: {type(error).__name__}: {error}"[:1_000])

    def stop(self) -> Answer:
        """Leave the trial."""
        reports, self._reports = self._reports, None
        if reports is not None:
            try:
                reports.close()
            except Exception as error:  # what it says on its way out is of no more interest than it is here
                return Answer("stopped", text=f"{type(error).__name__}: {error}")
        return Answer("stopped")

    def resident(self) -> int:
        """Return how many bytes of memory this process holds, those of its children included."""
        return resident(os.getpid())


def resident(process: int) -> int:
    """Return how many bytes of memory a process holds, those of its children included."""
    import psutil

    own = psutil.Process(process)
    return sum(int(one.memory_info().rss) for one in (own, *own.children(recursive=True)))


def facts() -> dict[str, Any]:
    """Return what a run notes of a worker."""
    import socket

    from automl.allotment import DEVICES, THREADS

    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "threads": os.environ.get(THREADS),
        "devices": os.environ.get(DEVICES),
    }


def _whole(text: str) -> str:
    """Return the text without halves of surrogate pairs, which no pipe takes."""
    return text.encode(errors="backslashreplace").decode()

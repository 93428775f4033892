"""Where candidates run: here, one after the other."""

from __future__ import annotations

import traceback
from collections.abc import Generator, Iterator
from typing import NamedTuple

from automl.errors import JournalError, StorageError, TrialFailed
from automl.evaluator import Evaluator
from automl.trial import Report, Trial


class Failure(NamedTuple):
    """Why a trial failed, as text alone: a traceback object would keep every tensor of its frames alive."""

    reason: str
    traceback: str


class Local:
    """Evaluates in this process. The study submits a trial, then takes its events one by one."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._running: tuple[Trial, Generator[Report]] | None = None

    @property
    def free(self) -> bool:
        """Whether another trial can be submitted."""
        return self._running is None

    def submit(self, trial: Trial) -> None:
        """Begin a trial."""
        self._running = (trial, self._evaluate(trial))

    def _evaluate(self, trial: Trial) -> Generator[Report]:
        yield from self._evaluator.evaluate(trial)  # so that one that is no generator raises in next, too

    def next(self) -> tuple[Trial, Report | Failure | None]:
        """Return the next event: a report of a trial, its failure, or None for its end."""
        assert self._running is not None
        trial, reports = self._running
        try:
            return trial, next(reports)
        except StopIteration:
            self._running = None
            return trial, None
        except (StorageError, JournalError):
            raise
        except (Exception, SystemExit) as error:
            self._running = None
            return trial, _failure(error)

    def stop(self) -> None:
        """End what is running, for example because its strategy does not keep it."""
        if self._running is not None:
            _, reports = self._running
            self._running = None
            reports.close()


def _failure(error: BaseException) -> Failure:
    text = "".join(traceback.format_exception(error))
    for link in _chain(error):
        traceback.clear_frames(link.__traceback__)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Failure("out of memory", text[-20_000:])
    if isinstance(error, TrialFailed):
        return Failure(str(error)[:1_000], text[-20_000:])
    return Failure(f"{type(error).__name__}: {error}"[:1_000], text[-20_000:])


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

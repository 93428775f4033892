"""Workers that are processes of this machine: spawned, never forked, and gone when their driver is."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import connection
from types import ModuleType
from typing import Any, Literal

from automl import allotment
from automl.evaluator import Evaluator
from automl.worker import Answer, Desk, resident
from automl.workers import Death, Worker, Workers

_spawning = multiprocessing.get_context("spawn")


@dataclass
class Processes(Workers):
    """Evaluates in so many processes of this machine.

    They share its processors, and its graphics cards in turn: each worker sees one.
    """

    def start(self, evaluator: Evaluator, clock: float) -> None:
        self._devices = allotment.devices()
        self._living: list[_Process] = []
        super().start(evaluator, clock)
        threads = self._environment(0)[allotment.THREADS]
        several = "s" * (self.workers > 1)
        cards = f", graphics cards {', '.join(self._devices)} in turn" if self._devices else ""
        self.say(f"{self.workers} worker{several} of {threads} thread{'s' * (threads != '1')}{cards}.")

    def hire(self, number: int) -> Worker:
        worker = _Process(number, self._environment(number))
        self._living.append(worker)
        return worker

    def listen(self, seconds: float | None) -> Iterator[tuple[Worker, Answer | Death]]:
        waited: dict[Any, _Process] = {}
        self._living = [worker for worker in self._living if not worker.is_gone]
        for worker in self._living:
            waited[worker.connection] = waited[worker.ending] = worker
        came = connection.wait(list(waited), seconds)
        for worker in dict.fromkeys(waited[one] for one in came):
            is_dead = worker.ending in came
            try:
                while worker.connection.poll():
                    yield worker, worker.connection.recv()
            except (EOFError, OSError):  # of its last message, too, half may have come
                is_dead = True
            if is_dead:
                yield worker, worker.death()

    def close(self) -> None:
        super().close()
        self._living = []

    def _environment(self, number: int) -> dict[str, str]:
        """Return what a worker's environment has of its own."""
        own = {allotment.THREADS: allotment.threads(self.workers)}
        card = allotment.device(number, self._devices)
        return own if card is None else {**own, allotment.DEVICES: card}


class _Process(Worker):
    """A worker that is a process, the first of a group of its own, to which what it starts belongs."""

    def __init__(self, number: int, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self.is_gone = False
        self.connection, theirs = _spawning.Pipe()
        self.process = _spawning.Process(target=_work, args=(theirs,), name=f"automl worker {number}")
        with _bare(environment):
            self.process.start()
        theirs.close()
        # the end of the process itself: what it forked may hold its pipes open for longer
        self._file = os.pidfd_open(self.process.pid) if hasattr(os, "pidfd_open") and self.process.pid else None
        self.ending: int = self.process.sentinel if self._file is None else self._file

    def send(self, word: Literal["start", "begin", "go_on", "stop"], *values: Any) -> None:
        if word == "start":
            values = (*values, self._environment)
        with contextlib.suppress(OSError):  # it is dead, as will be heard
            self.connection.send((word, values))

    def kill(self) -> None:
        if self.is_gone:
            return
        self.is_gone = True
        if hasattr(os, "killpg"):
            with contextlib.suppress(ProcessLookupError, PermissionError):  # before it has a group of its own
                os.killpg(self.process.pid or 0, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.connection.close()
        if self._file is not None:
            os.close(self._file)

    def resident(self) -> int | None:
        import psutil

        try:
            return resident(self.process.pid or 0)
        except psutil.Error:
            return None

    def death(self) -> Death:
        """Return how it died, as it has by now or is about to; what it started dies, too."""
        self.kill()
        code = self.process.exitcode or 0
        return Death(f"signal {-code}" if code < 0 else f"exit code {code}")


def _work(theirs: connection.Connection) -> None:
    """Be a worker, to the end of the driver."""
    if hasattr(os, "setsid"):
        os.setsid()  # so that Ctrl-C is the driver's to take, and this worker is killed with all that it starts
    threading.Thread(target=_watch, daemon=True).start()
    desk = Desk()
    try:
        while True:
            word, values = theirs.recv()
            theirs.send(getattr(desk, word)(*values))
    except (EOFError, OSError):
        _end()


def _watch() -> None:
    """Wait for the end of the driver, however it comes, and end with it, in the middle of whatever is done."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    _end()


def _end() -> None:
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


_alone = threading.Lock()


@contextlib.contextmanager
def _bare(environment: Mapping[str, str]) -> Iterator[None]:
    """Let a process be started with that in its environment, deaf to Ctrl-C, and without the user's script.

    What is spawned would run the script again, up to its own searches where nothing keeps it from that; what workers
    need of it travels by value.
    """
    with _alone:
        main, before = sys.modules["__main__"], {name: os.environ.get(name) for name in environment}
        blocked = None
        if hasattr(signal, "pthread_sigmask"):
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        sys.modules["__main__"] = ModuleType("__main__")
        os.environ.update(environment)
        try:
            yield
        finally:
            sys.modules["__main__"] = main
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
            if blocked is not None:
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

"""Disks that fail, tear or end the process at the nth call of the seam for writing."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

from automl import files


class Faults:
    """Counts the calls of the seam, and has the nth go wrong, or all from there on; torn, the nth write after its half.

    It raises the OSError of that code; without a code the process is killed.
    """

    def __init__(self, nth: int, code: int | None, *, torn: bool = False, forever: bool = False) -> None:
        self.nth, self.code, self.torn, self.forever = nth, code, torn, forever
        # what cannot be torn is not counted; nor is, before a kill, what another process sees nothing of
        self.counted = {"write"} if torn else set(files.SEAM) - ({"sync", "create"} if code is None else set())
        self.calls = 0
        self.fired = False
        self.names: list[str] = []

    @contextlib.contextmanager
    def installed(self, monkeypatch) -> Iterator[Faults]:
        with monkeypatch.context() as patch:
            for name in files.SEAM:
                patch.setattr(files, name, self._failing(name, getattr(files, name)))
            yield self

    def _failing(self, name, real):
        def call(*arguments):
            if name not in self.counted:
                return real(*arguments)
            self.calls += 1
            self.names.append(name)
            if self.calls == self.nth or (self.forever and self.calls > self.nth):
                self.fired = True
                if self.torn:
                    descriptor, data = arguments
                    real(descriptor, data[: len(data) // 2])
                if self.code is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise OSError(self.code, os.strerror(self.code))
            return real(*arguments)

        return call

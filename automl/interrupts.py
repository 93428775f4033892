"""Ctrl-C and SIGTERM: the first ends what is running, a second within ten seconds ends at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

_PATIENCE = 10.0  # seconds


class Interrupted(KeyboardInterrupt):
    """The user, or the system, asked to stop; ``exit_code`` is 130 or 143."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class Interrupts:
    """Takes both signals between ``start`` and ``stop``; outside the main thread it takes none.

    As a context manager it marks where an interruption may strike: inside, a signal raises Interrupted at once;
    one that came outside is raised on the next entry, so that no line is half written and no trial half told.
    """

    def __init__(self) -> None:
        self._depth = 0
        self._number: int | None = None
        self._at = 0.0
        self._before: dict[int, Any] = {}

    def start(self) -> None:
        """Begin to take signals."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._take)

    def stop(self) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def __enter__(self) -> None:
        if self._number is not None:
            raise Interrupted(self._number)
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1

    def _take(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._number is not None and now - self._at < _PATIENCE:
            os._exit(128 + number)
        self._number, self._at = number, now
        if self._depth:
            raise Interrupted(number)

"""Where what the log says is shown: on the screen, each warning once, and in a run's own file."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from automl.errors import StorageError, printable
from automl.files import Lines

_log = logging.getLogger("automl")


class RunLog(logging.Handler):
    """Writes run.log, as far as the disk takes it, and keeps the warnings for the summary."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.INFO)
        self._lines = Lines(path)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self.warnings: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING and record.getMessage() not in self.warnings:
            self.warnings.append(record.getMessage())
        with suppress(StorageError):  # what matters is in the journal, which says so
            self._lines.append(f"{self.format(record)}\n".encode(errors="backslashreplace"))

    def close(self) -> None:
        with suppress(StorageError):
            self._lines.close()
        super().close()


def into(folder: Path) -> RunLog:
    """Write what is said from now on into a run's folder."""
    handler = RunLog(folder / "run.log")
    _log.addHandler(handler)
    _log.setLevel(min(_log.level or logging.INFO, logging.INFO))
    return handler


def screen(debugging: bool) -> logging.Handler:
    """Show warnings on stderr, each once; all that is said where one is debugging."""
    handler = _Screen()
    handler.setLevel(logging.DEBUG if debugging else logging.WARNING)
    handler.setFormatter(_Printable("warning: %(message)s"))
    handler.addFilter(_Once())
    _log.addHandler(handler)
    _log.setLevel(logging.DEBUG if debugging else logging.INFO)
    _log.propagate = False
    return handler


class _Once(logging.Filter):
    """Lets each message through once."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if message in self._said:
            return False
        self._said.add(message)
        return True


class _Screen(logging.StreamHandler[Any]):
    """Writes to what is sys.stderr at that moment: a live display may have taken its place."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _Printable(logging.Formatter):
    """Escapes what could drive a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))

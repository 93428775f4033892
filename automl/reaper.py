"""A process beside a driver that was killed: ends at once what Ray leaves behind for a minute.

python -m automl.reaper PID@CREATED..., its standard input a pipe that the driver holds open.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

import psutil


def started() -> list[str]:
    """Return what this process has started of Ray, as the words of the program."""
    found: list[psutil.Process] = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "/ray/" in " ".join(child.cmdline()):
                found += [child, *child.children(recursive=True)]
    words = []
    for process in found:
        with contextlib.suppress(psutil.Error):
            words.append(f"{process.pid}@{process.create_time()}")
    return words


def main(words: Sequence[str]) -> None:
    """Wait until the driver is gone; then end what it had started, and what that has started since."""
    while os.read(sys.stdin.fileno(), 1_024):
        pass
    found = [process for word in words if (process := _living(*word.split("@"))) is not None]
    for process in [*found]:
        with contextlib.suppress(psutil.Error):
            found += process.children(recursive=True)
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.kill()


def _living(pid: str, created: str) -> psutil.Process | None:
    """Return that very process, and not one that has taken its number since."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(int(pid))
        if process.create_time() == float(created):
            return process
    return None


if __name__ == "__main__":
    main(sys.argv[1:])

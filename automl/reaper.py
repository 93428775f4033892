"""A process beside a driver that was killed: ends at once what Ray leaves behind for a minute.

python -m automl.reaper PID, its standard input a pipe that the driver holds open.
"""

from __future__ import annotations

import contextlib
import select
import sys

import psutil

_SECONDS = (0.5, 0.5, 1.0, 2.0, 5.0)  # between two looks; the last again and again


def main(driver: int) -> None:
    """Note what the driver has started of Ray, until it is gone; then end what is still there."""
    found: set[psutil.Process] = set()  # a process is known by its number and the instant it began
    looks = 0
    while not select.select([sys.stdin], [], [], _SECONDS[min(looks, len(_SECONDS) - 1)])[0]:
        looks += 1
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(driver).children():
                if "/ray/" in " ".join(child.cmdline()):
                    found |= {child, *child.children(recursive=True)}
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.kill()  # never one that has taken the number since


if __name__ == "__main__":
    main(int(sys.argv[1]))

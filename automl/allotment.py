"""What of a machine each of several workers has: its share of the processors, and a graphics card of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

THREADS = "OMP_NUM_THREADS"  # what torch looks at when it starts its threads
DEVICES = "CUDA_VISIBLE_DEVICES"
_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA's, Windows' for its Linux, AMD's


def cores() -> int:
    """Return how many processors this process may use: those of its affinity mask, not all that there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads(workers: int, of: int | None = None, environment: Mapping[str, str] = os.environ) -> str:
    """Return what THREADS is for each of so many workers: what the user has set, else an equal share of the cores."""
    return environment.get(THREADS) or str(max(1, (cores() if of is None else of) // workers))


def devices(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the graphics cards that this process may use, by index or UUID as CUDA_VISIBLE_DEVICES names them.

    What comes after an index below 0 is hidden, as CUDA has it.
    """
    named = environment.get(DEVICES)
    if named is None:
        if sys.platform == "linux" and not any(map(os.path.exists, _DRIVERS)):
            return []  # so that torch need not be imported
        import torch

        return [str(number) for number in range(torch.cuda.device_count())]
    found: list[str] = []
    for name in filter(None, map(str.strip, named.split(","))):
        if name.startswith("-"):
            break
        found.append(name)
    return found


def device(worker: int, among: list[str]) -> str | None:
    """Return what DEVICES is for a worker: one card, in turn, so that more workers than cards share; None for none."""
    return among[worker % len(among)] if among else None

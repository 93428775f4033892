"""What tests wait with, for what other processes and threads do in their own time."""

from __future__ import annotations

import time


def wait_for(condition, seconds=60):
    """Ask again and again until the condition holds, and fail where it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)

"""Snapshots of what a search cannot learn from its journal again: the state of its evaluator and of its strategy."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automl.checkpoint import Checkpoint
from automl.errors import BadInput
from automl.files import remove_file

KEPT = 2  # the newest ones
_log = logging.getLogger("automl")


@dataclass(frozen=True)
class Snapshot:
    """The states at one moment between two trials, and how long the journal was: bytes, lines, asks."""

    size: int
    lines: int
    asks: int
    strategy: Mapping[str, Any] | None
    evaluator: Checkpoint | None


class Snapshots:
    """The snapshots of one run in a folder, a file each, written whole or not at all; the last two are kept.

    ``seconds`` is the least time between two.
    """

    def __init__(self, folder: Path, seconds: float = 30.0) -> None:
        self.folder = folder
        self.seconds = seconds
        self._last = time.monotonic()

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self._last >= self.seconds

    def save(self, snapshot: Snapshot) -> None:
        """Write one, and delete those that are older than the last two."""
        state = snapshot.evaluator or Checkpoint({}, {})
        facts = {
            "size": snapshot.size,
            "lines": snapshot.lines,
            "asks": snapshot.asks,
            "strategy": snapshot.strategy,
            "evaluator": None if snapshot.evaluator is None else dict(state.facts),
        }
        Checkpoint(state.tensors, facts).save(self.folder / f"{snapshot.lines:09d}.safetensors")
        for old in self._paths()[:-KEPT]:
            remove_file(old)
        self._last = time.monotonic()

    def latest(self, size: int) -> Snapshot | None:
        """Return the newest of a journal of at most so many bytes; None where there is none that can be read."""
        for path in reversed(self._paths()):
            try:
                read = Checkpoint.load(path)
                facts = read.facts
                length, lines, asks = (int(facts[name]) for name in ("size", "lines", "asks"))
            except (BadInput, KeyError, TypeError, ValueError) as error:
                _log.warning("%s cannot be read (%s): an older one is gone on from", path, error)
                continue
            if length <= size:
                evaluator = facts.get("evaluator")
                state = None if evaluator is None else Checkpoint(read.tensors, evaluator)
                return Snapshot(length, lines, asks, facts.get("strategy"), state)
        if size:
            _log.warning("%s has no snapshot to go on from, so the search begins again", self.folder)
        return None

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("*.safetensors"))

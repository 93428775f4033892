"""Reads the .wandb files that W&B keeps of a run: records in the framing of a LevelDB log."""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_START = b":W&B"
_FIRST = 7  # bytes before the first record
_BLOCK = 32_768
_FRAME = struct.Struct("<IHB")  # CRC-32, length, kind
_WHOLE, _END = 1, 4  # kinds of a record's parts that end it


def records(path: Path) -> Iterator[Any]:
    """Yield each record, as ``wandb_internal_pb2.Record``, up to where the file was cut off by a kill."""
    from wandb.proto import wandb_internal_pb2

    data = path.read_bytes()
    if not data.startswith(_START):
        return
    place, parts = _FIRST, b""
    while place + _FRAME.size <= len(data):
        rest = _BLOCK - place % _BLOCK
        if rest < _FRAME.size:
            place += rest
            continue
        checksum, length, kind = _FRAME.unpack_from(data, place)
        end = place + _FRAME.size + length
        if end > len(data) or zlib.crc32(data[place + _FRAME.size - 1 : end]) != checksum:
            return
        parts += data[place + _FRAME.size : end]
        place = end
        if kind in (_WHOLE, _END):
            record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            record.ParseFromString(parts)
            parts = b""
            yield record


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield each row of the run's history: ``_step``, and what was logged."""
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            yield {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}


def wait(path: Path, seconds: float = 10.0) -> None:
    """Wait for the end of a run to be in its file: W&B's process writes it a moment after the run has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if any(record.WhichOneof("record_type") == "exit" for record in records(path)):
            return
        time.sleep(0.05)


def files(folder: Path, run: str) -> list[Path]:
    """Return the files of the run of that id, the oldest first."""
    return sorted(folder.glob(f"wandb/*run-*-{run}/run-{run}.wandb"))

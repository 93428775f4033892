"""What happened in a study, one checksummed JSON line an event; reading it back is resuming."""

from __future__ import annotations

import json
import logging
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from automl.errors import JournalError
from automl.files import Lines

SCHEMA = 1
_LARGEST = 1e300  # of a number; NaN is not below it either
_TAIL = len(',"crc":"01234567"}')
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), check_circular=False).encode
_log = logging.getLogger("automl")


class Journal:
    """An append-only file of events.

    Each line is one strict JSON object: ``line`` (from 0), ``event``, what belongs to the event, ``time``
    (seconds since 1970), and last ``crc``, the CRC-32 of all before it. The first line is the study's heading.
    """

    def __init__(self, path: Path, heading: Mapping[str, Any]) -> None:
        """Open the journal of the study that the heading describes, new or to be gone on with.

        Raises JournalError for the journal of another study or another schema.
        """
        self.path = path
        self._heading = {"event": "study", "schema": SCHEMA, "study": json.loads(_encode(heading))}
        self._lines: Lines | None = None
        self._count = 0

    def events(self) -> Iterator[tuple[dict[str, Any], int]]:
        """Yield each event after the heading with the offset of its end; nothing for a new journal."""
        for number, (record, end) in enumerate(read(self.path) if self.path.exists() else ()):
            if number == 0:
                _compare(self.path, self._heading, record)
            else:
                yield record, end

    def open(self, size: int = 0, lines: int = 0) -> None:
        """Begin to append after the first ``size`` bytes, which are ``lines`` lines; 0 for a journal to be begun."""
        self._lines = Lines(self.path, size=size)
        self._count = lines
        if lines == 0:
            self.append(self._heading)

    def append(self, record: dict[str, Any]) -> None:
        """Write one event, with its line number, the time and a checksum, in one write.

        Raises ValueError for NaN and infinity, StorageError where the disk refuses.
        """
        assert self._lines is not None
        text = f'{{"line":{self._count},{_encode(record)[1:-1]},"time":{time.time():.3f}'
        body = text.encode(errors="backslashreplace")  # half of a surrogate pair: as JSON escapes it
        self._lines.append(b'%b,"crc":"%08x"}\n' % (body, zlib.crc32(body)))
        self._count += 1

    @property
    def size(self) -> int:
        """How many bytes there are on the disk."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def place(self) -> tuple[int, int]:
        """How long it is: bytes and lines."""
        assert self._lines is not None
        return self._lines.size, self._count

    def sync(self) -> None:
        """Have the disk hold all that was written."""
        assert self._lines is not None
        self._lines.sync()

    def close(self) -> None:
        """Sync and close."""
        if self._lines is not None:
            self._lines.close()


def decisions_of(record: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the decisions of a started trial: those written, or those of the trial before with what changed."""
    return dict(record["decisions"]) if "decisions" in record else {**before, **record["changes"]}


def read(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each record of a journal with the offset of its end.

    A torn tail (no line after it is whole) ends the reading with a warning. Damage elsewhere raises JournalError,
    naming the line; the file is never touched.
    """
    end = 0
    with path.open("rb") as file:
        for number, line in enumerate(file):
            record = _parse(line, number)
            if record is None:
                rest = [line, *file]
                if number == 0 and (len(rest) > 1 or line.endswith(b"\n")):
                    raise JournalError(
                        f"{path} is damaged at line 1, or no journal: restore it from a copy, or delete it"
                    )
                if any(_parse(later) is not None for later in rest):
                    raise JournalError(
                        f"{path} is damaged at line {number + 1}, with whole lines after it: "
                        "restore it from a copy, or cut it before that line to go on from there"
                    )
                _log.warning("%s: one torn line dropped (%d bytes)", path, sum(map(len, rest)))
                return
            end += len(line)
            if number == 0 and (record.get("event") != "study" or record.get("schema") != SCHEMA):
                raise JournalError(
                    f"{path} has schema {record.get('schema')!r}, this version reads {SCHEMA}: "
                    "use the version of automl that wrote it"
                )
            if (wrong := _wrong(record)) is not None:
                raise JournalError(
                    f"{path} says at line {number + 1} of {record['event']!r} no {wrong} that automl would write: "
                    "restore it from a copy, or cut it before that line to go on from there"
                )
            yield record, end


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and -_LARGEST < value < _LARGEST


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < _LARGEST


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


_KEYS: dict[str, dict[str, Callable[[Any], bool]]] = {  # what an event says
    "study": {"study": _is_object},
    "started": {
        "trial": _is_whole,
        "fidelity": _is_number,
        "parent": _is_whole,
        "decisions": _is_object,
        "changes": _is_object,
        "notes": _is_object,
        "clock": _is_number,
    },
    "reported": {"trial": _is_whole, "fidelity": _is_number, "metrics": _are_numbers},
    "finished": {"trial": _is_whole, "seconds": _is_number, "clock": _is_number},
    "failed": {
        "trial": _is_whole,
        "seconds": _is_number,
        "clock": _is_number,
        "reason": _is_text,
        "traceback": _is_text,
    },
    "duplicate": {"of": _is_whole},
}
_MAY_BE_NULL = {"parent", "traceback"}
_MAY_LACK = {"decisions", "changes", "notes", "clock", *_MAY_BE_NULL}


def _wrong(record: Mapping[str, Any]) -> str | None:
    """Return the key whose value is no such thing, None where all are; events that are not known say what they like."""
    event = record["event"]
    for name, fits in _KEYS.get(event, {}).items():
        value = record.get(name)
        if fits(value) or (value is None and name in (_MAY_BE_NULL if name in record else _MAY_LACK)):
            continue
        return name
    if event == "started" and not ("decisions" in record or "changes" in record):
        return "decisions"
    return None


def _parse(line: bytes, number: int | None = None) -> dict[str, Any] | None:
    """Return the record of a whole line, at its place if a number is given; None for anything else."""
    if line[-2:] != b"}\n" or line[-_TAIL - 1 : -11] != b',"crc":"':
        return None
    body = line[: -_TAIL - 1]
    try:
        if zlib.crc32(body) != int(line[-11:-3], 16):
            return None
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("event"), str):
        return None
    if number is not None and record.get("line") != number:
        return None
    return record


def _compare(path: Path, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    wanted, there = expected["study"], found.get("study")
    if wanted == there:
        return
    place = []
    while isinstance(wanted, dict) and isinstance(there, dict):
        place.append(next(key for key in {**wanted, **there} if there.get(key) != wanted.get(key)))
        wanted, there = wanted.get(place[-1]), there.get(place[-1])
    raise JournalError(
        f"{path} is of another study: its {'.'.join(place) or 'study'} is {there!r}, asked for is {wanted!r}; "
        "resume it with its own settings, or start a new run"
    )

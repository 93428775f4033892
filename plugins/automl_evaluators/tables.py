"""Tables of recorded trainings: where their files are, and how they are read and refused."""

from __future__ import annotations

import gzip
import os
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from automl import BadInput, Report
from automl.downloads import cache_folder
from automl.errors import printable

Array = np.ndarray[Any, np.dtype[Any]]

DECISIONS = tuple(f"edge{edge}.op" for edge in ("01", "02", "12", "03", "13", "23"))
_ZIPS = (zlib.error, zipfile.BadZipFile)
CELLS = 5 ** len(DECISIONS)


class Table(ABC):
    """What was recorded of every cell of a space of six edges with one of five operations each.

    A cell's code is the sum of the places of its operations among ``operations`` times 5^k, k being the place of the
    edge in ``DECISIONS``.
    """

    space: ClassVar[str]
    operations: ClassVar[tuple[str, ...]]
    steps: ClassVar[int | None] = None  # in which a training was recorded; None: as a whole

    @abstractmethod
    def costs(self, code: int) -> dict[str, float]:
        """Return what is known of a cell before it is trained."""

    @abstractmethod
    def reports(self, code: int, begun: float, until: float) -> Iterator[Report]:
        """Yield what was recorded of a cell's training, from one share of it to another."""

    @abstractmethod
    def outcome(self, code: int) -> Mapping[str, float]:
        """Return how good the cell was after its full training, in shares of the images."""

    @abstractmethod
    def metrics(self) -> frozenset[str]:
        """Return the names of all that can be reported."""


def find(name: str, file: str, root: str | None) -> Path:
    """Return the path of a table's file: in the root or its folder of that name, else where data sets are kept.

    That is AUTOML_DATA, shared/data beside the working directory, and the cache. Raises BadInput where it is not.
    """
    if root:
        places = [Path(root).expanduser()]
    else:
        shared = os.environ.get("AUTOML_DATA")
        places = [Path(shared).expanduser()] if shared else []
        places += [Path("..", "shared", "data"), cache_folder("")]
    for place in places:
        for path in (place / name / file, place / file):
            if path.is_file():
                return path
    raise BadInput(
        f"evaluator=tabular found no {name}/{file} in {' or '.join(printable(str(place)) for place in places)}: "
        "name the folder that holds it, evaluator.root=DIR or AUTOML_DATA=DIR"
    )


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong in reading a file into BadInput."""
    try:
        yield
    except (OSError, EOFError, ValueError, LookupError, MemoryError, NotImplementedError, *_ZIPS) as error:
        said = " ".join(str(error).split())[:150]
        raise BadInput(f"{printable(str(path))} is cut short or damaged ({printable(said)}): fetch it anew") from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[list[str], IO[str]]]:
    with gzip.open(path, "rt", encoding="ascii", newline="") as file:
        first = file.readline().strip()
        if not first:
            raise ValueError("it is empty")
        yield first.split(","), file


def column_names(path: Path) -> list[str]:
    """Return what the columns of a table of text are called."""
    with reading(path), _opened(path) as (names, _):
        return names


def read_columns(path: Path, wanted: Sequence[str]) -> dict[str, Array]:
    """Return columns of a table of numbers, separated by commas and zipped, one row a cell.

    Raises BadInput where one is missing, a cell is, or something is no number.
    """
    with reading(path), _opened(path) as (names, file):
        missing = [name for name in wanted if name not in names]
        if not missing:
            places = [names.index(name) for name in wanted]
            rows = file.readlines()
            values = np.loadtxt(rows, delimiter=",", usecols=places, ndmin=2) if rows else np.empty((0, len(wanted)))
    if missing:
        raise BadInput(
            f"{printable(str(path))} has no column {missing[0]!r}: give a file with the columns {', '.join(wanted)}"
        )
    if not np.isfinite(values).all():
        place = int(np.flatnonzero(~np.isfinite(values).all(0))[0])
        raise BadInput(f"{printable(str(path))} has no number in a row of column {wanted[place]!r}: fetch it anew")
    return dict(zip(wanted, values.T, strict=True))


def order_by_code(path: Path, operations: Array) -> Array:
    """Return the rows in the order of the cells' codes, given the six operations of each row.

    Raises BadInput where a cell is missing or told twice.
    """
    codes = operations.astype(np.int64) @ 5 ** np.arange(len(DECISIONS))
    legal = ((operations >= 0) & (operations < 5)).all()
    distinct = len(np.unique(codes)) if legal else 0
    if not legal or distinct != CELLS or len(codes) != CELLS:
        found = f"{len(codes):,} rows of {distinct:,} different cells" if legal else "operations other than 0 to 4"
        raise BadInput(f"{printable(str(path))} has {found}, not one row for each of {CELLS:,}: fetch it anew")
    return np.argsort(codes)

"""Images and labels in an npz file, in any of the usual layouts, told by their shapes."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from automl import BadInput, Data, Dataset
from automl.errors import printable

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]
KEYS = "x_train, y_train and, if there is a test set, x_test, y_test"


def read_npz(path: Path, classes: tuple[str, ...]) -> Data:
    """Return what an npz file holds under x_train, y_train and perhaps x_test, y_test (or images, labels).

    Images are N x C x H x W, N x H x W x C or N x H x W, of one or three channels; whole numbers from 0 to 255, or
    floats from 0 to 1, which are scaled; floats of which any is above 1 are taken as 0 to 255. Labels are whole
    numbers, as many as there are classes. Raises BadInput for anything else, and unpickles nothing.
    """
    try:
        with opened(path) as file:
            first = ("x_train", "y_train") if "x_train" in file.files else ("images", "labels")
            pairs = [first, ("x_test", "y_test")]
            if missing := [key for key in first if key not in file.files]:
                held = ", ".join(map(printable, file.files[:8])) or "nothing"
                raise BadInput(f"{path} holds {held}, but no {' or '.join(missing)}: name its arrays {KEYS}")
            found = [tuple(_plain(path, file, key) for key in pair) for pair in pairs if set(pair) <= set(file.files)]
    except MemoryError as error:
        raise BadInput(
            f"{path} announces more than the memory holds ({printable(str(error))}): save it anew"
        ) from error
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise BadInput(f"{path} cannot be read as an npz file: {printable(str(error))}") from error
    stretch = _stretch(path, [images for images, _ in found])
    sets, layouts = [], []
    for (images, labels), pair in zip(found, pairs, strict=False):
        straight, layout = _straighten(path, pair[0], images)
        scaled = straight if straight.dtype == np.uint8 else np.round(straight * stretch).astype(np.uint8)
        sets.append(Dataset(np.ascontiguousarray(scaled), _whole(path, pair[1], labels, len(images), len(classes))))
        layouts.append(layout)
    if len(sets) > 1 and sets[0].images.shape[1:] != sets[1].images.shape[1:]:
        raise BadInput(
            f"{path} has training images of {_by(sets[0].images)} and test images of {_by(sets[1].images)} "
            "(channels x height x width): make them alike"
        )
    notes = {"files": [str(path)], "layout": layouts[0], "scaled_by": stretch}
    return Data(sets[0].images, sets[0].labels, classes, sets[1] if len(sets) > 1 else None, notes=notes)


@contextmanager
def opened(path: Path) -> Iterator["np.lib.npyio.NpzFile"]:
    """Open an npz file, and close it whatever comes, which numpy does not where the file is damaged."""
    with path.open("rb") as raw:
        file = np.load(raw, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array")
        with file:
            yield file


def _plain(path: Path, file: "np.lib.npyio.NpzFile", key: str) -> Array:
    try:
        array: Array = file[key]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise BadInput(
            f"{path} holds Python objects under {key!r}, which may run code when they are read, and so are not: "
            f"save plain numbers as {KEYS}"
        ) from error
    if array.dtype.kind not in "buif":
        raise BadInput(f"{path} holds {array.dtype} under {key!r}: save plain numbers as {KEYS}")
    return array


def _straighten(path: Path, key: str, images: Array) -> tuple[Array, str]:
    """Return the images as N x C x H x W, and how they lay."""
    shape = " x ".join(map(str, images.shape))
    first, last = (images.ndim == 4 and images.shape[axis] in (1, 3) for axis in (1, 3))
    if images.ndim == 3:
        return images[:, None], "N x H x W"
    if first and last:
        raise BadInput(
            f"{path} holds {key} as {shape}, where channels may come first or last: "
            "use images of a height and width other than 1 and 3"
        )
    if first:
        return images, "N x C x H x W"
    if last:
        return images.transpose(0, 3, 1, 2), "N x H x W x C"
    raise BadInput(f"{path} holds {key} as {shape}: save it as N x H x W, N x H x W x 3 or N x 3 x H x W")


def _stretch(path: Path, arrays: list[Array]) -> int:
    """Return what pixel values are multiplied by, one rule for all images of a file."""
    kinds = {array.dtype.kind == "f" for array in arrays}
    if len(kinds) > 1:
        raise BadInput(f"{path} holds whole numbers and floats as images: save all of them as 0 to 255")
    filled = [array for array in arrays if array.size]
    low = min((float(array.min()) for array in filled), default=0.0)
    high = max((float(array.max()) for array in filled), default=0.0)
    if not (low >= 0 and high <= 255):  # false for NaN as well
        raise BadInput(f"{path} holds pixels from {low:g} to {high:g}: save them as 0 to 255, or as floats from 0 to 1")
    return 255 if kinds == {True} and high <= 1 else 1


def _whole(
    path: Path, key: str, labels: Array, images: int, classes: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    flat = labels.reshape(-1)
    if len(flat) != images:
        raise BadInput(f"{path} holds {images:,} images and {len(flat):,} labels ({key}): there must be one for each")
    whole = flat.astype(np.int64)
    if flat.dtype.kind == "f" and not np.array_equal(whole, flat):
        raise BadInput(f"{path} holds labels ({key}) that are no whole numbers: save class numbers from 0")
    if images and not 0 <= whole.min() <= whole.max() < classes:
        raise BadInput(
            f"{path} holds labels ({key}) from {whole.min()} to {whole.max()}, expected 0 to {classes - 1}: "
            "renumber them"
        )
    return whole


def _by(images: Array) -> str:
    return " x ".join(map(str, images.shape[1:]))

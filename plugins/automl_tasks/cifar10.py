"""CIFAR-10: colour images of 32 x 32 in ten classes, 50,000 to train on and 10,000 to test on."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge

from automl import BadInput, Data, Dataset, Task
from automl.downloads import fetch, unpack
from automl_tasks.arrays import opened, read_npz
from automl_tasks.places import folders, target

ARCHIVE = "cifar-10-binary.tar.gz"
INSIDE = "cifar-10-batches-bin"  # the folder in the archive
UNPACKED = "cifar-10-binary"  # the folder that it is unpacked into
TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = "test_batch.bin"
RECORD = 1 + 3 * 32 * 32  # bytes: a label, then the red, the green and the blue pixels


@dataclass(kw_only=True)
class CIFAR10(Task):
    """Photographs of animals and vehicles (Krizhevsky, 2009): the binary version, or an npz file.

    The npz file may hold fewer images, or others of these ten classes, and need not have a test set. The version
    for Python is pickled and so is not read.
    """

    crop: Annotated[int, Ge(0)] = 4
    flip: bool = True
    root: str | None = None  # the folder with the batches or an npz file, or that file; else $AUTOML_DATA/cifar10, ...
    download: bool = False  # fetch what is missing, 170 MB

    name: ClassVar[str] = "cifar10"
    class_names: ClassVar[tuple[str, ...]] = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )
    sources: ClassVar[tuple[str, ...]] = ("https://www.cs.toronto.edu/~kriz/",)
    sha256: ClassVar[str] = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"

    def load(self) -> Data:
        places = folders(self.name, self.root)
        try:
            for place in places:
                if (data := self._load(place)) is not None:
                    return data
        except BadInput:
            if not self.download:
                raise
        if self.download:
            folder = target(self.name, self.root)
            archive = fetch([url + ARCHIVE for url in self.sources], self.sha256, folder / ARCHIVE)
            return self._batches(unpack(archive, folder / UNPACKED) / INSIDE)
        for place in places:
            if any((folder / "data_batch_1").is_file() for folder in (place, place / "cifar-10-batches-py")):
                raise BadInput(
                    f"{place} holds CIFAR-10 as Python pickles, which may run code when they are read, and so are not: "
                    f"fetch the binary version with task.download=true (from {self.sources[0]}{ARCHIVE})"
                )
        raise BadInput(
            f"task=cifar10 found neither {TRAIN[0]} nor an npz file in {' or '.join(map(str, places))}: fetch the data "
            f"with task.download=true (from {self.sources[0]}{ARCHIVE}), or name their folder, task.root=DIR"
        )

    def _load(self, place: Path) -> Data | None:
        """Return what is in the place, None if nothing is."""
        if place.suffix == ".npz" and place.is_file():
            return read_npz(place, self.class_names)
        if place.is_file():
            raise BadInput(f"task.root={place} is neither a folder nor an npz file: unpack it and name its folder")
        for folder in (place / UNPACKED / INSIDE, place, place / INSIDE):
            if any((folder / name).is_file() for name in (*TRAIN, TEST)):
                return self._batches(folder)
        arrays = sorted(path for path in place.glob("*.npz") if path.is_file() and _has_images(path))
        if len(arrays) > 1:
            raise BadInput(f"{place} holds {' and '.join(path.name for path in arrays[:4])}: name one, task.root=FILE")
        return read_npz(arrays[0], self.class_names) if arrays else None

    def _batches(self, folder: Path) -> Data:
        paths = [folder / name for name in (*TRAIN, TEST)]
        sets = [self._batch(path) for path in paths if path.is_file()]
        if missing := [path.name for path in paths if not path.is_file()]:
            raise BadInput(f"{folder} lacks {', '.join(missing)}: fetch the data anew with task.download=true")
        train = Dataset(
            np.concatenate([batch.images for batch in sets[:-1]]), np.concatenate([batch.labels for batch in sets[:-1]])
        )
        return Data(train.images, train.labels, self.class_names, sets[-1], notes={"files": [str(p) for p in paths]})

    def _batch(self, path: Path) -> Dataset:
        try:
            values = np.fromfile(path, np.uint8)
        except OSError as error:
            raise BadInput(f"{path} could not be read: {error.strerror or error}") from error
        if len(values) % RECORD or not len(values):
            raise BadInput(
                f"{path} is damaged: {len(values):,} bytes are no multiple of {RECORD:,}, the size of a record; "
                "fetch the data anew with task.download=true"
            )
        records = values.reshape(-1, RECORD)
        labels = records[:, 0].astype(np.int64)
        if labels.max() > 9:
            raise BadInput(
                f"{path} is damaged: a label is {labels.max()}, expected 0 to 9; "
                "fetch the data anew with task.download=true"
            )
        return Dataset(np.ascontiguousarray(records[:, 1:]).reshape(-1, 3, 32, 32), labels)


def _has_images(path: Path) -> bool:
    """Tell whether an npz file is one to read; a damaged one is, so that it is refused by name."""
    try:
        with opened(path) as file:
            return "y_train" not in file.files or "x_train" in file.files
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        return True

"""Data sets in the four IDX files of MNIST (LeCun et al., 1998), each in gzip or not, as its content says."""

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np

from automl import BadInput, Data, Dataset, Task
from automl.downloads import fetch
from automl_tasks.places import folders, target

FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
IMAGES, LABELS = 0x803, 0x801  # the magic numbers: unsigned bytes in three dimensions, and in one
LARGEST = 1 << 32  # bytes


@dataclass(kw_only=True)
class IDX(Task):
    """Grey images with a test set of their own; what derives says where from, and how the classes are called."""

    root: str | None = None  # the folder with the files; else $AUTOML_DATA/<name>, else the user's cache
    download: bool = False  # fetch what is missing or damaged

    class_names: ClassVar[tuple[str, ...]]
    sources: ClassVar[tuple[str, ...]]  # folders on the web, the first to be asked first
    sha256: ClassVar[dict[str, str]]  # by file
    subfolder: ClassVar[str]  # where torchvision puts them

    def load(self) -> Data:
        paths = self._fetch() if self.download else self._find()
        train, test = (self._read(*pair) for pair in (paths[:2], paths[2:]))
        if train.images.shape[2:] != test.images.shape[2:]:
            raise self._damaged(paths[2], f"images as large as those in {paths[0].name}", _size(test.images))
        return Data(train.images, train.labels, self.class_names, test, notes={"files": [str(path) for path in paths]})

    def _find(self) -> list[Path]:
        places = folders(self.name, self.root)
        for folder in places:
            found = [self._in(folder, file) for file in FILES]
            if all(found):
                return [path for path in found if path]
        missing = next(file for file in FILES if not self._in(places[0], file))
        raise BadInput(
            f"task={self.name} found no {missing} in {' or '.join(map(str, places))}: fetch the files with "
            f"task.download=true (from {self.sources[0]}), or name their folder, task.root=DIR"
        )

    def _in(self, folder: Path, file: str) -> Path | None:
        for place in (folder, folder / "raw", folder / self.subfolder / "raw"):
            for name in (file, file.removesuffix(".gz"), file.replace("-idx", ".idx").removesuffix(".gz")):
                if (place / name).is_file():
                    return place / name
        return None

    def _fetch(self) -> list[Path]:
        if not self.root:
            for folder in folders(self.name, None)[:-1]:
                found = [self._in(folder, file) for file in FILES]
                if all(found):
                    return [path for path in found if path]
        folder = target(self.name, self.root)
        return [fetch([url + file for url in self.sources], self.sha256[file], folder / file) for file in FILES]

    def _read(self, images_path: Path, labels_path: Path) -> Dataset:
        images = self._values(images_path, IMAGES)
        labels = self._values(labels_path, LABELS)
        if len(labels) != len(images):
            raise self._damaged(labels_path, f"a label for each of {len(images):,} images", f"{len(labels):,} labels")
        if len(labels) and labels.max() >= len(self.class_names):
            raise self._damaged(labels_path, f"labels from 0 to {len(self.class_names) - 1}", f"a label {labels.max()}")
        return Dataset(images[:, None], labels.astype(np.int64).reshape(-1))

    def _values(self, path: Path, magic: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        try:
            with _open(path) as file:
                dimensions = magic & 0xFF
                start = _exactly(file, 4 + 4 * dimensions)
                header = np.frombuffer(start[: len(start) // 4 * 4], ">u4")
                if len(header) < 1 + dimensions or header[0] != magic:
                    found = f"{header[0]:#x}" if len(header) else "nothing"
                    raise self._damaged(path, f"the magic number {magic:#x}", found)
                shape = [int(size) for size in header[1:]]
                size = math.prod(shape)
                if (announced := math.prod(max(1, side) for side in shape)) > LARGEST:  # none of them is too large
                    raise self._damaged(path, f"at most {LARGEST:,} bytes", f"{announced:,} announced")
                values = np.frombuffer(_exactly(file, size), np.uint8)
                if len(values) < size:
                    what = "images" + f" of {shape[1]} x {shape[2]}" if dimensions == 3 else "labels"
                    present = len(values) // (size // shape[0])
                    raise self._damaged(path, f"{shape[0]:,} {what}, as announced", f"{present:,} present")
                while file.read(1 << 20):  # to the end, where gzip keeps its checksum
                    pass
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise self._damaged(path, "a whole gzip file", str(error)) from error
        except OSError as error:
            raise BadInput(f"{path} could not be read: {error.strerror or error}") from error
        return values.reshape(shape)

    def _damaged(self, path: Path, expected: str, found: str) -> BadInput:
        return BadInput(
            f"{path} is damaged (expected {expected}; found {found}): fetch it anew with task.download=true"
        )


def _open(path: Path) -> gzip.GzipFile | BinaryIO:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if compressed else path.open("rb")


def _exactly(file: gzip.GzipFile | BinaryIO, size: int) -> bytes:
    """Read so many bytes, or what there is if that is less, never taking memory for what is only announced."""
    blocks = []
    while size and (block := file.read(min(size, 1 << 24))):
        blocks.append(block)
        size -= len(block)
    return b"".join(blocks)


def _size(images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> str:
    return f"{images.shape[2]} x {images.shape[3]}"

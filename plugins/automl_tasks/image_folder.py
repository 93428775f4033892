"""A folder of one's own images, in one folder a class."""

import logging
import math
import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge

from automl import BadInput, Data, Task
from automl.errors import printable
from automl.images import ImageError, extensions, header, read_all

SYSTEM = frozenset({"__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"})
SMALLEST, LARGEST = 8, 64  # pixels, where the size is chosen here

logger = logging.getLogger("automl")


@dataclass(kw_only=True)
class ImageFolder(Task):
    """``root/CLASS/.../FILE``: each folder in root is a class, in natural order (1, 2, 10, a, B).

    Images of any size and mode are stretched to one square of ``size`` pixels; where that is null, to the median of
    their shorter sides, rounded to a multiple of 4 and from 8 to 64. They are grey if every file is, else all are in
    colour. Hidden and system folders are no classes; files that are not called as images are passed over.
    """

    flip: bool = True
    root: str | None = None
    size: Annotated[int, Ge(1)] | None = None
    skip_broken: bool = False  # leave out files that cannot be read; else they are refused

    name: ClassVar[str] = "image_folder"

    def load(self) -> Data:
        root = self._root()
        folders = sorted(
            (folder for folder in root.iterdir() if _is_class(folder)), key=lambda path: natural(path.name)
        )
        if not folders:
            raise BadInput(f"found no class folders in {printable(str(root))}: put the images of each class into one")
        found = [list(_images(folder)) for folder in folders]
        for folder, paths in zip(folders, found, strict=True):
            if not paths:
                raise BadInput(f"class folder {printable(str(folder))} holds no images: add some, or remove the folder")
        paths = [path for one in found for path in one]
        labels = np.repeat(np.arange(len(folders)), [len(one) for one in found])
        broken: dict[Path, str] = {}
        headers = []
        for path in paths:
            try:
                headers.append(header(path))
            except ImageError as error:
                broken[path] = error.reason
        channels = 1 if all(one.grey for one in headers) else 3
        size = self.size or _usual([min(one.width, one.height) for one in headers])
        whole = [path for path in paths if path not in broken]
        images = np.empty((len(whole), channels, size, size), dtype=np.uint8)
        for place, (path, pixels) in enumerate(zip(whole, read_all(whole, channels, size, size), strict=True)):
            if isinstance(pixels, ImageError):
                broken[path] = pixels.reason
            else:
                images[place] = pixels
        self._tell(broken, root, len(paths))
        read = np.array([path not in broken for path in whole], dtype=bool)
        return Data(
            images[read],
            labels[[path not in broken for path in paths]],
            [_legible(folder.name) for folder in folders],
            names=[_legible(path.relative_to(root).as_posix()) for path in paths if path not in broken],
            notes={
                "root": _legible(str(root)),
                "size": size,
                "grey": channels == 1,
                "broken": {_legible(path.relative_to(root).as_posix()): reason for path, reason in broken.items()},
            },
        )

    def _root(self) -> Path:
        if not self.root:
            raise BadInput("task=image_folder needs task.root=DIR, a folder with a folder of images for each class")
        root = Path(self.root).expanduser()
        if root.is_file():
            raise BadInput(
                f"task.root={printable(str(self.root))} is a file: if it is an archive, unpack it and name the folder "
                "with a folder of images for each class"
            )
        if not root.is_dir():
            raise BadInput(f"task.root={printable(str(self.root))}: there is no such folder; name one that exists")
        return root

    def _tell(self, broken: dict[Path, str], root: Path, count: int) -> None:
        if not broken:
            return
        shown = "; ".join(
            f"{printable(str(path.relative_to(root)))}: {reason}" for path, reason in list(broken.items())[:5]
        )
        sentence = f"{len(broken)} of {count:,} images in {printable(str(root))} cannot be read ({shown}"
        sentence += f"; and {len(broken) - 5} more)" if len(broken) > 5 else ")"
        if not self.skip_broken:
            raise BadInput(f"{sentence}: mend or remove them, or leave them out with task.skip_broken=true")
        logger.warning("%s: left out", sentence)


def natural(name: str) -> tuple[list[str | int], str]:
    """Return a key that sorts as people do, numbers by their value and letters whatever their case: 1, 2, 10, a, B."""
    parts = re.split(r"([0-9]+)", unicodedata.normalize("NFC", name).casefold())
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def _is_class(folder: Path) -> bool:
    return folder.is_dir() and not _is_hidden(folder.name)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in SYSTEM


def _images(folder: Path) -> Iterator[Path]:
    """Yield what is called as an image in a folder and those in it, folders too, which are refused when read."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted((name for name in folders if not _is_hidden(name)), key=natural)
        named = [name for name in (*folders, *files) if Path(name).suffix.lower() in extensions()]
        for name in sorted(named, key=natural):
            if not _is_hidden(name):
                yield Path(place, name)


def _usual(sides: list[int]) -> int:
    """Return the size for images with such shorter sides."""
    median = float(np.median(sides)) if sides else SMALLEST
    return int(min(max(4 * math.floor(median / 4 + 0.5), SMALLEST), LARGEST))


def _legible(text: str) -> str:
    """Return a file's name as text that can be written: bytes that are no text are replaced."""
    return os.fsencode(text).decode("utf-8", "replace")

"""Reads one image file, whatever its mode, as pixels of eight bits, upright, without transparency."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from automl.errors import BadInput, printable

Pixels = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]  # channels x height x width

FORMATS = frozenset(  # what Pillow reads itself: for others it would start programs, as Ghostscript for EPS
    ("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "SGI", "TGA", "TIFF", "WEBP")
)
BACKGROUND = 255  # transparent images are laid over white
GREY = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"})
ORIENTATION = 0x0112  # the tag of EXIF
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(BadInput):
    """A file that cannot be read as an image, and why."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{printable(str(path))} cannot be read as an image: {reason}")
        self.path = Path(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (str(self.path), self.reason)


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its pixels are read: its size as stored, and whether it has no colours."""

    width: int
    height: int
    grey: bool


@cache
def extensions() -> frozenset[str]:
    """Return the ends of names, such as ``.png``, by which image files are known, in small letters."""
    return frozenset(end for end, format_ in Image.registered_extensions().items() if format_ in FORMATS)


def header(path: str | Path) -> Header:
    """Return the size of an image file and whether it is grey; a palette counts as colour. Raises ImageError."""
    with _bombs_refused(), _opened(path) as image:
        return Header(image.width, image.height, image.mode in GREY)


def read(path: str | Path, at_least: int = 0) -> Image.Image:
    """Return an image file, the first frame of it, in mode L or RGB.

    Sixteen bits are scaled to eight, not clipped; floats are taken as 0..1, or as 0..255 if any is above 1. Colours
    that are partly transparent are laid over white. What EXIF says of the orientation is obeyed, once. A JPEG much
    larger than ``at_least`` pixels in both directions may be read at a half, a quarter or an eighth of its size,
    still at least twice as large as that.

    Raises ImageError, which says what is wrong: for a file that is missing, empty, cut off, no image, of more
    pixels than Pillow thinks harmless, or that holds numbers that are no pixels.
    """
    with _bombs_refused():
        return _read(path, at_least)


def read_all(
    paths: Sequence[Path], channels: int, height: int, width: int
) -> Iterator[Pixels | ImageError]:  # an error is not raised, so that all can be told
    """Yield each image file as ``as_array`` returns it, or what is wrong with it; read in threads, in order."""

    def one(path: Path) -> Pixels | ImageError:
        try:
            return as_array(_read(path, max(height, width)), channels, height, width)
        except ImageError as error:
            return error

    with _bombs_refused(), ThreadPoolExecutor() as threads:
        yield from threads.map(one, paths)


def as_array(image: Image.Image, channels: int, height: int, width: int) -> Pixels:
    """Return an image of mode L or RGB as channels x height x width, stretched to that size.

    Each pixel of a smaller size is a weighted mean of the area it covers. One channel is grey; from a colour image
    it is its luma (ITU-R 601-2). Of other than one or three channels, each is the grey picture.
    """
    image = image.convert("RGB" if channels == 3 else "L")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)  # in Pillow antialiased
    pixels = np.asarray(image, dtype=np.uint8)
    if channels == 3:
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return np.repeat(pixels[None], channels, axis=0)


def _read(path: str | Path, at_least: int) -> Image.Image:
    with _opened(path) as image:
        if at_least:
            image.draft(None, (2 * at_least, 2 * at_least))
        turn = _orientation(image)
        image.load()
        plain = _plain(path, image)
        return plain if turn is None else plain.transpose(turn)


@contextmanager
def _bombs_refused() -> Iterator[None]:
    """Make Pillow's warning of images that would fill the memory an error; not to be entered by several threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd files that can be read
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


@contextmanager
def _opened(path: str | Path) -> Iterator[Image.Image]:
    path = Path(path)
    try:
        if path.is_dir():
            raise ImageError(path, "it is a folder")
        if path.stat().st_size == 0:
            raise ImageError(path, "it is empty")
        Image.init()
        with Image.open(path, formats=sorted(FORMATS & Image.OPEN.keys())) as image:
            yield image
    except FileNotFoundError:
        raise ImageError(path, "there is no such file") from None
    except PermissionError:
        raise ImageError(path, "it may not be read (permission denied)") from None
    except UnidentifiedImageError:
        raise ImageError(path, _guess(path)) from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise ImageError(path, f"it has more than {Image.MAX_IMAGE_PIXELS:,} pixels, too many to be harmless") from None
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, ArithmeticError, LookupError) as error:
        # Pillow's readers raise any of these for damaged files
        raise ImageError(path, f"it is damaged or cut off ({printable(str(error)) or type(error).__name__})") from error


def _guess(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<svg")):
        return "it is a web page"
    return "it is no image of a format that is read here"


def _orientation(image: Image.Image) -> Image.Transpose | None:
    try:
        return TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged metadata of any kind, while the picture may be whole
        return None


def _plain(path: str | Path, image: Image.Image) -> Image.Image:
    """Return the image in mode L or RGB."""
    grey = image.mode in GREY
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(path, np.asarray(image)))
    if image.mode == "LAB":
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        assert converted is not None
        return converted
    if image.mode in ("La", "RGBa"):
        image = image.convert("LA" if grey else "RGBA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, (BACKGROUND, BACKGROUND, BACKGROUND, 255))
        image = Image.alpha_composite(background, image)
    return image.convert("L" if grey else "RGB")


def _eight_bits(path: str | Path, values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Pixels:
    numbers = values.astype(np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    if not (low >= 0 and high <= (255 if values.dtype.kind == "f" else 65535)):  # false for NaN as well
        raise ImageError(
            path, f"its values go from {low:g} to {high:g}, which are no shades of grey that are known here"
        )
    if values.dtype.kind == "f":
        numbers *= 255 if high <= 1 else 1
    else:
        numbers /= 257
    return np.round(numbers).astype(np.uint8)

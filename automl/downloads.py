"""Fetches data sets: verified by checksum, never half written, and unpacked into their own folder only."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NoReturn

from automl.errors import BadInput, StorageError, printable

TIMEOUT = 30.0  # seconds without a byte
LARGEST = 8 << 30  # bytes that an archive may unpack to
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # what it is not the archive's fault

logger = logging.getLogger("automl")


def cache_folder(name: str) -> Path:
    """Return where fetched files of that name are kept: in AUTOML_CACHE, or the user's cache; it may not exist yet."""
    import platformdirs

    chosen = os.environ.get("AUTOML_CACHE")
    return (Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("automl")) / name


def fetch(urls: Sequence[str], sha256: str, path: Path, timeout: float = TIMEOUT) -> Path:
    """Return the path of a file with that checksum, fetched from the first of the URLs that has it.

    A file that is there and right is left alone, one that is not right is replaced once the right one has come.
    Whatever happens, the path holds the whole file or what it held before, and nothing is left beside it.

    Raises BadInput, naming each URL and what was wrong: no answer, an error, a stall, an early end, another file.
    """
    if path.is_file() and _sha256(path) == sha256:
        return path
    reasons = []
    for url in urls:
        try:
            _fetch(url, sha256, path, timeout)
        except _NotFetchedError as error:
            reasons.append(f"{url}: {error}")
        except OSError as error:
            raise StorageError(f"{path} could not be written: {error.strerror or error}") from error
        else:
            return path
    raise BadInput(
        f"{path.name} could not be fetched ({'; '.join(reasons)}): "
        f"try again, or put the file into {path.parent} yourself"
    )


class _NotFetchedError(Exception):
    pass


def _fetch(url: str, sha256: str, path: Path, timeout: float) -> None:
    import pooch
    import requests

    logger.info("fetching %s", url)
    pooch.get_logger().setLevel("WARNING")
    downloader = pooch.HTTPDownloader(timeout=timeout)
    try:
        pooch.retrieve(url, f"sha256:{sha256}", fname=path.name, path=path.parent, downloader=downloader)
    except requests.HTTPError as error:
        answer = error.response
        assert answer is not None
        raise _NotFetchedError(f"the server answers {answer.status_code} {printable(str(answer.reason))}") from None
    except requests.Timeout:
        raise _NotFetchedError(f"nothing came for {timeout:g} s") from None
    except requests.RequestException as error:
        reason = printable(str(error))
        if "timed out" in reason:
            raise _NotFetchedError(f"nothing came for {timeout:g} s") from None
        raise _NotFetchedError(f"the connection broke ({reason[-200:]})") from None
    except ValueError as error:  # the checksum; pooch has removed the file
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise _NotFetchedError(f"another file came ({printable(reason)[:300]})") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a tar or zip archive into a new folder, which then is whole or not there; return the folder.

    All members are looked at first. Raises BadInput, and writes nothing, for an archive that is damaged or in which
    any member would lie outside the folder, is a link or a device, or that unpacks to more than 8 GiB; StorageError
    where the folder cannot be written.
    """
    try:
        return _unpack(archive, folder)
    except OSError as error:
        raise StorageError(f"{folder} could not be written: {error.strerror or error}") from error


def _unpack(archive: Path, folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent) as name:
        temporary = Path(name) / folder.name
        try:
            if zipfile.is_zipfile(archive):
                _unzip(archive, temporary)
            else:
                _untar(archive, temporary)
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
            if isinstance(error, OSError) and error.errno in _DISK:
                raise
            raise BadInput(f"{archive} could not be unpacked: {printable(str(error))}") from error
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
    return folder


def _untar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
        for member in members:
            if not (member.isfile() or member.isdir()):
                _refuse(archive, member.name, "is a link or a device")
            _check_name(archive, member.name)
        _check_size(archive, sum(member.size for member in members))
        folder.mkdir()
        tar.extractall(folder, members, filter="data")


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as zipped:
        members = zipped.infolist()
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                _refuse(archive, member.filename, "is a link or a device")
            _check_name(archive, member.filename)
        _check_size(archive, sum(member.file_size for member in members))
        folder.mkdir()
        zipped.extractall(folder, members)  # noqa: S202 (checked above)


def _check_name(archive: Path, name: str) -> None:
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in name or "\0" in name:
        _refuse(archive, name, "would lie outside of its folder")


def _check_size(archive: Path, size: int) -> None:
    if size > LARGEST:
        raise BadInput(f"{archive} is not unpacked: it would take {size:,} bytes, more than {LARGEST:,}")


def _refuse(archive: Path, name: str, reason: str) -> NoReturn:
    raise BadInput(
        f"{archive} is not unpacked: its member {printable(name)!r} {reason}; get the archive from its author"
    )

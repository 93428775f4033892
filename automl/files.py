"""The one seam for writing: whole files by rename, lines by one write, folders made once, locks.

Everything that this project changes on a disk goes through the functions of ``SEAM``, so that a test can fail, tear or
kill at the nth call. Downloads are pooch's, and are checked before they are moved into place.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from filelock import FileLock, Timeout

from automl.errors import BadInput, StorageError

SEAM = ("create", "write", "sync", "replace", "truncate", "make", "remove", "link")
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES}  # of folders, where a file system has none


def create(path: Path, flags: int) -> int:
    """Open a file to be written, made where it is not there; return its descriptor."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o666)


def write(descriptor: int, data: bytes) -> int:
    """Write once; return how many bytes were taken."""
    return os.write(descriptor, data)


def sync(descriptor: int) -> None:
    """Have the disk hold what was written."""
    os.fsync(descriptor)


def replace(source: Path, target: Path) -> None:
    """Put a finished file, or a folder, in its place, at once."""
    source.replace(target)


def truncate(descriptor: int, size: int) -> None:
    """Cut a file to its first ``size`` bytes."""
    os.ftruncate(descriptor, size)


def make(path: Path) -> None:
    """Make a folder in one that is there."""
    path.mkdir()


def remove(path: Path) -> None:
    """Delete a file, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def link(path: Path, target: str) -> None:
    """Make a symbolic link."""
    path.symlink_to(target)


def write_whole(path: Path, data: bytes) -> None:
    """Write a whole file: aside, synced, then moved into place, so that it is never seen half.

    Raises StorageError where it cannot be written; what was there before is then untouched, unless the disk failed
    after the file had its place.
    """
    aside = _aside(path)
    try:
        descriptor = create(aside, os.O_TRUNC)
        try:
            _write_all(descriptor, data)
            sync(descriptor)
        finally:
            os.close(descriptor)
        replace(aside, path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        refuse(path, error)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file in UTF-8."""
    write_whole(path, text.encode())


def write_json(path: Path, value: object) -> None:
    """Write a whole file of strict JSON; raises ValueError for NaN and infinity."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, indent=1) + "\n"
    write_whole(path, text.encode(errors="backslashreplace"))  # half of a surrogate pair: as JSON escapes it


class Lines:
    """A file that grows by whole lines, each one write; a line that could not be written leaves nothing behind."""

    def __init__(self, path: Path, size: int | None = None) -> None:
        """Open the file to append, cut to ``size`` bytes first where that is given."""
        self.path = path
        self._descriptor = -1
        try:
            is_new = not path.exists()
            self._descriptor = create(path, os.O_APPEND)
            if is_new:
                _sync_folder(path.parent)
            if size is not None and size != os.fstat(self._descriptor).st_size:
                truncate(self._descriptor, size)
        except OSError as error:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            refuse(path, error)
        self.size = os.fstat(self._descriptor).st_size
        self._synced = time.monotonic()

    def append(self, line: bytes) -> None:
        """Write one line, and sync if the last time is more than a second ago."""
        try:
            _write_all(self._descriptor, line)
            now = time.monotonic()
            if now - self._synced > 1:
                self._synced = now
                sync(self._descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                truncate(self._descriptor, self.size)
            refuse(self.path, error)
        self.size += len(line)

    def sync(self) -> None:
        """Have the disk hold all that was written."""
        try:
            sync(self._descriptor)
        except OSError as error:
            refuse(self.path, error)
        self._synced = time.monotonic()

    def close(self) -> None:
        """Sync and close; may be called twice."""
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        try:
            sync(descriptor)
        except OSError as error:
            refuse(self.path, error)
        finally:
            os.close(descriptor)


class Lock:
    """One driver a folder: a lock that the kernel frees when its owner is gone, however it went."""

    def __init__(self, folder: Path) -> None:
        self._owner = folder / ".owner.json"
        self._lock = FileLock(folder / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise BadInput(
                f"{folder} is in use by {_owner(self._owner)}: wait for it, or stop it and run automl resume {folder}"
            ) from None
        except OSError as error:
            refuse(folder, error)
        try:
            write_json(self._owner, {"pid": os.getpid(), "host": socket.gethostname()})
        except StorageError:
            self._lock.release()
            raise

    def release(self) -> None:
        """Let another driver have the folder."""
        with contextlib.suppress(OSError):  # who owned it is told only while it is locked
            remove(self._owner)
        self._lock.release()


@contextlib.contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """Let one process at a time do what is inside, by a lock on a file; the kernel frees it with its owner.

    Raises StorageError where the file cannot be made.
    """
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        refuse(path, error)
    try:
        yield
    finally:
        lock.release()


def digest(path: Path) -> str:
    """Return what tells a file's content from any other; raises BadInput where it cannot be read."""
    try:
        with path.open("rb") as file:
            return str(hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest())
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error


def make_folder(path: Path) -> None:
    """Make a folder that must not exist yet, and those above it; raises FileExistsError or StorageError."""
    make_folders(path.parent)
    try:
        make(path)
    except FileExistsError:
        raise
    except OSError as error:
        refuse(path, error)


def make_folders(path: Path) -> None:
    """Make a folder and those above it, unless they exist; raises StorageError."""
    try:
        _make_missing(path)
    except OSError as error:
        refuse(path, error)


def remove_file(path: Path) -> None:
    """Delete a file, if it is there; raises StorageError."""
    try:
        remove(path)
    except FileNotFoundError:
        return
    except OSError as error:
        refuse(path, error)


def remove_folder(path: Path) -> None:
    """Delete a folder, if it is there, with all that is in it: it is gone at once, and never seen half empty.

    Raises StorageError where it stays.
    """
    aside = _aside(path)
    try:
        if aside.exists():
            remove(aside)
        replace(path, aside)
    except FileNotFoundError:
        return
    except OSError as error:
        refuse(path, error)
    with contextlib.suppress(OSError):  # what is left of it is nobody's
        remove(aside)


def point(path: Path, target: str) -> None:
    """Have a symbolic link point to a target, replaced at once; a file system without links goes without."""
    aside = _aside(path)
    try:
        aside.unlink(missing_ok=True)
        link(aside, target)
        replace(aside, path)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def _write_all(descriptor: int, data: bytes) -> None:
    written = write(descriptor, data)
    while written < len(data):
        taken = write(descriptor, data[written:])
        if taken == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written += taken


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}")


def _make_missing(path: Path) -> None:
    if path.is_dir():
        return
    if path.parent != path:
        _make_missing(path.parent)
    try:
        make(path)
    except FileExistsError:
        if not path.is_dir():  # else somebody else was faster
            raise


def _sync_folder(path: Path) -> None:
    """Have the disk hold the names in a folder, without which a file that is whole may be lost by a power cut."""
    if os.name == "nt":
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # a folder may be written and not read
        return
    try:
        sync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def _owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_text())
        return f"process {int(owner['pid'])} on {owner['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def refuse(path: Path, error: OSError) -> NoReturn:
    """Raise the StorageError that says why a file or a folder cannot be written, and what to do."""
    reasons = {
        errno.ENOSPC: "the disk is full: make room",
        errno.EDQUOT: "the disk quota is used up: make room",
        errno.EFBIG: "the file would be larger than this account may write: raise the limit",
        errno.EROFS: "the file system is read-only: choose another folder by runs=DIR",
        errno.EACCES: "this account may not write there: choose another folder by runs=DIR",
        errno.EPERM: "this account may not write there: choose another folder by runs=DIR",
        errno.ENOTDIR: "a part of the path is a file: choose another folder by runs=DIR",
        errno.EEXIST: "a file is in the way: choose another folder by runs=DIR",
        errno.EIO: "the disk answered with an input/output error: check it",
    }
    reason = reasons.get(error.errno or 0, f"{error.strerror or error}: check the disk and the folder")
    raise StorageError(f"cannot write {path}: {reason}; what is finished is kept, automl resume goes on") from error

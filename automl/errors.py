"""What can go wrong, said so that the reader knows what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class AutoMLError(Exception):
    """A sentence for the user: what was asked, what was found, what to type instead."""

    exit_code: ClassVar[int] = 2


class BadInput(AutoMLError):
    """The user's words, files or data cannot be used as they are."""


class PluginError(AutoMLError):
    """A plugin is at fault; the sentence names it."""


class JournalError(AutoMLError):
    """A journal is damaged, of another study, or in use; it is left as it was found."""


class StorageError(AutoMLError):
    """A file could not be written: a full disk, a read-only folder, a quota."""


class SearchFailed(AutoMLError):
    """The search ran and found nothing, for example because every trial failed alike."""

    exit_code = 1


class TrialFailed(Exception):
    """Raised by an evaluator for a candidate that cannot be scored; its text is the trial's reason."""


def near_miss(name: str, names: Iterable[str]) -> str:
    """Return " (did you mean 'x'?)" for the closest of the names, or nothing."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""


def printable(text: str) -> str:
    """Return the text with control characters escaped, so that no name can drive a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

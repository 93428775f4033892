"""Names of code: the settings that run a user's own, which no file may give, only the command that is typed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from automl.errors import BadInput, printable

KEY = "target"  # of space=module: package.module:factory
WORD = f"space.{KEY}="  # how it is typed
COMMAND = "device.command"  # of device=command: the words of a program
WORDS = {WORD: "package.module:factory", f"{COMMAND}=": "COMMAND"}  # how each is typed, and what comes after
ASKED = "???"  # what stands for it in every file


def named(values: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield the place and the text of each value that names code, of plain values."""
    items = values.items() if isinstance(values, Mapping) else enumerate(values) if isinstance(values, list) else ()
    for key, value in items:
        if _runs(key, place) and isinstance(value, str) and value != ASKED:
            yield f"{place}{key}", value
        yield from named(value, f"{place}{key}.")


def without(values: Any, place: str = "") -> Any:
    """Return plain values, of ``place`` in the whole, in which everything that names code has to be given again."""
    if isinstance(values, Mapping):
        return {
            key: ASKED if _runs(key, place) and isinstance(value, str) else without(value, f"{place}{key}.")
            for key, value in values.items()
        }
    return [without(value, place) for value in values] if isinstance(values, list) else values


def given_again(values: Any, target: str | None, what: str, how: str) -> Any:
    """Return plain values of a file with the factory that was typed in its place.

    Raises BadInput where one is needed and was not typed, as ``how`` says, and where the file itself names one.
    """
    for place, name in named(values):
        raise BadInput(f"{what} has {place}={printable(name)[:80]!r}, which names code: a file may not, so remove it")
    if target is None:
        refuse_missing(values, what, how)
        return values
    return _filled(values, target)


def refuse_missing(values: Any, what: str, how: str) -> None:
    """Raise BadInput where plain values want a factory, saying how it is given."""
    items = values.items() if isinstance(values, Mapping) else enumerate(values) if isinstance(values, list) else ()
    for key, value in items:
        if key == KEY and value == ASKED:
            raise BadInput(f"the network of {what} is made by code of yours, which is named anew each time: type {how}")
        refuse_missing(value, what, how)


def typed(words: Sequence[str]) -> list[str]:
    """Return those of the words of a command line that name code."""
    return [word for word in words if word.startswith(tuple(WORDS))]


def words_without(words: Sequence[str], given: Sequence[str] = ()) -> list[str]:
    """Return the words of a command line with those ``given``, or what asks for them, in the place of what was typed.

    >>> words_without(["space.target=a:b", "seed=1"])
    ['space.target=???', 'seed=1']
    """
    found = []
    for word in words:
        start = next((start for start in WORDS if word.startswith(start)), None)
        again = [other for other in given if start is not None and other.startswith(start)]
        found.append(word if start is None else again[-1] if again else start + ASKED)
    return found


def _runs(key: object, place: str) -> bool:
    """Whether what stands there names code."""
    return key == KEY or f"{place}{key}" == COMMAND


def _filled(values: Any, target: str) -> Any:
    if isinstance(values, Mapping):
        return {
            key: target if key == KEY and value == ASKED else _filled(value, target) for key, value in values.items()
        }
    return [_filled(value, target) for value in values] if isinstance(values, list) else values

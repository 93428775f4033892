"""Names of code: the one setting that runs a user's own, which no file may name, only the command that is typed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from automl.errors import BadInput, printable

KEY = "target"  # of space=module: package.module:factory
WORD = f"space.{KEY}="  # how it is typed
ASKED = "???"  # what stands for it in every file


def named(values: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield the place and the name of each factory that plain values name."""
    items = values.items() if isinstance(values, Mapping) else enumerate(values) if isinstance(values, list) else ()
    for key, value in items:
        if key == KEY and isinstance(value, str) and value != ASKED:
            yield f"{place}{key}", value
        yield from named(value, f"{place}{key}.")


def without(values: Any) -> Any:
    """Return plain values in which every name of a factory has to be given again."""
    if isinstance(values, Mapping):
        return {
            key: ASKED if key == KEY and isinstance(value, str) else without(value) for key, value in values.items()
        }
    return [without(value) for value in values] if isinstance(values, list) else values


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


def words_without(words: Sequence[str], target: str | None = None) -> list[str]:
    """Return the words of a command line with that factory, or what asks for one, in the place of what was typed."""
    return [WORD + (target or ASKED) if word.startswith(WORD) else word for word in words]


def _filled(values: Any, target: str) -> Any:
    if isinstance(values, Mapping):
        return {
            key: target if key == KEY and value == ASKED else _filled(value, target) for key, value in values.items()
        }
    return [_filled(value, target) for value in values] if isinstance(values, list) else values

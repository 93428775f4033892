"""When the decisions of a space are made: which only where others came out so, as samples show."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence, Set
from typing import Any

from automl.decisions import Architecture
from automl.space import Space

SAMPLES = 400  # from which conditions are told, and as many against which they are tried
_LEAST = 8  # samples that make a decision of which something is said
_SHOWN = 6  # values of a condition, and decisions of a line
_LETTERS = "NMKJ"  # for the numbers in a decision's name, in their order
_NUMBER = re.compile(r"(?<=[a-z_.])\d+(?=\.)")
OPTIONS = "of options that depend on those before"
OTHERS = "in some, by those before"


def conditions(space: Space[Any], seed: int = 0) -> list[tuple[str, str]]:
    """Return decisions that are not always made, or not of the same options, each with what that depends on.

    Decisions that differ by a number are told at once, by N. What is told holds for all of some hundreds of sampled
    architectures; it is no proof, and of decisions that are rare among them nothing is said.
    """
    rng = random.Random(seed)
    told, tried = ([space.sample(rng) for _ in range(SAMPLES)] for _ in range(2))
    names = _in_order(told)
    reasons: dict[str, str] = {}
    found: dict[str, dict[str, None]] = {}  # by what it depends on: the decisions
    for place, name in enumerate(names):
        having = [one for one in told if name in one.values]
        if len(having) < _LEAST:
            continue
        if len(having) < len(told):
            reasons[name] = _reason(name, names[:place], told, tried, reasons)
            found.setdefault(_general(reasons[name], name), {})[_general(name, name)] = None
        if len({str(one.domains[name]) for one in having}) > 1:
            found.setdefault(OPTIONS, {})[_general(name, name)] = None
    return [(_listed(list(decisions), ", "), reason) for reason, decisions in found.items()]


def _in_order(architectures: Sequence[Architecture]) -> list[str]:
    """Return the names of all decisions, each after those that are made before it."""
    names: list[str] = []
    for architecture in architectures:
        last = -1
        for name in architecture.values:
            if name not in names[last + 1 :]:
                if name in names:
                    continue
                names.insert(last + 1, name)
            last = names.index(name)
    return names


def _reason(
    name: str,
    earlier: Sequence[str],
    told: Sequence[Architecture],
    tried: Sequence[Architecture],
    reasons: Mapping[str, str],
) -> str:
    """Return by which values of which earlier decision this one is made, the nearest that tells."""
    having = [one for one in told if name in one.values]
    for other in reversed(earlier):
        if any(other not in one.values for one in having):
            continue
        values = {one.values[other] for one in having}
        if all((one.values.get(other, _NONE) in values) == (name in one.values) for one in (*told, *tried)):
            options = list(dict.fromkeys(option for one in having for option in one.domains[other].options))
            if values.issuperset(options):
                return reasons.get(other, OTHERS)  # made where the other is
            return f"where {other} is {_values(values, options)}"
    return OTHERS


def _values(values: Set[Any], options: Sequence[Any]) -> str:
    """Return which of the options in words."""
    kept = [option for option in options if option in values]
    numbers = all(type(option) is int for option in options)
    if numbers and len(options) > 2 and kept == [option for option in options if option >= min(kept)]:
        return f"at least {min(kept)}"
    left = [option for option in options if option not in values]
    is_short = len(kept) <= len(left) or len(kept) <= 2
    words = [str(getattr(option, "name", option)) for option in (kept if is_short else left)]
    return _listed(words, " or ") if is_short else f"not {_listed(words, ' or ')}"


def _general(text: str, name: str) -> str:
    """Return the text with letters for the numbers that the decision's name has, and for those before and after them.

    >>> _general("where layer2.type is conv", "layer3.kernel"), _general("where depth is at least 4", "layer3.kernel")
    ('where layer(N-1).type is conv', 'where depth is at least N+1')
    """
    numbers = [int(number) for number in _NUMBER.findall(name)]
    subject, separator, values = text.partition(" is ")
    letters = iter(zip(numbers, _LETTERS, strict=False))

    def letter(match: re.Match[str]) -> str:
        number, name = next(letters, (None, ""))
        steps = None if number is None else int(match[0]) - number
        return {0: name, -1: f"({name}-1)"}.get(steps, match[0]) if steps is not None else match[0]

    is_free = len(_NUMBER.findall(subject)) < len(numbers)  # the last number has no part in it yet
    subject = _NUMBER.sub(letter, subject)
    if is_free and (least := re.fullmatch(r"at least (\d+)", values)):
        more = int(least[1]) - numbers[-1]
        values = f"at least {_LETTERS[len(numbers) - 1]}{f'+{more}' if more else ''}"
    return subject + separator + values


def _listed(words: Sequence[str], last: str) -> str:
    if len(words) > _SHOWN:
        words = [*words[: _SHOWN - 1], "..."]
        last = ", "
    return last.join(filter(None, (", ".join(words[:-1]), words[-1])))


_NONE = object()

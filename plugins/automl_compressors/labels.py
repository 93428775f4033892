"""Numbers that stand for channels, which of them come and go together, and sizes that follow how many are kept."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from math import lcm
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from automl_compressors.units import connected, matched

if TYPE_CHECKING:
    from numpy.typing import NDArray

Terms = tuple[tuple[Tensor, Fraction], ...]  # labels, and by how much the size changes with each of them


class Axis(NamedTuple):
    """The dimension of a tensor along which its channels lie, and the label of each."""

    dim: int
    labels: Tensor


class Labels:
    """Hands out labels and gathers what is found of them; label 0 stands for all that must stay."""

    def __init__(self) -> None:
        self._number = 1
        self._pairs: list[tuple[Tensor, Tensor]] = []
        self._even: list[Tensor] = []
        self._constant: list[Terms] = []
        self._whole: list[Terms] = []

    def new(self, number: int) -> Tensor:
        """Return so many labels that were never used."""
        self._number += number
        return torch.arange(self._number - number, self._number, device="cpu")

    def join(self, one: Tensor, other: Tensor) -> None:
        """Let channels go only together, pair by pair; the second is broadcast to the first."""
        self._pairs.append((one.reshape(-1), other.expand_as(one).reshape(-1)))

    def join_rows(self, labels: Tensor, rows: int) -> Tensor:
        """Cut the labels into so many equal rows, let what stands in one column go together, return the rows."""
        parts = labels.reshape(rows, -1)
        if rows > 1:
            self.join(parts[1:], parts[:1])
        return parts

    def even(self, labels: Tensor, parts: int) -> None:
        """Let as many go of each of so many equal parts of the labels."""
        if parts > 1:
            self._even.append(labels.reshape(parts, -1))

    def freeze(self, labels: Tensor) -> None:
        """Let these channels stay."""
        self.join(labels, torch.zeros((), dtype=torch.int64, device="cpu"))

    def constant(self, terms: Terms) -> None:
        """Demand that the sum of the terms stay what it is: what would change it stays."""
        self._constant.append(terms)

    def whole(self, terms: Terms) -> None:
        """Demand that the sum of the terms change by whole numbers."""
        self._whole.append(terms)

    def settle(self) -> NDArray[np.int64]:
        """Return for every label the number of the unit that it goes with, from 0 on; -1 for those that stay."""
        ones, others = (torch.cat([pair[side] for pair in self._pairs]) for side in (0, 1)) if self._pairs else ((), ())
        unit = connected(self._number, ones, others)
        # last, when all is known that goes together anyway; the widest first, for narrower ones are often parts of them
        for labels in sorted(self._even, key=lambda labels: -labels.numel()):
            unit = connected(int(unit.max()) + 1, *matched(unit[labels.numpy()], int(unit[0])))[unit]
        stays = np.zeros(int(unit.max()) + 1, dtype=bool)
        stays[unit[0]] = True
        for demands, must_be_whole in ((self._constant, False), (self._whole, True)):
            for terms in demands:
                units, changes, denominator = _changes(terms, unit)
                stays[units[changes % denominator != 0 if must_be_whole else changes != 0]] = True
        numbers = np.where(stays, -1, np.cumsum(~stays) - 1)
        return np.asarray(numbers[unit], dtype=np.int64)


def _changes(terms: Terms, unit: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Return units, by how many parts of a denominator the sum changes with each, and that denominator."""
    denominator = lcm(*(coefficient.denominator for _, coefficient in terms))
    units = np.concatenate([unit[labels.numpy()] for labels, _ in terms])
    parts = np.concatenate([np.full(len(labels), int(share * denominator)) for labels, share in terms])
    found, places = np.unique(units, return_inverse=True)
    changes = np.zeros(len(found), dtype=np.int64)
    np.add.at(changes, places, parts)
    return found, changes, denominator


class Count(int):
    """A size that a network reads from a tensor, and that is smaller where fewer of these channels are kept.

    Sums, and products and quotients by constants, are counts again. What else is made of it is a plain number, and
    the channels must stay that would change it.
    """

    labels: Labels
    terms: Terms

    def __new__(cls, number: int, labels: Labels, terms: Terms) -> Count:
        made = super().__new__(cls, number)
        made.labels = labels
        made.terms = terms
        return made

    @property
    def shares(self) -> int:
        """Into how many parts the channels were divided."""
        return lcm(*(share.denominator for _, share in self.terms))

    @property
    def counted(self) -> Tensor | None:
        """The labels, where it is just the number of these."""
        return (
            self.terms[0][0]
            if [share for _, share in self.terms] == [1] and len(self.terms[0][0]) == plain(self)
            else None
        )

    def fix(self) -> None:
        """Demand that the number stay what it is."""
        self.labels.constant(self.terms)

    def must_be(self, labels: Tensor) -> None:
        """Demand that the number be how many of these labels are kept."""
        self.labels.constant((*self.terms, (labels, Fraction(-1))))

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Count):
            return Count(plain(self) + plain(other), self.labels, self.terms + other.terms)
        if type(other) is int:
            return Count(plain(self) + other, self.labels, self.terms)
        self.fix()
        return plain(self) + other

    def __neg__(self) -> Any:
        return self * -1

    def __sub__(self, other: Any) -> Any:
        return self + -other

    def __rsub__(self, other: Any) -> Any:
        return -self + other

    def __mul__(self, other: Any) -> Any:
        if type(other) is int:
            return Count(plain(self) * other, self.labels, _scaled(self.terms, Fraction(other)))
        for count in (self, other):
            if isinstance(count, Count):
                count.fix()
        return plain(self) * plain(other)

    def __floordiv__(self, other: Any) -> Any:
        if type(other) is int and other > 0:
            terms = _scaled(self.terms, Fraction(1, other))
            self.labels.whole(terms)
            return Count(plain(self) // other, self.labels, terms)
        self.fix()
        return plain(self) // plain(other)

    def __mod__(self, other: Any) -> Any:
        if type(other) is int and other > 0:
            self.labels.whole(_scaled(self.terms, Fraction(1, other)))
        else:
            self.fix()
        return plain(self) % plain(other)

    __radd__ = __add__
    __rmul__ = __mul__
    __hash__ = int.__hash__


def plain(value: Any) -> Any:
    """Return what was given to an operation with numbers in the place of counts."""
    if isinstance(value, Count):
        return int.__pos__(value)
    if isinstance(value, slice):
        return slice(plain(value.start), plain(value.stop), plain(value.step))
    if isinstance(value, torch.Size):
        return torch.Size([plain(size) for size in value])
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    if type(value) is dict:
        return {name: plain(item) for name, item in value.items()}
    return value


def leaves(value: Any) -> Iterable[Any]:
    """Yield the tensors and the counts among what an operation is given or gives."""
    if isinstance(value, Tensor | Count):
        yield value
    elif isinstance(value, slice):
        yield from leaves((value.start, value.stop, value.step))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, dict):
        yield from leaves(list(value.values()))


def _scaled(terms: Terms, factor: Fraction) -> Terms:
    return tuple((labels, share * factor) for labels, share in terms)


def _compared(compare: Callable[[Any, Any], bool]) -> Callable[[Count, Any], bool]:
    """Return a comparison whose outcome is demanded to stay what it is."""

    def method(self: Count, other: Any) -> bool:
        other_terms = _scaled(other.terms, Fraction(-1)) if isinstance(other, Count) else ()
        if isinstance(other, int | float | Tensor):
            self.labels.constant(self.terms + other_terms)
        return compare(plain(self), plain(other))

    return method


def _lost(name: str) -> Callable[..., Any]:
    """Return an operation of numbers after which the count is no longer followed."""
    operation = getattr(int, name)

    def method(self: Count, *others: Any) -> Any:
        self.fix()
        return operation(plain(self), *map(plain, others))

    return method


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Count, f"__{_name}__", _compared(getattr(operator, _name)))
for _name in ("truediv", "rtruediv", "rfloordiv", "rmod", "divmod", "pow", "rpow", "float", "int", "abs", "round"):
    setattr(Count, f"__{_name}__", _lost(f"__{_name}__"))

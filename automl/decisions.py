"""Named decisions: what can be chosen, and what was."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, overload

from automl.errors import BadInput

if TYPE_CHECKING:
    from torch.nn import Module

T = TypeVar("T")
Random = Callable[[], float]
Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
MISFIT: Any = object()  # what fit answers for a value that a domain does not hold; None may be an option
_TRIES = 100  # draws for another value of an interval
NO_CONTEXTS: Mapping[str, Sequence[float]] = MappingProxyType({})


class Op:
    """An operation that a space can choose, equal to another by its name.

    Calling it makes the module, and marks the module with the decision that chose it (``automl_choice``), so
    that every parameter of a built network can be named by decision, operation and place.
    """

    __slots__ = ("chosen", "decision", "make", "name")

    def __init__(self, name: str, make: Callable[..., Module], decision: str | None = None) -> None:
        self.name = name
        self.make = make
        self.decision = decision
        self.chosen: dict[str, Op] = {}  # by the name of a decision, made once

    def chosen_by(self, decision: str) -> Op:
        """Return this operation as the answer to the decision of that name, always the same object."""
        known = self.chosen.get(decision)
        if known is None:
            known = self.chosen[decision] = Op(self.name, self.make, decision)
        return known

    def __reduce__(self) -> tuple[type[Op], tuple[str, Callable[..., Module], str | None]]:
        return Op, (self.name, self.make, self.decision)

    def __call__(self, *args: Any, **kwargs: Any) -> Module:
        module = self.make(*args, **kwargs)
        if self.decision is not None:
            module.automl_choice = (self.decision, self.name)  # type: ignore[assignment]
        return module

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Op) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"Op({self.name!r})"


@dataclass(frozen=True, slots=True)
class Real:
    """A real number from low to high, both included; drawn uniformly, or uniformly in its logarithm."""

    low: float
    high: float
    log: bool = False

    def check(self, name: str) -> None:
        """Raise BadInput, naming the decision, for a domain that holds nothing."""
        _check_interval(name, self.low, self.high, self.log, "Real")

    @property
    def count(self) -> int | None:
        """1 where there is one number, None where there is no end of them."""
        return 1 if self.low == self.high else None

    @property
    def options(self) -> Sequence[float]:
        """The one number, where there is one."""
        return () if self.low < self.high else (self.low,)

    def spread(self, points: int) -> Sequence[float]:
        """Return so many numbers from low to high, evenly spaced, or evenly in their logarithms."""
        if self.low == self.high or points == 1:
            return (self.low,)
        shares = [number / (points - 1) for number in range(points)]
        if self.log:
            ratio = self.high / self.low
            return (*(self.low * ratio**share for share in shares[:-1]), self.high)
        return (*(self.low + share * (self.high - self.low) for share in shares[:-1]), self.high)

    def sample(self, random: Random) -> float:
        low, high = self.low, self.high
        if self.log:
            value = math.exp(math.log(low) + random() * (math.log(high) - math.log(low)))
        else:
            value = low + random() * (high - low)
        return min(max(value, low), high)  # exp(log(0.1)) is 0.10000000000000002

    def other(self, value: float, random: Random) -> float:
        """Return another number of the interval; the value itself where it is the only one."""
        for _ in range(_TRIES):
            if (drawn := self.sample(random)) != value:
                return drawn
        return self.high if value == self.low else self.low  # so narrow that its logarithms are one number

    def fit(self, value: Any) -> float:
        """Return the value, clipped to the interval; MISFIT if it is no number."""
        if type(value) not in (int, float) or value != value:  # isnan overflows for a large integer
            return MISFIT  # type: ignore[no-any-return]
        return float(min(max(value, self.low), self.high))

    def encode(self, value: float) -> Json:
        return value

    def decode(self, value: Json) -> float:
        """Return the value that was encoded so; raise ValueError for one that this domain does not hold."""
        if type(value) not in (int, float) or not self.low <= value <= self.high:  # type: ignore[operator]
            raise ValueError
        return float(value)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return f"a number from {self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Integer:
    """An integer from low to high, both included; uniform, or by the width of its interval in the logarithm."""

    low: int
    high: int
    log: bool = False

    def check(self, name: str) -> None:
        """Raise BadInput, naming the decision, for a domain that holds nothing."""
        _check_interval(name, self.low, self.high, self.log, "Integer")

    @property
    def count(self) -> int:
        return self.high - self.low + 1

    @property
    def options(self) -> Sequence[int]:
        """All of them, in order."""
        return range(self.low, self.high + 1)

    def spread(self, points: int) -> Sequence[int]:
        """Return all integers, or where there are more than so many, as many or fewer, spaced as Real's are."""
        if self.count <= points:
            return self.options
        return sorted({round(value) for value in Real(self.low, self.high, self.log).spread(points)})

    def __iter__(self) -> Iterator[int]:
        return iter(self.options)

    def sample(self, random: Random) -> int:
        low, high = self.low, self.high
        if not self.log:
            return low + int(random() * (high - low + 1))
        first, last = math.log(low - 0.5), math.log(high + 0.5)
        return min(max(round(math.exp(first + random() * (last - first))), low), high)

    def other(self, value: int, random: Random) -> int:
        """Return another integer of the interval; the value itself where it is the only one."""
        if self.low == self.high:
            return value
        if self.log:
            for _ in range(_TRIES):
                if (drawn := self.sample(random)) != value:
                    return drawn
            return self.high if value == self.low else self.low
        drawn = self.low + int(random() * (self.high - self.low))
        return drawn + (drawn >= value)

    def fit(self, value: Any) -> int:
        """Return the value, clipped to the interval; MISFIT if it is no integer."""
        return min(max(value, self.low), self.high) if type(value) is int else MISFIT

    def encode(self, value: int) -> Json:
        return value

    def decode(self, value: Json) -> int:
        """Return the value that was encoded so; raise ValueError for one that this domain does not hold."""
        if type(value) is not int or not self.low <= value <= self.high:
            raise ValueError
        return value

    def __str__(self) -> str:
        return f"an integer from {self.low} to {self.high}"


class Options(Generic[T]):
    """One of several options, drawn uniformly or by a prior.

    Options that are sets, such as the pairs of inputs of a node, may say what they are of: ``together`` is all of it,
    which a strategy that weighs everything at once answers in place of one option.

    Two options that Python calls equal (1 and True), or that look alike in JSON, are refused, and so are
    options that cannot be hashed, NaN and infinity: none of them could be told apart in a journal.
    """

    __slots__ = ("_bounds", "_codes", "_index", "count", "is_even", "options", "prior", "together")

    def __init__(self, options: Sequence[T], prior: Sequence[float] | None = None, together: T | None = None) -> None:
        self.options = tuple(options)
        self.together = together
        self.prior = None if prior is None else tuple(prior)
        self.count = len(self.options)
        self.is_even = False  # checked, and drawn uniformly
        self._index: dict[Any, int] | None = None
        self._codes: dict[Any, T] | None = None
        self._bounds: list[float] | None = None

    def check(self, name: str) -> None:
        """Raise BadInput, naming the decision, for options that are none or cannot be told apart."""
        if self._index is not None:
            return
        if not self.options:
            raise BadInput(f"decision {name!r} has no options: give at least one")
        index: dict[Any, int] = {}
        codes: dict[Any, T] = {}
        for position, option in enumerate(self.options):
            if not _all_hash([option]):
                raise BadInput(f"decision {name!r} has the option {option!r}, which cannot be hashed: use a tuple")
            if not _is_finite(option):
                raise BadInput(f"decision {name!r} has the option {option!r}, which is no number of JSON: leave it out")
            code = _code(_plain(name, option))
            if option in index or code in codes:
                twin = self.options[index[option]] if option in index else codes[code]
                raise BadInput(
                    f"decision {name!r} has options {twin!r} and {option!r}, which cannot be told apart: "
                    "keep one of them"
                )
            index[option] = position
            codes[code] = option
        if self.prior is not None:
            if len(self.prior) != len(self.options) or min(self.prior) < 0 or not 0 < sum(self.prior) < math.inf:
                raise BadInput(f"decision {name!r} has a prior that does not give each option a share: {self.prior}")
            total, bounds = 0.0, []
            for share in self.prior:
                total += share
                bounds.append(total)
            self._bounds = [bound / total for bound in bounds]
        self._index, self._codes = index, codes
        self.is_even = self.prior is None

    def spread(self, points: int) -> Sequence[T]:
        """Return all options, however many points are asked for: they have no order to leave some out by."""
        return self.options

    def index(self, option: T) -> int:
        """Return the option's place; raise KeyError if it is none of them."""
        assert self._index is not None
        return self._index[option]

    def __iter__(self) -> Iterator[T]:
        return iter(self.options)

    def __len__(self) -> int:
        return self.count

    def sample(self, random: Random) -> T:
        if self._bounds is None:
            return self.options[int(random() * self.count)]
        drawn = random()
        for option, bound in zip(self.options, self._bounds, strict=True):
            if drawn < bound:
                return option
        return self.options[-1]

    def other(self, value: T, random: Random) -> T:
        """Return another option, by its prior among the others; the value itself where it is the only one."""
        if self.count == 1:
            return value
        place = self.index(value)
        if self.prior is not None:
            shares = [0.0 if other == place else share for other, share in enumerate(self.prior)]
            rest = random() * sum(shares)
            for option, share in zip(self.options, shares, strict=True):
                rest -= share
                if rest < 0:
                    return option
        drawn = int(random() * (self.count - 1))  # also where the prior leaves nothing to the others
        return self.options[drawn + (drawn >= place)]

    def fit(self, value: Any) -> T:
        """Return the option equal to the value and of its type; MISFIT if there is none."""
        try:
            option = self.options[self._index[value]]  # type: ignore[index]
        except (KeyError, TypeError):
            return MISFIT  # type: ignore[no-any-return]
        return option if option.__class__ is value.__class__ else MISFIT

    def encode(self, value: T) -> Json:
        return _plain("", value)

    def decode(self, value: Json) -> T:
        """Return the option that was encoded so; raise ValueError for one that is none of them."""
        assert self._codes is not None
        try:
            return self._codes[_code(value)]
        except (KeyError, TypeError):
            raise ValueError from None

    def __str__(self) -> str:
        shown = ", ".join(str(_plain("", option)) for option in self.options[:20])
        return f"one of {shown}" + (", ..." if self.count > 20 else "")

    def __repr__(self) -> str:
        return f"Options({list(self.options)!r})"


Domain = Real | Integer | Options[Any]


@dataclass(frozen=True, slots=True)
class Soft:
    """The answer to a decision between operations that takes them all, each with its weight, in the options' order.

    The space is given one operation, which makes a ``Mixture`` (automl/mixture.py). ``share`` is the part of the
    channels that goes through it, 1 / share; the others pass by (Xu et al., 2020).
    """

    weights: tuple[float, ...]
    share: int = 1

    def operation(self, name: str, options: Sequence[Op]) -> Op:
        """Return the operation that stands for all the options of the decision of that name."""
        return Op("mixture", partial(_mixture, name, tuple(options), self.share))


def takes_soft(domain: Domain) -> bool:
    """Say whether a decision is between operations, of which all can be had at once."""
    return isinstance(domain, Options) and all(isinstance(option, Op) for option in domain.options)


def _mixture(name: str, options: Sequence[Op], share: int, *arguments: Any) -> Module:
    from automl.mixture import Mixture

    return Mixture(name, [option.chosen_by(name) for option in options], share, *arguments)


class Choose(Protocol):
    """What a space's describe calls to have a decision made: a unique name, and what can be chosen.

    ``context`` may describe the decision to a strategy by a vector of numbers, for example a layer's features.
    """

    @overload
    def __call__(self, name: str, domain: Real, /, *, context: Sequence[float] | None = None) -> float: ...
    @overload
    def __call__(self, name: str, domain: Integer, /, *, context: Sequence[float] | None = None) -> int: ...
    @overload
    def __call__(
        self, name: str, domain: Options[T] | Sequence[T], /, *, context: Sequence[float] | None = None
    ) -> T: ...


class Architecture:
    """What was decided, by decision name in the order of asking, and the blueprint it came to.

    ``values`` holds the choices, ``domains`` what could be chosen, ``contexts`` the vectors that described
    the decisions. Equal and hashed by its values.

    Where decisions were answered softly, ``weights`` has the weights of their options, the blueprint is of a network
    that holds them all, and the values are those of the one network that would be derived of it. No two such are equal.
    """

    __slots__ = ("_hash", "blueprint", "contexts", "domains", "values", "weights")

    def __init__(
        self,
        values: Mapping[str, Any],
        domains: Mapping[str, Domain],
        blueprint: Any,
        contexts: Mapping[str, Sequence[float]] = NO_CONTEXTS,
        weights: Mapping[str, Sequence[float]] = NO_CONTEXTS,
    ) -> None:
        self.values = values
        self.domains = domains
        self.blueprint = blueprint
        self.contexts = contexts
        self.weights = weights
        self._hash: int | None = None

    def to_json(self) -> dict[str, Json]:
        """Return the decisions as JSON values: an operation by its name, a tuple as a list."""
        return {
            name: value if value.__class__ in _PLAIN else _plain(name, value) for name, value in self.values.items()
        }

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Architecture) and self.values == other.values and not (self.weights or other.weights)

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(tuple(self.values.items()))
        return self._hash

    def __repr__(self) -> str:
        return f"Architecture({self.to_json()!r})"


_PLAIN = frozenset({str, int, float, bool, type(None)})
_known: dict[Any, Options[Any]] = {}
_held: dict[int, tuple[Any, Options[Any]]] = {}


def as_domain(name: str, domain: Any) -> Domain:
    """Return what a space offered for a decision as a checked domain; a sequence or a range is options.

    Raises BadInput, naming the decision, for a domain that holds nothing or cannot be told apart.
    """
    kind = domain.__class__
    if kind is Options:
        if domain._index is None:
            domain.check(name)
        return domain  # type: ignore[no-any-return]
    if kind is range:
        known = _known.get(domain)
        if known is not None:
            return known
    elif kind is tuple:
        held = _held.get(id(domain))
        if held is not None:
            return held[1]
    elif kind is Real or kind is Integer:
        domain.check(name)
        return domain  # type: ignore[no-any-return]
    elif kind is not list:
        raise BadInput(
            f"decision {name!r} was offered {domain!r}: give a list, a tuple, a range, Options, Real or Integer"
        )
    if kind is range:
        key: Any = domain
    else:
        key = (tuple(domain), tuple([option.__class__ for option in domain])) if _all_hash(domain) else None
    if key is not None and (kind is range or _PLAIN.issuperset(key[1])):
        known = _known.get(key)
    else:
        key, known = None, None  # operations carry code, and (1,) equals (1.0,): not shared by equality
    if known is None:
        known = Options(domain)
        known.check(name)
    if len(_known) > 10_000 or len(_held) > 10_000:
        _known.clear()
        _held.clear()
    if key is not None:
        _known[key] = known
    if kind is tuple:
        _held[id(domain)] = (domain, known)  # holding the tuple keeps its id its own
    return known


def _check_interval(name: str, low: float, high: float, log: bool, kind: str) -> None:
    if low <= high and (low > 0 or not log) and high - low < math.inf:
        return
    shown = f"{kind}({low}, {high}{', log=True' if log else ''})"
    if log and low <= high:
        raise BadInput(f"decision {name!r} has the domain {shown}: a logarithmic range must start above 0")
    raise BadInput(f"decision {name!r} has the domain {shown}, which holds nothing: give finite ends, the lower first")


def _all_hash(values: Sequence[object]) -> bool:
    try:
        hash(tuple(values))
    except TypeError:
        return False
    return True


def _is_finite(option: Any) -> bool:
    if option.__class__ is tuple:
        return all(map(_is_finite, option))
    return option.__class__ is not float or math.isfinite(option)


def _plain(name: str, value: Any) -> Json:
    """Return an option as JSON: an operation by its name, a tuple as a list."""
    kind = value.__class__
    if kind in _PLAIN:
        return value  # type: ignore[no-any-return]
    if kind is Op:
        return value.name  # type: ignore[no-any-return]
    if kind is tuple:
        return [_plain(name, item) for item in value]
    raise BadInput(
        f"decision {name!r} has the option {value!r}: "
        "use text, numbers, True, False, None, operations, or tuples of these"
    )


def _code(value: Json) -> Hashable:
    """Return a key that tells JSON values apart by type too: 1, 1.0, True and "1" are four."""
    if isinstance(value, list | tuple):
        return tuple(_code(item) for item in value)
    if isinstance(value, Mapping):
        raise ValueError
    return (value.__class__, value)

"""What a number from 0 to 1, an action, means to a decision of any kind, and how actions are drawn near one."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from math import log
from statistics import NormalDist
from typing import Any

from automl import Integer, Options, Real
from automl_strategies.intervals import from_unit, to_unit

_NORMAL = NormalDist()
_LEAST, _MOST = 1e-300, 1 - 2**-53  # probabilities that have a quantile


class Span:
    """A decision over numbers: an action is a place in the widest interval that it was met with.

    An interval that others narrowed, as a budget does, clips what an action means, and so the action itself.
    """

    def __init__(self, domain: Real | Integer) -> None:
        self.widest = self.offered = domain

    def meet(self, domain: Real | Integer) -> None:
        """Take note of the interval that is offered now, which may reach farther than those before."""
        self.offered, widest = domain, self.widest
        if domain.low < widest.low or domain.high > widest.high:
            kind: Any = type(widest)
            self.widest = kind(min(domain.low, widest.low), max(domain.high, widest.high), widest.log)

    @property
    def is_free(self) -> bool:
        """Whether the decision ever could have gone otherwise."""
        return self.widest.count != 1

    @property
    def left(self) -> float:
        """The share of the widest interval that is offered."""
        return _width(self.offered) / _width(self.widest)

    def value(self, action: float) -> float:
        """Return the number on offer that is nearest to what the action means."""
        return self.offered.fit(from_unit(self.widest, action))

    def action(self, value: float) -> float:
        """Return the action that means the number, in the middle of those that do."""
        return to_unit(self.widest, value)


class Order:
    """A decision between options: each has its share of the actions, in order where they are numbers, else as given."""

    left = 1.0

    def __init__(self, options: Options[Any]) -> None:
        self.is_free = options.count != 1
        shares = options.prior or (1.0,) * options.count
        places = [place for place, share in enumerate(shares) if share]  # the others are never drawn
        if all(type(option) in (int, float) for option in options):
            places.sort(key=lambda place: options.options[place])
        self._options = [options.options[place] for place in places]
        self._bounds = [0.0, *accumulate(shares[place] for place in places)]
        self._places = {option: place for place, option in enumerate(self._options)}

    def value(self, action: float) -> Any:
        """Return the option in whose share the action is."""
        place = bisect_right(self._bounds, action * self._bounds[-1]) - 1
        return self._options[min(place, len(self._options) - 1)]

    def action(self, value: Any) -> float:
        """Return the action in the middle of the option's share."""
        place = self._places[value]
        return (self._bounds[place] + self._bounds[place + 1]) / 2 / self._bounds[-1]


def _width(domain: Real | Integer) -> float:
    half = 0.5 if isinstance(domain, Integer) else 0.0
    low, high = domain.low - half, domain.high + half
    return log(high / low) if domain.log else high - low


def near(mean: float, deviation: float, unit: float) -> float:
    """Return the quantile at ``unit``, in [0, 1], of the normal distribution cut off below 0 and above 1."""
    low, high = _NORMAL.cdf(-mean / deviation), _NORMAL.cdf((1 - mean) / deviation)
    share = min(max(low + unit * (high - low), _LEAST), _MOST)
    return min(max(mean + deviation * _NORMAL.inv_cdf(share), 0.0), 1.0)

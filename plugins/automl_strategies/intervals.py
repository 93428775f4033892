"""Numbers as places in the unit interval, so that a domain draws uniformly in it."""

import math

from automl import Integer, Real

MANY = 64  # integers of more values than that are taken as an interval, of fewer as options
_EDGE = 1e-6


def from_unit(domain: Real | Integer, unit: float) -> float:
    """Return the number that the domain would draw at that place."""
    unit = min(max(unit, 0.0), 1 - 2**-53)  # random() stays below 1
    return domain.sample(lambda: unit)


def to_unit(domain: Real | Integer, value: float) -> float:
    """Return the place of a number, that of an integer in the middle of its share; not quite 0 or 1."""
    low, high = (domain.low, domain.high) if isinstance(domain, Real) else (domain.low - 0.5, domain.high + 0.5)
    if domain.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return min(max((value - low) / (high - low), _EDGE), 1 - _EDGE)

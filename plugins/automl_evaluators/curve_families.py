"""The eleven families of learning curves that an extrapolation is made of (Domhan et al., IJCAI 2015, table 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Parameter:
    """Where a fit starts from, and the bounds of a uniform prior.

    The start values are those of the authors' release. The bounds are ours: as wide as curves of shares need, where
    the family is defined.
    """

    name: str
    start: float
    low: float
    high: float


@dataclass(frozen=True)
class Family:
    """Curves over steps ``t`` >= 1 by a few parameters.

    ``curve`` takes the steps, then each parameter: a number, or an array that broadcasts against the steps.
    """

    name: str
    curve: Callable[..., Any]
    parameters: tuple[Parameter, ...]

    def at(self, steps: Floats, points: Floats) -> Floats:
        """Return the values at the steps of each of the curves: points x parameters to points x steps."""
        values: Floats = self.curve(steps, *points.T[:, :, None])
        return values

    @property
    def start(self) -> Floats:
        return np.array([parameter.start for parameter in self.parameters])

    @property
    def low(self) -> Floats:
        return np.array([parameter.low for parameter in self.parameters])

    @property
    def high(self) -> Floats:
        return np.array([parameter.high for parameter in self.parameters])


def _power(t: Any, exponent: Any) -> Any:
    return np.exp(exponent * np.log(t))  # several times as fast as ``t**exponent``, for the logarithms are few


FAMILIES = (
    Family(
        "vapor_pressure",
        lambda t, a, b, c: np.exp(a + b / t + c * np.log(t)),
        (Parameter("a", -0.622028, -10, 10), Parameter("b", -0.470050, -20, 20), Parameter("c", 0.042322, -10, 10)),
    ),
    Family(
        "pow3",
        lambda t, c, a, alpha: c - a * _power(t, -alpha),
        (Parameter("c", 0.84, -10, 10), Parameter("a", 0.52, -10, 10), Parameter("alpha", 0.01, 0, 10)),
    ),
    Family(
        "log_log_linear",
        lambda t, a, b: np.log(a * np.log(t) + b),
        (Parameter("a", 1.0, 0, 10), Parameter("b", 1.0, 0, 10)),
    ),
    Family(
        "hill3",
        lambda t, theta, eta, kappa: theta / (1 + _power(kappa / t, eta)),
        (
            Parameter("theta", 0.772320, 0, 10),
            Parameter("eta", 0.586449, 0, 10),
            Parameter("kappa", 2.460843, 1e-6, 1e4),
        ),
    ),
    Family(
        "log_power",
        lambda t, a, b, c: a / (1 + np.exp(c * (np.log(t) - b))),
        (Parameter("a", 0.77, 0, 10), Parameter("b", 2.98, -20, 20), Parameter("c", -0.51, -10, 0)),
    ),
    Family(
        "pow4",
        lambda t, c, a, b, alpha: c - _power(a * t + b, -alpha),
        (
            Parameter("c", 0.8, -10, 10),
            Parameter("a", 200.0, 0, 1e4),
            Parameter("b", 0.0, 0, 1e4),
            Parameter("alpha", 0.1, 0, 10),
        ),
    ),
    Family(
        "mmf",
        lambda t, alpha, beta, kappa, delta: alpha - (alpha - beta) / (1 + _power(kappa * t, delta)),
        (
            Parameter("alpha", 0.7, -10, 10),
            Parameter("beta", 0.1, -10, 10),
            Parameter("kappa", 0.01, 1e-6, 100),
            Parameter("delta", 5.0, 0, 20),
        ),
    ),
    Family(
        "exp4",
        lambda t, c, a, b, alpha: c - np.exp(-a * _power(t, alpha) + b),
        (
            Parameter("c", 0.7, -10, 10),
            Parameter("a", 0.8, 0, 100),
            Parameter("b", -0.8, -20, 20),
            Parameter("alpha", 0.3, 0, 10),
        ),
    ),
    Family(
        "janoschek",
        lambda t, alpha, beta, kappa, delta: alpha - (alpha - beta) * np.exp(-kappa * _power(t, delta)),
        (
            Parameter("alpha", 0.73, -10, 10),
            Parameter("beta", 0.07, -10, 10),
            Parameter("kappa", 0.355, 0, 100),
            Parameter("delta", 0.46, 0, 10),
        ),
    ),
    Family(
        "weibull",
        lambda t, alpha, beta, kappa, delta: alpha - (alpha - beta) * np.exp(-_power(kappa * t, delta)),
        (
            Parameter("alpha", 0.7, -10, 10),
            Parameter("beta", 0.1, -10, 10),
            Parameter("kappa", 0.01, 1e-6, 100),
            Parameter("delta", 1.0, 0, 10),
        ),
    ),
    Family(
        "ilog2",
        lambda t, c, a: c - a / np.log(t + 1),
        (Parameter("c", 0.78, -10, 10), Parameter("a", 0.43, -10, 10)),
    ),
)

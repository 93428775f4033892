"""How much better than the best a candidate is expected to be, as a logarithm."""

from __future__ import annotations

import math

import numpy
from scipy.special import erfcx, ndtr

from automl_strategies.encodings import Array

_FAR = -1e4  # standard deviations below the best where the leading term is exact to rounding


def log_expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """Return the logarithm of E[max(value - best, 0)] for normal values (Ament et al., 2023).

    It tells candidates apart where the expectation itself is too small for a number.
    """
    z = (mean - best) / deviation
    near, middle, far = z > -1, (z <= -1) & (z > _FAR), z <= _FAR
    log_density = -0.5 * z * z - 0.5 * math.log(2 * math.pi)
    result = numpy.empty_like(z)
    result[near] = numpy.log(numpy.exp(log_density[near]) + z[near] * ndtr(z[near]))
    below = z[middle]  # where density and z * probability are close, and erfcx has their ratio
    result[middle] = log_density[middle] + numpy.log1p(below * math.sqrt(math.pi / 2) * erfcx(-below / math.sqrt(2)))
    result[far] = log_density[far] - 2 * numpy.log(-z[far])
    return result + numpy.log(deviation)

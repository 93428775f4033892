"""A Gaussian process over several encodings at once, with parameters of the largest marginal likelihood."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

from automl_strategies.encodings import Array

_JITTER = 1e-6  # on the diagonal, for points that are alike
_NOISE = 0.05  # the variance of noise that is expected, where the targets have a variance of 1


class GaussianProcess:
    """Gaussian process regression (Rasmussen & Williams, 2006, algorithm 2.1) of standardised targets.

    The kernel is a sum over the encodings of a Matern kernel, smoothness 5/2, of the distance under each, so that
    those that tell nothing lose their weight. All parameters are logarithms: a weight for each encoding, a length
    for each, and the variance of the noise. They maximise the marginal likelihood times a log-normal prior, of
    standard deviation e, around equal weights of sum 1, lengths as large as the root mean square distance, and
    little noise. Where it has none yet, ``parameters`` is None.
    """

    def __init__(self, iterations: int = 15) -> None:
        self._iterations = iterations
        self.parameters: Array | None = None

    def fit(self, squares: Sequence[Array], targets: Array) -> None:
        """Choose the parameters by L-BFGS, from those of before on. ``squares`` has squared distances, by encoding."""
        centre = prior(squares)
        start = centre if self.parameters is None else numpy.clip(self.parameters, centre - 4, centre + 4)
        self.parameters = minimize(
            loss,
            start,
            (squares, targets, centre),
            method="L-BFGS-B",
            jac=True,
            bounds=list(zip(centre - 5, centre + 5, strict=True)),
            options={"maxiter": self._iterations},
        ).x

    def condition(self, squares: Sequence[Array], targets: Array) -> None:
        """Learn the targets at points of those distances from each other."""
        assert self.parameters is not None, "fit comes first"
        self._factor = _factor(squares, self.parameters)
        self._weights = cho_solve(self._factor, targets, check_finite=False)

    def predict(self, squares: Sequence[Array]) -> tuple[Array, Array]:
        """Return mean and standard deviation, noise left out, at points of those distances from the learnt."""
        assert self.parameters is not None, "fit comes first"
        covariance = kernel(squares, self.parameters)
        explained = solve_triangular(self._factor[0], covariance.T, lower=True, check_finite=False)
        variance = numpy.exp(self.parameters[: len(squares)]).sum() - numpy.einsum("ij,ij->j", explained, explained)
        return covariance @ self._weights, numpy.sqrt(numpy.maximum(variance, 1e-12))


def prior(squares: Sequence[Array]) -> Array:
    """Return the parameters that are expected before any target is seen."""
    weights = [-numpy.log(len(squares))] * len(squares)
    return numpy.array(
        [*weights, *[0.5 * numpy.log(square.mean() or 1.0) for square in squares], numpy.log(_NOISE)], float
    )


def kernel(squares: Sequence[Array], parameters: Array) -> Array:
    """Return the covariance at those squared distances."""
    weights, lengths = numpy.exp(parameters[: len(squares)]), numpy.exp(-2 * parameters[len(squares) : -1])
    total = numpy.zeros_like(squares[0])
    for square, weight, length in zip(squares, weights, lengths, strict=True):
        total += weight * _matern(square * length)[0]
    return total


def loss(parameters: Array, squares: Sequence[Array], targets: Array, centre: Array) -> tuple[float, Array]:
    """Return the negative logarithm of likelihood times prior, but for constants, and its gradient."""
    count = len(squares)
    weights, lengths = numpy.exp(parameters[:count]), numpy.exp(-2 * parameters[count:-1])
    parts = [_matern(square * length) for square, length in zip(squares, lengths, strict=True)]
    covariance = sum(weight * value for weight, (value, _) in zip(weights, parts, strict=True))
    noise = numpy.exp(parameters[-1])
    identity = numpy.eye(len(targets))
    factor = cho_factor(covariance + (noise + _JITTER) * identity, lower=True, check_finite=False)
    solved = cho_solve(factor, targets, check_finite=False)
    off = parameters - centre
    value = 0.5 * targets @ solved + numpy.log(numpy.diag(factor[0])).sum() + 0.5 * off @ off
    slope = 0.5 * (cho_solve(factor, identity, check_finite=False) - numpy.outer(solved, solved))
    gradient = numpy.empty_like(parameters)
    for place, (weight, (similar, change)) in enumerate(zip(weights, parts, strict=True)):
        gradient[place] = weight * numpy.vdot(slope, similar)
        gradient[count + place] = weight * numpy.vdot(slope, change)
    gradient[-1] = noise * numpy.trace(slope)
    return float(value), gradient + off


def _matern(squares: Array) -> tuple[Array, Array]:
    """Return the kernel of smoothness 5/2 at squared distances in lengths, and its derivative by log length."""
    scaled = numpy.sqrt(5 * squares)
    decay = numpy.exp(-scaled)
    return (1 + scaled + scaled * scaled / 3) * decay, scaled * scaled * (1 + scaled) * decay / 3


def _factor(squares: Sequence[Array], parameters: Array) -> tuple[Array, bool]:
    covariance = kernel(squares, parameters)
    covariance[numpy.diag_indices_from(covariance)] += numpy.exp(parameters[-1]) + _JITTER
    return cho_factor(covariance, lower=True, check_finite=False)

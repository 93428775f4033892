"""What a learning curve comes to: eleven families fitted, weighed and sampled by MCMC (Domhan et al., IJCAI 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from automl_evaluators.curve_families import FAMILIES, Family, Floats

_LOOK_AHEAD = 5
_RISE = 0.05
_WEIGHT = 10.0  # of each family at the start, before all are divided by their sum
_HEAVIEST = 100.0
_NOISE = (1e-4, 1.0)  # bounds of its standard deviation
_CALLS = 100  # of a curve by the second way of fitting it, which is the slower
_BALL = 1e-6  # how far from the fit the walkers start


@dataclass(frozen=True)
class Prediction:
    """Samples of where a curve ends: of the curve itself, and of the standard deviation of the noise around it."""

    ends: Floats
    noises: Floats

    @property
    def mean(self) -> float:
        """What is expected to be measured in the end."""
        return float(self.ends.mean())

    @property
    def std(self) -> float:
        """The standard deviation of what is measured in the end, noise included."""
        return float(np.sqrt(self.ends.var() + np.square(self.noises).mean()))

    def exceeds(self, value: float) -> float:
        """Return the probability that more than that is measured in the end."""
        from scipy.special import ndtr

        return float(ndtr((self.ends - value) / self.noises).mean())

    def bound(self, probability: float) -> float:
        """Return what is exceeded in the end with exactly that probability."""
        from scipy.optimize import brentq

        low, high = float((self.ends - 40 * self.noises).min()), float((self.ends + 40 * self.noises).max())
        return float(brentq(lambda value: self.exceeds(value) - probability, low, high))


@dataclass(frozen=True)
class Sampling:
    """How long the MCMC runs: so many ``walkers`` (more where the dimensions need them) for so many ``samples``."""

    walkers: int = 100
    samples: int = 500
    burn_in: int = 250
    thinning: int = 10


def extrapolate(
    steps: Sequence[float],
    values: Sequence[float],
    horizon: float,
    seed: Sequence[int],
    sampling: Sampling,
    ceiling: float = 1.0,
    families: Sequence[Family] = FAMILIES,
) -> Prediction | None:
    """Return what the curve comes to at the horizon, between 0 and the ceiling; None where no family fits it.

    ``steps`` rise, from 1 on. The same seed samples the same.
    """
    begin = flat(values)
    before = steps[begin] - 1
    times, observed = np.array(steps[begin:], dtype=float) - before, np.array(values[begin:], dtype=float)
    model = fitted(Data(times, observed, horizon - before, ceiling), families)
    return None if model is None else model.sample(seed, sampling)


def flat(values: Sequence[float]) -> int:
    """Return how many values at the beginning to leave out: those before the next five all exceed the first by 0.05."""
    for begin in range(len(values) - _LOOK_AHEAD):
        if min(values[begin + 1 : begin + 1 + _LOOK_AHEAD]) > values[0] + _RISE:
            return begin
    return 0


@dataclass(frozen=True)
class Data:
    """What was observed when, and between 0 and which ceiling it is to end at the horizon."""

    times: Floats
    observed: Floats
    horizon: float
    ceiling: float = 1.0

    def allows(self, second: Floats, last: Floats) -> NDArray[np.bool_]:
        """Say of each curve, by its values at the second step and at the horizon, whether the prior allows it."""
        return (last >= second) & (last >= 0) & (last <= self.ceiling)


def fitted(data: Data, families: Sequence[Family] = FAMILIES) -> Model | None:
    """Return the model of the families that can be fitted, each where it is fitted best; None where none can."""
    fits = [(family, fit(family, data)) for family in families]
    kept = [(family, best) for family, best in fits if best is not None]
    return Model(data, kept) if kept else None


def fit(family: Family, data: Data) -> Floats | None:
    """Return the family's parameters of least squares; None where they cannot be found within its prior."""
    from scipy.optimize import least_squares, minimize

    def residuals(parameters: Floats) -> Floats:
        error: Floats = family.curve(data.times, *parameters) - data.observed
        return np.nan_to_num(error, nan=1e3, posinf=1e3, neginf=-1e3)

    def loss(parameters: Floats) -> float:
        return float(np.square(residuals(parameters)).sum())

    def is_allowed(parameters: Floats) -> bool:
        sides = 10 * _BALL * np.eye(len(parameters))  # so that walkers can start around it
        points = close(parameters, np.vstack([0 * sides, sides, -sides]), family.low, family.high)
        values = family.at(np.append(data.times, [2.0, data.horizon]), points)
        inside = (family.low <= points) & (points <= family.high)
        return bool(inside.all() and np.isfinite(values).all() and data.allows(values[:, -2], values[:, -1]).all())

    begin = family.start
    with np.errstate(all="ignore"):
        if len(data.times) >= len(begin):
            found = least_squares(residuals, begin, method="lm").x
            if is_allowed(found):
                return found
            begin = min(begin, np.clip(found, family.low, family.high), key=loss)
        bounds = list(zip(family.low, family.high, strict=True))
        found = minimize(loss, begin, method="L-BFGS-B", bounds=bounds, options={"maxfun": _CALLS}).x
        return found if is_allowed(found) else None


def close(center: Floats, offsets: Floats, low: Floats, high: Floats) -> Floats:
    """Return points at the offsets from the center, on its other side where they would leave the bounds."""
    points = center + offsets
    return np.where((points < low) | (points > high), center - offsets, points)


class Model:
    """A weighted mean of families plus Gaussian noise.

    A point has each family's parameters, then the weight of each, which are divided by their sum, then the standard
    deviation of the noise. The prior is uniform within bounds, where each family's curve is one that is allowed.
    """

    def __init__(self, data: Data, fits: Sequence[tuple[Family, Floats]]) -> None:
        self.data = data
        self.families = [family for family, _ in fits]
        self._steps = np.append(data.times, [2.0, data.horizon])
        counts = [len(family.parameters) for family in self.families]
        self._places = [slice(end - count, end) for count, end in zip(counts, np.cumsum(counts), strict=True)]
        ones = np.ones(len(fits))
        self.low = np.concatenate([*[family.low for family in self.families], 0 * ones, [_NOISE[0]]])
        self.high = np.concatenate([*[family.high for family in self.families], _HEAVIEST * ones, [_NOISE[1]]])
        self.best = np.concatenate([*[best for _, best in fits], _WEIGHT * ones, [_NOISE[1]]])
        error = self.at(data.times, self.best[None])[0] - data.observed
        self.best[-1] = np.clip(error.std(), 2 * _NOISE[0], _NOISE[1] / 2)

    def at(self, steps: Floats, points: Floats) -> Floats:
        """Return the values at the steps of the curve of each point."""
        return self._mixed(points, self._each(steps, points))

    def log_probability(self, points: Floats) -> Floats:
        """Return the logarithm of each point's posterior density, a constant aside."""
        inside = ((points >= self.low) & (points <= self.high)).all(axis=1)
        logs = np.full(len(points), -np.inf)
        points = points[inside]
        each = self._each(self._steps, points)
        allowed = np.logical_and.reduce([self.data.allows(values[:, -2], values[:, -1]) for values in each])
        noise = points[:, -1]
        with np.errstate(all="ignore"):
            squares = np.square(self._mixed(points, each)[:, :-2] - self.data.observed).sum(axis=1)
            likely = -squares / (2 * noise**2) - len(self.data.observed) * np.log(noise)
        logs[inside] = np.where(allowed & np.isfinite(likely), likely, -np.inf)
        return logs

    def _each(self, steps: Floats, points: Floats) -> list[Floats]:
        """Return the values at the steps of each family's curves."""
        with np.errstate(all="ignore"):  # what is not finite, the prior excludes
            return [
                family.at(steps, points[:, place]) for family, place in zip(self.families, self._places, strict=True)
            ]

    def _mixed(self, points: Floats, each: Sequence[Floats]) -> Floats:
        """Return the weighted mean of the families' values."""
        weights = points[:, -1 - len(each) : -1]
        with np.errstate(all="ignore"):
            weights = weights / weights.sum(axis=1, keepdims=True)
            mixed: Floats = np.add.reduce([weights[:, number, None] * values for number, values in enumerate(each)])
        return mixed

    def sample(self, seed: Sequence[int], sampling: Sampling) -> Prediction | None:
        """Return what samples of the posterior come to; None where no walker starts within the prior."""
        from emcee import EnsembleSampler, State

        random = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
        dimensions = len(self.best)
        walkers = max(sampling.walkers, 2 * dimensions + 2)
        start = close(self.best, _BALL * random.standard_normal((walkers, dimensions)), self.low, self.high)
        if not np.isfinite(self.log_probability(start)).any():
            return None
        sampler = EnsembleSampler(walkers, dimensions, self.log_probability, vectorize=True)
        state = State(start, random_state=random.get_state())
        state = sampler.run_mcmc(state, sampling.burn_in, store=False, skip_initial_state_check=True)
        kept = (sampling.samples - sampling.burn_in) // sampling.thinning
        sampler.run_mcmc(state, kept, thin_by=sampling.thinning, skip_initial_state_check=True)
        points = sampler.get_chain(flat=True)
        return Prediction(self.at(np.array([self.data.horizon]), points)[:, 0], points[:, -1])

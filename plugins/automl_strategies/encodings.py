"""Architectures as features, by name, so that what differs in few features does much the same."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy

from automl import Architecture, Integer, Op, Options, Real, Space
from automl_strategies.cell_paths import operations_and_paths

Array = numpy.ndarray[Any, numpy.dtype[numpy.float64]]
Features = Mapping[str, float]  # those that are not 0; texts, because these are hashed once
ENCODINGS = ("options", "numbers", "counts", "operations", "paths")
_HALF = math.sqrt(0.5)  # so that two options are 1 apart, and so is an option from a decision that is not made
_KEPT = 20_000  # architectures whose features are remembered


def options(architecture: Architecture) -> Features:
    """Return which option each decision took, one-hot.

    A decision that is made has a feature for that too, which one that is not made lacks.
    """
    features: dict[str, float] = {}
    for name, value in architecture.values.items():
        if isinstance(architecture.domains[name], Options):
            features[name] = _HALF
            features[f"{name}={_text(value)}"] = _HALF
    return features


def numbers(architecture: Architecture) -> Features:
    """Return where in its interval each number is, and that it is decided at all, which one that is not lacks."""
    features: dict[str, float] = {}
    for name, value in architecture.values.items():
        domain = architecture.domains[name]
        if not isinstance(domain, Options):
            features[name] = _HALF
            features[f"{name}="] = scaled(domain, value)
    return features


def counts(architecture: Architecture) -> Features:
    """Return how often each option was taken by decisions that have a name in common but for numbers in it.

    The operations of all edges of a cell are counted together so, and the kernels of all layers. Numbers add up.
    """
    features: dict[str, float] = {}
    for name, value in architecture.values.items():
        domain, family = architecture.domains[name], _family(name)
        if isinstance(domain, Options):
            feature, share = f"{family}={_text(value)}", 1.0
        else:
            feature, share = f"{family}=", scaled(domain, value)
        features[feature] = features.get(feature, 0.0) + share
    return features


def scaled(domain: Real | Integer, value: float) -> float:
    """Return where in its interval a number is, from 0 to 1, by its logarithm where the domain says so."""
    low, high = _ends(domain)
    return ((math.log(value) if domain.log else value) - low) / ((high - low) or 1.0)


def unscaled(domain: Real | Integer, share: float) -> float:
    """Return the number at that place of the interval, which is clipped to its ends."""
    low, high = _ends(domain)
    value = low + min(max(share, 0.0), 1.0) * (high - low)
    value = math.exp(value) if domain.log else value
    return domain.fit(round(value) if isinstance(domain, Integer) else value)


class Encoder:
    """Encodes the architectures of a space, each once, in several ways: those that it has of the ways named.

    ``operations`` and ``paths`` need a space that says how a blueprint is a graph.
    """

    def __init__(self, space: Space[Any], names: Sequence[str]) -> None:
        self._graph: Callable[[Any], Any] | None = None if type(space).graph is Space.graph else space.graph
        self.names = [name for name in names if self._graph is not None or name not in ("operations", "paths")]
        self._known: dict[Architecture, tuple[Features, ...]] = {}

    def __call__(self, architecture: Architecture) -> tuple[Features, ...]:
        known = self._known.get(architecture)
        if known is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            known = self._known[architecture] = self._encode(architecture)
        return known

    def _encode(self, architecture: Architecture) -> tuple[Features, ...]:
        encoded = {
            "options": options(architecture),
            "numbers": numbers(architecture),
            "counts": counts(architecture),
        }
        if self._graph is not None:
            encoded["operations"], encoded["paths"] = operations_and_paths(self._graph(architecture.blueprint))
        return tuple([encoded[name] for name in self.names])


class Columns:
    """The features of some architectures as a matrix: a row for each, a column for each feature that one has."""

    def __init__(self, features: Sequence[Features]) -> None:
        self._columns: dict[str, int] = {}
        for one in features:
            for feature in one:
                self._columns.setdefault(feature, len(self._columns))
        self._rows, self._norms = self._matrix(features)

    def squares(self, features: Sequence[Features] | None = None) -> Array:
        """Return the squared distance of each of those (None: of the rows) to each row.

        It is exact for features without a column too: no row has them, so they add their squares.
        """
        rows, norms = (self._rows, self._norms) if features is None else self._matrix(features)
        squares: Array = norms[:, None] + self._norms - 2 * (rows @ self._rows.T)
        return numpy.maximum(squares, 0.0, out=squares)  # rounding may fall below

    def _matrix(self, features: Sequence[Features]) -> tuple[Array, Array]:
        """Return the rows of those features, and the squared length of each with the features that have no column."""
        width = len(self._columns)
        places: list[int] = []
        values: list[float] = []
        norms: list[float] = []
        for row, one in enumerate(features):
            norm = 0.0
            for feature, value in one.items():
                norm += value * value
                column = self._columns.get(feature)
                if column is not None:
                    places.append(row * width + column)
                    values.append(value)
            norms.append(norm)
        matrix = numpy.zeros(len(features) * width)
        matrix[places] = values
        return matrix.reshape(len(features), width), numpy.array(norms)


def _text(option: Any) -> str:
    return option.name if isinstance(option, Op) else repr(option)  # 1, True and "1" are three


@lru_cache(maxsize=10_000)
def _family(name: str) -> str:
    return re.sub(r"\d+", "#", name)


def _ends(domain: Real | Integer) -> tuple[float, float]:
    return (math.log(domain.low), math.log(domain.high)) if domain.log else (domain.low, domain.high)

"""Decisions between sets of earlier places."""

from __future__ import annotations

from itertools import combinations

from automl import Options


def subsets(places: int, most: int) -> Options[tuple[int, ...]]:
    """Return the non-empty sets of at most so many of the first places, the smaller first."""
    counts = range(1, max(1, min(places, most)) + 1)
    return Options(tuple(subset for count in counts for subset in combinations(range(places), count)))

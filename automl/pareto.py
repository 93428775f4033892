"""Several goals at once: who dominates whom, the front of those whom nobody does, its volume and its knee."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from automl.trial import Objective, Trial, full, merit

Scores = Sequence[float]


def dominates(a: Scores, b: Scores) -> bool:
    """Say whether a is at least as good as b in every score and better in one; higher is better."""
    return all(x >= y for x, y in zip(a, b, strict=True)) and any(x > y for x, y in zip(a, b, strict=True))


def front(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """Return the trials that no other dominates in these objectives, best in the first one first.

    Only legal trials at the highest fidelity reached count. Of trials with equal scores the earliest stands for all.
    Trials that lack one of the metrics are left out. For two objectives this takes n log n steps.
    """
    names = [name for objective in objectives for name in objective.metrics]
    scored = [
        ([objective.score(trial.metrics) for objective in objectives], trial)
        for trial in full(trials)
        if all(name in trial.metrics for name in names)
    ]
    scored.sort(key=lambda pair: ([-score for score in pair[0]], pair[1].number))
    kept: list[tuple[list[float], Trial]] = []
    if len(objectives) <= 2:
        best = None
        for scores, trial in scored:  # sorted by the first score, so only a better last one escapes dominance
            if best is None or scores[-1] > best:
                best = scores[-1]
                kept.append((scores, trial))
                if len(objectives) == 1:
                    break
        return [trial for _, trial in kept]
    for scores, trial in scored:
        if not any(dominates(other, scores) or other == scores for other, _ in kept):
            kept.append((scores, trial))
    return [trial for _, trial in kept]


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials from best to worst by all their scores; of equals the earlier given comes first.

    Legal before illegal before failed (Deb, 2000). With several scores legal trials go by the fronts that they are
    on, and within a front by their crowding distance, the loneliest first (NSGA-II: Deb et al., 2002).
    """
    ordered = sorted(trials, key=merit, reverse=True)
    legal = [trial for trial in ordered if trial.is_scored and not trial.violation]
    if len(legal) < 2 or len(legal[0].scores) == 1:
        return ordered
    rest = ordered[len(legal) :]
    sorted_out: list[Trial] = []
    while legal:
        first = [one for one in legal if not any(dominates(other.scores, one.scores) for other in legal)]
        distances = crowding([one.scores for one in first])
        order = sorted(range(len(first)), key=lambda place: -distances[place])
        sorted_out += [first[place] for place in order]
        chosen = set(map(id, first))
        legal = [one for one in legal if id(one) not in chosen]
    return sorted_out + rest


def crowding(points: Sequence[Scores]) -> list[float]:
    """Return how lonely each point is among the others of its front: infinity at the ends (Deb et al., 2002)."""
    distances = [0.0] * len(points)
    for score in range(len(points[0]) if points else 0):
        order = sorted(range(len(points)), key=lambda place: points[place][score])
        low, high = points[order[0]][score], points[order[-1]][score]
        distances[order[0]] = distances[order[-1]] = inf
        if high > low:
            for before, here, after in zip(order, order[1:], order[2:], strict=False):
                distances[here] += (points[after][score] - points[before][score]) / (high - low)
    return distances


def hypervolume(points: Sequence[Scores], reference: Scores) -> float:
    """Return the volume that the points dominate above the reference, exactly; higher scores are better.

    For n points of d scores this takes n^(d-1) log n steps: the points are cut into slices along the last score
    (Zitzler, 1999).
    """
    inside = [tuple(point) for point in points if all(x > r for x, r in zip(point, reference, strict=True))]
    if not inside:
        return 0.0
    if len(reference) == 1:
        return max(point[0] for point in inside) - reference[0]
    inside.sort(key=lambda point: -point[-1])
    total = 0.0
    for place, point in enumerate(inside):
        below = inside[place + 1][-1] if place + 1 < len(inside) else reference[-1]
        if point[-1] > below:
            total += (point[-1] - below) * hypervolume([one[:-1] for one in inside[: place + 1]], reference[:-1])
    return total


def worst(points: Sequence[Scores]) -> tuple[float, ...]:
    """Return the worst of each score: a reference for the volume of these points."""
    return tuple(map(min, zip(*points, strict=True)))


def knee(points: Sequence[Scores]) -> int:
    """Return the place of the point of a front that gives up least: farthest beyond the plane through its ends.

    Each score is scaled to what the front spans; of equals it is the first (Das, 1999).
    """
    lows, highs = worst(points), tuple(map(max, zip(*points, strict=True)))
    spans = [(high - low) or 1.0 for low, high in zip(lows, highs, strict=True)]

    def beyond(place: int) -> float:
        return sum((x - low) / span for x, low, span in zip(points[place], lows, spans, strict=True))

    return max(range(len(points)), key=beyond)

"""Several goals at once: who dominates whom, and the front of those whom nobody does."""

from __future__ import annotations

from collections.abc import Sequence

from automl.trial import Objective, Trial


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """Say whether a is at least as good as b in every score and better in one; higher is better."""
    return all(x >= y for x, y in zip(a, b, strict=True)) and any(x > y for x, y in zip(a, b, strict=True))


def front(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """Return the finished, legal trials that no other dominates in these objectives, best in the first one first.

    Of trials with equal scores the earliest stands for all. Trials that lack one of the metrics are left out.
    For two objectives this takes n log n steps.
    """
    scored = [
        ([objective.score(trial.metrics) for objective in objectives], trial)
        for trial in trials
        if trial.error is None
        and trial.violation == 0
        and all(objective.metric in trial.metrics for objective in objectives)
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

"""Watches a search that weighs all options for the two signs that it collapses: skips, and a loss that curves."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterable, Sequence
from statistics import fmean

from automl import Architecture, Op, Trial

SKIPS = frozenset({"skip", "identity", "skip_connect"})
WINDOW = 5  # curvatures that are averaged, and after which they are compared
_log = logging.getLogger("automl")


def figures(shares: Iterable[Sequence[float]], derived: Architecture) -> dict[str, float]:
    """Return the mean ``entropy`` of shares, over its maximum, and the share of ``skips`` in a network, rounded."""
    entropies = [
        -sum(one * math.log(one) for one in some if one > 0) / math.log(len(some)) for some in shares if len(some) > 1
    ]
    operations = [value.name for value in derived.values.values() if isinstance(value, Op)]
    return {
        "entropy": round(sum(entropies) / max(1, len(entropies)), 4),
        "skips": round(sum(name in SKIPS for name in operations) / max(1, len(operations)), 4),
    }


class Watch:
    """Looks at each trial that was told, and keeps the last architecture that was sound.

    A search has collapsed where more than the share ``alarm`` of the derived operations are skips. It has too where
    the ``curvature`` that its evaluator reports, the mean of the last five, is more than ``growth`` times that of five
    before: sound is then what was derived before these five (R-DARTS; Zela et al., 2020, whose ratio is 1 / 0.75).

    It has no state of its own: given the trials again it is as it was.
    """

    def __init__(self, alarm: float, growth: float | None) -> None:
        self.alarm, self.growth = alarm, growth
        self.sound: Architecture | None = None
        self.sign: str | None = None  # of the collapse, in words
        self._curved: deque[tuple[float, Architecture]] = deque(maxlen=2 * WINDOW)

    @property
    def collapsed(self) -> bool:
        return self.sign is not None

    def see(self, trial: Trial) -> None:
        """Take in the next trial; what failed, or comes after a collapse, is not looked at."""
        if self.collapsed or trial.error is not None or not trial.reports:
            return
        skips = trial.candidate.notes.get("skips", 0.0)
        if skips > self.alarm:
            self.sign = f"at trial {trial.number} {100 * skips:.0f} % of the derived operations are skips"
            return
        self.sound = trial.architecture
        if self.growth is not None and "curvature" in trial.metrics:
            self._curved.append((trial.metrics["curvature"], trial.architecture))
            self._compare(trial.number, self.growth)

    def _compare(self, number: int, growth: float) -> None:
        if len(self._curved) < 2 * WINDOW:
            return
        curvatures = [curvature for curvature, _ in self._curved]
        before, now = fmean(curvatures[:WINDOW]), fmean(curvatures[WINDOW:])
        if now > growth * before:
            self.sign = f"at trial {number} the curvature of the loss by the choices is {now:.3g}, and was {before:.3g}"
            self.sound = self._curved[WINDOW - 1][1]

    def warn(self, guard: bool) -> None:
        """Say that the search has collapsed, and what becomes of it."""
        ends = (
            "the search ends at the last architecture that was sound"
            if guard
            else "strategy.guard=true would end it at the last that was sound"
        )
        _log.warning("%s: %s", self.sign, ends)

"""Predicts the latency of networks by that of their kernels, corrected by some networks that were measured whole."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

CALL = "call"  # the operation that every network has: calling it
_START = (0.3, 0.3, 0.3, 0.1, 1.0, 0.03)  # of the errors by kernel, by kind, of all; smooth, its length; noise
_FACTOR = 1.5  # standard deviation of the logarithm of each about there, before anything is seen

Counts = Mapping[str, int]  # of a network's kernels, by name


@dataclass(frozen=True)
class Accuracy:
    """How predictions stand to measurements: mean absolute percentage error and rank correlations."""

    mape: float  # a share: 0.05 is 5 %
    spearman: float
    kendall: float
    networks: int

    def describe(self) -> str:
        """Return it in words."""
        return (
            f"mean absolute percentage error {self.mape:.1%}, Spearman {self.spearman:.3f}, Kendall {self.kendall:.3f} "
            f"on {self.networks} held-out networks"
        )


def accuracy(predicted: Sequence[float], measured: Sequence[float]) -> Accuracy:
    """Compare predictions with measurements, pair by pair; a rank correlation of equal values is 0."""
    import numpy as np
    from scipy import stats

    found, truth = np.asarray(predicted, float), np.asarray(measured, float)
    off = float(np.mean(np.abs(found / truth - 1)))
    if len(truth) < 2 or np.ptp(found) == 0 or np.ptp(truth) == 0:
        return Accuracy(off, 0.0, 0.0, len(truth))
    spearman, kendall = (float(correlate(found, truth).statistic) for correlate in (stats.spearmanr, stats.kendalltau))
    return Accuracy(off, spearman, kendall, len(truth))


class Model:
    """The sum of a network's kernels, times a factor that a Gaussian process learns from networks measured whole.

    Kernels timed alone sum to more, or to less, than a network takes: calls overlap, maps stay in the cache, layouts
    are kept. As a share of the sum the difference is taken to be a sum of independent errors, one of all, one of each
    kind of kernel and one of each kernel, each weighing as much as its share in the network's time, and of a smooth
    function of these shares. How large each is follows from the marginal likelihood (Rasmussen & Williams, 2006,
    chapter 5). Kernels as units are nn-Meter's (Zhang et al., 2021); sums of operations ProxylessNAS's (Cai et al.,
    2019) and Once-for-All's (Cai et al., 2020); learning from whole networks BRP-NAS's (Dudziak et al., 2020).
    """

    def __init__(
        self, milliseconds: Mapping[str, float], networks: Sequence[Counts], measured: Sequence[float]
    ) -> None:
        """Fit to networks of which each takes so many ``measured`` milliseconds; with fewer than four, to a factor.

        ``milliseconds`` are of kernels alone, and of CALL; a kernel that they lack raises KeyError.
        """
        import numpy as np

        self.milliseconds = dict(milliseconds)
        self._sums = np.array([self.sum(counts) for counts in networks])
        self._ratios = np.asarray(measured, float) / self._sums if len(networks) else np.zeros(0)
        self._factor = float(np.median(self._ratios)) if len(networks) else 1.0
        self._names = sorted({name for counts in networks for name in (*counts, CALL)})
        self._kinds = sorted({kind(name) for name in self._names})
        self._scale = self._fit(networks) if len(networks) >= 4 else None

    def sum(self, counts: Counts) -> float:
        """Return the milliseconds of the kernels of a network and of calling it; at least a nanosecond."""
        whole = math.fsum(number * self.milliseconds[name] for name, number in counts.items())
        return max(1e-6, whole + self.milliseconds.get(CALL, 0.0))

    def part(self, counts: Counts) -> float:
        """Return what kernels add to a network that has them: their sum by the factor of all."""
        return self._factor * math.fsum(number * self.milliseconds[name] for name, number in counts.items())

    def predict(self, counts: Counts) -> float:
        """Return the milliseconds of a network by the numbers of its kernels; raises KeyError for an unknown one."""
        whole = self.sum(counts)
        if self._scale is None:
            return self._factor * whole
        shares, smooth = self._features([counts])
        found = self._covariance(self._scale, (shares, smooth), self._seen) @ self._weights
        # never below a tenth of what was seen: a network that resembles none is not free
        return whole * max(self._factor + float(found[0]), 0.1 * float(self._ratios.min()))

    def _fit(self, networks: Sequence[Counts]) -> np.ndarray[Any, Any]:
        import numpy as np
        from scipy import optimize

        self._seen = self._features(networks)
        rest = self._ratios / self._factor - 1
        start = np.log(_START)

        def loss(scale: np.ndarray[Any, Any]) -> float:
            try:
                lower = np.linalg.cholesky(self._noisy(scale))
            except np.linalg.LinAlgError:
                return 1e10
            half = np.linalg.solve(lower, rest)
            prior = float(((scale - start) ** 2).sum()) / (2 * _FACTOR**2)
            return float(half @ half) / 2 + float(np.log(np.diag(lower)).sum()) + prior

        found = optimize.minimize(loss, start, method="L-BFGS-B", bounds=[(place - 5, place + 4) for place in start])
        scale: np.ndarray[Any, Any] = found.x if np.isfinite(found.fun) and found.fun < 1e10 else start
        self._weights = self._factor * np.linalg.solve(self._noisy(scale), rest)
        return scale

    def _features(self, networks: Sequence[Counts]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return each network's shares by kernel, known ones alone, and those by kind with the logarithm of the sum."""
        import numpy as np

        columns = {name: place for place, name in enumerate(self._names)}
        kinds = {name: place for place, name in enumerate(self._kinds)}
        shares, by_kind = np.zeros((len(networks), len(columns))), np.zeros((len(networks), len(kinds) + 1))
        for row, counts in enumerate(networks):
            whole = self.sum(counts)
            for name, number in sorted({**counts, CALL: 1}.items()):
                share = number * self.milliseconds.get(name, 0.0) / whole
                if name in columns:
                    shares[row, columns[name]] = share
                if kind(name) in kinds:
                    by_kind[row, kinds[kind(name)]] += share
            by_kind[row, -1] = math.log(whole)
        return shares, by_kind

    def _covariance(self, scale: np.ndarray[Any, Any], rows: Any, columns: Any) -> np.ndarray[Any, Any]:
        import numpy as np

        of_kernel, of_kind, of_all, smooth, length, _ = np.exp(scale)
        distance = ((rows[1][:, None] - columns[1][None]) ** 2).sum(-1)
        found: np.ndarray[Any, Any] = (
            of_kernel**2 * rows[0] @ columns[0].T
            + of_kind**2 * rows[1][:, :-1] @ columns[1][:, :-1].T
            + of_all**2
            + smooth**2 * np.exp(-distance / (2 * length**2))
        )
        return found

    def _noisy(self, scale: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        import numpy as np

        noise = math.exp(2 * scale[-1]) + 1e-9
        return self._covariance(scale, self._seen, self._seen) + noise * np.eye(len(self._ratios))


def kind(name: str) -> str:
    """Return the sort of a kernel by its name, which begins with it."""
    return name.partition(":")[0]

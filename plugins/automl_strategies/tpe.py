"""Tree-structured Parzen estimator: what good trials decided and others did not."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from operator import itemgetter
from typing import Annotated, Any

import numpy
from annotated_types import Ge, Gt, Lt
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler

from automl_strategies.sampled import Answers, Observed, Parameter, Sampled, by_domain

_GOOD = 25  # at most so many trials count as good, where there is one objective


@dataclass
class TPE(Sampled):
    """Tree-structured Parzen estimator (Bergstra et al., 2011; multivariate: Falkner et al., 2018), by Optuna.

    The first ``startup`` trials are drawn at random. It models the largest fidelity with at least as many trials,
    and leaves the others out: told of every rung of Hyperband, it is the model of BOHB. The published bound, one
    more than there are decisions, would leave networks of tens of decisions without a model. With several objectives
    good is what none dominates (Ozaki et al., 2020).
    """

    startup: Annotated[int, Ge(1)] = 10
    candidates: Annotated[int, Ge(1)] = 24
    gamma: Annotated[float, Gt(0), Lt(1)] = 0.1
    multivariate: bool = True
    group: bool = True

    def bring(self) -> numpy.random.RandomState:
        self.rungs: dict[float, list[Observed]] = {}
        self.rejected: list[Observed] = []  # of no fidelity, and of them all
        self.sampler = _Sampler(self.candidates, self.gamma, self.multivariate)
        return self.sampler._rng.rng

    def draw(self, asked: Observed) -> Answers:
        told = self._modelled()
        if told is None:
            return by_domain
        self.study.trials = [*told, *self.rejected, *(running for _, running in self.running.values())]
        drawn: dict[str, float] = {}
        if self.multivariate:
            for together in self.groups if self.group else [self.shared]:
                drawn |= self.sampler.sample_relative(self.study, asked, together)  # type: ignore[arg-type]

        def answer(parameter: Parameter) -> float | None:
            name = parameter.name
            if name in drawn:
                return drawn[name]
            if name not in self.met:
                return None
            return self.sampler.sample_independent(self.study, asked, name, parameter.distribution)  # type: ignore[arg-type, no-any-return]

        return answer

    def learn(self, told: Observed) -> None:
        if told.values:
            assert told.trial is not None
            self.rungs.setdefault(told.trial.fidelity, []).append(told)
        else:
            self.rejected.append(told)

    def _modelled(self) -> Sequence[Observed] | None:
        """Return the trials of the largest fidelity with enough of them; None where none has, with the rejected."""
        enough = [fidelity for fidelity, told in self.rungs.items() if len(told) >= self.startup]
        if enough:
            return self.rungs[max(enough)]
        most = max(self.rungs.values(), key=len, default=[])
        return most if len(most) + len(self.rejected) >= self.startup else None


class _Sampler(TPESampler):
    """Optuna's, from the first trial on; the running count as bad ("constant liar")."""

    def __init__(self, candidates: int, gamma: float, multivariate: bool) -> None:
        super().__init__(n_startup_trials=0, n_ei_candidates=candidates, multivariate=multivariate, seed=0)
        self._share = gamma

    def _sample(self, study: Any, trial: Any, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        most = None if study._is_multi_objective() else _GOOD
        self._gamma = lambda told: min(ceil(self._share * told), most or told)
        return super()._sample(study, trial, search_space)

    def _get_internal_repr(
        self, trials: Any, search_space: dict[str, BaseDistribution], study: Any
    ) -> dict[str, numpy.ndarray]:
        """Look up what each trial decided: ours are kept as numbers, Optuna's are converted here one by one."""
        names = search_space.keys()
        pick = itemgetter(*search_space)
        rows = [pick(trial.params) for trial in trials if names <= trial.params.keys()]
        columns = numpy.array(rows, float).reshape(len(rows), len(names)).T
        return dict(zip(names, columns, strict=True))

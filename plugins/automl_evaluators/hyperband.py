"""Hyperband: brackets of successive halving, from many configurations trained little to few trained in full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from automl import Strategy
from automl_evaluators.brackets import Bracket, hyperband
from automl_evaluators.promoting import Synchronous
from automl_evaluators.schedule import Schedule


@dataclass
class Hyperband(Schedule):
    """Hyperband (Li et al., JMLR 2018) around an evaluator whose work can be gone on with, in endless passes.

    ``rounding`` picks one of two published tables of brackets: "ceil" that of the journal's algorithm, "floor" that
    of an early version of the paper, also HpBandSter's. The run's log has the table. With ``strategy=tpe`` it is
    BOHB (Falkner et al., 2018). A last rung is exactly the resource, whether or not that is a power of ``eta``.
    """

    name = "hyperband"

    rounding: Literal["ceil", "floor"] = "ceil"

    def brackets(self) -> list[Bracket]:
        return hyperband(self.ladder, self.eta, self.rounding)

    def promoting(self, strategy: Strategy) -> Strategy:
        return Synchronous(strategy, self.whole, self.key, self.eta, self.brackets())

"""Successive halving: many are trained a little, the best share of them further, and so on to the top."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from automl import Strategy
from automl_evaluators.brackets import Bracket, halving
from automl_evaluators.promoting import Synchronous
from automl_evaluators.schedule import Schedule


@dataclass
class SuccessiveHalving(Schedule):
    """Successive halving (Jamieson & Talwalkar, AISTATS 2016), again and again with new configurations.

    ``configurations`` begin at the lowest rung; null: as many as leave one for the highest.
    """

    name = "successive_halving"

    configurations: Annotated[int, Ge(1)] | None = None

    def brackets(self) -> list[Bracket]:
        return [halving(self.configurations or self.eta ** (len(self.ladder) - 1), self.ladder, self.eta)]

    def promoting(self, strategy: Strategy) -> Strategy:
        return Synchronous(strategy, self.whole, self.key, self.eta, self.brackets())

"""Random search: every decision drawn anew, the baseline of every comparison."""

from dataclasses import dataclass

from automl import Candidate, Strategy


@dataclass
class Random(Strategy):
    """Random search, uniform over the tree of decisions (Bergstra & Bengio, 2012)."""

    def ask(self) -> Candidate:
        return Candidate(self.space.sample(self.rng))

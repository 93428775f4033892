"""A strategy that asks for something else each time it is started, as a changed version would."""

import os
from dataclasses import dataclass

from automl import Candidate, Strategy


@dataclass
class Changed(Strategy):
    """Random search that is not the same in another process."""

    def ask(self):
        for _ in range(os.getpid() % 97):
            self.rng.random()
        return Candidate(self.space.sample(self.rng))

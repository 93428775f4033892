"""An evaluator that scores by the decisions alone, and goes wrong where it is told to."""

import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from automl import Evaluator, Report, TrialFailed


@dataclass
class Toy(Evaluator):
    """Accuracy is a hash of the decisions; ``wrong`` says by trial number what goes wrong."""

    sleep: float = 0.0
    reports: int = 2
    wrong: Mapping[str, str] = field(default_factory=dict)
    counts: str | None = None  # a file that grows by a letter an evaluation

    def estimate(self, architecture):
        return self.sleep

    def metrics(self):
        return frozenset({"accuracy", "loss"})

    def evaluate(self, trial):
        if self.counts:
            with Path(self.counts).open("a") as file:
                file.write("x")
        wrong = self.wrong.get(str(trial.number), self.wrong.get("all"))
        accuracy = zlib.crc32(repr(trial.architecture.to_json()).encode()) / 2**32
        if wrong == "raise":
            raise ValueError(f"trial {trial.number} würde scheitern")
        if wrong == "fail":
            raise TrialFailed("it was told to fail")
        if wrong == "nothing":
            return
        for number in range(1, self.reports + 1):
            time.sleep(self.sleep / self.reports)
            metrics = {"accuracy": accuracy, "loss": 1 - accuracy}
            if wrong == "no metric":
                del metrics["accuracy"]
            elif wrong in ("nan", "inf", "-inf"):
                metrics["accuracy"] = float(wrong)
            yield Report(metrics, number / self.reports)

"""A diary of a search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from automl import Trial, hookimpl

if TYPE_CHECKING:
    from automl import Study


@dataclass
class Diary:
    """Write into ``hello.txt`` of the run's folder when a search began and ended, and each trial in a line."""

    greeting: str = "Hello"

    @hookimpl
    def automl_study_started(self, study: Study) -> None:
        """Say hello; a study that is gone on with holds the trials that it has already."""
        self._write(study, f"{self.greeting}, {len(study.trials)} trials are done")

    @hookimpl
    def automl_trial_finished(self, study: Study, trial: Trial) -> None:
        """Write down what became of a trial."""
        metrics = ", ".join(f"{name} {value:.6g}" for name, value in trial.metrics.items())
        self._write(study, f"trial {trial.number}: {trial.error or metrics}")

    @hookimpl
    def automl_study_finished(self, study: Study) -> None:
        """Say goodbye."""
        self._write(study, "Goodbye")

    def _write(self, study: Study, line: str) -> None:
        if study.directory is not None:
            with (study.directory / "hello.txt").open("a", encoding="utf-8") as diary:
                diary.write(line + "\n")

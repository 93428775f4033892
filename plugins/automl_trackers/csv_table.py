"""Keeps a table of the trials in trials.csv of the run folder."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge

from automl import hookimpl
from automl.files import write_text

if TYPE_CHECKING:
    from automl.standing import Standing


@dataclass
class CSVTable:
    """Writes ``trials.csv``, a row a trial: its number, state, metrics and decisions by name.

    It is written anew at most every ``every`` seconds, for the columns may change, and at the end.
    """

    every: Annotated[float, Ge(0)] = 10.0

    def __post_init__(self) -> None:
        self._next = 0.0

    @hookimpl
    def automl_study_started(self, study: Standing) -> None:
        """Write the trials so far."""
        self._write(study)

    @hookimpl
    def automl_trial_finished(self, study: Standing) -> None:
        """Write the trials so far, where the last time is long enough ago."""
        if time.monotonic() >= self._next:
            self._write(study)

    @hookimpl
    def automl_study_finished(self, study: Standing) -> None:
        """Write all trials."""
        self._write(study)

    def _write(self, study: Standing) -> None:
        import pandas

        began = time.monotonic()
        if study.directory is not None:
            table = pandas.DataFrame.from_records(study.to_records())
            write_text(study.directory / "trials.csv", table.to_csv(index=False))
        took = time.monotonic() - began
        self._next = began + max(self.every, 20 * took)

"""Writes a study for TensorBoard: a run for each trial with its epochs and decisions, one for the search."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from automl import BadInput, Report, Trial, hookimpl

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from automl.standing import Standing

FOLDER = "tensorboard"
_SHARES = 1_000  # a step of the final training is a thousandth of its schedule


@dataclass
class TensorBoard:
    """Writes a study into ``tensorboard`` of the run folder: `tensorboard --logdir RUN/tensorboard` shows it.

    The run `search` has the metrics of each trial, by its number; `trial-N`, of the first ``curves`` trials, the epochs
    of trial N, its decisions and its last metrics as hyperparameters; `retrain` has the final network, by thousandths
    of its schedule. TensorBoard's tags have no other signs than letters, digits and `-_./`: each other becomes `_`, and
    of two names that come to the same the second ends in `_2`. Of decisions, lists and None are written as JSON, and
    True as 1.
    """

    curves: Annotated[int, Ge(0)] = 200

    def check(self) -> None:
        """Raise BadInput where tensorboard is not installed."""
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            raise BadInput(
                "tracker=tensorboard needs an optional part that is not installed: "
                "pip install 'automl-lightweight[tensorboard]'"
            ) from error

    def __post_init__(self) -> None:
        self._search: SummaryWriter | None = None
        self._tags: dict[str, str] = {}

    @hookimpl
    def automl_study_started(self, study: Standing) -> None:
        """Open the folder, and write what it lacks of the trials so far."""
        if study.directory is None:
            return
        self._folder = study.directory / FOLDER
        self._known = steps(self._folder / "search", "search/seconds")
        self._search = _writer(self._folder / "search")
        for trial in study.trials:
            self._add(trial)
        self._search.flush()

    @hookimpl
    def automl_trial_finished(self, trial: Trial) -> None:
        """Write it."""
        if self._search is not None:
            self._add(trial)
            self._search.flush()

    @hookimpl
    def automl_study_finished(self, study: Standing) -> None:
        """Write the final network's training, and close."""
        if self._search is None:
            return
        curve = study.summary.get("retrain", {}).get("curve", ())
        if curve:
            self._replace("retrain", lambda writer: self._write_course(writer, curve))
        search, self._search = self._search, None
        search.close()

    def _add(self, trial: Trial) -> None:
        assert self._search is not None
        if trial.number in self._known:
            return
        if trial.number < self.curves:
            self._replace(f"trial-{trial.number}", lambda writer: self._write_trial(writer, trial))
        self._write(self._search, trial.metrics, trial.number)
        self._search.add_scalar("search/failed", float(trial.error is not None), trial.number)
        if trial.error is not None:
            self._search.add_text("search/reason", trial.error, trial.number)
        self._search.add_scalar("search/seconds", trial.seconds, trial.number)  # the last: with it the trial is whole

    def _write_trial(self, writer: SummaryWriter, trial: Trial) -> None:
        from torch.utils.tensorboard.summary import hparams

        for number, report in enumerate(_epochs(trial.reports), 1):
            self._write(writer, report.metrics, number)
        decisions = {name: _plain(value) for name, value in trial.architecture.to_json().items()}
        metrics = {self._tag(name): value for name, value in trial.metrics.items()}
        for summary in hparams(decisions | {"state": trial.state}, metrics):  # type: ignore[no-untyped-call]
            assert writer.file_writer is not None
            writer.file_writer.add_summary(summary)

    def _write_course(self, writer: SummaryWriter, curve: Sequence[Mapping[str, float]]) -> None:
        for epoch in curve:
            metrics = {name: value for name, value in epoch.items() if name != "fidelity"}
            self._write(writer, metrics, round(epoch["fidelity"] * _SHARES))

    def _replace(self, run: str, write: Callable[[SummaryWriter], None]) -> None:
        """Have a run be what is written: aside first, so that it is there wholly or not at all."""
        aside = self._folder.with_name(f".{FOLDER}-{run}")
        shutil.rmtree(aside, ignore_errors=True)
        with _writer(aside) as writer:
            write(writer)
        shutil.rmtree(self._folder / run, ignore_errors=True)
        aside.rename(self._folder / run)

    def _write(self, writer: SummaryWriter, metrics: Mapping[str, float], step: int) -> None:
        for name, value in metrics.items():
            writer.add_scalar(self._tag(name), value, step)

    def _tag(self, name: str) -> str:
        """Return the tag of a metric."""
        tag = self._tags.get(name)
        if tag is None:
            tag = plain = re.sub(r"[^\w./-]", "_", name).lstrip("/") or "_"
            number = 1
            while tag in self._tags.values():
                number += 1
                tag = f"{plain}_{number}"
            self._tags[name] = tag
        return tag


def steps(folder: Path, ends_in: str) -> set[int]:
    """Return the steps for which a run has a scalar whose tag ends so."""
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    if not folder.is_dir():
        return set()
    events = EventAccumulator(str(folder), size_guidance={SCALARS: 0})
    events.Reload()
    return {event.step for tag in events.Tags()["scalars"] if tag.endswith(ends_in) for event in events.Scalars(tag)}


def _writer(folder: Path) -> SummaryWriter:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))


def _epochs(reports: Iterable[Report]) -> list[Report]:
    return [report for report in reports if report.fidelity > 0]


def _plain(value: Any) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)

"""Run folders: made once, found again, and read as if a stranger had written them."""

from __future__ import annotations

import json
import os
import secrets
import string
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from automl import pareto
from automl.decisions import Architecture
from automl.errors import BadInput, JournalError, printable
from automl.files import make_folder, point
from automl.journal import decisions_of, read
from automl.trial import NOTHING, Candidate, Cost, Limit, LogCost, Objective, Report, Trial, best

SCHEMA = 1
_LARGEST = 50_000_000  # bytes of a JSON file of a run folder


def root() -> Path:
    """Return where run folders are looked for: AUTOML_RUNS, or ``runs`` in the working directory."""
    return Path(os.environ.get("AUTOML_RUNS", "runs"))


def create(root: Path, label: str, *, latest: bool = True) -> Path:
    """Make ``root/<date>/<time>-<label>-<4 letters>``, which nobody else has; have ``root/latest`` point to it."""
    while True:
        now = datetime.now()
        letters = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(4))
        path = root / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S}-{label}-{letters}"
        try:
            make_folder(path)
        except FileExistsError:
            continue
        if latest:
            point(root / "latest", os.path.relpath(path, root))
        return path


def is_run(folder: Path) -> bool:
    """Say whether the folder is a run's."""
    return (folder / "config.yaml").is_file() and (folder / "journal.jsonl").is_file()


def find(path: str | None, root: Path) -> Path:
    """Return the run folder of that path, the latest one where no path is given.

    Raises BadInput where it is none.
    """
    if path is None:
        latest = root / "latest"
        if not latest.exists():
            raise BadInput(f"there is no run in {root.resolve()}: give a run folder, or start a run first")
        return latest.resolve()
    folder = Path(path).expanduser()
    if not is_run(folder):
        raise BadInput(
            f"{folder} is not a run folder (it has no config.yaml and journal.jsonl): give one of those in {root}"
        )
    return folder


def find_network(path: str | None, root: Path) -> Path:
    """Return the folder of a network: a run's, the latest where no path is given, or ``before`` within one.

    Raises BadInput where it is none.
    """
    if path is not None and (Path(path).expanduser() / "architecture.json").is_file():
        return Path(path).expanduser()
    return find(path, root)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of a run folder; raises BadInput for anything else."""
    try:
        if path.stat().st_size > _LARGEST:
            raise BadInput(f"{path} has more than {_LARGEST:,} bytes, so automl did not write it")
        value = json.loads(path.read_text())
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}; run automl resume {path.parent} first") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not JSON: {str(error)[:100]}") from error
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        found = value.get("schema") if isinstance(value, dict) else None
        raise BadInput(
            f"{path} has schema {found!r}, this version reads {SCHEMA}: use the version of automl that wrote it"
        )
    return value


class Run:
    """What a run folder holds. Reading it needs neither torch nor the plugins that made it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @cached_property
    def heading(self) -> Mapping[str, Any]:
        """What the journal's first line says of the study: space, strategy, evaluator, task, objectives, seed."""
        for record, _ in read(self.directory / "journal.jsonl"):
            return dict(record["study"])
        return {}

    @cached_property
    def _told(self) -> tuple[list[Trial], list[Trial], int]:
        try:
            return self._tell()
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise JournalError(
                f"{self.directory / 'journal.jsonl'} tells of trials what cannot be ({type(error).__name__}: "
                f"{printable(str(error))[:100]}): restore it from a copy"
            ) from error

    def _tell(self) -> tuple[list[Trial], list[Trial], int]:
        running: dict[int, Trial] = {}
        told: list[Trial] = []
        numbered: dict[int, Trial] = {}
        duplicates = 0
        decisions: Mapping[str, Any] = NOTHING
        objectives, limits = self.objectives, self.limits
        for record, _ in read(self.directory / "journal.jsonl"):
            match record["event"]:
                case "started":
                    decisions = decisions_of(record, decisions)
                    architecture = Architecture({name: _option(value) for name, value in decisions.items()}, {}, None)
                    candidate = Candidate(
                        architecture, record["fidelity"], record["parent"], record.get("notes", NOTHING)
                    )
                    trial = running[record["trial"]] = Trial(record["trial"], candidate, 0)
                    trial.began = record.get("clock", 0.0)
                    trial.parent = numbered.get(record["parent"])
                case "reported":
                    running[record["trial"]].reports.append(Report(record["metrics"], record["fidelity"]))
                case "finished" | "failed":
                    trial = running.pop(record["trial"])
                    trial.error, trial.traceback = record.get("reason"), record.get("traceback")
                    trial.ended = record.get("clock", trial.began + record["seconds"])
                    if trial.error is None:
                        trial.judge(objectives, limits)
                    told.append(trial)
                    numbered[trial.number] = trial
                case "duplicate":
                    duplicates += 1
        return told, list(running.values()), duplicates

    @property
    def objectives(self) -> tuple[Objective, ...]:
        found = self.heading.get("objectives", [{"metric": "accuracy"}])
        with self._of_the_heading():
            return tuple(
                Objective(
                    one["metric"],
                    one.get("goal", "max"),
                    tuple((Cost if "target" in cost else LogCost)(**cost) for cost in one.get("costs", ())),
                )
                for one in found
            )

    @property
    def limits(self) -> tuple[Limit, ...]:
        with self._of_the_heading():
            return tuple(Limit(**values) for values in self.heading.get("limits", ()))

    @contextmanager
    def _of_the_heading(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise JournalError(
                f"{self.directory / 'journal.jsonl'} does not say at line 1 what was searched for "
                f"({type(error).__name__}: {printable(str(error))[:100]}): restore it from a copy"
            ) from error

    @property
    def trials(self) -> list[Trial]:
        """The trials that finished or failed, in the order of telling; decisions as in JSON."""
        return self._told[0]

    @property
    def interrupted(self) -> list[Trial]:
        """The trials that were running when the journal ended."""
        return self._told[1]

    @property
    def duplicates(self) -> int:
        """How often an architecture was met again."""
        return self._told[2]

    @property
    def best(self) -> Trial | None:
        return best(self.trials)

    @property
    def front(self) -> list[Trial]:
        return pareto.front(self.trials, self.objectives)

    @cached_property
    def summary(self) -> Mapping[str, Any]:
        """The content of summary.json; empty where there is none yet."""
        path = self.directory / "summary.json"
        return read_json(path) if path.exists() else {}


def _option(value: Any) -> Any:
    """Return an option as it was decided on: JSON has lists for tuples."""
    return tuple(map(_option, value)) if value.__class__ is list else value

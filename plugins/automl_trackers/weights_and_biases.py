"""Sends a study to Weights & Biases: a row a trial, its epochs, tables, and the network found."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import psutil
from annotated_types import Ge

from automl import BadInput, Report, Trial, hookimpl, sweeps
from automl_trackers import offline_files
from automl_trackers.wandb_steps import Steps, service

if TYPE_CHECKING:
    from types import ModuleType

    from automl.standing import Standing

_ROWS = 10_000  # of a table: W&B shows no more
_FILES = ("model.onnx", "model.int8.onnx", "model.safetensors", "architecture.json", "MODEL_CARD.md")
_FIGURES = ("best", "test", "baseline", "model", "before", "int8", "recorded", "trials", "hypervolume", "knee")
_OFFLINE = ("offline", "dryrun")
_CONNECT = 5.0  # seconds


@dataclass
class WeightsAndBiases:
    """Sends a study to Weights & Biases: metrics and epochs of each trial, tables, and the network found.

    W&B's own variables are obeyed: WANDB_MODE (online, offline, disabled), WANDB_API_KEY, WANDB_PROJECT, WANDB_ENTITY,
    WANDB_DIR and the others. ``project`` is `automl` where neither says otherwise. A run is named by its folder, a job
    of a sweep by the words that tell it from the others, and the sweep is their ``group``. The config goes as it was
    written: ``${oc.env:TOKEN}`` is sent as these words.

    Metrics keep their names, after a prefix: `metrics/` for trials (by `trial`), `curve/N/` for the epochs of trial N
    (by `share/N`, of the full schedule; of the first ``curves`` trials), `retrain/` for the final network (by
    `share/retrain`). A study that goes on goes on in the same run, whose id is in ``wandb.json`` of the run folder.
    """

    project: str | None = None
    entity: str | None = None
    group: str | None = None
    run_name: str | None = None
    tags: list[str] = field(default_factory=list)
    curves: Annotated[int, Ge(0)] = 100

    instead: ClassVar[str] = (
        "type WANDB_MODE=offline before automl, which keeps everything in the run folder for later, "
        "or log in by wandb login"
    )

    def __post_init__(self) -> None:
        self._run: Any = None

    def check(self) -> None:
        """Raise BadInput where W&B is to be reached and cannot be: no key, no network, or a key that is refused."""
        wandb = _wandb()
        settings = wandb.setup(settings=wandb.Settings(**_manners())).settings
        if settings.mode in (*_OFFLINE, "disabled"):
            return
        try:
            if not wandb.login(prompt=False, verify=False):
                raise BadInput(
                    f"tracker=wandb found no key of W&B (WANDB_API_KEY, or that of wandb login): {self.instead}"
                )
            urllib.request.urlopen(settings.base_url, timeout=_CONNECT).close()  # noqa: S310  # of W&B's settings
        except urllib.error.HTTPError:
            pass  # it answers
        except wandb.errors.Error as error:
            raise BadInput(f"tracker=wandb cannot log in ({_line(error)}): {self.instead}") from error
        except OSError as error:
            reason = _line(getattr(error, "reason", error))
            raise BadInput(f"tracker=wandb cannot reach {settings.base_url} ({reason}): {self.instead}") from error
        try:
            wandb.Api(timeout=int(_CONNECT)).viewer  # noqa: B018  # asks who the key is of
        except Exception as error:  # which one, W&B does not say
            raise BadInput(f"tracker=wandb cannot log in ({_line(error)}): {self.instead}") from error

    @hookimpl
    def automl_study_started(self, study: Standing) -> None:
        """Begin the run, or go on in it, and send what it lacks of the trials so far."""
        folder = study.directory
        if folder is None:
            return
        wandb = _wandb()
        mode = wandb.setup(settings=wandb.Settings(**_manners())).settings.mode
        if mode == "disabled":
            return
        self._steps = Steps(folder, self.curves)
        self._steps.id = _own("WANDB_RUN_ID", None) or self._steps.id
        self._steps.wait()
        place = Path(os.environ.get("WANDB_DIR") or folder)
        kept = offline_files.files(place, self._steps.id) if mode in _OFFLINE else []
        there = max((row["_step"] + 1 for path in kept for row in offline_files.rows(path)), default=0)
        while any(place.glob(f"wandb/*run-{time.strftime('%Y%m%d_%H%M%S')}-{self._steps.id}")):
            time.sleep(0.1)  # W&B names its folder by the second, and would write over that of a run that just ended
        run = self._begin(wandb, study, folder, place)
        self._steps.note_process()
        self._lacking = max(there, run.starting_step)
        self._file = Path(run.settings.sync_file) if mode in _OFFLINE else None
        if self._file is None:
            print(f"W&B: {run.url}", file=sys.stderr)
        for axis, metrics in (("trial", "metrics"), ("trial", "best"), ("share/retrain", "retrain")):
            run.define_metric(axis, hidden=True)
            run.define_metric(f"{metrics}/*", step_metric=axis)
        self._run = run
        self._best: Trial | None = None
        for trial in study.trials:
            self._add(trial, study)

    @hookimpl
    def automl_trial_finished(self, study: Standing, trial: Trial) -> None:
        """Send its epochs, then its metrics."""
        if self._run is not None:
            self._add(trial, study)

    @hookimpl
    def automl_retraining(self, report: Report) -> None:
        """Send an epoch of the final network."""
        if self._run is not None:
            self._add_epoch(report.fidelity, report.metrics)

    @hookimpl
    def automl_study_finished(self, study: Standing) -> None:
        """Send the rest: tables, figures, the network; and end the run."""
        if self._run is None:
            return
        for epoch in study.summary.get("retrain", {}).get("curve", ()):
            self._add_epoch(epoch["fidelity"], {name: value for name, value in epoch.items() if name != "fidelity"})
        tables = {"trials": self._table(study.trials[-_ROWS:]), "front": self._table(study.front[:_ROWS])}
        self._steps.begin_extra()
        self._log(tables)
        self._run.summary.update({key: study.summary[key] for key in _FIGURES if study.summary.get(key) is not None})
        self._run.summary["front_trials"] = study.summary.get("front", [])
        if study.directory is not None and "model" in study.summary:
            self._send_network(study.directory, study.summary)
        run, self._run = self._run, None
        run.finish(exit_code=0)
        if self._file is not None:
            offline_files.wait(self._file)
            kept = offline_files.files(self._file.parents[2], self._steps.id)  # a part for each time it went on
            parts = " ".join(shlex.quote(str(path.parent)) for path in kept)
            print(f"W&B: kept offline; to send it: wandb sync {parts}", file=sys.stderr)

    def abandon(self) -> None:
        """End W&B's process, which would keep this one from ending."""
        process = service()
        if process is not None:
            process.kill()
            with contextlib.suppress(psutil.Error):
                process.wait(_CONNECT)

        def forget() -> None:
            with contextlib.suppress(Exception):  # that its process is gone
                _wandb().teardown()

        teardown = threading.Thread(target=forget, daemon=True)
        teardown.start()
        teardown.join(5)

    def _begin(self, wandb: ModuleType, study: Standing, folder: Path, place: Path) -> Any:
        sweep = sweeps.place(folder)
        group, words = (None, [folder.resolve().name]) if sweep is None else sweep
        return wandb.init(
            project=self.project or _own("WANDB_PROJECT", "automl"),
            entity=self.entity,
            group=self.group or _own("WANDB_RUN_GROUP", group),
            name=self.run_name or _own("WANDB_NAME", ",".join(word.lstrip("+") for word in words)[:128]),
            tags=self.tags or None,
            id=self._steps.id,
            resume="allow",
            reinit="create_new",
            dir=str(place),
            config=json.loads(json.dumps({key: value for key, value in study.config.items() if key != "tracker"})),
            settings=wandb.Settings(**_manners()),
        )

    def _add(self, trial: Trial, study: Standing) -> None:
        steps = self._steps
        is_drawn = steps.trials < steps.curves
        steps.begin_trial()
        number = trial.number
        epochs = [report for report in trial.reports if report.fidelity > 0]
        if is_drawn and len(epochs) > 1:
            if steps.step + len(epochs) > self._lacking:
                self._run.define_metric(f"share/{number}", hidden=True)
                self._run.define_metric(f"curve/{number}/*", step_metric=f"share/{number}")
            for report in epochs:
                row = {f"curve/{number}/{name}": value for name, value in report.metrics.items()}
                self._log({f"share/{number}": report.fidelity, **row})
        if trial.is_scored and (self._best is None or trial.rank > self._best.rank):
            self._best = trial
        row = {f"metrics/{name}": value for name, value in trial.metrics.items()}
        if self._best is not None:
            row |= {f"best/{one.metric}": self._best.metrics[one.metric] for one in study.objectives[:1]}
        self._log({"trial": number, "state": trial.state, "seconds": trial.seconds, **row})

    def _add_epoch(self, share: float, metrics: Mapping[str, float]) -> None:
        if self._steps.is_sent(share):
            return
        self._steps.begin_extra(share)
        before = self._steps.courses
        kind = "retrain" if before == 0 else f"retrain {before + 1}"  # of a study that was extended
        if before:
            self._run.define_metric(f"share/{kind}", hidden=True)
            self._run.define_metric(f"{kind}/*", step_metric=f"share/{kind}")
        self._log({f"share/{kind}": share, **{f"{kind}/{name}": value for name, value in metrics.items()}})

    def _log(self, row: Mapping[str, Any]) -> None:
        """Send a row as the next step, unless W&B has it."""
        if self._steps.step >= self._lacking:
            self._run.log(dict(row), step=self._steps.step, commit=True)
        self._steps.step += 1

    def _table(self, trials: Sequence[Trial]) -> Any:
        """Return a table of trials: what became of each, its metrics and its decisions."""
        rows = [
            {
                "trial": trial.number,
                "state": trial.state,
                "reason": trial.error,
                "seconds": trial.seconds,
                **{f"metrics/{name}": value for name, value in trial.metrics.items()},
                **{f"decision/{name}": _cell(value) for name, value in trial.architecture.to_json().items()},
            }
            for trial in trials
        ]
        columns = list(dict.fromkeys(name for row in rows for name in row)) or ["trial"]
        data = [[row.get(column) for column in columns] for row in rows]
        return _wandb().Table(columns=columns, data=data, allow_mixed_types=True)

    def _send_network(self, folder: Path, summary: Mapping[str, Any]) -> None:
        figures = {key: summary[key] for key in ("test", "model") if key in summary}
        artifact = _wandb().Artifact(f"model-{self._steps.id}", type="model", metadata=figures)
        for name in _FILES:
            if (folder / name).exists():
                artifact.add_file(str(folder / name))
        self._run.log_artifact(artifact)


def _wandb() -> ModuleType:
    """Return W&B's package, which does not report its own errors elsewhere."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    return wandb


def _manners() -> dict[str, Any]:
    """Return what keeps W&B from writing on the screen, and from taking the output over."""
    is_debugging = os.environ.get("AUTOML_DEBUG", "") not in ("", "0")
    return {"console": "off", **({} if is_debugging else {"silent": True})}


def _own(variable: str, otherwise: str | None) -> str | None:
    """Return what a variable of W&B's says."""
    return os.environ.get(variable) or otherwise


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list) else value


def _line(error: object) -> str:
    return " ".join(str(error).split())[:200]

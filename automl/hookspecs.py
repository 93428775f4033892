"""Every hook that a plugin may implement, in the order of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from torch.nn import Module

    from automl.study import Study
    from automl.task import Task
    from automl.trial import Report, Trial

hookspec = pluggy.HookspecMarker("automl")
hookimpl = pluggy.HookimplMarker("automl")


@hookspec
def automl_config_path() -> str:
    """Return where the plugin's config groups live, as ``pkg://automl_hello.conf``; asked before composing."""


@hookspec
def automl_spaces() -> Mapping[str, str]:
    """Return the plugin's spaces as name to ``module:Class``; imported when one is built."""


@hookspec
def automl_strategies() -> Mapping[str, str]:
    """Return the plugin's strategies as name to ``module:Class``; imported when one is built."""


@hookspec
def automl_evaluators() -> Mapping[str, str]:
    """Return the plugin's evaluators as name to ``module:Class``; imported when one is built."""


@hookspec
def automl_compressors() -> Mapping[str, str]:
    """Return the plugin's compressors as name to ``module:Class``; imported when one is built."""


@hookspec
def automl_tasks() -> Mapping[str, str]:
    """Return the plugin's tasks as name to ``module:Class``; imported when one is built."""


@hookspec
def automl_trackers() -> Mapping[str, str]:
    """Return the plugin's trackers as name to ``module:Class``: classes whose methods are the watching hooks below.

    One that is chosen by the group ``tracker`` works on a thread of its own, and is handed snapshots: its study is a
    ``Standing``. It is told of a trial that ended in the order of telling, once, and may be told late.
    """


@hookspec
def automl_study_started(study: Study) -> None:
    """Watch: called once before the first ask, after resuming."""


@hookspec
def automl_trial_started(study: Study, trial: Trial) -> None:
    """Watch: called after ask, before evaluate."""


@hookspec
def automl_trial_reported(study: Study, trial: Trial, report: Report) -> None:
    """Watch: called after each report."""


@hookspec
def automl_trial_finished(study: Study, trial: Trial) -> None:
    """Watch: called after tell, when the journal's line is written; a failed trial has an error."""


@hookspec
def automl_retraining(study: Study, report: Report) -> None:
    """Watch: called after each epoch of the final network's training, with what the validation images say of it."""


@hookspec
def automl_measure(model: Module, task: Task) -> Mapping[str, float]:
    """Return extra metrics of the final network, such as its latency on a device of the plugin's own."""


@hookspec
def automl_study_finished(study: Study) -> None:
    """Watch: called once, when the search has ended and the final network, if any, is in the folder."""

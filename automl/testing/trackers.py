"""The contract of trackers."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from automl.errors import JournalError, PluginError
from automl.hooking import check_hooks, hooks, implementations
from automl.journal import Journal
from automl.strategy import Strategy
from automl.study import Study
from automl.testing.strategies import story
from automl.testing.toys import OBJECTIVES, Scripted, ToyNetworks, ToyTask
from automl.trial import Candidate, Report
from automl.watching import Watchers


def check_tracker(factory: Callable[[], object], *, folder: Path | None = None) -> None:
    """Raise AssertionError, in a sentence, where a tracker that the factory makes breaks the contract of trackers.

    Its hooks are hooks; none raises over a study in which a trial fails, which is gone on with by another tracker of
    the factory; none changes what is searched. What it writes into ``study.directory`` lies in the folder, where one
    is given.
    """
    tracker = factory()
    try:
        assert check_hooks(tracker), f"{type(tracker).__name__} watches nothing: mark its methods by @automl.hookimpl"
    except PluginError as error:
        raise AssertionError(f"{type(tracker).__name__} cannot be used: {error}") from error
    with tempfile.TemporaryDirectory() as temporary:
        alone, watched = Path(temporary) / "alone", folder or Path(temporary) / "watched"
        meddles = f"{type(tracker).__name__} changes what is searched: a tracker only watches"
        for place, watchers in ((alone, None), (watched, factory)):
            place.mkdir(parents=True, exist_ok=True)
            for trials in (3, 5):
                try:
                    _run(place, trials, None if watchers is None else _Strict(watchers()))
                except JournalError as error:
                    raise AssertionError(meddles) from error
        told, unwatched = story(watched / "journal.jsonl"), story(alone / "journal.jsonl")
    assert told == unwatched, meddles


class _Strict(Watchers):
    """Calls the hooks of one tracker, and says where one fails."""

    def __init__(self, tracker: object) -> None:
        super().__init__()
        self._name = type(tracker).__name__
        self._marked = {hook: function for hook, function, _ in implementations(tracker)}

    def call(self, hook: str, **arguments: Any) -> list[Any]:
        function = self._marked.get(hook)
        if function is None:
            return []
        asked = hooks()[hook]
        names = [name for name in asked if name in function.__code__.co_varnames[: function.__code__.co_argcount]]
        try:
            answer = function(**{name: arguments[name] for name in names})
        except (Exception, SystemExit) as error:
            raise AssertionError(f"{self._name} fails in {hook}: {type(error).__name__}: {error}") from error
        if hook == "automl_measure" and answer is not None:
            assert isinstance(answer, Mapping), f"{self._name}.automl_measure returns {answer!r}, no metrics by name"
            for metric, value in answer.items():
                assert math.isfinite(value), f"{self._name}.automl_measure says {metric}={value!r}, which is no number"
        return [] if answer is None else [answer]


class _Sampling(Strategy):
    def ask(self) -> Candidate:
        return Candidate(self.space.sample(self.rng))


def _run(folder: Path, trials: int, watchers: Watchers | None) -> None:
    import random

    watchers = watchers or Watchers()
    space, task = ToyNetworks(tuple(range(1, 33))), ToyTask()
    task.prepare(0)
    evaluator = Scripted({1: ValueError("this trial fails")})
    journal = Journal(folder / "journal.jsonl", {})
    study = Study(
        space,
        _Sampling(),
        evaluator,
        task,
        OBJECTIVES,
        trials=trials,
        journal=journal,
        watchers=watchers,
        directory=folder,
    )
    study.run()
    watchers.call("automl_retraining", study=study, report=Report({"accuracy": 0.5, "loss": 1.0}, 1.0))
    network = space.build(space.sample(random.Random(0)).blueprint, task).eval()
    watchers.call("automl_measure", model=network, task=task)
    study.summary = {"schema": 1, "trials": {"total": trials}}
    watchers.call("automl_study_finished", study=study)

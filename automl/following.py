"""Trackers that follow a study from a thread of their own, unable to stop it and unable to slow it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pluggy

from automl import hookspecs
from automl.errors import AutoMLError, BadInput
from automl.hookspecs import hookimpl
from automl.standing import First, Standing, still
from automl.watching import Watchers

if TYPE_CHECKING:
    from automl.study import Study
    from automl.trial import Report, Trial

ROOM = 1_000  # events that wait at most
PATIENCE = 60.0  # seconds
_ANSWER = 12.0  # seconds that a tracker has to say whether it can be used
_log = logging.getLogger("automl")


class Follower:
    """Hands the events of a study to a tracker on a thread of its own; its own hooks take no time and never fail.

    What it hands on are snapshots (``Standing``, trials as they were). At most ``room`` events wait. What finds no
    room is left out, which is said once in run.log; but trials that ended are never left out, for they are read from
    the study itself, in the order of telling. At the end the tracker has ``patience`` seconds, then it is left.

    A tracker may have ``check()``, which raises BadInput for what cannot work and is asked before anything is
    written, ``instead``, the words that say what to type where it does not answer, and ``abandon()``, which is called
    when it is left.
    """

    def __init__(self, name: str, tracker: object, *, patience: float = PATIENCE, room: int = ROOM) -> None:
        self.name = name
        self.tracker = tracker
        self.patience = patience
        self._room = room
        manager = pluggy.PluginManager("automl")
        manager.add_hookspecs(hookspecs)
        manager.register(tracker, f"tracker:{name}")
        self._hooks = manager.hook
        self._watchers = Watchers(manager)
        self._events: deque[tuple[str | None, Standing, dict[str, Any]]] = deque()
        self._some = threading.Condition()
        self._thread: threading.Thread | None = None
        self._latest: Standing | None = None  # with every trial that was told
        self._told = 0  # trials that the tracker was told of
        self._behind = False

    def check(self) -> None:
        """Ask the tracker whether it can be used; raises BadInput where it cannot, or does not say so in time."""
        check = getattr(self.tracker, "check", None)
        if check is None:
            return
        answers: list[BaseException | None] = []

        def ask() -> None:
            try:
                check()
                answers.append(None)
            except BaseException as error:
                answers.append(error)

        asking = threading.Thread(target=ask, name=f"automl-check-{self.name}", daemon=True)
        asking.start()
        asking.join(_ANSWER)
        instead = getattr(self.tracker, "instead", f"leave tracker={self.name} out, or mend what it needs")
        if not answers:
            raise BadInput(f"tracker={self.name} did not answer within {_ANSWER:g} seconds: {instead}")
        if isinstance(answers[0], AutoMLError):
            raise answers[0]
        if answers[0] is not None:
            error = answers[0]
            raise BadInput(f"tracker={self.name} cannot be used ({type(error).__name__}: {error}): {instead}")

    @hookimpl
    def automl_study_started(self, study: Study) -> None:
        """Start the thread; the trials that were read from the journal are in what it is handed."""
        self._told = len(study.trials)
        self._thread = threading.Thread(target=self._work, name=f"automl-tracker-{self.name}", daemon=True)
        self._thread.start()
        self._put("automl_study_started", study, always=True)

    @hookimpl
    def automl_trial_started(self, study: Study, trial: Trial) -> None:
        """Hand it on."""
        if self._hooks.automl_trial_started.get_hookimpls():
            self._put("automl_trial_started", study, trial=still(trial))

    @hookimpl
    def automl_trial_reported(self, study: Study, trial: Trial, report: Report) -> None:
        """Hand it on."""
        if self._hooks.automl_trial_reported.get_hookimpls():
            copy = still(trial)
            self._put("automl_trial_reported", study, trial=copy, report=copy.reports[-1])

    @hookimpl
    def automl_trial_finished(self, study: Study) -> None:
        """Have the tracker told of all trials that ended and that it was not told of."""
        self._put("automl_trial_finished", study)

    @hookimpl
    def automl_retraining(self, study: Study, report: Report) -> None:
        """Hand it on."""
        self._put("automl_retraining", study, report=report)

    @hookimpl
    def automl_study_finished(self, study: Study) -> None:
        """Hand it on, and wait for the tracker to be done."""
        self._put("automl_study_finished", study, always=True)
        self.close()

    def close(self) -> None:
        """Let the tracker finish what it was handed, or leave it where that takes too long; may be called twice."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with self._some:
            self._events.append((None, self._latest, {}))  # type: ignore[arg-type]  # the end
            self._some.notify()
        thread.join(self.patience)
        if thread.is_alive():
            _log.warning(
                "tracker %s was not done %g seconds after the end, and is left: automl resume adds what it lacks",
                self.name,
                self.patience,
            )
            self._watchers.forgive(f"tracker:{self.name}")
            abandon = getattr(self.tracker, "abandon", None)
            if abandon is not None:
                try:
                    abandon()
                except Exception as error:
                    _log.debug("tracker %s could not be ended: %s", self.name, error, exc_info=True)

    def _put(self, hook: str, study: Study, *, always: bool = False, **arguments: Any) -> None:
        """Have an event wait, where there is room."""
        standing = self._latest = Standing.of(study)
        with self._some:
            if always or len(self._events) < self._room:
                self._events.append((hook, standing, arguments))
                self._some.notify()
                return
        if not self._behind:
            self._behind = True
            _log.info("tracker %s fell behind: it catches up with trials as they ended, not with each epoch", self.name)

    def _work(self) -> None:
        while True:
            with self._some:
                while not self._events:
                    self._some.wait()
                hook, standing, arguments = self._events.popleft()
                is_last = not self._events
            if hook is None:
                return
            self._catch_up(standing)
            if hook != "automl_trial_finished":
                self._watchers.call(hook, study=standing, **arguments)
            if is_last and self._latest is not None:
                self._catch_up(self._latest)

    def _catch_up(self, standing: Standing) -> None:
        """Tell the tracker of the trials that ended by then, one after the other."""
        for told in range(self._told, len(standing.trials)):
            self._told = told + 1
            then = replace(standing, trials=First(standing.trials, told + 1))
            self._watchers.call("automl_trial_finished", study=then, trial=standing.trials[told])

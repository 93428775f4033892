"""Shows a run in optuna-dashboard, mirrored into an Optuna storage first."""

from __future__ import annotations

import logging
import socketserver
import threading
from dataclasses import replace
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from automl import config, trust
from automl.errors import BadInput
from automl.files import Lock
from automl.plugins import Registry
from automl.runs import Run
from automl.standing import Standing
from automl.trial import Trial

_EVERY = 5.0  # seconds
_log = logging.getLogger("automl")


class Dashboard:
    """The dashboard of a run on an address of this machine.

    A run that does not mirror itself is mirrored, and while it grows; one that does, only where it is not at work.
    """

    def __init__(self, folder: Path, port: int, registry: Registry | None = None) -> None:
        """Mirror the run, and bind the port, 0 for any that is free.

        Raises BadInput where optuna-dashboard is not installed, the port is taken, or the storage cannot be opened.
        """
        try:
            import optuna_dashboard
        except ImportError as error:
            raise BadInput(
                "automl dashboard needs an optional part that is not installed: "
                "pip install 'automl-lightweight[dashboard]'"
            ) from error
        self._folder = folder
        self._registry = registry or Registry()
        own = config.part(config.read(folder / "config.yaml"), "tracker").get("optuna")
        self._mirrors_itself = own is not None
        self._mirror = self._registry.build("tracker", own or {"name": "optuna"}, "tracker.optuna")
        self._mirror.check()
        self._size = -1
        self._ended = threading.Event()
        if not self._mirrors_itself or not _is_at_work(folder):
            self.refresh()
        application = optuna_dashboard.wsgi(self._mirror.open(folder))
        try:
            self._server = make_server("127.0.0.1", port, application, _Server, _Quiet)
        except (OSError, OverflowError) as error:
            raise BadInput(
                f"port {port} of this machine cannot be had ({error}): type another, --port 0 for any"
            ) from error

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"http://127.0.0.1:{self._server.server_port}/"

    def refresh(self) -> None:
        """Mirror what came since."""
        size = (self._folder / "journal.jsonl").stat().st_size
        if size == self._size:
            return
        self._size = size
        run = Run(self._folder)
        trials = _trials(run, self._registry)
        standing = Standing(trials, run.objectives, run.limits, len(trials), 0, self._folder)
        self._mirror.mirror(standing, self._folder)

    def serve(self) -> None:
        """Answer until interrupted."""
        if not self._mirrors_itself:
            threading.Thread(target=self._keep_up, name="automl-mirror", daemon=True).start()
        try:
            self._server.serve_forever()
        finally:
            self.close()

    def close(self) -> None:
        """Let the port go."""
        self._ended.set()
        self._server.server_close()

    def _keep_up(self) -> None:
        while not self._ended.wait(_EVERY):
            try:
                self.refresh()
            except Exception as error:
                _log.warning("%s is no longer mirrored: %s", self._folder, error)
                return


def _is_at_work(folder: Path) -> bool:
    """Say whether a driver has the run."""
    try:
        Lock(folder).release()
    except BadInput:
        return True
    return False


def _trials(run: Run, registry: Registry) -> list[Trial]:
    """Return the trials of a run with the domains of their decisions, where the space can be had without its code."""
    trials = run.trials
    try:
        space = registry.build("space", config.of_the_environment(trust.without(run.heading["space"])))
        read = [space.read(trial.architecture.to_json()) for trial in trials]
    except Exception as error:
        _log.debug("the domains of %s are not known: %s", run.directory, error)
        return trials
    for trial, architecture in zip(trials, read, strict=True):
        trial.candidate = replace(trial.candidate, architecture=architecture)
    return trials


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as the base class has it
        pass

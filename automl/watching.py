"""Who watches a study: plugins and trackers, told of events, unable to stop it."""

from __future__ import annotations

import logging
from typing import Any

import pluggy

_log = logging.getLogger("automl")


class Watchers:
    """Calls the watching hooks of ``hookspecs.py``; one that fails is named in a warning, once, and the rest go on."""

    def __init__(self, manager: pluggy.PluginManager | None = None) -> None:
        self._manager = manager
        self._named: set[str] = set()

    def forgive(self, name: str) -> None:
        """Say nothing of what fails in the plugin of that name from now on."""
        self._named.add(name)

    def call(self, hook: str, **arguments: Any) -> list[Any]:
        """Call every implementation of the hook, the last registered first; return what is not None."""
        if self._manager is None:
            return []
        answers = []
        for implementation in reversed(getattr(self._manager.hook, hook).get_hookimpls()):
            try:
                answer = implementation.function(*(arguments[name] for name in implementation.argnames))
            except (Exception, SystemExit) as error:
                name = implementation.plugin_name
                if name not in self._named:
                    self._named.add(name)
                    _log.warning("%s failed in %s and is ignored: %s: %s", name, hook, type(error).__name__, error)
                    _log.debug("%s failed in %s", name, hook, exc_info=True)
            else:
                if answer is not None:
                    answers.append(answer)
        return answers

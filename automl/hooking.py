"""Whether what a plugin implements are hooks that there are, with arguments that they give."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from automl import hookspecs
from automl.errors import PluginError, near_miss


def hooks() -> dict[str, list[str]]:
    """Return the arguments of each hook by its name, in the order of a run."""
    return {
        name: list(inspect.signature(hook).parameters)
        for name, hook in vars(hookspecs).items()
        if name.startswith("automl_")
    }


def implementations(plugin: object) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Yield the hook that each marked function of a module, an object or a class is for, the function, its options."""
    for attribute in dir(plugin):
        function = inspect.getattr_static(plugin, attribute, None)
        options = getattr(function, "automl_impl", None)
        if isinstance(options, dict):
            yield options.get("specname") or attribute, getattr(plugin, attribute), options


def check_hooks(plugin: object) -> int:
    """Return how many hooks it implements; raises PluginError, in a sentence without its name, for what is none."""
    known, count = hooks(), 0
    for name, function, options in implementations(plugin):
        if name not in known:
            raise PluginError(f"it implements {name}, which is no hook{near_miss(name, known)}")
        if options.get("wrapper") or options.get("hookwrapper"):
            raise PluginError(f"it wraps {name}, and every plugin's is called by itself: leave out wrapper=True")
        parameters = list(inspect.signature(function).parameters.values())[inspect.isclass(plugin) :]
        for parameter in parameters:
            if parameter.default is parameter.empty and parameter.name not in known[name]:
                given = ", ".join(known[name]) or "nothing"
                raise PluginError(
                    f"its {name} asks for {parameter.name!r}{near_miss(parameter.name, known[name])}, and is given "
                    f"{given}: it may be written for another version of automl"
                )
        count += 1
    return count

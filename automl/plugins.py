"""Finds plugins, looks components up by name, and builds them from the values of a config."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import inspect
import json
import os
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import pluggy
from annotated_types import MinLen

from automl import hookspecs
from automl.errors import AutoMLError, BadInput, PluginError, near_miss

Kind = Literal["space", "strategy", "evaluator", "compressor", "task", "tracker"]
KINDS: tuple[Kind, ...] = ("space", "strategy", "evaluator", "compressor", "task", "tracker")
_PLURAL = {"strategy": "strategies"}


@dataclass(frozen=True)
class Component:
    """Where a component is found: its kind and name, the plugin that brings it, and the class as ``module:Class``."""

    kind: Kind
    name: str
    path: str
    plugin: str
    package: str
    version: str


@dataclass
class Registry:
    """All plugins of this environment, known by distribution and entry-point name.

    Of one distribution found twice on the path only the first counts, as for an import. A plugin that cannot
    be loaded is kept in ``problems`` with its reason; a run that does not need it goes on. ``AUTOML_BLOCK``
    names plugins to leave out, separated by commas.
    """

    manager: pluggy.PluginManager = dataclasses.field(default_factory=lambda: pluggy.PluginManager("automl"))
    problems: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.manager.add_hookspecs(hookspecs)
        blocked = {name.strip() for name in os.environ.get("AUTOML_BLOCK", "").split(",")}
        self._versions: dict[str, tuple[str, str]] = {}
        seen: set[str] = set()
        for distribution in importlib.metadata.distributions():
            try:
                package = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
                version, entries = distribution.version, distribution.entry_points.select(group="automl")
            except Exception:  # noqa: S112
                continue  # what an interrupted installation left behind: no package that could be imported either
            if package in seen:
                continue
            seen.add(package)
            for entry in entries:
                name = f"{package}:{entry.name}"
                if blocked.isdisjoint({name, package, entry.name}):
                    self._versions[name] = (package, version)
                    self._register(name, entry)

    def _register(self, name: str, entry: importlib.metadata.EntryPoint) -> None:
        try:
            plugin = entry.load()
        except (Exception, SystemExit) as error:
            self.problems[name] = f"it cannot be imported: {type(error).__name__}: {error}"
            return
        try:
            self.manager.register(plugin, name)
            self._check_hooks(plugin)
        except (pluggy.PluginValidationError, ValueError, AutoMLError) as error:
            if self.manager.has_plugin(name):
                self.manager.unregister(name=name)
            self.problems[name] = " ".join(str(error).split())

    def _check_hooks(self, plugin: object) -> None:
        hooks = [hook for hook in vars(hookspecs) if hook.startswith("automl_")]
        for attribute in dir(plugin):
            if hasattr(getattr(plugin, attribute, None), "automl_impl") and attribute not in hooks:
                raise PluginError(f"it implements {attribute}, which is no hook{near_miss(attribute, hooks)}")

    @cached_property
    def components(self) -> dict[tuple[Kind, str], list[Component]]:
        """All components by kind and name; more than one where plugins clash."""
        found: dict[tuple[Kind, str], list[Component]] = {}
        for kind in KINDS:
            hook = f"automl_{_PLURAL.get(kind, kind + 's')}"
            for implementation in getattr(self.manager.hook, hook).get_hookimpls():
                plugin = implementation.plugin_name
                package, version = self._versions.get(plugin, (plugin, ""))
                try:
                    listed = dict(implementation.function())
                    for name, path in listed.items():
                        if not isinstance(name, str) or not isinstance(path, str) or ":" not in path:
                            raise TypeError(f"{name!r}: {path!r} is not a name and 'module:Class'")
                except (Exception, SystemExit) as error:
                    self.problems[plugin] = (
                        f"its {hook} does not return names and paths: {type(error).__name__}: {error}"
                    )
                else:
                    for name, path in listed.items():
                        found.setdefault((kind, name), []).append(Component(kind, name, path, plugin, package, version))
        return dict(sorted(found.items()))

    def names(self, kind: Kind) -> list[str]:
        """Return the installed names of a kind, sorted."""
        return [name for found, name in self.components if found == kind]

    def config_paths(self) -> list[str]:
        """Return where the plugins' config groups live."""
        paths = []
        for implementation in self.manager.hook.automl_config_path.get_hookimpls():
            try:
                paths.append(str(implementation.function()))
            except (Exception, SystemExit) as error:
                self.problems[implementation.plugin_name] = f"its automl_config_path failed: {error}"
        return paths

    def find(self, kind: Kind, name: str) -> Component:
        """Return the component of that name; raises BadInput for none, PluginError for a clash."""
        found = self.components.get((kind, name), [])
        if not found:
            names = self.names(kind)
            broken = "".join(f"; plugin {plugin} is left out: {reason}" for plugin, reason in self.problems.items())
            raise BadInput(
                f"no {kind} is named {name!r}{near_miss(name, names)}; installed: {', '.join(names)}{broken}"
            )
        if len(found) > 1:
            plugins = " and ".join(component.plugin for component in found)
            raise PluginError(
                f"{kind} {name!r} comes from two plugins, {plugins}: leave one out by AUTOML_BLOCK={found[-1].plugin}"
            )
        return found[0]

    def load(self, kind: Kind, name: str) -> type[Any]:
        """Return the component's class; raises PluginError, naming the plugin, where it cannot be had."""
        component = self.find(kind, name)
        module, _, attribute = component.path.partition(":")
        try:
            loaded = getattr(importlib.import_module(module), attribute)
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"{kind} {name!r} of plugin {component.plugin} cannot be imported: {type(error).__name__}: {error}"
            ) from error
        base = _base(kind)
        if not isinstance(loaded, type) or (base is not None and not issubclass(loaded, base)):
            raise PluginError(f"{kind} {name!r} of plugin {component.plugin} is {loaded!r}, which is no {kind}")
        return loaded

    def build(self, kind: Kind, values: Mapping[str, Any], place: str | None = None) -> Any:
        """Return the component that a config's values describe: ``name``, and its fields.

        A field that is itself a component, as what an evaluator wraps, is described likewise. ``place`` is where
        the values stand in the config, if it is not under the kind.
        Raises BadInput for an unknown name or field, a value of the wrong type or out of its range.
        """
        return self._build(kind, values, place or kind)

    def _build(self, kind: Kind, values: Any, prefix: str) -> Any:
        name = values.get("name") if isinstance(values, Mapping) else values
        if not isinstance(name, str):
            raise BadInput(f"{prefix}.name is {name!r}: give one of {', '.join(self.names(kind))}")
        cls = self.load(kind, name)
        fields = {key: value for key, value in values.items() if key != "name"} if isinstance(values, Mapping) else {}
        for key, annotation in settings(cls).items():
            within = _kind_of(annotation)
            if within is not None and key in fields:
                fields[key] = self._build(within, fields[key], f"{prefix}.{key}")
        return construct(cls, fields, prefix)


def construct(cls: type[Any], values: Mapping[str, Any], prefix: str) -> Any:
    """Return an instance of a dataclass from plain values, each checked against its annotation, strictly.

    A component inside another is given as it is. Raises BadInput naming ``prefix.field``, value and what is allowed.
    """
    types = settings(cls)
    for key in values:
        if key not in types:
            known = ", ".join(types) or "none"
            raise BadInput(f"{prefix} has no key {key!r}{near_miss(key, types)}; its keys: {known}")
    for field in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
        needed = field.init and field.default is field.default_factory is dataclasses.MISSING
        if needed and field.name not in values:
            raise BadInput(f"{prefix}.{field.name} is missing: give it {allowed(types[field.name])}")
    return cls(
        **{
            key: value if _kind_of(types[key]) else check(value, types[key], f"{prefix}.{key}")
            for key, value in values.items()
        }
    )


def settings(cls: type[Any]) -> dict[str, Any]:
    """Return the annotation of each field that a component is built from, in order."""
    found = {}
    for field in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
        if field.init:
            owner = next(base for base in cls.__mro__ if field.name in inspect.get_annotations(base))
            alone = {"__annotations__": {field.name: owner.__annotations__[field.name]}, "__module__": owner.__module__}
            # one at a time, for other annotations may name what only a type checker imports
            found.update(typing.get_type_hints(type(cls.__name__, (), alone), include_extras=True))
    return found


def check(value: Any, annotation: Any, key: str) -> Any:
    """Return a plain value as the annotation has it; raises BadInput naming key, value and what is allowed.

    Strict: true is no 1, "3" is no 3; an integer may stand for a real number.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(annotation).validate_json(json.dumps(value, allow_nan=False), strict=True)
    except (ValidationError, ValueError):
        raise BadInput(f"{key}={_as_typed(value)} must be {allowed(annotation)}") from None


def allowed(hint: object) -> str:
    """Return in words what a setting with this annotation may be."""
    if typing.get_origin(hint) is typing.Annotated:
        base, *bounds = typing.get_args(hint)
        return ", ".join([allowed(base), *(_bound(bound) for bound in bounds if not isinstance(bound, MinLen))])
    if typing.get_origin(hint) is typing.Literal:
        options = [str(option) for option in typing.get_args(hint)]
        return options[0] if len(options) == 1 else f"one of {', '.join(options)}"
    parts = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        words = [allowed(part) for part in parts if part is not type(None)]
        return " or ".join([*words, "null"] if type(None) in parts else words)
    if typing.get_origin(hint) is tuple and parts[-1] is not Ellipsis:
        return f"a list of {len(parts)}: {'; '.join(dict.fromkeys(map(allowed, parts)))}"
    if typing.get_origin(hint) in (tuple, list):
        return f"a list of {allowed(parts[0])}"
    within = _kind_of(hint)
    if within is not None:
        return f"one of the group {within}, by its name"
    if isinstance(hint, type) and not parts:
        return {"int": "an integer", "float": "a number", "str": "text", "bool": "true or false"}.get(
            hint.__name__, hint.__name__
        )
    return str(hint).replace("typing.", "")


def _bound(bound: object) -> str:
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    return ", ".join(f"{words[key]} {getattr(bound, key)}" for key in words if hasattr(bound, key)) or str(bound)


def _as_typed(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _kind_of(annotation: object) -> Kind | None:
    """Return of which kind a setting is that is itself a component."""
    return next((kind for kind in KINDS if annotation is _base(kind) is not None), None)


def _base(kind: Kind) -> type[Any] | None:
    from automl.compressor import Compressor
    from automl.evaluator import Evaluator
    from automl.space import Space
    from automl.strategy import Strategy
    from automl.task import Task

    bases: dict[Kind, type[Any]] = {
        "space": Space,
        "strategy": Strategy,
        "evaluator": Evaluator,
        "compressor": Compressor,
        "task": Task,
    }
    return bases.get(kind)

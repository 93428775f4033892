"""Finds plugins, looks components up by name, and builds them from the values of a config."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import json
import os
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import pluggy
from annotated_types import MinLen

from automl import hookspecs
from automl.distributions import OURS, entries
from automl.errors import AutoMLError, BadInput, PluginError, near_miss, printable
from automl.hooking import check_hooks, implementations
from automl.joining import COMPRESSED, HYPERPARAMETERS, Parts

Kind = Literal["space", "strategy", "evaluator", "compressor", "task", "tracker"]
KINDS: tuple[Kind, ...] = ("space", "strategy", "evaluator", "compressor", "task", "tracker")
_PLURAL = {"strategy": "strategies"}
_NUMBERS = {2: "two", 3: "three"}


def plural(kind: Kind) -> str:
    """Return what several of a kind are called, as the hook that lists them is."""
    return _PLURAL.get(kind, f"{kind}s")


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

    Of one distribution found twice on the path only one counts, that which an import takes. A plugin that cannot
    be loaded is kept in ``problems`` with its reason; a run that does not need it goes on. ``AUTOML_BLOCK``
    names plugins to leave out, separated by commas.
    """

    manager: pluggy.PluginManager = dataclasses.field(default_factory=lambda: pluggy.PluginManager("automl"))
    problems: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.manager.add_hookspecs(hookspecs)
        blocked = {name.strip() for name in os.environ.get("AUTOML_BLOCK", "").split(",")}
        self._versions: dict[str, tuple[str, str]] = {}
        modules: list[object] = []
        for entry in entries():
            if not blocked.isdisjoint(entry.called):
                continue
            if entry.wrong is not None:
                self.problems[entry.name] = entry.wrong
                continue
            try:
                plugin = entry.point.load()
            except (Exception, SystemExit) as error:
                self.problems[entry.name] = _sentence(f"it cannot be imported: {type(error).__name__}: {error}")
                continue
            if not any(plugin is other for other in modules):  # else a module that two entry points name: once
                modules.append(plugin)
                self._versions[entry.name] = (entry.package, entry.version)
                self._register(entry.name, plugin)

    def _register(self, name: str, plugin: object) -> None:
        try:
            if not check_hooks(plugin):
                raise PluginError("it implements no hook: mark functions named as the hooks are by @automl.hookimpl")
            self.manager.register(plugin, name)
        except (pluggy.PluginValidationError, ValueError, AutoMLError) as error:
            self.problems[name] = _sentence(str(error))

    def watch(self, name: str, tracker: object) -> None:
        """Have a tracker told of what happens from now on; two that are equal are two."""
        marked = {hook: function for hook, function, _ in implementations(tracker)}
        self.manager.register(types.SimpleNamespace(**marked), f"tracker:{name}")

    @property
    def plugins(self) -> dict[str, tuple[str, str]]:
        """Package and version of each plugin that is in use, by its name."""
        return {name: of for name, of in self._versions.items() if self.manager.has_plugin(name)}

    def left_out(self) -> str:
        """Return what to add to a refusal: the plugins that are left out, one of which may be what is missed."""
        _ = self.components  # which may have problems of its own
        return "".join(f"; plugin {plugin} is left out: {reason}" for plugin, reason in self.problems.items())

    def clashes(self) -> list[str]:
        """Return in a sentence each what comes from two plugins."""
        return [_clash(found) for found in self.components.values() if len(found) > 1]

    @cached_property
    def components(self) -> dict[tuple[Kind, str], list[Component]]:
        """All components by kind and name; more than one where plugins clash."""
        found: dict[tuple[Kind, str], list[Component]] = {}
        for kind in KINDS:
            hook = f"automl_{plural(kind)}"
            for implementation in getattr(self.manager.hook, hook).get_hookimpls():
                plugin = implementation.plugin_name
                package, version = self._versions.get(plugin, (plugin, ""))
                try:
                    listed = dict(implementation.function())
                    for name, path in listed.items():
                        if not isinstance(name, str) or not isinstance(path, str) or ":" not in path:
                            raise TypeError(f"{name!r}: {path!r} is not a name and 'module:Class'")
                except (Exception, SystemExit) as error:
                    self.problems[plugin] = _sentence(
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
                path = implementation.function()
                if not isinstance(path, str) or not path.startswith("pkg://"):
                    raise PluginError(f"it returns {path!r}, which is no 'pkg://PACKAGE'")
                package = path.removeprefix("pkg://").partition("/")[0]
                if importlib.util.find_spec(package) is None:
                    raise PluginError(f"there is no package {package}")
                paths.append(path)
            except (Exception, SystemExit) as error:
                reason = f"{type(error).__name__}: {error}" if not isinstance(error, PluginError) else str(error)
                self.problems[implementation.plugin_name] = _sentence(f"its automl_config_path failed: {reason}")
        return paths

    def find(self, kind: Kind, name: str) -> Component:
        """Return the component of that name; raises BadInput for none, PluginError for a clash."""
        found = self.components.get((kind, name), [])
        if not found:
            names = self.names(kind)
            raise BadInput(
                f"no {kind} is named {name!r}{near_miss(name, names)}; installed: {', '.join(names)}{self.left_out()}"
            )
        if len(found) > 1:
            raise PluginError(_clash(found))
        return found[0]

    def load(self, kind: Kind, name: str) -> type[Any]:
        """Return the component's class; raises PluginError, naming the plugin, where it cannot be had."""
        component = self.find(kind, name)
        module, _, attribute = component.path.partition(":")
        try:
            loaded = getattr(importlib.import_module(module), attribute)
        except (Exception, SystemExit) as error:
            reason = _sentence(f"{type(error).__name__}: {error}")
            raise PluginError(f"{kind} {name!r} of plugin {component.plugin} cannot be imported: {reason}") from error
        base = _base(kind)
        if not isinstance(loaded, type) or (base is not None and not issubclass(loaded, base)):
            raise PluginError(f"{kind} {name!r} of plugin {component.plugin} is {loaded!r}, which is no {kind}")
        if kind == "tracker":
            try:
                if not check_hooks(loaded):
                    raise PluginError("it watches nothing: mark methods named as the hooks are by @automl.hookimpl")
            except PluginError as error:
                raise PluginError(f"{kind} {name!r} of plugin {component.plugin} cannot be used: {error}") from None
        return loaded

    def build(self, kind: Kind, values: Mapping[str, Any], place: str | None = None) -> Any:
        """Return the component that a config's values describe: ``name``, and its fields.

        A field that is itself a component, as what an evaluator wraps, is described likewise. ``place`` is where
        the values stand in the config, if it is not under the kind.
        Raises BadInput for an unknown name or field, a value of the wrong type or out of its range.
        """
        return self._build(kind, values, place or kind)

    def build_space(self, one: Parts) -> Any:
        """Return the space of these parts; what is wrong is named where it was typed, as build says."""
        made = self.build("space", one.space)
        if one.compressor is not None:
            compressor = self.build("compressor", one.compressor)
            made = construct(self.load("space", COMPRESSED), {"space": made, "compressor": compressor}, "space")
        if one.hyperparameters is not None:
            ranges = {key: value for key, value in one.hyperparameters.items() if key != "name"}
            kind = self.load("space", HYPERPARAMETERS)
            made = construct(kind, {**ranges, "network": made}, f"space.{HYPERPARAMETERS}")
        return made

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


def _clash(found: Sequence[Component]) -> str:
    """Return in a sentence which plugins bring one component, and how to leave out one that is not ours."""
    others = [component.plugin for component in found if component.package != OURS] or [found[-1].plugin]
    plugins = " and ".join(component.plugin for component in found)
    return (
        f"{found[0].kind} {found[0].name!r} comes from {_NUMBERS.get(len(found), len(found))} plugins, {plugins}: "
        f"leave one out by AUTOML_BLOCK={others[-1]}"
    )


def _sentence(text: str) -> str:
    return printable(" ".join(text.split()))


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

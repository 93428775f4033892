"""What a component is, in words: its source, its settings with defaults and bounds, a space's decisions."""

from __future__ import annotations

import dataclasses
import inspect
import json
import random

from automl.errors import AutoMLError
from automl.joining import HYPERPARAMETERS
from automl.plugins import Kind, Registry, allowed, construct, settings
from automl.space import Space


def explain(kind: Kind, name: str, registry: Registry | None = None) -> str:
    """Return a page about a component; raises BadInput where none has that name."""
    registry = registry or Registry()
    component = registry.find(kind, name)
    loaded = registry.load(kind, name)
    lines = [
        f"{kind} {name}, of {component.package} {component.version}",
        "",
        inspect.cleandoc(loaded.__doc__ or "(it says nothing of itself)"),
    ]
    if found := rows(loaded):
        place = f"{kind}.{name}" if kind == "tracker" else kind  # of which there may be several
        lines += ["", "Settings (default, what is allowed):"]
        lines += [f"  {place}.{key}={default}    {what}" for key, default, what in found]
    if issubclass(loaded, Space):
        lines += ["", *decisions(loaded)]
        if name != HYPERPARAMETERS:
            decided = f"space.with_{HYPERPARAMETERS}=true decides the settings of its training, too"
            lines += ["", f"{decided}: automl explain space {HYPERPARAMETERS}"]
    return "\n".join(lines)


def rows(component_class: type[object]) -> list[tuple[str, str, str]]:
    """Return key, default and what is allowed of each setting of a component, in order."""
    if not dataclasses.is_dataclass(component_class):
        return []
    types = settings(component_class)
    fields = [field for field in dataclasses.fields(component_class) if field.init]
    return [(field.name, _default(field), allowed(types[field.name])) for field in fields]


def decisions(space_class: type[Space[object]]) -> list[str]:
    """Return in lines how many architectures a space has by its defaults, and the decisions of one."""
    try:
        space: Space[object] = construct(space_class, {}, "space")
        size = space.size()
        architecture = space.sample(random.Random(0))
    except (TypeError, AutoMLError) as error:
        return [f"Its decisions cannot be shown without settings: {error}"]
    about = "exactly" if isinstance(size, int) else "about"
    count = f"{size:,}" if size < 1e9 else f"{float(size):.3g}"
    lines = [f"Size: {about} {count} architecture{'s' * (size != 1)}"]
    if architecture.values:
        lines.append("Decisions of one sampled architecture (answer, and what could be chosen):")
    lines += [f"  {name} = {value}    {architecture.domains[name]}" for name, value in architecture.to_json().items()]
    return lines


def _default(field: dataclasses.Field[object]) -> str:
    if field.default is not dataclasses.MISSING:
        return json.dumps(field.default, default=str).strip('"')
    if field.default_factory is not dataclasses.MISSING:
        return str(field.default_factory())
    return "???"

"""What a component is, in words: its source, its settings with defaults and bounds, a space's decisions."""

from __future__ import annotations

import dataclasses
import inspect
import json
import random

from automl.errors import AutoMLError
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
    if dataclasses.is_dataclass(loaded):
        types = settings(loaded)
        fields = [field for field in dataclasses.fields(loaded) if field.init]
        if fields:
            lines += ["", "Settings (default, what is allowed):"]
        place = f"{kind}.{name}" if kind == "tracker" else kind  # of which there may be several
        for field in fields:
            lines.append(f"  {place}.{field.name}={_default(field)}    {allowed(types[field.name])}")
    if issubclass(loaded, Space):
        lines += ["", *_decisions(loaded)]
    return "\n".join(lines)


def _decisions(space_class: type[Space[object]]) -> list[str]:
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

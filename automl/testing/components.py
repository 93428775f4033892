"""What every component that is installed owes: a class, a sentence about it, and its settings in a file."""

from __future__ import annotations

import json

from automl import config
from automl.plugins import Kind, Registry, settings


def check_component(kind: Kind, name: str) -> None:
    """Raise AssertionError, in a sentence, where an installed component is not found as it should be.

    Its plugin has no problem, its class is of the kind and says what it is, and ``conf/KIND/NAME.yaml``, which a
    tracker need not have, lists its fields and composes. Raises BadInput or PluginError where it is not there.
    """
    registry = Registry()
    component = registry.find(kind, name)
    options = config.options(registry)
    problem = registry.problems.get(component.plugin)
    assert problem is None, f"plugin {component.plugin} has a problem: {problem}"
    loaded = registry.load(kind, name)
    assert loaded.__doc__, f"{loaded.__name__} says nothing of itself: give it a docstring, which automl explain shows"
    if name not in options.get(kind, []):
        assert kind == "tracker", f"{kind} {name} has no conf/{kind}/{name}.yaml in what automl_config_path returns"
        return
    word = f"+{kind}={name}" if kind in config.added(registry) else f"{kind}={name}"
    words = [word] if kind == "space" else [f"+space={options['space'][0]}", word]
    values = config.unresolved(config.compose(words, registry))[kind]
    values = values if "name" in values else values[name]  # several abreast, each under its own name
    values.pop("final", None)  # of a space: what the final network has otherwise
    fields = {"name", *settings(loaded)}
    where = f"conf/{kind}/{name}.yaml"
    assert fields <= values.keys(), f"{where} lacks {', '.join(sorted(fields - values.keys()))}: list every field"
    assert values.keys() <= fields, f"{where} has {', '.join(sorted(values.keys() - fields))}, which are no fields"
    if "???" not in json.dumps(values):
        registry.build(kind, values)

"""How the settings of a space and of what joins it become those of one space, and are told apart again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard

COMPRESSED, HYPERPARAMETERS = "compressed", "hyperparameters"  # the spaces that are made of another


class Parts(NamedTuple):
    """A space as it is typed, and what joins it: a compressor, and ranges of hyperparameters; None where not."""

    space: dict[str, Any]
    compressor: dict[str, Any] | None = None
    hyperparameters: dict[str, Any] | None = None


def parts(values: Mapping[str, Any], *, final: bool = False) -> Parts:
    """Return the parts that a config's values describe; ``final``, as the final training has them."""
    own = dict(values["space"])
    changed, ranges = own.pop("final", None), own.pop(HYPERPARAMETERS, None)
    return Parts({**own, **((changed or {}) if final else {})}, values.get("compressor"), ranges)


def joined(one: Parts) -> dict[str, Any]:
    """Return the settings of the one space; its training is decided last, after what makes its networks smaller."""
    made = dict(one.space)
    if one.compressor is not None:
        made = {"name": COMPRESSED, "space": made, "compressor": dict(one.compressor)}
    if one.hyperparameters is not None:
        made = {**one.hyperparameters, "name": HYPERPARAMETERS, "network": made}
    return made


def apart(settings: Any) -> Parts:
    """Return the parts of joined settings, also of such as a stranger wrote: what is no component stays as it is."""
    made: dict[str, Any] = dict(settings) if _is_component(settings) else {"name": str(settings)}
    compressor = ranges = None
    if made["name"] == HYPERPARAMETERS and _is_component(made.get("network")):
        ranges = {key: value for key, value in made.items() if key != "network"}
        made = dict(made["network"])
    if _is_component(made.get("space")) and _is_component(made.get("compressor")):
        made, compressor = dict(made["space"]), dict(made["compressor"])
    return Parts(made, compressor, ranges)


def _is_component(value: Any) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping) and "name" in value

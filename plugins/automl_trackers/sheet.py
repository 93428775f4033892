"""The summary of a run as a report reads it: a value that is missing, or of another kind, is not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, sqrt
from typing import Any


class Sheet:
    """Reads values by their path, such as ``sheet.number("test", "accuracy")``."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def number(self, *path: str) -> float | None:
        """Return the finite number there."""
        value = self._at(path)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        try:
            return value if isfinite(value) else None
        except OverflowError:  # an integer beyond any float
            return None

    def text(self, *path: str) -> str | None:
        """Return the text there; of a component, which may be a mapping, its name."""
        value = self._at(path)
        if isinstance(value, Mapping):
            value = value.get("name")
        return value if isinstance(value, str) and value else None

    def mapping(self, *path: str) -> Mapping[str, Any]:
        """Return the mapping there, or an empty one."""
        value = self._at(path)
        return value if isinstance(value, Mapping) else {}

    def items(self, *path: str) -> Sequence[Any]:
        """Return the list there, or an empty one."""
        value = self._at(path)
        return value if isinstance(value, list) else []

    def _at(self, path: Sequence[str]) -> Any:
        value: Any = self._values
        for name in path:
            if not isinstance(value, Mapping):
                return None
            value = value.get(name)
        return value


def wilson(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share seen in so many draws (Wilson, 1927)."""
    z = 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z * sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(middle - reach, 0.0), min(middle + reach, 1.0)

"""The distributions installed here that bring plugins, each once, as the one that an import would take."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path

GROUP = "automl"  # of the entry points
OURS = "automl-lightweight"


@dataclass(frozen=True)
class Entry:
    """One entry point of a plugin: known by ``name``, its distribution and what that calls it."""

    name: str
    package: str
    version: str
    point: EntryPoint
    wrong: str | None  # why it is not of this version of automl

    @property
    def called(self) -> set[str]:
        """Every name by which ``AUTOML_BLOCK`` may leave it out."""
        return {self.name, self.package, self.point.name}


def entries() -> Iterator[Entry]:
    """Yield the entry points of every distribution, in the order of the path.

    Of one that is found several times (editable and as a wheel, under two names of one folder, an old version under
    a new one) only that counts whose code an import takes. What an interrupted installation left behind is passed
    over.
    """
    found: dict[str, list[tuple[Distribution, list[EntryPoint]]]] = {}
    for distribution in importlib.metadata.distributions():
        try:
            package = normal(distribution.metadata["Name"])
            points = list(distribution.entry_points.select(group=GROUP))
        except Exception:  # noqa: S112
            continue  # torn: no package that could be imported either
        found.setdefault(package, []).append((distribution, points))
    for package, several in found.items():
        if not any(points for _, points in several):
            continue
        distribution, points = several[0] if len(several) == 1 else min(several, key=lambda one: _distance(*one))
        version = distribution.version or "of no version"
        wrong = requires_another(distribution) if points and package != OURS else None
        for point in points:
            yield Entry(f"{package}:{point.name}", package, version, point, wrong)


def normal(name: str) -> str:
    """Return the name of a distribution as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requires_another(distribution: Distribution) -> str | None:
    """Return in words which version of automl a distribution requires, where that is not the one installed."""
    for line in distribution.requires or ():
        if not normal(line).startswith(OURS):
            continue
        from packaging.requirements import InvalidRequirement, Requirement

        try:
            wanted = Requirement(line)
        except InvalidRequirement:
            continue
        if normal(wanted.name) != OURS or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        have = importlib.metadata.version(OURS)
        if not wanted.specifier.contains(have, prereleases=True):
            shown = f"{OURS}{wanted.specifier}"
            return f"it requires {shown}, and {have} is installed: type pip install '{shown}', or take another of it"
    return None


def _distance(distribution: Distribution, points: list[EntryPoint]) -> int:
    """Return how far the code that is imported is from a distribution: beside it, elsewhere as of an editable, gone."""
    place = Path(str(distribution.locate_file(""))).resolve()
    for point in points:
        top = point.module.partition(".")[0]
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            spec = None
        where = next(iter(spec.submodule_search_locations or [spec.origin or ""]), "") if spec else ""
        if where and Path(where).resolve().parent == place:
            return 0
    # an egg-info without its code is what a build left in the working directory
    return 2 if str(getattr(distribution, "_path", "")).endswith(".egg-info") else 1

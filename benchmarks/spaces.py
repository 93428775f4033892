"""How fast spaces answer: random architectures, mutations, crossings and canonical forms a second, on one core.

    python benchmarks/spaces.py [--json] [--rounds 15] [--milliseconds 20] [--only NAME ...]

A random architecture is what a strategy gets: ``space.sample(rng)``, its decisions, their domains and the blueprint.
The spaces have their defaults, and of 200 random architectures each is mutated, crossed with the next and brought into
canonical form. Beside that stands the floor: as many calls of ``random.choice`` as an architecture has decisions. In a
round each is done for some milliseconds of CPU time, one after the other, and the median of all rounds counts; the
best round is what the machine does when nobody else is on it. Nothing of this imports torch, which is checked.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable
from itertools import cycle, pairwise
from statistics import fmean, median
from typing import Any

GOALS = {"nasnet": 25_000, "nasbench201": 200_000}  # random architectures a second
KINDS = ("random", "mutations", "crossings", "canonical forms")
KNOWN = 200  # architectures that are mutated, crossed and brought into form


def calls(space: Any) -> tuple[float, dict[str, Callable[[], object]]]:
    """Return how many decisions an architecture has on the average, and what is measured of a space, by kind."""
    rng = random.Random(0)
    known = [space.sample(rng) for _ in range(KNOWN)]
    ones, others, pairs = cycle(known), cycle(known), cycle(list(pairwise(known)))
    kinds: tuple[Callable[[], object], ...] = (
        lambda: space.sample(rng),
        lambda: space.mutate(next(ones), rng),
        lambda: space.cross(*next(pairs), rng),
        lambda: space.canonical(next(others).blueprint),
    )
    return fmean(len(one.values) for one in known), dict(zip(KINDS, kinds, strict=True))


def choices(decisions: float) -> Callable[[], object]:
    """Return what the floor is: a choice for each decision, of options as many as a cell space usually has."""
    choose, options, times = random.Random(0).choice, tuple(range(8)), round(decisions)

    def floor() -> object:
        return [choose(options) for _ in range(times)]

    return floor


def seconds(call: Callable[[], object], least: float) -> float:
    """Return the CPU seconds of one call, of as many as take so many seconds."""
    times, took = 1, 0.0
    while took < least:
        start = time.process_time()
        for _ in range(times):
            call()
        took, done = time.process_time() - start, times
        times *= 2
    return took / done


def measure(names: list[str], rounds: int, least: float) -> dict[str, dict[str, Any]]:
    """Return the figures by space: a second by kind, median and best, and how many floors a random one takes."""
    from automl.plugins import Registry

    registry = Registry()
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        space = registry.build("space", {"name": name})
        decisions, kinds = calls(space)
        kinds["floor"] = choices(decisions)
        taken: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(rounds):
            for kind, call in kinds.items():
                taken[kind].append(seconds(call, least))
        shares = [one / floor for one, floor in zip(taken["random"], taken["floor"], strict=True)]
        found[name] = {
            "decisions": decisions,
            "a second": {kind: 1 / median(times) for kind, times in taken.items()},
            "best": {kind: 1 / min(times) for kind, times in taken.items()},
            "floors": median(shares),
        }
        if name in GOALS:
            found[name]["goal"] = GOALS[name]
        assert "torch" not in sys.modules, f"space {name} imports torch to be described"
    return found


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return the figures as a Markdown table."""
    heads = ["space", "decisions", *KINDS[:1], "best round", "floors", *KINDS[1:]]
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for name, figures in found.items():
        speed = figures["a second"]
        cells = [f"{figures['decisions']:.0f}", f"{speed['random']:,.0f}", f"{figures['best']['random']:,.0f}"]
        cells += [f"{figures['floors']:.1f}", *(f"{speed[kind]:,.0f}" for kind in KINDS[1:])]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def outcomes(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return a sentence for each goal."""
    return [
        f"{name}: {figures['a second']['random']:,.0f} random architectures a second, best round "
        f"{figures['best']['random']:,.0f}; the goal was {figures['goal']:,}"
        for name, figures in found.items()
        if "goal" in figures
    ]


def searched() -> list[str]:
    """Return the names of the spaces of automl_spaces that have something to decide by their defaults."""
    from automl.errors import BadInput
    from automl.plugins import Registry

    registry = Registry()
    names = []
    for (kind, name), components in sorted(registry.components.items()):
        if kind == "space" and components[0].path.startswith("automl_spaces."):
            try:
                space = registry.build("space", {"name": name})
            except BadInput:  # of networks that are given, which has settings without a default
                continue
            if space.sample(random.Random(0)).values:
                names.append(name)
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--rounds", type=int, default=15, help="measurements a figure, of which the median counts")
    parser.add_argument("--milliseconds", type=float, default=20, help="CPU time of a measurement, at least")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these spaces")
    given = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    found = measure(given.only or searched(), given.rounds, given.milliseconds / 1000)
    if given.json:
        print(json.dumps({"unit": "a CPU second, on one core", "spaces": found}, indent=1))
    else:
        print("A CPU second, on one core\n")
        print(table(found))
        print("", *outcomes(found), sep="\n")


if __name__ == "__main__":
    main()

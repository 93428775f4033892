"""Trials that are one step each of a search that weighs all options at once: what their notes and metrics tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from automl import Trial
from automl_trackers.sheet import Sheet

DERIVED, RANDOM = "child_accuracy", "random_accuracy"  # of the network derived by then, and of one drawn at random
_NOTES = ("entropy", "skips")
CURVATURE = "curvature"  # of the loss, by the choices
_METRICS = ("loss", CURVATURE, DERIVED, RANDOM)
T = TypeVar("T")


def is_step(trial: Trial) -> bool:
    """Say whether a trial is a step: its notes tell the entropy of the shares of the options."""
    notes = trial.candidate.notes
    return "entropy" in notes and Sheet(notes).number("entropy") is not None


def are_steps(trials: Sequence[Trial]) -> bool:
    """Say whether all trials that finished are steps, so that none is the best of them."""
    finished = [trial for trial in trials if trial.is_scored]
    return bool(finished) and all(map(is_step, finished))


def figures(trial: Trial) -> dict[str, float]:
    """Return the figures of a step that are there by now, by name."""
    notes, metrics = Sheet(trial.candidate.notes), Sheet(trial.metrics)
    found = {name: notes.number(name) for name in _NOTES} | {name: metrics.number(name) for name in _METRICS}
    return {name: value for name, value in found.items() if value is not None}


def words(figures: Mapping[str, float]) -> list[str]:
    """Return the figures as people say them.

    >>> words({"entropy": 0.713, "skips": 0.17, "curvature": 0.0312, "child_accuracy": 0.62, "random_accuracy": 0.48})
    ['entropy 0.71', 'skips 17 %', 'curvature 0.031', 'derived 0.62 (random 0.48)']
    """
    said = [f"{name} {figures[name]:.2f}" for name in ("loss", "entropy") if name in figures]
    if "skips" in figures:
        said.append(f"skips {100 * figures['skips']:.0f} %")
    if CURVATURE in figures:
        said.append(f"curvature {figures[CURVATURE]:.2g}")
    if DERIVED in figures:
        drawn = f" (random {figures[RANDOM]:.2f})" if RANDOM in figures else ""
        said.append(f"derived {figures[DERIVED]:.2f}{drawn}")
    return said


def has_shares(trial: Trial) -> bool:
    """Say whether a step tells the shares of all options."""
    return bool(Sheet(trial.candidate.notes).mapping("shares"))


def shares(trial: Trial) -> dict[str, dict[str, float]]:
    """Return the shares of the options of each decision, as far as they are numbers."""
    found: dict[str, dict[str, float]] = {}
    for name, options in Sheet(trial.candidate.notes).mapping("shares").items():
        if isinstance(options, Mapping):
            sheet = Sheet(options)
            numbers = {str(option): sheet.number(option) for option in options}
            found[str(name)] = {option: share for option, share in numbers.items() if share is not None}
    return {name: options for name, options in found.items() if options}


def thin(items: Sequence[T], most: int) -> list[T]:
    """Return at most so many of the items, evenly spaced, the first and the last among them.

    >>> thin(range(10), 4)
    [0, 3, 6, 9]
    """
    if len(items) <= most:
        return list(items)
    return [items[place * (len(items) - 1) // (most - 1)] for place in range(most)]

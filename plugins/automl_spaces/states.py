"""Cells written out: states of one width, each computed of earlier ones; the input first, the output last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from automl import Op
from automl_spaces.graphs import Form, canonical, reaching

INPUT, JOINED, ADDED = "input", "joined", "added"


class State(NamedTuple):
    """What an operation makes of a state; or several states joined, by concatenation and a 1 x 1, or added."""

    label: str
    reads: tuple[int, ...]
    op: Op | None = None


FIRST = State(INPUT, ())


def made_by(op: Op, source: int) -> State:
    """Return the state that an operation makes of another."""
    return State(op.name, (source,), op)


def alive(states: Sequence[State], output: int) -> tuple[State, ...]:
    """Return the states that the output depends on, which is the last of them; without any, the input alone."""
    kept = reaching([state.reads for state in states], output)
    places = {old: new for new, old in enumerate(kept)}
    return tuple(states[old]._replace(reads=tuple(places[read] for read in states[old].reads)) for old in kept)


def key(states: Sequence[State]) -> Form:
    """Return one key for all orders in which the states of one cell can be told."""
    return canonical([*((state.label, state.reads) for state in states), ("output", (len(states) - 1,))])

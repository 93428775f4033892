"""The contract of spaces."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

from automl.decisions import MISFIT, Architecture
from automl.errors import BadInput
from automl.space import Space
from automl.task import Task


def check_space(space: Space[Any], task: Task | None = None, *, samples: int = 50, seed: int = 0) -> None:
    """Raise AssertionError, in a sentence, where the space breaks the contract of spaces.

    With a task, an architecture is built too, and must answer two images with two rows of its outputs.
    """
    rng = random.Random(seed)
    name = type(space).__name__
    for number in range(samples):
        rng.seed(f"{seed}/{number}")
        one = space.sample(rng)
        other = space.sample(rng)
        rng.seed(f"{seed}/{number}")
        assert space.sample(rng) == one, f"{name} draws different architectures by one seed: draw from rng alone"
        check_architecture(space, one)
        _check_mutation(space, one, rng)
        _check_crossing(space, one, other, rng)
        nothing_kept = space.complete({key: object() for key in one.values} | {"nonsense": 1}, rng)
        check_architecture(space, nothing_kept)
        assert space.complete(one.values, rng) == one, f"{name}.complete changes decisions that all still apply"
    if task is not None:
        _check_network(space, space.sample(rng), task, seed)


def check_architecture(space: Space[Any], one: Architecture) -> None:
    """Raise AssertionError, in a sentence, where an architecture cannot be written, read back and told from others."""
    name = type(space).__name__
    for decision, value in one.values.items():
        domain = one.domains[decision]
        assert domain.fit(value) == value, f"{name} decides {decision}={value!r}, which is not {domain}"
    again = space.read(json.loads(json.dumps(one.to_json(), allow_nan=False)))
    assert again.values == one.values, f"{name} reads back another architecture than {one!r}"
    if one.weights:
        one = again  # of a network that holds all choices, what is derived has to be sound
    assert hash(again) == hash(one), f"{name} hashes equal architectures differently: {one!r}"
    kinds = [type(value) for value in again.values.values()], [type(value) for value in one.values.values()]
    assert kinds[0] == kinds[1], f"{name} reads back other types than those of {one!r}"
    key = space.canonical(one.blueprint)
    hash(key)
    assert space.canonical(again.blueprint) == key, f"{name}.canonical differs for two equal architectures"
    written = one.to_json()
    for decision in written:
        _must_refuse(space, {key: value for key, value in written.items() if key != decision}, decision)
        _must_refuse(space, {**written, decision: {"no": "value"}}, decision)
    _must_refuse(space, {**written, "nonsense": 1}, "nonsense")


def _must_refuse(space: Space[Any], values: Mapping[str, Any], decision: str) -> None:
    refusal = ""
    try:
        space.read(values)
    except BadInput as error:
        refusal = str(error)
    assert refusal, f"{type(space).__name__}.read accepts decisions with a wrong {decision!r}: {values}"
    assert repr(decision) in refusal, f"the error does not name decision {decision!r}: {refusal}"


def _check_mutation(space: Space[Any], one: Architecture, rng: random.Random) -> None:
    free = [decision for decision, domain in one.domains.items() if domain.count != 1]
    mutants = [space.mutate(one, rng), *(space.mutate(one, rng, [decision]) for decision in free)]
    for number, mutant in enumerate(mutants):
        check_architecture(space, mutant)
        both = [decision for decision in mutant.values if decision in one.values]
        changed = [decision for decision in both if one.values[decision] != mutant.values[decision]]
        name = type(space).__name__
        assert bool(changed) == bool(free), f"{name}.mutate changes {changed} of {one!r}"
        if not number:  # without a name it may be a mutation of the space's own
            continue
        assert changed[0] == free[number - 1], f"{name}.mutate changes {changed}, asked for {free[number - 1]!r}"
        for decision in changed[1:]:
            kept = mutant.domains[decision].fit(one.values[decision])
            assert kept is MISFIT or kept == mutant.values[decision], (
                f"{name}.mutate changes {changed}: {decision!r} could have been kept"
            )
    if not free:
        assert mutants[0] == one, f"{type(space).__name__}.mutate changes {one!r}, where nothing can be changed"


def _check_crossing(space: Space[Any], one: Architecture, other: Architecture, rng: random.Random) -> None:
    child = space.cross(one, other, rng)
    check_architecture(space, child)
    groups: dict[str, list[str]] = {}
    for decision in child.values:
        groups.setdefault(decision.rpartition(".")[0], []).append(decision)
    for group, decisions in groups.items():
        whole = any(
            all(_comes_from(child, decision, first, second) for decision in decisions)
            for first, second in ((one, other), (other, one))
        )
        assert whole, f"{type(space).__name__}.cross does not take group {group!r} from one parent: {child!r}"


def _comes_from(child: Architecture, decision: str, first: Architecture, second: Architecture) -> bool:
    parent = first if decision in first.values else second
    if decision not in parent.values:
        return True  # applies to neither: drawn
    kept = child.domains[decision].fit(parent.values[decision])
    return kept is MISFIT or kept == child.values[decision]


def _check_network(space: Space[Any], one: Architecture, task: Task, seed: int) -> None:
    import torch

    space.check(task)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = space.build(one.blueprint, task).eval()
        answers = model(torch.randn(2, *task.input))
    assert answers.shape == (2, task.outputs), (
        f"{type(space).__name__} builds a network that answers 2 images with {tuple(answers.shape)}, "
        f"not (2, {task.outputs})"
    )

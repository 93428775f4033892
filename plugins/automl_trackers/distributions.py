"""Decisions in Optuna's words: a distribution for each domain, a value that it holds for each answer."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from automl import Integer, Op, Options, Real

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

_PLAIN = (bool, int, float, str, type(None))


class Distributions:
    """The distributions of a study, one a name, as Optuna wants it.

    A range may be of other ends in another trial, as where it depends on an earlier decision. What Optuna does not take
    under one name, as other options, goes by another: its own with ` (2)` after it.
    """

    def __init__(self) -> None:
        self._of: dict[str, list[BaseDistribution]] = {}

    def of(
        self, values: Mapping[str, Any], domains: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
        """Return the parameters of a trial and their distributions; ``values`` are decisions as JSON has them."""
        parameters: dict[str, Any] = {}
        found: dict[str, BaseDistribution] = {}
        for name, value in values.items():
            distribution = distribution_of(domains[name]) if name in domains else one_of([value])
            known = self._of.setdefault(name, [])
            if not any(_together(distribution, other) for other in known):
                known.append(distribution)
            place = next(index for index, other in enumerate(known) if _together(distribution, other))
            named = name if place == 0 else f"{name} ({place + 1})"
            parameters[named], found[named] = plain(value), distribution
        return parameters, found


def distribution_of(domain: Any) -> BaseDistribution:
    """Return what Optuna calls a domain; evenly spaced integers are a range with a step."""
    from optuna.distributions import FloatDistribution, IntDistribution

    if isinstance(domain, Real):
        return FloatDistribution(domain.low, domain.high, log=domain.log)
    if isinstance(domain, Integer):
        return IntDistribution(domain.low, domain.high, log=domain.log)
    options = domain.options if isinstance(domain, Options) else tuple(domain)
    if len(options) > 1 and all(type(option) is int for option in options):
        step = options[1] - options[0]
        if step > 0 and options == tuple(range(options[0], options[-1] + 1, step)):
            return IntDistribution(options[0], options[-1], step=step)
    return one_of(options)


def one_of(options: Iterable[Any]) -> BaseDistribution:
    """Return the choice between options, each told apart by its type."""
    from optuna.distributions import CategoricalDistribution

    return CategoricalDistribution(tuple(plain(option) for option in options))


def ranges(trials: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return domains that hold what trials decided, where the space that was searched cannot be had."""
    seen: dict[str, dict[str, Any]] = {}
    for values in trials:
        for name, value in values.items():
            seen.setdefault(name, {}).setdefault(json.dumps(value), value)
    domains: dict[str, Any] = {}
    for name, options in seen.items():
        numbers = [value for value in options.values() if type(value) is float and math.isfinite(value)]
        if len(numbers) == len(options) > 1:
            domains[name] = Real(min(numbers), max(numbers))
        else:
            domains[name] = tuple(options.values())
    return domains


def plain(value: Any) -> Any:
    """Return an option as Optuna's storages keep it: an operation by its name, a tuple as JSON."""
    if isinstance(value, Op):
        return value.name
    if isinstance(value, _PLAIN):
        return value
    return json.dumps([plain(item) for item in value])


def _together(one: BaseDistribution, other: BaseDistribution) -> bool:
    """Say whether two may go by one name: ranges of a kind, or the same options, of which 1 is not True."""
    from optuna.distributions import CategoricalDistribution, check_distribution_compatibility

    if isinstance(one, CategoricalDistribution):
        return repr(one) == repr(other)
    try:
        check_distribution_compatibility(one, other)
    except ValueError:
        return False
    return True

"""Which networks of a space the shared weights are trained along, and on which images."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from automl import Architecture, Dataset, Options, Space
from automl.decisions import Soft, takes_soft


def everything(space: Space[Any], rng: random.Random) -> Architecture:
    """Return the architecture that holds all operations of each decision at once; what cannot be had so is drawn."""

    def relax(name: str, domain: Any) -> Any:
        if isinstance(domain, Options) and domain.together is not None:
            return domain.together
        if takes_soft(domain):
            return Soft((1.0,) * domain.count)
        return domain.sample(rng.random)

    return space.make(relax)


def kept(weights: Mapping[str, Sequence[float]], rate: float, rng: random.Random) -> dict[str, list[float]]:
    """Return for each option 1, or 0 where it is dropped: each of k with probability rate^(1/k)."""
    return {
        name: [float(rng.random() >= rate ** (1 / len(options))) for _ in options] for name, options in weights.items()
    }


def fair(space: Space[Any], rng: random.Random) -> list[Architecture]:
    """Return networks that together hold every option of each decision equally often, as far as numbers allow.

    There are as many as the decision with the most options has; each decision runs through its own in an order of its
    own (Chu et al., 2021).
    """
    orders: dict[str, list[Any]] = {}
    drawn: list[Architecture] = []
    most = 1
    while len(drawn) < most:

        def follow(name: str, domain: Any) -> Any:
            nonlocal most
            if not isinstance(domain, Options):
                return domain.sample(rng.random)
            most = max(most, domain.count)
            if not orders.get(name):
                orders[name] = rng.sample(list(domain.options), domain.count)
            return orders[name].pop()

        drawn.append(space.make(follow))
    return drawn


def halves(data: Dataset, share: float) -> tuple[Dataset, Dataset]:
    """Return that share of the images and the others, each class in the same share of both."""
    import numpy as np

    from automl_evaluators.batches import stratified

    order = stratified(data.labels)
    cut = min(max(round(share * len(data)), 2), len(data) - 2)
    parts = np.sort(order[:cut]), np.sort(order[cut:])
    first, second = (Dataset(data.images[part], data.labels[part]) for part in parts)
    return first, second

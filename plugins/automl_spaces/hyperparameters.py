"""The settings of a network's training as decisions, joined to those of any space about the network."""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from annotated_types import Ge, Gt, Lt, MinLen

from automl import Architecture, BadInput, Choose, Options, Origin, Real, Space, Task, Training
from automl_spaces.chain import Chain

if TYPE_CHECKING:
    from torch.nn import Module

Positive = Annotated[float, Gt(0)]
Share = Annotated[float, Ge(0), Lt(1)]
Pixels = Annotated[int, Ge(0)]
PREFIX = "training."  # of the decisions' names
_INTERVALS = {  # and whether they are decided by their logarithm
    "learning_rate": True,
    "adaptive_rate": True,
    "momentum": False,
    "weight_decay": True,
    "warmup": False,
    "smoothing": False,
    "clip": True,
}
_OF_ONE = {"learning_rate": "sgd", "momentum": "sgd", "adaptive_rate": "adamw"}  # what only one optimiser has
_FIXED = {"adaptive_rate": "learning_rate"}  # the setting, where the decision is called otherwise


class Trained(NamedTuple):
    """A network's blueprint, and by what settings it is trained."""

    network: Any
    settings: tuple[tuple[str, Any], ...]


@dataclass
class Hyperparameters(Space[Trained]):
    """Any space's networks, each with settings of its own training: both are searched at once (Zela et al., 2018).

    After the decisions of ``network`` come ``training.optimizer`` and what depends on it, ``training.weight_decay``,
    ``training.batch_size``, ``training.crop`` and so on; they take the place of what the evaluator, the final training
    and the task are set to. Lists of two numbers are the ends of an interval, by its logarithm for rates, decay and
    clip; other lists are options. null leaves a setting as it is, and one option fixes it. ``learning_rate`` and
    ``momentum`` are of SGD; ``adaptive_rate`` is the learning rate of AdamW, of which a hundredth is good. Without a
    choice of optimisers ``learning_rate`` is of whichever the evaluator has.

    It joins any space by space.with_hyperparameters=true, its ranges are then space.hyperparameters.KEY=[...]. Chosen
    by itself it takes a network by space/network=NAME. Evaluators that train take it, those that look up or share
    weights refuse it. With a compressor it is the fine-tuning that is decided.
    """

    network: Space = field(default_factory=Chain)  # type: ignore[type-arg]  # a setting: of any blueprint
    optimizer: Annotated[tuple[Literal["sgd", "adamw"], ...], MinLen(1)] | None = ("sgd", "adamw")
    learning_rate: tuple[Positive, Positive] | None = (0.01, 0.5)
    adaptive_rate: tuple[Positive, Positive] | None = (0.0005, 0.02)
    momentum: tuple[Share, Share] | None = None
    weight_decay: tuple[Positive, Positive] | None = (1e-5, 1e-2)
    warmup: tuple[Share, Share] | None = None
    smoothing: tuple[Share, Share] | None = None
    clip: tuple[Positive, Positive] | None = None
    batch_size: Annotated[tuple[Annotated[int, Ge(2)], ...], MinLen(1)] | None = (32, 64, 128)
    crop: Annotated[tuple[Pixels, ...], MinLen(1)] | None = (0, 1, 2)
    flip: Annotated[tuple[bool, ...], MinLen(1)] | None = (False, True)
    cutout: Annotated[tuple[Pixels, ...], MinLen(1)] | None = (0, 2)

    def __post_init__(self) -> None:
        if isinstance(self.network, Hyperparameters):
            raise BadInput("space hyperparameters has its like for a network: leave one out")
        self._domains: dict[str, Real | Options[Any]] = {}
        for name in ("optimizer", *_INTERVALS, "batch_size", "crop", "flip", "cutout"):
            values = getattr(self, name)
            if values is None:
                continue
            self._domains[name] = _domain(name, values)
            self._domains[name].check(f"space.hyperparameters.{name}")
        self._names = {name: PREFIX + name for name in self._domains}
        self._own = frozenset(self._names.values())

    @property
    def finishes(self) -> bool:  # type: ignore[override]  # what is true of the networks is true of them, trained
        return self.network.finishes

    @property
    def relaxes(self) -> bool:  # type: ignore[override]
        return self.network.relaxes

    @property
    def given(self) -> bool:  # type: ignore[override]
        return self.network.given

    @property
    def brings(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset(_FIXED.get(name, name) for name in self._domains)

    def check(self, task: Task) -> None:
        self.network.check(task)

    def describe(self, choose: Choose) -> Trained:
        network = self.network.describe(choose)
        settings: dict[str, Any] = {}
        for name, domain in self._domains.items():
            if _applies(name, settings.get("optimizer")):
                setting = _FIXED.get(name, name)
                settings[setting] = domain.options[0] if domain.count == 1 else choose(self._names[name], domain)
        return Trained(network, tuple(settings.items()))

    def recipe(self, blueprint: Trained) -> Mapping[str, Any]:
        return dict(blueprint.settings)

    def build(self, blueprint: Trained, task: Task) -> Module:
        return self.network.build(blueprint.network, task)

    def origin(self, blueprint: Trained) -> Origin | None:
        return self.network.origin(blueprint.network)

    def finish(self, network: Module, blueprint: Trained, training: Training) -> Module:
        return self.network.finish(network, blueprint.network, training)

    def rebuild(self, blueprint: Trained, task: Task, form: Mapping[str, Any]) -> Module:
        return self.network.rebuild(blueprint.network, task, form)

    def portable(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**settings, "network": self.network.portable(settings["network"])}

    def digest(self) -> str | None:
        return self.network.digest()

    def graph(self, blueprint: Trained) -> Mapping[str, Sequence[tuple[str, str, str]]]:
        return self.network.graph(blueprint.network)

    def canonical(self, blueprint: Trained) -> Hashable | None:
        """Return the network's key and the settings; two trainings of one network are two."""
        form = self.network.canonical(blueprint.network)
        return None if form is None else (form, blueprint.settings)

    def mutate(self, architecture: Architecture, rng: Random, names: Collection[str] | None = None) -> Architecture:
        """Change one decision, of the network as its own space would."""
        free = [name for name, domain in architecture.domains.items() if domain.count != 1]
        if names is not None or not free:
            return super().mutate(architecture, rng, names)
        name = free[int(rng.random() * len(free))]
        if name in self._own:
            return super().mutate(architecture, rng, (name,))
        changed = self.network.mutate(self._of_network(architecture), rng)
        return self.complete({**architecture.values, **changed.values}, rng)

    def kinship(self, child: Architecture, parent: Architecture) -> float | None:
        return self.network.kinship(self._of_network(child), self._of_network(parent))

    def _of_network(self, architecture: Architecture) -> Architecture:
        """Return what its own space would make of the network."""
        values, domains = (
            {name: value for name, value in of.items() if name not in self._own}
            for of in (architecture.values, architecture.domains)
        )
        return Architecture(values, domains, architecture.blueprint.network)

    def size(self) -> int | float:
        """Return the product of the networks and of the trainings; endless where anything is an interval."""
        if any(domain.count is None for domain in self._domains.values()):
            return math.inf
        trainings = 0
        for one in self.optimizer or (None,):
            counts = [domain.count or 1 for name, domain in self._domains.items() if _applies(name, one)]
            trainings += math.prod(counts) // len(self.optimizer or (None,))  # which optimiser is in the sum
        return self.network.size() * trainings

    def exceeds(self, number: int) -> bool:
        endless = any(domain.count is None for domain in self._domains.values())
        return endless or self.network.exceeds(number)


def _domain(name: str, values: Sequence[Any]) -> Real | Options[Any]:
    if name not in _INTERVALS:
        return Options(values)
    low, high = values
    return Real(low, high, _INTERVALS[name])


def _applies(name: str, optimizer: str | None) -> bool:
    """Say whether a setting is one of that optimiser; of an unknown one all but the rate that is AdamW's."""
    of = _OF_ONE.get(name)
    return of is None or of == (optimizer or "sgd")

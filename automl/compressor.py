"""A compressor makes a trained network smaller; what it decides joins the decisions of the network's own space."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from automl.decisions import Architecture, Choose, Domain, as_domain
from automl.errors import BadInput, TrialFailed
from automl.space import Origin, Space

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from torch.nn import Module

    from automl.task import Task

Plan = TypeVar("Plan", bound=Hashable)
Form = Mapping[str, Any]  # JSON: what a network's shape follows from, its weights aside
KEPT = 32  # networks that are known, the latest used


class Training(Protocol):
    """What an evaluator that trains lends a compressor: its own training, and never the validation or test images."""

    task: Task
    seed: int

    def train(
        self,
        network: Module,
        epochs: int,
        *,
        rate: float = 1.0,
        loss: Callable[[Module, Tensor, Tensor], Tensor] | None = None,
        before_step: Callable[[Module], None] | None = None,
    ) -> None:
        """Train in place for so many epochs, at that share of the learning rate.

        ``loss(network, images, labels)`` takes the place of the task's; ``before_step(network)`` is called when the
        gradients are there and the weights not yet changed. Interrupted, it goes on from where it was.
        """

    def recalibrate(self, network: Module, batches: int = 8) -> None:
        """Measure the statistics of batch normalisation anew, on so many batches of training images."""

    def batches(self, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield so many batches of training images, normalised, with their labels; the same each time."""

    def loss(self, network: Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the task's mean loss of a network, on the device that it is on."""


class Compressor(ABC, Generic[Plan]):
    """How networks are made smaller. Fields are hyperparameters; nothing here owns a training loop."""

    def study(self, network: Module, task: Task) -> Any:
        """Return what ``describe`` and ``compress`` need to know of a network's layers.

        The network is on the meta device, without the parts that only training needs; it is studied once for each
        form that a space gives it. Raises BadInput for a network that cannot be compressed so.
        """
        return None

    @abstractmethod
    def describe(self, studied: Any, choose: Choose) -> Plan:
        """Make the decisions, by ``choose(name, domain, context=...)``, and return a plan; cheap."""

    @abstractmethod
    def compress(self, network: Module, studied: Any, plan: Plan, training: Training | None) -> tuple[Module, Form]:
        """Return the network made smaller by the plan, and its form; the network given is this one's to change.

        Without a training, weights are of no worth: only the shape counts. Equal plan, weights and seed give an equal
        network, bit for bit on the CPU. Where the form has ``kept``, the share in (0, 1] of each layer that was kept,
        by name and in the order of the network, the summary and the report of a run show it; and beside it ``alike``,
        where the form has that too: the shares of a plan as costly that treats all layers alike.
        """

    @abstractmethod
    def rebuild(self, network: Module, form: Form) -> Module:
        """Return the untrained network in the shape of one that was compressed; raises BadInput where it is none."""

    def portable(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return settings that ``rebuild`` needs elsewhere, to which the decisions fit; see ``Space.portable``."""
        return settings

    def digest(self) -> str | None:
        """Return what tells the files that decisions rest on from any others; None where they rest on none."""
        return None


class Pressed(NamedTuple):
    """What a network is made from: the architecture that is trained, and the plan by which it is made smaller."""

    origin: Architecture
    plan: Any


@dataclass
class Compressed(Space[Pressed]):
    """The networks of a space made smaller: their decisions, and then those of the compressor about each.

    How the networks look follows from the task, which ``check`` is to be given before any decision is made. A network
    that cannot be made smaller so is refused there; among those of a search it is a trial that fails.
    """

    space: Space  # type: ignore[type-arg]  # a setting: of any blueprint
    compressor: Compressor  # type: ignore[type-arg]

    finishes = True
    relaxes = False

    def __post_init__(self) -> None:
        self._task: Task | None = None
        self._studied: OrderedDict[Hashable, Any] = OrderedDict()

    def check(self, task: Task) -> None:
        self.space.check(task)
        self._task = task
        self._studied.clear()
        only = self.space.sample(Random(0))
        if not only.values:
            self._study(only)

    def describe(self, choose: Choose) -> Pressed:
        values: dict[str, Any] = {}
        domains: dict[str, Domain] = {}

        def note(name: str, domain: Any, *, context: Sequence[float] | None = None) -> Any:
            domains[name] = as_domain(name, domain)
            values[name] = choose(name, domains[name], context=context)
            return values[name]

        blueprint = self.space.describe(note)
        origin = Architecture(values, domains, blueprint)
        studied = self._study(origin)
        refused = isinstance(studied, BadInput)
        return Pressed(origin, None if refused else self.compressor.describe(studied, choose))

    def _study(self, origin: Architecture) -> Any:
        """Return what the compressor knows of a network; of one among many that it refuses, why."""
        if self._task is None:
            raise BadInput("a compressor's decisions follow from the network, and that from a task: check it first")
        if origin in self._studied:
            self._studied.move_to_end(origin)
            return self._studied[origin]
        import torch

        try:
            with torch.device("meta"):
                network = self._bare(origin.blueprint, self._task)
            studied = self.compressor.study(network, self._task)
        except Exception as error:  # whatever it is, it is this network's: the search goes on with others
            if not origin.values:
                raise
            studied = error if isinstance(error, BadInput) else BadInput(f"{type(error).__name__}: {error}")
        self._studied[origin] = studied
        if len(self._studied) > KEPT:
            self._studied.popitem(last=False)
        return studied

    def _bare(self, blueprint: Any, task: Task) -> Module:
        from automl.measure import strip

        return strip(self.space.build(blueprint, task))

    def build(self, blueprint: Pressed, task: Task) -> Module:
        network = self._bare(blueprint.origin.blueprint, task)
        return self._compressed(network, blueprint, None)[0]

    def _compressed(self, network: Module, blueprint: Pressed, training: Training | None) -> tuple[Module, Form]:
        studied = self._study(blueprint.origin)
        if isinstance(studied, BadInput):
            raise TrialFailed(str(studied))
        return self.compressor.compress(network, studied, blueprint.plan, training)

    def rebuild(self, blueprint: Pressed, task: Task, form: Form) -> Module:
        from automl.measure import strip

        network = strip(self.space.rebuild(blueprint.origin.blueprint, task, form.get("origin", {})))
        return self.compressor.rebuild(network, form.get("compressed", {}))

    def origin(self, blueprint: Pressed) -> Origin:
        return Origin(self.space, blueprint.origin)

    def finish(self, network: Module, blueprint: Pressed, training: Training) -> Module:
        before = getattr(network, "automl_form", {})
        found, form = self._compressed(network, blueprint, training)
        found.automl_form = {"origin": before, "compressed": form}  # type: ignore[assignment]
        return found

    def portable(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        space, compressor = self.space.portable(settings["space"]), self.compressor.portable(settings["compressor"])
        return {**settings, "space": space, "compressor": compressor}

    def digest(self) -> str | None:
        found = [digest for one in (self.space, self.compressor) if (digest := one.digest()) is not None]
        return " ".join(found) or None

    def canonical(self, blueprint: Pressed) -> Hashable:
        form = self.space.canonical(blueprint.origin.blueprint)
        return blueprint.origin if form is None else form, blueprint.plan

    def exceeds(self, number: int) -> bool:
        """Say whether the networks alone are more than so many: to run through them is to study each."""
        try:
            return next(islice(self.space.enumerate(), number, None), None) is not None
        except BadInput:  # a decision over real numbers: there is no end of them
            return True

    def graph(self, blueprint: Pressed) -> Mapping[str, Sequence[tuple[str, str, str]]]:
        return self.space.graph(blueprint.origin.blueprint)

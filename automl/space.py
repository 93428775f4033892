"""A space turns named decisions into a network."""

from __future__ import annotations

import math
import random as stdlib_random
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

from automl.decisions import MISFIT, NO_CONTEXTS, Architecture, Choose, Domain, Op, Options, Random, Soft, as_domain
from automl.errors import BadInput, near_miss

if TYPE_CHECKING:
    from torch.nn import Module

    from automl.compressor import Training
    from automl.task import Task

Blueprint = TypeVar("Blueprint")
Policy = Callable[..., Any]  # of a decision's name and domain, and of its context where make is told so


class Origin(NamedTuple):
    """The network that is trained before another is made of it: an architecture, and of which space."""

    space: Space[Any]
    architecture: Architecture


class Space(ABC, Generic[Blueprint]):
    """What can be searched: ``describe`` makes the decisions, ``build`` the network they come to.

    Everything else follows from running ``describe`` again under another policy, so conditions are plain
    ``if`` and ``for``, and domains may depend on what was decided before.
    """

    finishes: ClassVar[bool] = False  # its networks are made of others that were trained before: see ``origin``
    relaxes: ClassVar[bool] = True  # decisions between operations may be answered by all at once
    given: bool = False  # ``build`` puts in weights that were trained before
    brings: frozenset[str] = frozenset()  # settings of their training that its architectures decide: see ``recipe``

    @abstractmethod
    def describe(self, choose: Choose) -> Blueprint:
        """Make every decision by ``choose(name, domain)`` and return the blueprint; cheap, and without torch."""

    @abstractmethod
    def build(self, blueprint: Blueprint, task: Task) -> Module:
        """Return the untrained network for the task's input shape and outputs."""

    def canonical(self, blueprint: Blueprint) -> Hashable | None:
        """Return a key equal for two descriptions of one network; None, the default: the decisions are the key."""
        return None

    def recipe(self, blueprint: Blueprint) -> Mapping[str, Any]:
        """Return by name the settings that the network is trained by, in place of those of the evaluator and the task.

        All of them are of ``brings``; an evaluator that does not take these (``Evaluator.takes``) refuses the space.
        """
        return {}

    def origin(self, blueprint: Blueprint) -> Origin | None:
        """Return what is trained first and then handed to ``finish``; None: the network is trained as it is built."""
        return None

    def finish(self, network: Module, blueprint: Blueprint, training: Training) -> Module:
        """Return the network that the trained one is made into; it may be changed, and trained by what is lent."""
        return network

    def rebuild(self, blueprint: Blueprint, task: Task, form: Mapping[str, Any]) -> Module:
        """Return the untrained network in the shape that ``finish`` left one in, by its ``automl_form``."""
        return self.build(blueprint, task)

    def portable(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return settings from which the space is built elsewhere; as given, unless they rest on other files."""
        return settings

    def digest(self) -> str | None:
        """Return what tells the files that the space rests on from any others; None where it rests on none."""
        return None

    def kinship(self, child: Architecture, parent: Architecture) -> float | None:
        """Return how near a child is to a parent that was trained, from 0 to 1; None where it can inherit nothing.

        The share of its decisions that are the parent's too, unless a space knows better.
        """
        equal = sum(name in parent.values and parent.values[name] == value for name, value in child.values.items())
        return equal / len(child.values) if child.values else 1.0

    def graph(self, blueprint: Blueprint) -> Mapping[str, Sequence[tuple[str, str, str]]]:
        """Return the edges (from, to, operation) of each graph, such as a cell, by its name; nothing where it is none.

        For drawing it, and for strategies that look at its paths. Inner nodes are named by numbers, inputs and
        outputs by words; edges that carry nothing may be left out.
        """
        return {}

    def check(self, task: Task) -> None:
        """Raise BadInput where no architecture of this space fits the task, naming the least that works."""

    def make(self, policy: Policy, *, with_context: bool = False) -> Architecture:
        """Describe one architecture, each decision answered by ``policy(name, domain)``.

        With context, by ``policy(name, domain, context)``: the vector that describes the decision, or None. A decision
        between operations may be answered by ``Soft``; its value is then the option of the largest weight.
        """
        values: dict[str, Any] = {}
        domains: dict[str, Domain] = {}
        contexts: dict[str, Sequence[float]] | None = None
        weights: dict[str, Sequence[float]] | None = None

        def choose(name: str, domain: Any, *, context: Sequence[float] | None = None) -> Any:
            nonlocal contexts, weights
            if name in values:
                raise _twice(self.describe, name)
            domain = as_domain(name, domain)
            value = policy(name, domain, context) if with_context else policy(name, domain)
            domains[name] = domain
            if context is not None:
                contexts = contexts or {}
                contexts[name] = context
            if value.__class__ is Soft:
                weights = weights or {}
                weights[name] = value.weights
                values[name] = domain.options[value.weights.index(max(value.weights))]
                return value.operation(name, domain.options)
            values[name] = value
            return value.chosen_by(name) if value.__class__ is Op else value

        blueprint = self.describe(choose)
        return Architecture(
            values,
            domains,
            blueprint,
            NO_CONTEXTS if contexts is None else contexts,
            NO_CONTEXTS if weights is None else weights,
        )

    def sample(self, rng: stdlib_random.Random) -> Architecture:
        """Draw every decision by its domain: uniform over the tree of decisions, not over networks."""
        return _drawn(self.describe, rng.random)

    def complete(self, values: Mapping[str, Any], rng: stdlib_random.Random) -> Architecture:
        """Follow the values that still apply and draw the rest.

        A value is kept if the domain that it now meets holds it; an interval clips it; else it is drawn anew.
        """
        return _drawn(self.describe, rng.random, values)

    def mutate(
        self, architecture: Architecture, rng: stdlib_random.Random, names: Collection[str] | None = None
    ) -> Architecture:
        """Change one decision (or each of those named), and whatever depends on it.

        The same architecture comes back where nothing can be changed.
        """
        domains = architecture.domains
        if names is None:
            free = [name for name, domain in domains.items() if domain.count != 1]
            if not free:
                return architecture
            names = (free[int(rng.random() * len(free))],)
        values = dict(architecture.values)
        for name in names:
            values[name] = domains[name].other(values[name], rng.random)
        return _drawn(self.describe, rng.random, values, domains)

    def cross(self, a: Architecture, b: Architecture, rng: stdlib_random.Random) -> Architecture:
        """Take each group of decisions (those with a common prefix, as ``stage.2.``) from one parent or the other."""
        values: dict[str, Any] = {}
        domains: dict[str, Domain] = {}
        sides: dict[str, bool] = {}
        for name in {**a.values, **b.values}:
            group = name.rpartition(".")[0]
            if group not in sides:
                sides[group] = rng.random() < 0.5
            first, second = (a, b) if sides[group] else (b, a)
            parent = first if name in first.values else second
            values[name], domains[name] = parent.values[name], parent.domains[name]
        return _drawn(self.describe, rng.random, values, domains)

    def read(self, values: Mapping[str, Any]) -> Architecture:
        """Return the architecture of decisions read from JSON.

        Raises BadInput, naming the decision, for one that is wrong, missing or not asked for.
        """

        def follow(name: str, domain: Domain) -> Any:
            if name not in values:
                raise BadInput(f"decision {name!r} is missing: give it {domain}")
            try:
                return domain.decode(values[name])
            except ValueError:
                raise BadInput(f"decision {name!r} is {values[name]!r}, but must be {domain}") from None

        architecture = self.make(follow)
        for name in values:
            if name not in architecture.values:
                hint = near_miss(name, architecture.values)
                raise BadInput(f"decision {name!r} is not asked for here{hint}: leave it out")
        return architecture

    def enumerate(self, given: Mapping[str, Any] | None = None, points: int | None = None) -> Iterator[Architecture]:
        """Run through all architectures that agree with the given decisions, in the order of the options.

        With ``points``, an interval of numbers has at most so many, evenly spaced. Without, BadInput is raised at a
        decision over real numbers that is not given: there is no end of them.
        """
        fixed = given or {}
        path: list[list[int]] = []  # position and number of options, by decision
        while True:
            depth = 0

            def follow(name: str, domain: Domain) -> Any:
                nonlocal depth
                if domain.count is None and points is None and name not in fixed:
                    raise BadInput(f"decision {name!r} is {domain}, which cannot be run through: give it a value")
                if name in fixed:
                    options: Sequence[Any] = [value] if (value := domain.fit(fixed[name])) == fixed[name] else []
                else:
                    options = domain.options if points is None else domain.spread(points)
                if depth == len(path):
                    path.append([0, len(options)])
                if not options:
                    raise _DeadEnd
                value = options[path[depth][0]]
                depth += 1
                return value

            with suppress(_DeadEnd):
                yield self.make(follow)
            while path and path[-1][0] + 1 >= path[-1][1]:
                path.pop()
            if not path:
                return
            path[-1][0] += 1

    def exceeds(self, number: int) -> bool:
        """Say whether it is plain, without running through them, that there are more architectures than so many."""
        return False

    def size(self) -> int | float:
        """Return the number of architectures: an int where counted, a float where estimated (Knuth, 1975).

        A space of real numbers has math.inf. Spaces with a formula of their own override this.
        """
        try:
            counted = sum(1 for _ in islice(self.enumerate(), _COUNTED))
        except BadInput:
            return math.inf
        if counted < _COUNTED:
            return counted
        rng = stdlib_random.Random(0)
        total = 0.0
        for _ in range(_PROBES):
            options: float = 1

            def probe(name: str, domain: Domain) -> Any:
                nonlocal options
                if domain.count is None:
                    options = math.inf
                    return domain.sample(rng.random)
                options *= domain.count
                return domain.options[int(rng.random() * domain.count)]

            self.make(probe)
            total += float(options)
        return total / _PROBES


_COUNTED = 20_000
_PROBES = 1_000
_NOTHING: Mapping[str, Any] = {}


def _drawn(
    describe: Callable[[Choose], Any],
    random: Random,
    given: Mapping[str, Any] = _NOTHING,
    met: Mapping[str, Domain] = _NOTHING,
) -> Architecture:
    """Return an architecture whose decisions are as given where their domains hold that, and drawn elsewhere.

    ``met`` are the domains of which the given values are known to be; any other has to fit a value first. It does what
    ``make`` would by a policy, in less time: this is what every search does most.
    """
    values: dict[str, Any] = {}
    domains: dict[str, Domain] = {}
    contexts: dict[str, Sequence[float]] = {}

    def choose(name: str, domain: Any, *, context: Sequence[float] | None = None) -> Any:
        if name in values:
            raise _twice(describe, name)
        if context is not None:
            contexts[name] = context
        if domain.__class__ is Options and domain.is_even and name not in given:  # the usual case, at once
            value = domain.options[int(random() * domain.count)]
        else:
            domain = as_domain(name, domain)
            if name in given and name in met and met[name] is domain:
                value = given[name]
            else:
                value = domain.fit(given[name]) if name in given else MISFIT
                if value is MISFIT:
                    value = domain.sample(random)
        domains[name] = domain
        values[name] = value
        if value.__class__ is not Op:
            return value
        try:
            return value.chosen[name]
        except KeyError:
            return value.chosen_by(name)

    blueprint = describe(choose)
    return Architecture(values, domains, blueprint, contexts or NO_CONTEXTS)


def _twice(describe: Callable[[Choose], Any], name: str) -> BadInput:
    """Return what to say of a space that makes one decision twice."""
    space = type(getattr(describe, "__self__", describe)).__name__
    return BadInput(f"space {space} makes the decision {name!r} twice: give it another name")


class _DeadEnd(Exception):
    """No option of this decision agrees with what is given."""

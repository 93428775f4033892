"""Channel pruning by a rule: which channels go by a score, how many of each layer by a share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, MinLen

from automl import BadInput, Choose, Compressor, Real, Task, Training
from automl.errors import near_miss, printable
from automl.files import digest
from automl_compressors.budget import TABLE, Budget, Cost, Steps, alike

if TYPE_CHECKING:
    from torch.nn import Module

    from automl_compressors.channels import Channels
    from automl_compressors.selection import Kept
    from automl_compressors.timing import Timing

Share = Annotated[float, Gt(0), Le(1)]
Criterion = Literal["l1", "l2", "bn_scale", "taylor", "taylor_weight", "random"]
Widths = tuple[tuple[str, int], ...]  # the units kept of each group, in the order of the network


@dataclass(frozen=True)
class Studied:
    """A network's groups of channels, the widths that each may have, and the budget, where there is one."""

    channels: Channels
    input: tuple[int, int, int]
    steps: Mapping[str, Steps]
    cost: Cost  # in what the budget is of
    budget: Budget | None

    def at(self, share: float) -> dict[str, int]:
        """Return the widths of that share of every group."""
        return {name: steps.at(share) for name, steps in self.steps.items()}

    def shares(self, widths: Mapping[str, int]) -> dict[str, float]:
        """Return the share of its units that each group has at these widths; of those not named, all."""
        groups = self.channels.groups
        return {name: widths.get(name, group.units) / group.units for name, group in groups.items()}

    @cached_property
    def features(self) -> dict[str, tuple[float, ...]]:
        """Eight numbers of the first layer that makes each group, each scaled to [0, 1] over the groups.

        Place, channels out and in, height and width of the input, stride, kernel, multiply-adds (He et al., 2018).
        """
        layers = [self.channels.layers[self.channels.groups[name].layers[0]] for name in self.steps]
        rows = [
            (
                place,
                layer.outputs,
                layer.inputs,
                layer.height,
                layer.width,
                max(layer.stride, default=1),
                max(layer.kernel, default=1),
                layer.multiply_adds,
            )
            for place, layer in enumerate(layers)
        ]
        columns = [_scaled(column) for column in zip(*rows, strict=True)]
        return dict(zip(self.steps, zip(*columns, strict=True), strict=True))

    @cached_property
    def later(self) -> dict[str, float]:
        """The share of the multiply-adds that layers have which come after those of each group."""
        names = list(self.steps)
        costs = [
            sum(self.channels.layers[layer].multiply_adds for layer in self.channels.groups[name].layers)
            for name in names
        ]
        whole = self.channels.cost({}, "multiply_adds")
        return {name: sum(costs[place + 1 :]) / whole for place, name in enumerate(names)}


@dataclass(frozen=True)
class Plan:
    """The widths of the groups; where all compete in one ranking, only the share of channels that is kept."""

    widths: Widths | None
    share: float | None = None


@dataclass
class Pruning(Compressor[Plan]):
    """Remove the channels of the least score, everywhere that they reach; the network that is left is smaller.

    ``across`` uniform: each layer keeps the same share; layers: the share of each is a decision, ``keep.LAYER``;
    global: all channels compete, their scores divided by the length of their layer's (Molchanov et al., 2017).
    ``keep`` is that share, or a pair of bounds, which makes it a decision. ``budget`` is the share of the ``resource``
    that may be left, kept to exactly: it stands in the place of ``keep`` where that is null, and else narrows it. Of
    latency_ms it is as predicted, layer by layer, by the kernels of ``latencies``, a file of ``automl latency build``.

    ``criterion`` is the score of a channel: l1 and l2, the norm of the weights that make it (Li et al., 2017), summed
    over the layers that an addition joins; bn_scale, the size of its scale in batch normalisation (network slimming;
    Liu et al., 2017); taylor, the change of the loss when its activation is removed, to first order, on ``batches``
    batches of training images (Molchanov et al., 2017); taylor_weight, that of its weights (Molchanov et al., 2019);
    random. With ``greedy``, norms of l1 leave out the weights that read channels which earlier layers are rid of.

    With ``reconstruct``, the layers that read channels which went are fitted anew, one after the other, so that their
    outputs at ``samples`` positions of each image of the ``batches`` are those of the whole network again, as near as
    least squares come (He, Zhang & Sun, 2017).

    With a ``penalty`` the network is first trained for ``sparse_epochs`` more with the penalty times the absolute
    scales in its loss, which drives them apart (network slimming). Layers have multiples of ``round_to`` channels, or
    all. ``whole`` names layers that stay as they are, by patterns as stage1.*; a layer keeps at least ``least`` of its
    channels. The statistics of batch normalisation are then measured anew on ``recalibrate`` batches, but for a network
    that was reconstructed, whose layers are fitted to them as they are.
    """

    criterion: Criterion = "l1"
    greedy: bool = False
    across: Literal["uniform", "layers", "global"] = "uniform"
    keep: Share | Annotated[tuple[Share, Share], MinLen(2)] | None = None
    budget: Share | None = 0.5
    resource: Literal["multiply_adds", "parameters", "latency_ms"] = "multiply_adds"
    latencies: str | None = None
    round_to: Annotated[int, Ge(1)] = 1
    least: Annotated[float, Ge(0), Le(1)] = 0.0
    whole: tuple[str, ...] = ()
    batches: Annotated[int, Ge(1)] = 8
    reconstruct: bool = False
    samples: Annotated[int, Ge(1)] = 10
    recalibrate: Annotated[int, Ge(0)] = 8
    penalty: Annotated[float, Ge(0)] = 0.0
    sparse_epochs: Annotated[int, Ge(0)] = 5

    def __post_init__(self) -> None:
        if self.keep is None and self.budget is None and self.across != "layers":
            raise BadInput("compressor.keep and compressor.budget are both null: give the share that is to be left")
        low, high = self.bounds
        if low > high:
            raise BadInput(f"compressor.keep=[{low}, {high}] holds nothing: give the lower bound first")
        self._check_latencies()
        if self.greedy and self.criterion != "l1":
            raise BadInput(f"compressor.greedy=true is of criterion l1, not of {self.criterion}: give one of the two")
        if self.greedy and self.across == "global":
            raise BadInput(
                "compressor.greedy=true scores layer after layer, and compressor.across=global all at once: "
                "give compressor.across=uniform or layers"
            )

    def _check_latencies(self) -> None:
        if self.resource == "latency_ms" and self.budget is None:
            raise BadInput(
                "compressor.resource=latency_ms bounds nothing where compressor.budget is null: give the share of the "
                "latency that may be left, as compressor.budget=0.5"
            )
        if self.resource == "latency_ms" and self.latencies is None:
            raise BadInput(
                "compressor.resource=latency_ms needs a table of the device: give compressor.latencies=FILE; "
                f"{TABLE} makes one of the space's networks"
            )
        if self.resource != "latency_ms" and self.latencies is not None:
            raise BadInput(
                f"compressor.latencies={printable(self.latencies)} is of no use to compressor.resource={self.resource}"
                ": type compressor.resource=latency_ms, or leave the table out"
            )

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest share of a layer."""
        if isinstance(self.keep, tuple):
            return self.keep[0], self.keep[1]
        return (self.least, 1.0) if self.keep is None else (self.keep, self.keep)

    def study(self, network: Module, task: Task) -> Studied:
        from automl_compressors.channels import Channels

        channels = Channels.of(network, task.input)
        if not channels.groups:
            raise BadInput(
                "none of the network's channels can be removed without changing what it is: nothing to prune"
            )
        names = list(channels.groups)
        for pattern in self.whole:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise BadInput(
                    f"compressor.whole names {pattern!r}, which is no layer of the network{near_miss(pattern, names)}; "
                    f"its layers: {', '.join(names[:20])}"
                )
        least = self.bounds[0] if isinstance(self.keep, tuple) else self.least
        steps = {
            name: Steps(group.units, group.size, self.round_to, least)
            for name, group in channels.groups.items()
            if not any(fnmatchcase(name, pattern) for pattern in self.whole)
        }
        (cost, whole), budget = self._cost(network, channels, list(steps), task), None
        if self.budget is not None:
            narrowest = {name: step.at(0.0) for name, step in steps.items()}
            what = "milliseconds" if self.resource == "latency_ms" else self.resource.replace("_", "-")
            budget = Budget(cost, whole, self.budget, narrowest, what)
        return Studied(channels, task.input, steps, cost, budget)

    def _cost(self, network: Module, channels: Channels, groups: Sequence[str], task: Task) -> tuple[Cost, float]:
        """Return what networks cost by their widths, and what the whole one does."""
        if self.resource == "latency_ms":
            formula, whole = self._timing.cost(network, channels, groups, task)
            return lambda widths: formula.of(channels.units(widths)), whole
        resource = self.resource
        return lambda widths: channels.cost(widths, resource), channels.cost({}, resource)

    @cached_property
    def _timing(self) -> Timing:
        from automl import latency_table
        from automl_compressors.timing import Timing

        what = f"compressor.latencies={printable(str(self.latencies))}"
        return Timing(latency_table.read(self._table, "latency_ms", what), what)

    @property
    def _table(self) -> Path:
        return Path(str(self.latencies)).expanduser()

    def describe(self, studied: Studied, choose: Choose) -> Plan:
        if self.across == "layers":
            return Plan(self.layer_by_layer(studied, choose))
        share = self._share(choose)
        if self.across == "global":
            return Plan(None, share)
        if share is None:
            assert studied.budget is not None, "one of keep and budget was given"
            return Plan(tuple(studied.budget.alike(studied.at).items()))
        return Plan(tuple(self._fitting(studied, studied.at(share)).items()))

    def _share(self, choose: Choose) -> float | None:
        if isinstance(self.keep, tuple):
            return float(choose("keep", Real(*self.keep)))
        return self.keep

    def _fitting(self, studied: Studied, widths: dict[str, int]) -> dict[str, int]:
        """Return the widths, where they cost more than the budget the widest that are alike."""
        budget = studied.budget
        if budget is None or budget.cost(widths) <= budget.most:
            return widths
        return dict(budget.alike(studied.at))

    def layer_by_layer(self, studied: Studied, choose: Choose) -> Widths:
        """Decide the share of each layer in turn, at most so much that the later ones can keep to the budget."""
        low, high = self.bounds
        decided: dict[str, int] = {}
        for name, steps in studied.steps.items():
            widths = [width for width in steps.all() if width <= high * steps.units + 1e-9] or [steps.at(0.0)]
            most = widths[-1] if studied.budget is None else studied.budget.widest(name, decided, widths)
            top = most / steps.units
            share = choose(f"keep.{name}", Real(min(low, top), top), context=self.context(studied, name, decided))
            decided[name] = min(most, steps.at(float(share)))
        return tuple(decided.items())

    def context(self, studied: Studied, name: str, decided: Mapping[str, int]) -> Sequence[float] | None:
        """Return the features of a layer, for strategies that look at them."""
        return None

    def compress(
        self, network: Module, studied: Studied, plan: Plan, training: Training | None
    ) -> tuple[Module, Mapping[str, Any]]:
        from automl_compressors.reconstruction import reconstruct
        from automl_compressors.slimming import train_sparse

        if training is not None and self.penalty and self.sparse_epochs:
            train_sparse(network, training, self.penalty, self.sparse_epochs)
        kept = self._chosen(network, studied, plan, training)
        smaller = studied.channels.check(network, kept)
        if training is not None and self.reconstruct:
            reconstruct(network, smaller, studied.channels, kept, training, self.batches, self.samples)
        elif training is not None and self.recalibrate:
            training.recalibrate(smaller, self.recalibrate)
        widths = {name: len(units) for name, units in kept.items()}
        form = {"input": list(studied.input), "widths": widths, "kept": studied.shares(widths)}
        if self.across != "uniform":
            form["alike"] = studied.shares(alike(studied.cost, studied.cost(widths), studied.at))
        return smaller, form

    def _chosen(self, network: Module, studied: Studied, plan: Plan, training: Training | None) -> Kept:
        """Return the units of each group that stay."""
        from automl_compressors.criteria import scores
        from automl_compressors.selection import best, greedy, ranked

        if self.greedy and plan.widths is not None:
            return greedy(network, studied.channels, dict(plan.widths))
        found = scores(network, studied.channels, self.criterion, training, self.batches)
        raw = self.criterion == "bn_scale"  # scales of all layers are compared as they are (Liu et al., 2017)
        return ranked(found, studied, plan.share, raw) if plan.widths is None else best(found, dict(plan.widths))

    def portable(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.latencies is None:
            return settings
        # how wide each layer is stands in the form; without a budget any share is one that could be decided
        keep = {} if self.across == "layers" else {"keep": settings.get("keep") or 1.0}
        return {**settings, **keep, "budget": None, "resource": "multiply_adds", "latencies": None}

    def digest(self) -> str | None:
        return None if self.latencies is None else digest(self._table)

    def rebuild(self, network: Module, form: Mapping[str, Any]) -> Module:
        from automl_compressors.channels import Channels

        channels = Channels.of(network, tuple(form["input"]))
        kept = {}
        for name, width in form["widths"].items():
            if name not in channels.groups or not 0 < width <= channels.groups[name].units:
                raise BadInput(f"the network has no {width} channels of {name!r} to keep: it is another one")
            kept[name] = range(width)
        return channels.prune(network, kept)


def _scaled(column: Sequence[float]) -> list[float]:
    """Return numbers in [0, 1], the least 0 and the largest 1; all 0 where they are equal."""
    low, high = min(column), max(column)
    return [(number - low) / (high - low) if high > low else 0.0 for number in column]

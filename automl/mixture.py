"""Weighted choices as modules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from automl.decisions import Op


class Mixture(nn.Module):
    """Every option of a decision applied to one input, the sum of what they make, each times its weight.

    ``weights`` is set from outside before it runs: a tensor with a number for each option, through which gradients
    flow, shared by all mixtures of the decision. What weighs exactly 0 is not computed. With ``share`` k above 1, where
    the options are made of equal inputs and outputs and a stride, 1 / k of the channels are mixed, the others pass by,
    pooled where the options stride, and a shuffle joins the two (PC-DARTS; Xu et al., 2020).

    Mixtures of one input may be given one ``memo``: what an option that says ``is_pure`` made of it (a pool, say) is
    then not made again, and neither is the ReLU of options that say ``shares_relu`` and take it as ``activated=True``.
    An option that says ``is_nothing`` makes zeros, and is left out. In training, options that have one ``weighed`` are
    handed to it together, those of several mixtures too: the options, the input after a ReLU, into which sum each goes,
    and their weights. It returns the sums, which are then added to in their place.
    """

    weights: Tensor | None

    def __init__(self, decision: str, options: Sequence[Op], share: int, *arguments: Any) -> None:
        super().__init__()
        self.decision = decision
        self.share = 1
        self.stride = 1
        if share > 1 and len(arguments) > 1 and arguments[0] == arguments[1] and arguments[0] % share == 0:
            inputs, outputs, *others = arguments
            self.share = share
            self.stride = others[0] if others else 1
            arguments = (inputs // share, outputs // share, *others)
        self.options = nn.ModuleList(option(*arguments) for option in options)
        self.weights = None

    def forward(self, x: Tensor, memo: dict[str, Tensor] | None = None) -> Tensor:
        return _mixed([self], x, {} if memo is None else memo)[0]

    def _given(self) -> Tensor:
        if self.weights is None:
            raise RuntimeError(f"the mixture of decision {self.decision!r} has no weights: set them before it runs")
        return self.weights


def mixed(mixtures: Sequence[Mixture], x: Tensor) -> list[Tensor]:
    """Return what each of several mixtures makes of one input; in training what they have in common is done once."""
    memo: dict[str, Tensor] = {}
    if all(type(mixture) is Mixture and mixture.training and not mixture._forward_hooks for mixture in mixtures):
        return _mixed(mixtures, x, memo)
    return [mixture(x, memo) for mixture in mixtures]


def _mixed(mixtures: Sequence[Mixture], x: Tensor, memo: dict[str, Tensor]) -> list[Tensor]:
    share = mixtures[0].share
    if any(mixture.share != share for mixture in mixtures):
        return [made for mixture in mixtures for made in _mixed([mixture], x, memo)]
    if share == 1:
        return _sums(mixtures, x, memo)
    part = x.shape[1] // share
    passing = {1: x[:, part:]}
    for stride in {mixture.stride for mixture in mixtures} - {1}:
        passing[stride] = functional.max_pool2d(x[:, part:], 3, stride, 1)
    return [
        torch.channel_shuffle(torch.cat([made, passing[mixture.stride]], dim=1), share)
        for mixture, made in zip(mixtures, _sums(mixtures, x[:, :part], {}), strict=True)
    ]


def _sums(mixtures: Sequence[Mixture], x: Tensor, memo: dict[str, Tensor]) -> list[Tensor]:
    """Return for each mixture the sum of what its options make of the input, each times its weight."""
    weights = torch.cat([mixture._given() for mixture in mixtures])
    numbers = weights.tolist()
    begin = 0
    alone: list[Term] = []
    together: defaultdict[Callable[..., list[Tensor]], list[tuple[nn.Module, int, int]]] = defaultdict(list)
    for target, mixture in enumerate(mixtures):
        for place, option in enumerate(mixture.options, begin):
            if numbers[place] == 0.0 or getattr(option, "is_nothing", False):
                continue
            weighed = getattr(option, "weighed", None) if mixture.training else None
            if weighed is not None:
                together[weighed].append((option, target, place))
            else:
                alone.append(Term(target, _made(option, x, memo), place, numbers[place]))
        begin += len(mixture.options)
    totals: list[Tensor | None] = [None] * len(mixtures)
    for weighed, chosen in together.items():
        options, targets, places = zip(*chosen, strict=True)
        into = sorted(set(targets))
        some = weights[torch.tensor(places, device=weights.device)]
        results = weighed(options, _activated(x, memo), [into.index(target) for target in targets], some)
        for target, made in zip(into, results, strict=True):
            before = totals[target]
            totals[target] = made if before is None else before + made
    if alone:
        totals = _added(totals, weights, alone)
    return [
        option_of_zeros(mixture.options[0], x) if total is None else total
        for mixture, total in zip(mixtures, totals, strict=True)
    ]


def _made(option: nn.Module, x: Tensor, memo: dict[str, Tensor]) -> Tensor:
    """Return what an option makes of the input, or did before."""
    made: Tensor
    if getattr(option, "shares_relu", False):
        made = option(_activated(x, memo), activated=True)
    elif getattr(option, "is_pure", False):
        key = repr(option)
        if key not in memo:
            memo[key] = option(x)
        made = memo[key]
    else:
        made = option(x)
    return made


def _activated(x: Tensor, memo: dict[str, Tensor]) -> Tensor:
    """Return the input after a ReLU, computed once."""
    if "relu" not in memo:
        memo["relu"] = functional.relu(x)
    return memo["relu"]


def option_of_zeros(option: nn.Module, x: Tensor) -> Tensor:
    """Return zeros of the shape that an option makes."""
    return torch.zeros_like(option(x))


class Term(NamedTuple):
    """What is added to a sum: to which, what, and its weight: the place among all weights, and the number there."""

    target: int
    made: Tensor
    place: int
    number: float


def _added(totals: Sequence[Tensor | None], weights: Tensor, terms: Sequence[Term]) -> list[Tensor | None]:
    """Return sums with terms added, each times its weight; the sums given are used up."""
    sums = list(totals)
    if len({tensor.dtype for tensor in (*sums, *(term.made for term in terms)) if tensor is not None}) > 1:
        for term in terms:  # of which some are in the short precision
            product, before = term.made * weights[term.place], sums[term.target]
            sums[term.target] = product if before is None else before + product
        return sums
    distinct = {id(term.made): term.made for term in terms}
    which = {key: place for place, key in enumerate(distinct)}
    touched = sorted({term.target for term in terms})
    plan = [(touched.index(term.target), which[id(term.made)], term.number) for term in terms]
    places = torch.tensor([term.place for term in terms], device=weights.device)
    tensors = [*(sums[target] for target in touched), *distinct.values()]
    made = _Added.apply(plan, weights[places], *tensors)  # type: ignore[no-untyped-call]
    for target, result in zip(touched, made, strict=True):
        sums[target] = result
    return sums


class _Added(torch.autograd.Function):
    """Sums, None where one begins, with terms times weights added in their place; no product is made or kept."""

    @staticmethod
    def forward(
        ctx: Any, plan: Sequence[tuple[int, int, float]], weights: Tensor, *tensors: Tensor | None
    ) -> tuple[Tensor, ...]:
        count = 1 + max(target for target, *_ in plan)
        sums, terms = list(tensors[:count]), tensors[count:]
        ctx.mark_dirty(*(one for one in sums if one is not None))
        for target, which, number in plan:
            before, term = sums[target], terms[which]
            assert term is not None
            sums[target] = term * number if before is None else before.add_(term, alpha=number)
        ctx.set_materialize_grads(False)
        ctx.plan, ctx.count = plan, count
        ctx.save_for_backward(weights, *terms)
        return tuple(one for one in sums if one is not None)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor | None) -> tuple[Tensor | None, ...]:
        weights, *terms = ctx.saved_tensors
        _, wants_weights, *wants = ctx.needs_input_grad
        of_terms: list[Tensor | None] = [None] * len(terms)
        of_weights: list[Tensor] = []
        for (target, which, number), weight in zip(ctx.plan, weights, strict=True):
            slope, before = slopes[target], of_terms[which]
            if wants_weights:
                of_weights.append(torch.zeros_like(weight) if slope is None else _product(slope, terms[which]))
            if slope is None or not wants[ctx.count + which]:  # nobody read the sum, or asks
                continue
            if torch.is_grad_enabled():  # of the gradient one will be taken
                of_terms[which] = slope * weight if before is None else before + slope * weight
            else:
                of_terms[which] = slope * number if before is None else before.add_(slope, alpha=number)
        of_sums = (slope if want else None for slope, want in zip(slopes, wants, strict=False))
        return None, torch.stack(of_weights) if wants_weights else None, *of_sums, *of_terms


def _product(one: Tensor, other: Tensor) -> Tensor:
    """Return the sum of the products of the numbers in equal places."""
    if one.dim() == 4:  # channels-last, these are views
        one, other = one.permute(0, 2, 3, 1), other.permute(0, 2, 3, 1)
    return torch.dot(one.reshape(-1), other.reshape(-1))

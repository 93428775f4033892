"""1 x 1 convolutions and batch normalisation as one, many at a time, and sums of them with weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from automl_networks.layouts import is_quick


class Normalised(NamedTuple):
    """A map, the kernel of a 1 x 1 convolution of it, and the batch normalisation of what that makes."""

    x: Tensor
    kernel: Tensor
    norm: nn.BatchNorm2d

    @property
    def kind(self) -> tuple[object, ...]:
        """What is equal for all that ``sums`` can take in one go."""
        return self.x.shape, self.kernel.shape, self.norm.eps, self.norm.weight is None


def is_foldable(x: Tensor, norm: nn.BatchNorm2d) -> bool:
    """Say whether statistics are those of the batch, of more than one pixel, and the map is one for quick ways."""
    return norm.training and x.numel() > x.shape[1] and is_quick(x)


def sums(
    terms: Sequence[Normalised], targets: Sequence[int], weights: Tensor | None = None, activated: bool = False
) -> list[Tensor]:
    """Return sums of terms of one kind, each times its weight, for which ``is_foldable`` holds.

    ``targets`` says into which sum each goes, counted from 0. ``activated`` is with a ReLU after each sum. Running
    statistics follow.

    The mean and the variance of a linear map's outputs are known from the means and covariances of its inputs, so
    that the normalisation becomes a part of the kernel. Nothing that lies between is computed, or kept for the
    gradient: only the inputs are.
    """
    first = terms[0]
    gains = first.x.new_ones(len(terms), 1) if weights is None else weights.unsqueeze(1)
    shifts: Tensor | None = None
    if first.norm.weight is not None:
        shifts = gains * torch.stack([term.norm.bias for term in terms])
        gains = gains * torch.stack([term.norm.weight for term in terms])
    else:
        gains = gains.expand(-1, len(first.kernel))
    tensors = [*(term.x for term in terms), *(term.kernel for term in terms)]
    made: tuple[Tensor, ...]
    made = _Sums.apply(gains, shifts, first.norm.eps, targets, activated, *tensors)  # type: ignore[no-untyped-call]
    *results, means, variances = made
    _follow([term.norm for term in terms], means, variances, first.x.numel() / first.x.shape[1])
    return results


def _follow(norms: Sequence[nn.BatchNorm2d], means: Tensor, variances: Tensor, count: float) -> None:
    """Move the running statistics to those of a batch of so many pixels."""
    unbiased = variances * (count / (count - 1))
    for norm, mean, variance in zip(norms, means, unbiased, strict=True):
        batches = norm.num_batches_tracked
        if not norm.track_running_stats or batches is None or norm.running_mean is None or norm.running_var is None:
            continue
        batches.add_(1)
        # without a momentum, the mean over all batches
        momentum = 1 / batches.item() if norm.momentum is None else norm.momentum
        # not as a change that autograd sees, for what torch normalised before may be waiting for its gradient
        norm.running_mean.data.lerp_(mean, momentum)
        norm.running_var.data.lerp_(variance, momentum)


def _rows(x: Tensor) -> Tensor:
    """Return a view of a channels-last map, pixels x channels."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


class _Sums(torch.autograd.Function):
    """Gains and shifts, terms x channels, inputs and kernels to sums, and the means and variances before the gains."""

    @staticmethod
    def forward(
        ctx: Any,
        gains: Tensor,
        shifts: Tensor | None,
        eps: float,
        targets: Sequence[int],
        activated: bool,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        inputs, given = tensors[: len(targets)], tensors[len(targets) :]
        rows = [_rows(x) for x in inputs]
        kernels = torch.stack(given).flatten(2)
        moments = [(x.sum(0), x.T @ x) for x in rows]  # one after the other, while a map is near
        centres, covariances = (torch.stack(some).div_(len(rows[0])) for some in zip(*moments, strict=True))
        centres = centres.unsqueeze(2)
        covariances.baddbmm_(centres, centres.mT, alpha=-1)
        spread = kernels @ covariances
        means = (kernels @ centres).squeeze(2)
        variances = (spread * kernels).sum(2).clamp_(min=0.0)
        inverses = (variances + eps).rsqrt_()
        scales = gains * inverses
        folded = scales.unsqueeze(2) * kernels
        constants = scales.mul_(means).neg_() if shifts is None else shifts - scales * means
        images, _, height, width = inputs[0].shape
        results = []
        for target in range(1 + max(targets)):
            first, *others = (place for place, into in enumerate(targets) if into == target)
            constant = constants[[first, *others]].sum(0) if others else constants[first]
            shape = (images, folded.shape[1], height, width)
            results.append(torch.empty(shape, dtype=constant.dtype, memory_format=torch.channels_last))
            made = _rows(results[-1])
            torch.addmm(constant, rows[first], folded[first].T, out=made)
            for other in others:
                made.addmm_(rows[other], folded[other].T)
            if activated:
                made.relu_()
        ctx.set_materialize_grads(False)
        ctx.eps, ctx.targets, ctx.activated = eps, targets, activated
        outputs = results if activated else []
        ctx.save_for_backward(gains, shifts, *tensors, kernels, centres, spread, means, inverses, *outputs)
        ctx.mark_non_differentiable(means, variances)
        return (*results, means, variances)

    @staticmethod
    def backward(ctx: Any, *given: Tensor | None) -> tuple[Tensor | None, ...]:
        gains, shifts, *saved = ctx.saved_tensors
        count = len(ctx.targets)
        tensors, (kernels, centres, spread, means, inverses, *outputs) = saved[: 2 * count], saved[2 * count :]
        slopes = {target: slope for target, slope in enumerate(given[:-2]) if slope is not None}  # of what is read
        if not slopes:
            return (None,) * len(ctx.needs_input_grad)
        if torch.is_grad_enabled():
            return _differentiably(ctx, slopes, gains, shifts, tensors)
        rows: dict[int, Tensor] = {}
        for target, slope in slopes.items():
            slope = slope.contiguous(memory_format=torch.channels_last)
            if ctx.activated:
                slope = torch.ops.aten.threshold_backward(slope, outputs[target], 0)
            rows[target] = _rows(slope)
        live = [place for place, target in enumerate(ctx.targets) if target in rows]
        if len(live) < count:
            some = (one[live] for one in (gains, kernels, centres, spread, means, inverses))
            gains, kernels, centres, spread, means, inverses = some
        into = [ctx.targets[place] for place in live]
        sums = {target: row.sum(0) for target, row in rows.items()}
        totals = torch.stack([sums[target] for target in into])
        products = torch.stack(
            [rows[target].T @ _rows(tensors[place]) for place, target in zip(live, into, strict=True)]
        )
        # the slopes times what is normalised
        of_gains = (kernels * products).sum(2).sub_(means * totals).mul_(inverses)
        scales = gains * inverses
        bends = scales * inverses * of_gains  # what depends on the variance, times the number of pixels
        wants = ctx.needs_input_grad[5:]
        found: list[Tensor | None] = [None] * (2 * count)
        if any(wants[:count]):
            pixels = len(_rows(tensors[0]))
            folded = scales.unsqueeze(2) * kernels
            back = kernels.mT @ ((bends / -pixels).unsqueeze(2) * kernels)
            constants = ((bends * means - scales * totals).unsqueeze(1) @ kernels).squeeze(1).div_(pixels)
            for which, (place, target) in enumerate(zip(live, into, strict=True)):
                if wants[place]:
                    x = tensors[place]
                    made = torch.addmm(constants[which], rows[target], folded[which]).addmm_(_rows(x), back[which])
                    found[place] = made.view(len(x), *x.shape[2:], -1).permute(0, 3, 1, 2)
        if any(wants[count:]):
            centred = products.baddbmm_(totals.unsqueeze(2), centres.mT, alpha=-1)
            of_kernels = scales.unsqueeze(2) * centred - bends.unsqueeze(2) * spread
            for place, of_kernel in zip(live, of_kernels, strict=True):
                found[count + place] = of_kernel.view_as(tensors[count + place])
        if len(live) < count:
            of_gains, totals = (
                one.new_zeros(count, one.shape[1]).index_copy_(0, torch.tensor(live), one) for one in (of_gains, totals)
            )
        return of_gains, None if shifts is None else totals, None, None, None, *found


def _differentiably(
    ctx: Any, slopes: Mapping[int, Tensor], gains: Tensor, shifts: Tensor | None, tensors: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """Return the gradients such that gradients can be taken of them, by computing it all step by step."""
    tensors = [tensor.view_as(tensor) for tensor in tensors]  # one that is the input of two terms is then two
    made: dict[int, Tensor] = {}
    for place, target in enumerate(ctx.targets):
        x, kernel = tensors[place], tensors[len(ctx.targets) + place]
        normalised = functional.batch_norm(functional.conv2d(x, kernel), None, None, training=True, eps=ctx.eps)
        term = gains[place].view(-1, 1, 1) * normalised
        if shifts is not None:
            term = term + shifts[place].view(-1, 1, 1)
        made[target] = made[target] + term if target in made else term
    results = [made[target].relu() if ctx.activated else made[target] for target in slopes]
    given = (gains, shifts, None, None, None, *tensors)
    wanted = [one for one, wants in zip(given, ctx.needs_input_grad, strict=True) if wants and one is not None]
    found = iter(torch.autograd.grad(results, wanted, [*slopes.values()], create_graph=True, materialize_grads=True))
    return tuple(next(found) if wants else None for wants in ctx.needs_input_grad)

"""Weights after morphisms: of inputs that stand for others, of layers that change nothing, of separable ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn


def columns(weight: Tensor, index: Tensor) -> Tensor:
    """Return weights, outputs x inputs (x height x width), for other inputs: each is one of the old ones, or -1.

    Those that stand for one and the same share its weight; what is -1 has none.
    """
    known = index.clamp(min=0)
    copies = torch.bincount(index[index >= 0], minlength=weight.shape[1])
    shares = torch.where(index < 0, 0.0, 1.0 / copies[known].to(weight))
    made: Tensor = weight[:, known] * shares.reshape(-1, *[1] * (weight.dim() - 2))
    return made


def centred(weight: Tensor, like: Tensor) -> Tensor:
    """Return the weights in the middle of zeros, of the other's kernel."""
    edge = (like.shape[-1] - weight.shape[-1]) // 2
    return nn.functional.pad(weight, (edge, edge, edge, edge))


def separated(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a depthwise and a 1 x 1 convolution whose product is nearest to a convolution, by least squares.

    For every input channel it is the first term of the singular value decomposition of its weights, outputs x pixels.
    """
    outputs, inputs, height, width = weight.shape
    left, values, right = torch.linalg.svd(weight.transpose(0, 1).flatten(2), full_matrices=False)
    size = values[:, :1].sqrt()
    depthwise = (size * right[:, 0]).reshape(inputs, 1, height, width)
    return depthwise, (size * left[..., 0]).T.reshape(outputs, inputs, 1, 1)


def pass_on(norm: nn.BatchNorm2d, places: Tensor | slice = slice(None)) -> None:
    """Have a normalisation at rest change nothing, where it is told."""
    norm.weight[places] = (1.0 + norm.eps) ** 0.5
    norm.bias[places] = 0.0
    cast(Tensor, norm.running_mean)[places] = 0.0
    cast(Tensor, norm.running_var)[places] = 1.0


def take(norm: nn.BatchNorm2d, old: nn.BatchNorm2d, rows: Tensor, places: Tensor | slice = slice(None)) -> None:
    """Give a normalisation, where it is told, the numbers of those channels of another."""
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(norm, name)[places] = getattr(old, name)[rows]
    cast(Tensor, norm.num_batches_tracked).copy_(cast(Tensor, old.num_batches_tracked))


def calibrated(network: nn.Module, norms: Sequence[nn.BatchNorm2d], images: Tensor) -> None:
    """Set normalisations that change nothing so that they change nothing in training either, on a batch like these.

    Each gets the mean and the deviation of what it is given (Cai et al., 2018). The other statistics stay.
    """
    kept = {name: buffer.clone() for name, buffer in network.named_buffers()}
    found: dict[nn.BatchNorm2d, tuple[Tensor, Tensor]] = {}

    def follow(norm: nn.Module, given: tuple[Tensor]) -> None:
        norm = cast(nn.BatchNorm2d, norm)
        mean, variance = given[0].mean((0, 2, 3)), given[0].var((0, 2, 3), unbiased=False)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(mean)
        found[norm] = mean, variance

    hooks = [norm.register_forward_pre_hook(follow) for norm in norms]
    was_training = network.training
    try:
        network.train()
        network(images)
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
        for name, buffer in network.named_buffers():
            buffer.copy_(kept[name])
    for norm, (mean, variance) in found.items():
        cast(Tensor, norm.running_mean).copy_(mean)
        cast(Tensor, norm.running_var).copy_(variance)

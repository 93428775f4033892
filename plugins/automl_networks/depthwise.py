"""Depthwise convolutions of odd kernels, many at a time, with gradients that are fast on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_weight

from automl_networks.layouts import is_quick


class Depthwise(nn.Conv2d):
    """A kernel x kernel convolution of each channel by itself, without bias; the size becomes ceil(size / stride)."""

    def __init__(self, channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        padding = dilation * (kernel // 2)
        super().__init__(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- the word of nn.Conv2d
        return side_by_side([self], [input])[0] if self.training else super().forward(input)


def side_by_side(layers: Sequence[Depthwise], maps: Sequence[Tensor]) -> list[Tensor]:
    """Return what each layer makes of its map; maps may be the same one."""
    made: dict[int, Tensor] = {}
    inputs: dict[object, Tensor] = {}
    taken: list[tuple[int, object, int]] = []  # of those that are done in one go: which, of what input, how dilated
    for place, (layer, x) in enumerate(zip(layers, maps, strict=True)):
        stride, dilation = layer.stride[0], layer.dilation[0]
        if not is_quick(x) or (stride > 1 and stride != dilation):
            made[place] = nn.Conv2d.forward(layer, x)
        elif stride > 1:  # only every so many pixels are read: of these alone it is a convolution without dilation
            key = (id(x), stride)
            if key not in inputs:
                inputs[key] = x[..., ::stride, ::stride].contiguous(memory_format=torch.channels_last)
            taken.append((place, key, 1))
        else:
            inputs[id(x)] = x
            taken.append((place, id(x), dilation))
    if taken:
        order = list(inputs)
        plan = [(order.index(key), dilation) for _, key, dilation in taken]
        weights = [layers[place].weight for place, *_ in taken]
        results = _Depthwise.apply(plan, *inputs.values(), *weights)  # type: ignore[no-untyped-call]
        made.update((place, result) for (place, *_), result in zip(taken, results, strict=True))
    return [made[place] for place in range(len(layers))]


class _Depthwise(torch.autograd.Function):
    """Depthwise convolutions of stride 1 that keep the size, each of one of the inputs, and so much dilated."""

    @staticmethod
    def forward(ctx: Any, plan: Sequence[tuple[int, int]], *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.plan = plan
        count = len(tensors) - len(plan)
        inputs, weights = tensors[:count], tensors[count:]
        needed = any(ctx.needs_input_grad[1 + count :])
        ctx.save_for_backward(*(x if needed else None for x in inputs), *weights)
        return tuple(
            _convolved(inputs[which], weight, dilation) for (which, dilation), weight in zip(plan, weights, strict=True)
        )

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor | None) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        count = len(tensors) - len(ctx.plan)
        inputs, weights = tensors[:count], tensors[count:]
        wants = ctx.needs_input_grad[1:]
        found: list[Tensor | None] = [None] * len(tensors)
        moved: dict[object, _Movable] = {}
        for place, ((which, dilation), weight) in enumerate(zip(ctx.plan, weights, strict=True)):
            slope = slopes[place]
            if slope is None:  # nobody read what it made
                continue
            slope = slope.contiguous(memory_format=torch.channels_last)
            if wants[which]:
                # it is a convolution too; as such it takes two thirds of the time, or a tenth where it is dilated
                part = _convolved(slope, weight.flip(2, 3), dilation)
                before = found[which]
                found[which] = part if before is None else before.add_(part)
            if wants[count + place]:
                found[count + place] = weight_gradient(inputs[which], slope, weight.shape[-1], dilation, moved)
        return None, *found


def _convolved(x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    return functional.conv2d(x, weight, None, 1, dilation * (weight.shape[-1] // 2), dilation, len(weight))


def weight_gradient(
    x: Tensor, slope: Tensor, kernel: int, dilation: int = 1, moved: dict[object, _Movable] | None = None
) -> Tensor:
    """Return the gradient, channels x 1 x kernel x kernel, of a depthwise convolution's weights at stride 1.

    ``x`` is the input and ``slope`` the gradient of the output, which has its shape; both lie channels-last. ``moved``
    keeps what was made of inputs, for others of the same.

    PyTorch's own (2.13, oneDNN) is fast for kernels of at most three columns, no higher than the map, without dilation,
    and else up to fifty times slower. So others are found three columns at a time: those are a convolution of that kind
    between the two maps moved against each other. Rows that a dilated kernel reads together are put below each other by
    having every so many of the others beside them.
    """
    reach, ragged = dilation * (kernel // 2), -x.shape[2] % dilation
    if reach == 0 or (dilation == 1 and kernel <= min(3, *x.shape[2:])):
        return _correlated(x, slope, (kernel, kernel), (reach, reach))
    moved = {} if moved is None else moved
    key = (id(x), reach, dilation)
    if key not in moved:
        moved[key] = _Movable(x, reach, reach + ragged, reach, dilation)
    read, made = moved[key], _Movable(slope, 0, ragged, reach, dilation)
    columns: list[Tensor] = []
    first = -reach
    while first <= reach:  # three columns begin here, or sooner if fewer are left
        begin = min(first, reach - 2)
        centre = begin + 1
        three = _correlated(read.moved(-centre), made.moved(centre), (kernel, 3), (0, 1))
        columns.append(three[..., first - begin :: dilation])
        first += dilation * columns[-1].shape[-1]
    return torch.cat(columns, dim=-1)


def _correlated(x: Tensor, slope: Tensor, kernel: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """Return the gradient of the weights of a kernel without stride and dilation, by PyTorch's own."""
    channels = x.shape[1]
    made: Tensor = conv2d_weight(x, (channels, 1, *kernel), slope, 1, padding, 1, channels)  # type: ignore[no-untyped-call]
    return made


class _Movable:
    """A map between zeros, which can be read as if it lay some columns further right, up to ``margin``.

    Every ``rows`` rows become one, side by side.
    """

    def __init__(self, x: Tensor, above: int, below: int, margin: int, rows: int) -> None:
        images, channels, height, width = x.shape
        self.margin, self.channels = margin, channels
        high, wide = above + height + below, width + margin
        self.memory = x.new_zeros((margin + images * high * wide) * channels)
        inside = self.memory[margin * channels :].view(images, high, wide, channels)
        inside[:, above : above + height, :width] = x.permute(0, 2, 3, 1)
        self.shape = (images, channels, high // rows, rows * wide)
        self.strides = (high * wide * channels, 1, rows * wide * channels, channels)

    def moved(self, columns: int) -> Tensor:
        """Return a view of the map moved to the right; where it was if ``columns`` is below 0."""
        # what leaves a row on the right is zeros, and is what the next begins with
        return self.memory.as_strided(self.shape, self.strides, (self.margin - max(columns, 0)) * self.channels)

"""What the operations of PyTorch that only move numbers do to channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from automl_compressors.calls import Call, Unfollowed
from automl_compressors.labels import Count, leaves, plain
from automl_compressors.tracing import Rule, Tracer, ruled


def moved(tracer: Tracer, call: Call, besides: int | None = None) -> None:
    """Whatever is done to numbers by numbers that are none of channels is done to their labels."""
    for count in call.counts:
        count.fix()
    for result, labels in labels_of(tracer, call):
        arrive(tracer, result, labels, [dim for dim in range(labels.dim()) if dim != besides])


def labels_of(tracer: Tracer, call: Call) -> list[tuple[Tensor, Tensor]]:
    """Return each result with a label for each of its numbers; nothing where none of the channels could go."""

    def relabelled(value: Any) -> Any:
        if isinstance(value, Tensor):
            axis = tracer.axis(value)
            if axis is None:
                return torch.zeros((), dtype=torch.int64, device="cpu").expand(value.shape)
            sides = [-1 if dim == axis.dim else 1 for dim in range(value.dim())]
            spread = axis.labels.view(sides).expand(value.shape)
            return spread.contiguous() if call.name.startswith("view") else spread
        return type(value)(map(relabelled, value)) if type(value) in (list, tuple) else plain(value)

    if all(tracer.axis(tensor) is None for tensor in call.tensors):
        return []
    keywords = {name: relabelled(value) for name, value in call.keywords.items()}
    labels = call.function(*map(relabelled, call.arguments), **keywords)
    return list(zip(call.results, leaves(labels), strict=True))


def arrive(tracer: Tracer, result: Tensor, labels: Tensor, dims: list[int]) -> None:
    """Note along which dimension the channels lie: the first of ``dims`` along which labels differ.

    Channels that differ along others too go together there, so that what is left of them is a tensor.
    """
    differing = [dim for dim in range(labels.dim()) if _differs(labels, dim)]
    for dim in range(labels.dim()):
        if dim not in differing:
            labels = labels.narrow(dim, 0, 1)
    main = next((dim for dim in dims if dim in differing), None)
    if main is None:
        tracer.labels.freeze(labels)
        return
    for dim in differing:
        if dim != main:
            tracer.labels.join(labels.narrow(dim, 1, labels.shape[dim] - 1), labels.narrow(dim, 0, 1))
            labels = labels.narrow(dim, 0, 1)
    tracer.label(result, main, labels.flatten())


def _differs(labels: Tensor, dim: int) -> bool:
    return labels.shape[dim] > 1 and labels.stride(dim) != 0 and bool((labels != labels.narrow(dim, 0, 1)).any())


def _reshaped(tracer: Tracer, call: Call) -> None:
    """A view of other sizes: along the channels, one that is a count of them, or is left open."""
    asked = _asked(tracer, call)
    for result, labels in labels_of(tracer, call):
        first = [dim for dim, size in asked.items() if isinstance(size, Count) or size == -1]
        # a dimension that is not asked for is as it was, or one of several that are told apart below
        arrive(tracer, result, labels, [*first, *(dim for dim in range(labels.dim()) if dim not in first)])
    axis = tracer.axis(call.result)
    for dim, size in asked.items():
        if axis is None or dim != axis.dim:
            if isinstance(size, Count):
                size.fix()
        elif isinstance(size, Count):
            size.must_be(axis.labels)
        elif size != -1:
            tracer.labels.freeze(axis.labels)


def _asked(tracer: Tracer, call: Call) -> dict[int, Any]:
    """Return the sizes that are asked for, by dimension of the result."""
    given, first = call.arguments[1:], 0
    if call.name == "unflatten":
        first, sizes = plain(call.get(1, "dim")), call.get(2, "sizes")
        first %= call.input.dim()
    elif call.name in ("view_as", "reshape_as"):
        sizes = tracer.sizes(call.get(1, "other"))
    elif given and isinstance(given[0], list | tuple):
        sizes = given[0]
    else:
        sizes = given or call.keywords.get("shape", call.keywords.get("size"))
    if not isinstance(sizes, list | tuple) or not all(isinstance(size, int) for size in sizes):
        raise Unfollowed
    return dict(enumerate(sizes, first))


def _stacked(tracer: Tracer, call: Call) -> None:
    moved(tracer, call, plain(call.get(1, "dim", 0)) % call.results[0].dim())


def _repeated(tracer: Tracer, call: Call) -> None:
    if len(call.tensors) > 1:
        raise Unfollowed
    moved(tracer, call)


def _concatenated(tracer: Tracer, call: Call) -> None:
    parts = [part for part in call.get(0, "tensors") if part.numel()]
    dim = call.get(1, "dim", 0) % call.result.dim()
    axes = [tracer.axis(part) for part in parts]
    if all(axis is None or axis.dim == dim for axis in axes):
        tracer.label(call.result, dim, torch.cat([tracer.along(part, dim) for part in parts]))
        return
    first = next(axis for axis in axes if axis is not None)
    for axis in axes:  # one after the other in a dimension that is not the channels': these are the same for all
        if axis is None or axis.dim != first.dim:
            raise Unfollowed
        tracer.labels.join(axis.labels, first.labels)
    tracer.label(call.result, first.dim, first.labels)


def _channel_shuffled(tracer: Tracer, call: Call) -> None:
    """The transposition of groups and the places in them: the number of one of these is a constant."""
    x, groups = call.input, call.get(1, "groups")
    labels = tracer.along(x, 1)
    table = labels.reshape(plain(groups), -1)
    if isinstance(groups, Count):
        tracer.labels.join_rows(table.T, table.shape[1])
        groups.must_be(table[:, 0])
    else:
        tracer.labels.join_rows(table, groups)
    tracer.label(call.result, 1, table.T.flatten())


def _pixel_shuffled(tracer: Tracer, call: Call) -> None:
    """Channels by r x r, each such square a channel's; or back."""
    dim, square = call.input.dim() - 3, plain(call.get(1, "upscale_factor")) ** 2
    table = tracer.along(call.input, dim).reshape(-1, square)
    tracer.labels.join_rows(table.T, square)
    tracer.label(call.result, dim, table[:, 0])


def _pixel_unshuffled(tracer: Tracer, call: Call) -> None:
    dim, square = call.input.dim() - 3, plain(call.get(1, "downscale_factor")) ** 2
    tracer.label(call.result, dim, tracer.along(call.input, dim).repeat_interleave(square))


def _padded(tracer: Tracer, call: Call) -> None:
    """Zeros around; beside channels, as many of their own that stay."""
    x, pads = call.input, call.get(1, "pad")
    for count in call.counts:
        count.fix()
    axis = tracer.axis(x)
    if axis is None:
        return
    from_last = 2 * (x.dim() - 1 - axis.dim)
    before, after = plain([*pads, *[0] * (2 * x.dim())])[from_last : from_last + 2]
    if min(before, after) < 0 or ((before or after) and call.get(2, "mode", "constant") != "constant"):
        raise Unfollowed
    stay = axis.labels.new_zeros
    tracer.label(call.result, axis.dim, torch.cat([stay(before), axis.labels, stay(after)]))


def _gated(tracer: Tracer, call: Call) -> None:
    """One half times the sigmoid of the other."""
    dim = plain(call.get(1, "dim", -1))
    axis = tracer.axis(call.input)
    if axis is not None and axis.dim == dim % call.input.dim():
        tracer.label(call.result, dim, tracer.labels.join_rows(axis.labels, 2)[0])
    elif axis is not None:
        tracer.label(call.result, axis.dim, axis.labels)


MOVEMENTS: Mapping[str, Rule] = {
    **ruled(moved, "permute transpose swapaxes swapdims movedim moveaxis t T mT squeeze unsqueeze flatten ravel flip"),
    **ruled(_reshaped, "view reshape unflatten expand view_as reshape_as"),
    **ruled(_repeated, "repeat tile repeat_interleave"),
    **ruled(_concatenated, "cat concat concatenate"),
    "stack": _stacked,
    "channel_shuffle": _channel_shuffled,
    "pixel_shuffle": _pixel_shuffled,
    "pixel_unshuffle": _pixel_unshuffled,
    "pad": _padded,
    "glu": _gated,
}

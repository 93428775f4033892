"""What the operations of PyTorch that take parts of a tensor do to channels: the parts must follow what is kept."""

from __future__ import annotations

from collections.abc import Mapping
from math import lcm
from typing import Any

import torch
from torch import Tensor

from automl_compressors.calls import Call, Unfollowed
from automl_compressors.labels import Count, leaves, plain
from automl_compressors.movement import arrive, labels_of, moved
from automl_compressors.tracing import Rule, Tracer, ruled


def _split(tracer: Tracer, call: Call) -> None:
    """Parts along a dimension; of channels, equal ones, or those whose sizes are counts of them."""
    x, given = call.input, call.get(1, "chunks" if call.name == "chunk" else "split_size")
    dim = plain(call.get(2, "dim", 0)) % x.dim()
    axis = tracer.axis(x)
    if axis is None or axis.dim != dim:
        return moved(tracer, call)
    sizes = [result.shape[dim] for result in call.results]
    if isinstance(given, list | tuple):
        _divide(tracer, axis.labels, given)
        parts = torch.split_with_sizes(axis.labels, sizes)
        for size, part in zip(given, parts, strict=True):
            if isinstance(size, Count):
                size.must_be(part)
            else:
                tracer.labels.freeze(part)
    elif len(set(sizes)) == 1 and (isinstance(given, Count) or (call.name == "chunk" and len(sizes) == given)):
        tracer.labels.even(axis.labels, len(sizes))
        parts = torch.split_with_sizes(axis.labels, sizes)
        if isinstance(given, Count) and call.name == "chunk":
            given.fix()
        elif isinstance(given, Count):
            given.must_be(parts[0])
    else:
        raise Unfollowed
    for result, part in zip(call.results, parts, strict=True):
        tracer.label(result, dim, part)
    return None


def _divide(tracer: Tracer, labels: Tensor, bounds: Any) -> None:
    """Where a bound is a share of the channels, as a half of them, let all shares stay equal."""
    shares = lcm(*(bound.shares for bound in bounds if isinstance(bound, Count)))
    if shares > 1 and len(labels) % shares == 0:
        tracer.labels.even(labels, shares)


def _indexed(tracer: Tracer, call: Call) -> None:
    """Slices: of channels, those whose bounds are counts of them, or beyond what must stay."""
    x, index = call.arguments
    axis = tracer.axis(x)
    items = index if isinstance(index, tuple) else (index,)
    if not all(item is None or item is ... or type(item) in (int, Count, slice) for item in items):
        raise Unfollowed
    if axis is None:
        return moved(tracer, call)
    taken = [item for item in items if item is not None]
    before = next((place for place, item in enumerate(taken) if item is ...), len(taken))
    middle = [slice(None)] * (x.dim() - sum(item is not ... for item in taken))
    by_dim = [*taken[:before], *middle, *taken[before + 1 :]]
    for dim, item in enumerate(by_dim):
        if dim != axis.dim:
            for count in leaves(item):
                count.fix()
        elif isinstance(item, slice):
            _cut(tracer, axis.labels, item)
        else:
            raise Unfollowed
    for result, labels in labels_of(tracer, call):
        arrive(tracer, result, labels, list(range(labels.dim())))
    return None


def _narrowed(tracer: Tracer, call: Call) -> None:
    x, start, length = call.input, call.get(2, "start"), call.get(3, "length")
    dim = plain(call.get(1, "dim")) % x.dim()
    axis = tracer.axis(x)
    if axis is None or axis.dim != dim:
        return moved(tracer, call)
    if isinstance(start, Tensor):
        raise Unfollowed
    _cut(tracer, axis.labels, slice(start, start + length))
    return tracer.label(call.result, dim, axis.labels[plain(start) :][: plain(length)])


def _cut(tracer: Tracer, labels: Tensor, cut: slice) -> None:
    """Demand that the bounds of a slice of channels follow how many of them are kept before."""
    if cut.step not in (None, 1):
        raise Unfollowed
    _divide(tracer, labels, (cut.start, cut.stop))
    for bound in (cut.start, cut.stop):
        place = plain(bound)
        if not isinstance(bound, Count):
            # all before a constant stays, or all after one from the end; beyond the last there is nothing to stay
            if place is not None and place < len(labels):
                tracer.labels.freeze(labels[:place] if place >= 0 else labels[place:])
        elif abs(place) > len(labels):
            raise Unfollowed
        elif place >= 0:
            bound.must_be(labels[:place])
        else:
            (-bound).must_be(labels[place:])


def _taken(tracer: Tracer, call: Call) -> None:
    """One place of a dimension, or each: not of the channels'."""
    axis = tracer.axis(call.input)
    if axis is not None and axis.dim == plain(call.get(1, "dim", 0)) % call.input.dim():
        raise Unfollowed
    moved(tracer, call)


SLICES: Mapping[str, Rule] = {
    **ruled(_split, "split split_with_sizes chunk"),
    **ruled(_taken, "select unbind"),
    "__getitem__": _indexed,
    "narrow": _narrowed,
}

"""What the operations of PyTorch do to channels: those that make, read, keep and blend them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from automl_compressors.calls import Call, Unfollowed
from automl_compressors.labels import Axis, Count, plain
from automl_compressors.movement import MOVEMENTS
from automl_compressors.slices import SLICES
from automl_compressors.tracing import Rule, Tracer, ruled


def _product(tracer: Tracer, call: Call, outputs: int = 0, inputs: int = 1) -> None:
    """A convolution or a linear layer, grouped or not; outputs and inputs are those dimensions of its weights.

    Each group loses as many. Of depthwise ones, where each input is a group, the outputs follow the inputs.
    """
    x, weight, bias = (call.get(place, name) for place, name in enumerate(("input", "weight", "bias")))
    if weight.dim() < 2:
        raise Unfollowed
    spatial = weight.dim() - 2
    dim = x.dim() - spatial - 1
    groups = call.get(6, "groups", 1) if spatial else 1
    number = plain(groups)
    read = tracer.along(x, dim)
    if 1 < number == len(read):
        made = tracer.place(weight, 0, "follows")
        tracer.labels.join(made, read.repeat_interleave(len(made) // number))
        if inputs == 0:
            made = made.repeat_interleave(weight.shape[1])
        _follow_groups(tracer, weight, groups, read)
    else:
        if isinstance(groups, Count):
            groups.fix()
        made = tracer.place(weight, outputs, "makes")
        taken = tracer.place(weight, inputs, "reads", number if inputs == 1 else 1)
        tracer.labels.join(read, taken)
        tracer.labels.even(taken, number)
        if outputs == 0:
            tracer.labels.even(made, number)
        else:
            made = made.repeat(number)
    if bias is not None:
        tracer.labels.join(made, tracer.place(bias, 0, "follows"))
    tracer.label(call.result, dim, made)
    tracer.record(call, weight, dim, number)


def _follow_groups(tracer: Tracer, weight: Tensor, groups: int, read: Tensor) -> None:
    """Let the number of groups follow the inputs: a count does, and that of a layer; any other number cannot."""
    owner = tracer.owner(weight)
    if isinstance(groups, Count):
        groups.must_be(read)
    elif not isinstance(owner, _ConvNd) or not owner.groups == owner.in_channels == groups:
        tracer.labels.freeze(read)


def _normalised(tracer: Tracer, call: Call) -> None:
    """Batch or instance normalisation: each channel has a place in each of its tensors."""
    x = call.input
    labels = tracer.along(x, 1)
    names = ("running_mean", "running_var", "weight", "bias")
    held = [tensor for place, name in enumerate(names, 1) if (tensor := call.get(place, name)) is not None]
    if not held:
        raise Unfollowed  # the layer's number of channels would not follow
    for tensor in held:
        tracer.labels.join(labels, tracer.place(tensor, 0, "follows"))
    tracer.label(call.result, 1, labels)


def _group_normalised(tracer: Tracer, call: Call) -> None:
    """Group normalisation in a layer that knows its groups: a group goes as a whole."""
    x, groups, weight, bias = (
        call.get(place, name) for place, name in enumerate(("input", "num_groups", "weight", "bias"))
    )
    if weight is None or not isinstance(tracer.owner(weight), nn.GroupNorm) or isinstance(groups, Count):
        raise Unfollowed
    labels = tracer.along(x, 1)
    tracer.labels.join_rows(labels.reshape(groups, -1).T, len(labels) // groups)
    for tensor in (weight, bias):
        tracer.labels.join(labels, tracer.place(tensor, 0, "follows"))
    tracer.label(call.result, 1, labels)


def _prelu(tracer: Tracer, call: Call) -> None:
    x, weight = call.input, call.get(1, "weight")
    if weight.numel() == 1:
        return _kept(tracer, call)
    labels = tracer.along(x, 1)
    tracer.labels.join(labels, tracer.place(weight, 0, "follows"))
    return tracer.label(call.result, 1, labels)


def _layer_normalised(tracer: Tracer, call: Call) -> None:
    x = call.input
    axis = tracer.axis(x)
    if axis is not None and axis.dim >= x.dim() - len(call.get(1, "normalized_shape")):
        raise Unfollowed
    _kept(tracer, call)


def _element_wise(tracer: Tracer, call: Call) -> None:
    """Tensors that meet element by element, after broadcasting: the channels that meet go together."""
    if not isinstance(call.result, Tensor):
        raise Unfollowed
    for count in call.counts:
        count.fix()
    dims = call.result.dim()
    found: Axis | None = None
    for tensor in call.tensors:
        axis = tracer.axis(tensor)
        if axis is not None:
            axis = Axis(axis.dim + dims - tensor.dim(), axis.labels)
            if found is not None and found.dim != axis.dim:
                raise Unfollowed
            if found is not None:
                tracer.labels.join(axis.labels, found.labels)
            found = axis
    if found is None:
        return
    for tensor in call.tensors:
        dim = found.dim - dims + tensor.dim()
        if tracer.axis(tensor) is None and dim >= 0 and tensor.shape[dim] > 1:
            raise Unfollowed  # as many numbers as there are channels, and they do not follow
    tracer.label(call.result, found.dim, found.labels)


def _kept(tracer: Tracer, call: Call, spatial: int = 0) -> None:
    """What leaves the channels where they are, and blends only the last so many dimensions."""
    x = call.input
    axis = tracer.axis(x)
    for count in call.counts:
        count.fix()
    if axis is None:
        return
    if axis.dim >= x.dim() - spatial:
        raise Unfollowed
    for result in call.results:
        tracer.label(result, axis.dim, axis.labels)


def _resized(tracer: Tracer, call: Call) -> None:
    _kept(tracer, call, call.input.dim() - 2)


def _along(tracer: Tracer, call: Call) -> None:
    """What blends along one dimension, which must not be that of the channels, and keeps the shape."""
    x = call.input
    axis, dim = tracer.axis(x), call.get(1, "dim")
    if axis is not None and (not isinstance(dim, int) or dim % x.dim() == axis.dim):
        raise Unfollowed
    _kept(tracer, call)


def _reduced(tracer: Tracer, call: Call) -> None:
    """Means, sums and maxima over other dimensions than that of the channels."""
    x, dims = call.input, call.get(1, "dim")
    if isinstance(dims, Tensor):
        return _element_wise(tracer, call)
    axis = tracer.axis(x)
    if axis is None:
        return None
    reduced = {dim % x.dim() for dim in ([dims] if isinstance(dims, int) else dims or range(x.dim()))}
    if axis.dim in reduced:
        raise Unfollowed
    keeps = call.get(2, "keepdim", False)
    dim = axis.dim if keeps else axis.dim - sum(dim < axis.dim for dim in reduced)
    for result in call.results:
        tracer.label(result, dim, axis.labels)
    return None


def _made(tracer: Tracer, call: Call, first: int = 0) -> None:
    """New numbers: where a size is a count of channels, as many channels that go together with those."""
    given = call.arguments[first:]
    sizes = given[0] if given and isinstance(given[0], list | tuple) else call.keywords.get("size", given)
    counts = [(dim, size) for dim, size in enumerate(sizes) if isinstance(size, Count)]
    if len(counts) == len(call.counts) == 1 and (labels := counts[0][1].counted) is not None:
        tracer.label(call.result, counts[0][0], labels)
        return
    for count in call.counts:
        count.fix()


def _length(tracer: Tracer, call: Call) -> None:
    axis = tracer.axis(call.input)
    if axis is not None and axis.dim == 0:
        raise Unfollowed


_ELEMENT_WISE = """
abs absolute acos add addcdiv addcmul asin atan atan2 bitwise_and bitwise_not bitwise_or bitwise_xor ceil celu clamp
clamp_max clamp_min clip copy copysign cos cosh div divide elu eq erf erfc erfinv exp exp2 expand_as expm1 fill
float_power floor floor_divide fmax fmin fmod frac ge gelu greater greater_equal gt hardshrink hardsigmoid hardswish
hardtanh hypot isfinite isinf isnan ldexp le leaky_relu lerp less less_equal log log10 log1p log2 logaddexp logical_and
logical_not logical_or logical_xor logit logsigmoid lt masked_fill maximum minimum mish mul multiply nan_to_num ne neg
negative not_equal pow positive reciprocal relu relu6 remainder round rrelu rsqrt rsub selu sigmoid sign silu sin sinh
softplus softshrink softsign sqrt square sub subtract tan tanh tanhshrink threshold true_divide trunc where xlogy
"""
_OPERATORS = "add sub mul div truediv floordiv pow mod and or xor neg pos abs invert eq ne lt le gt ge"
_KEPT = """
contiguous clone detach detach_ data to type type_as cpu cuda float double half bfloat16 int long bool alpha_dropout
dropout dropout_ dropout1d dropout2d dropout3d feature_dropout feature_alpha_dropout zero_ normal_ uniform_ bernoulli
bernoulli_ zeros_like ones_like empty_like full_like rand_like randn_like
"""
_POOLS = "max_pool avg_pool adaptive_max_pool adaptive_avg_pool lp_pool"

RULES: Mapping[str, Rule] = {
    **MOVEMENTS,
    **SLICES,
    **{name + end: _element_wise for name in _ELEMENT_WISE.split() for end in ("", "_")},
    **{f"__{kind}{name}__": _element_wise for name in _OPERATORS.split() for kind in ("", "r", "i")},
    **ruled(_kept, _KEPT),
    **{f"{pool}{sides}d": partial(_kept, spatial=sides) for pool in _POOLS.split() for sides in (1, 2, 3)},
    **ruled(_reduced, "mean sum amax amin max min prod logsumexp any all argmax argmin nanmean nansum"),
    **ruled(_along, "softmax softmin log_softmax cumsum cumprod"),
    **ruled(_product, "conv1d conv2d conv3d linear"),
    **ruled(partial(_product, outputs=1, inputs=0), "conv_transpose1d conv_transpose2d conv_transpose3d"),
    **ruled(_normalised, "batch_norm instance_norm"),
    **ruled(_made, "zeros ones full empty rand randn"),
    **ruled(partial(_made, first=1), "new_zeros new_ones new_full new_empty"),
    "interpolate": _resized,
    "group_norm": _group_normalised,
    "layer_norm": _layer_normalised,
    "prelu": _prelu,
    "__len__": _length,
}

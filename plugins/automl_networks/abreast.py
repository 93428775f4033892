"""Stacks of layers that read one map, run abreast, so that what is alike in them is done in one go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from automl_networks.depthwise import Depthwise, side_by_side
from automl_networks.layouts import is_quick
from automl_networks.normalised import Normalised, is_foldable, sums

Unit = list[nn.Module]  # a layer, or a 1 x 1 convolution and its normalisation, maybe with a ReLU
Alike = defaultdict[tuple[object, ...], dict[int, Normalised]]  # by kind: what can be done in one go, by the stack


def through(stack: nn.Sequential, x: Tensor) -> Tensor:
    """Return what a stack makes of a map."""
    if not (stack.training and is_quick(x)):
        for layer in stack:
            x = layer(x)
        return x
    (made,) = _run([stack], x, unfinished=False)
    assert isinstance(made, Tensor)
    return made


def weighed(stacks: Sequence[nn.Sequential], x: Tensor, targets: Sequence[int], weights: Tensor) -> list[Tensor]:
    """Return sums of what stacks make of one map, each times its weight.

    ``targets`` says into which sum each goes, counted from 0.
    """
    made: dict[int, Tensor] = {}
    alike: Alike = defaultdict(dict)
    for place, end in enumerate(_run(stacks, x, unfinished=True)):
        if isinstance(end, Normalised):
            alike[end.kind][place] = end
        else:
            _add(made, targets[place], end * weights[place])
    for terms in alike.values():
        into = sorted({targets[place] for place in terms})
        some = weights if len(terms) == len(weights) else weights[torch.tensor(list(terms), device=weights.device)]
        results = sums(list(terms.values()), [into.index(targets[place]) for place in terms], some)
        for target, result in zip(into, results, strict=True):
            _add(made, target, result)
    return [made[target] for target in range(len(made))]


def _add(sums: dict[int, Tensor], target: int, term: Tensor) -> None:
    sums[target] = sums[target] + term if target in sums else term


def _run(stacks: Sequence[nn.Sequential], x: Tensor, unfinished: bool) -> list[Tensor | Normalised]:
    """Return what each stack makes of the map, or if told, and where it can, how far it is before its end."""
    ended: dict[int, Tensor | Normalised] = {}
    running = {place: (_units(stack), x) for place, stack in enumerate(stacks)}
    while running:
        made: dict[int, Tensor] = {}
        deep: dict[int, Depthwise] = {}
        alike: Alike = defaultdict(dict)
        for place, (units, given) in running.items():
            unit = units[0]
            if isinstance(unit[0], Depthwise) and unit[0].training and is_quick(given) and not _is_watched(unit[0]):
                deep[place] = unit[0]
            elif unfinished and len(units) == 1 and (end := _put_off(unit, given)):
                ended[place] = end
            elif len(unit) > 1 and (term := _put_off(unit[:2], given)):
                alike[len(unit) > 2, *term.kind][place] = term
            else:
                for layer in unit:
                    given = layer(given)
                made[place] = given
        if deep:
            results = side_by_side(list(deep.values()), [running[place][1] for place in deep])
            made.update(zip(deep, results, strict=True))
        for (activated, *_), terms in alike.items():
            results = sums(list(terms.values()), range(len(terms)), activated=bool(activated))
            made.update(zip(terms, results, strict=True))
        running = {place: (running[place][0][1:], given) for place, given in made.items()}
        for place in [place for place, (units, _) in running.items() if not units]:
            ended[place] = running.pop(place)[1]
    return [ended[place] for place in range(len(stacks))]


def _put_off(unit: Unit, x: Tensor) -> Normalised | None:
    """Return what a normalisation, alone or after a 1 x 1 convolution, is to make of a map, if that can be folded."""
    norm = unit[-1]
    if type(norm) is not nn.BatchNorm2d or _is_watched(norm) or not is_foldable(x, norm):
        return None
    if len(unit) > 1:
        kernel = unit[0].weight
        assert isinstance(kernel, Tensor)
        return Normalised(x, kernel, norm)
    channels = x.shape[1]
    return Normalised(x, torch.eye(channels, dtype=x.dtype).view(channels, channels, 1, 1), norm)


def _units(stack: nn.Sequential) -> list[Unit]:
    units: list[Unit] = []
    for layer in stack:
        last = units[-1] if units else []
        ends_pair = len(last) == 1 and type(layer) is nn.BatchNorm2d and _is_pointwise(last[0])
        if ends_pair or (len(last) == 2 and type(layer) is nn.ReLU and not _is_watched(layer)):
            last.append(layer)
        else:
            units.append([layer])
    return units


def _is_pointwise(layer: nn.Module) -> bool:
    """Say whether a layer is a 1 x 1 convolution that is quicker as one with its normalisation.

    Where it narrows the map, the covariances of its inputs cost more than is saved.
    """
    return (
        type(layer) is nn.Conv2d
        and layer.kernel_size == layer.stride == (1, 1)
        and layer.padding == (0, 0)
        and layer.groups == 1
        and layer.bias is None
        and layer.in_channels <= layer.out_channels
        and not _is_watched(layer)
    )


def _is_watched(layer: nn.Module) -> bool:
    """Say whether hooks want to know of a layer's calls."""
    return bool(layer._forward_pre_hooks or layer._forward_hooks or layer._backward_pre_hooks or layer._backward_hooks)

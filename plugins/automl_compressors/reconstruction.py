"""Weights fitted anew where channels went, so that layers give again what they gave in the whole network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from automl import Training
    from automl_compressors.channels import Channels

_RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the mean square of a layer's inputs
_IMAGES = 64  # whose padded inputs are laid out at once


class _Goal(NamedTuple):
    """What a layer is to give: places drawn of each image, the width of its outputs, and images x places x channels."""

    places: Tensor
    width: int
    outputs: Tensor


def reconstruct(
    whole: nn.Module,
    small: nn.Module,
    channels: Channels,
    kept: Mapping[str, Sequence[int]],
    training: Training,
    batches: int,
    samples: int,
) -> None:
    """Fit the layers of the small network that read channels which went, in place and in the order of the network.

    Their weights, and biases where they have some, become those of the least squares between their outputs, for what
    the small network as it is by then gives them, and those of the same channels in the whole one: at ``samples``
    random positions of each image of so many batches (He, Zhang & Sun, 2017), drawn by the training's seed. They stay
    near to those that were left, so that no output is further off on these samples than before. Both networks run
    once, on all batches together.

    Only convolutions over images and linear layers, neither in groups nor with weights that others share, are fitted.
    """
    stay = channels.outputs(whole, kept)
    draws = torch.Generator("cpu").manual_seed(training.seed)
    goals: dict[str, _Goal] = {}

    def note(name: str, module: nn.Module, given: Any, result: Tensor) -> None:
        if name not in goals:
            outputs = _flat(module, result)
            chances = torch.rand(outputs.shape[:2], generator=draws, device="cpu")
            places = chances.topk(min(samples, outputs.shape[1])).indices.to(result.device)
            left = _at(outputs, places).index_select(2, stay[name][1].to(result.device))
            goals[name] = _Goal(places, result.shape[-1], left)

    def fit(name: str, module: Any, given: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> None:
        if name in goals:
            _fit(module, _batched(module, given[0] if given else named["input"]), goals.pop(name))

    images = torch.cat([images for images, _ in training.batches(batches)])
    with ExitStack() as stack, torch.no_grad():
        for network in (whole, small):
            stack.callback(network.train, network.training)
            network.eval()
        for name in _readers(small, channels, kept) & stay.keys():
            noting = whole.get_submodule(name).register_forward_hook(partial(note, name))
            fitting = small.get_submodule(name).register_forward_pre_hook(partial(fit, name), with_kwargs=True)
            stack.callback(noting.remove)
            stack.callback(fitting.remove)
        whole(images)
        small(images)


def _readers(small: nn.Module, channels: Channels, kept: Mapping[str, Sequence[int]]) -> set[str]:
    """Return the layers that read channels of which some went, and that can be fitted."""
    modules = dict(small.named_modules())
    groups = [channels.groups[name] for name, units in kept.items() if len(units) < channels.groups[name].units]
    owners = Counter(layer.weight for layer in channels.layers.values())
    return {
        name
        for group in groups
        for name in group.consumers
        if owners[channels.layers[name].weight] == 1 and name in modules and _is_plain(modules[name])
    }


def _is_plain(module: nn.Module) -> bool:
    """Return whether a layer computes as PyTorch's own do, without groups, by a weight that it holds."""
    return (
        getattr(type(module), "forward", None) in (nn.Conv2d.forward, nn.Linear.forward)
        and getattr(module, "groups", 1) == 1
        and module._parameters.get("weight") is not None
    )


def _fit(module: nn.Conv2d | nn.Linear, x: Tensor, goal: _Goal) -> None:
    """Add to a layer's weights what brings its outputs nearest to the goal; an output that is not brought nearer stays.

    How near to the old weights the new ones stay is what, fitted to every other image, serves those between best: few
    images would else be fitted at the cost of all others.
    """
    parameters = [parameter for parameter in (module.weight, module.bias) if parameter is not None]
    old = torch.cat([parameter.reshape(len(parameter), -1) for parameter in parameters], 1)
    chunks = zip(torch.split(x, _IMAGES), torch.split(goal.places, _IMAGES), strict=True)
    rows = torch.cat([_rows(module, images, places, goal.width).double() for images, places in chunks])
    rows = functional.pad(rows, (0, len(parameters) - 1), value=1.0)  # a bias is the weight of 1
    lacking = goal.outputs.double() - rows @ old.double().T
    fitted, held = ((rows[turn::2].flatten(0, 1), lacking[turn::2].flatten(0, 1)) for turn in (0, 1))
    gains = [float(_gain(*held, change).sum()) for change in _changes(*fitted, _RIDGES)]
    if max(gains) > 0:
        rows, lacking = rows.flatten(0, 1), lacking.flatten(0, 1)
        (change,) = _changes(rows, lacking, [_RIDGES[gains.index(max(gains))]])
        new = old + change.to(old.dtype)
        nearer = _gain(rows, lacking, new.double() - old.double()) > 0
        parts = torch.split(torch.where(nearer, new, old), [parameter[0].numel() for parameter in parameters], 1)
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.copy_(part.reshape(parameter.shape))


def _changes(rows: Tensor, lacking: Tensor, ridges: Sequence[float]) -> Iterator[Tensor]:
    """Yield by ridge the change of the weights, outputs x inputs, that makes up best for what outputs lack.

    That is where the squares of what they lack then, and the ridge times those of the change, are least in sum.
    """
    few = len(rows) < rows.shape[1]  # then there are fewer equations in the rows than in the inputs
    square, goal = (rows @ rows.T, lacking) if few else (rows.T @ rows, rows.T @ lacking)
    mean = (square.trace() / rows.shape[1]).clamp_min(1e-30)  # square of an input
    one = torch.eye(len(square), dtype=square.dtype, device=square.device)
    for ridge in ridges:
        found: Tensor = torch.linalg.solve(square + ridge * mean * one, goal)
        yield (rows.T @ found).T if few else found.T


def _gain(rows: Tensor, lacking: Tensor, change: Tensor) -> Tensor:
    """Return by how much a change of the weights lessens the squares of what each output lacks: outputs x 1."""
    made = rows @ change.T
    return (made * (2 * lacking - made)).sum(0)[:, None]


def _rows(module: nn.Conv2d | nn.Linear, x: Tensor, places: Tensor, width: int) -> Tensor:
    """Return what meets a filter where outputs of that width are made, at these places: images x places x inputs."""
    if isinstance(module, nn.Linear):
        return _at(_flat(module, x), places)
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = functional.pad(x, module._reversed_padding_repeated_twice, mode)
    at = (places // width, places % width)
    rows, columns = (
        (place * stride)[..., None] + dilation * torch.arange(size, device=x.device)
        for place, stride, dilation, size in zip(at, module.stride, module.dilation, module.kernel_size, strict=True)
    )
    image = torch.arange(len(x), device=x.device)[:, None, None, None]
    patches = padded[image, :, rows[..., :, None], columns[..., None, :]]  # channels come last
    return patches.movedim(-1, 2).flatten(2)


def _batched(module: nn.Module, x: Tensor) -> Tensor:
    """Return what a layer takes or gives with a dimension of images, where it has none."""
    return x if x.dim() >= (2 if isinstance(module, nn.Linear) else 4) else x[None]


def _flat(module: nn.Module, x: Tensor) -> Tensor:
    """Return what a layer gives, or a linear one takes, as images x places x channels."""
    x = _batched(module, x)
    return x.reshape(len(x), -1, x.shape[-1]) if isinstance(module, nn.Linear) else x.flatten(2).transpose(1, 2)


def _at(numbers: Tensor, places: Tensor) -> Tensor:
    """Return those of images x places x channels at these places of each image."""
    return numbers[torch.arange(len(places), device=places.device)[:, None], places]

"""The test that guards pruning: a smaller network computes what the whole one does that ignores the same channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from automl import BadInput
from automl_compressors import surgery
from automl_compressors.running import Running, tensors_in

TOLERANCE = 1e-5  # of the largest number of the outputs
LAYERS = 1e-3  # of that of a layer: what is wrong is off by much more, and rounding by less
_IMAGES = 3

Made = Mapping[str, tuple[int, Tensor]]  # by layer: the dimension of its channels, from the last; those that stay


def demand(ignoring: nn.Module, small: nn.Module, image: tuple[int, int, int], made: Made) -> None:
    """Raise BadInput, naming a layer, unless two networks compute the same of a few random images.

    They are at rest and in the default dtype. Their outputs are equal, and those of their layers nearly: of these
    ``made`` tells which channels of the first network are in the second. So a network whose outputs hardly follow its
    images, as an untrained one's, is tested too. On the meta device there are only shapes to compare.
    """
    device = next((tensor.device for _, tensor in surgery.tensors(small)), torch.device("cpu"))
    images = torch.randn(_IMAGES, *image, generator=torch.Generator().manual_seed(0), device="cpu").to(device)
    layers: dict[str, Tensor] = {}
    off: dict[str, float] = {}  # by layer, in the order in which they end

    def keep(path: str, result: Any) -> None:
        if path in made and isinstance(result, Tensor) and path not in layers:
            dim, stay = made[path]
            layers[path] = result.index_select(dim, stay.to(device))

    def compare(path: str, result: Any) -> None:
        if path in layers and path not in off:
            off[path] = _difference(layers.pop(path), result)

    wanted, failure = _run(ignoring, images, keep)
    if failure and images.is_meta:
        return  # it looks at numbers, and there are none
    if failure:
        raise BadInput(f"the network cannot be run on {_IMAGES} images: {failure}")
    found, failure = _run(small, images, compare)
    if failure:
        raise BadInput(f"with fewer channels the network cannot be run: {failure}; keep that part's channels whole")
    outputs = max((_difference(*pair) for pair in zip(wanted, found, strict=True)), default=0.0)
    if outputs <= TOLERANCE and all(difference <= LAYERS for difference in off.values()):
        return
    layer = next((name for name, difference in off.items() if difference > TOLERANCE), None)
    where = "" if layer is None else f", from its layer {layer!r} on"
    raise BadInput(
        f"with fewer channels the network does not compute what it should{where}: its outputs are off by "
        f"{outputs:.1e} of their size; keep that part's channels whole"
    )


def _run(network: nn.Module, images: Tensor, see: Callable[[str, Any], None]) -> tuple[list[Tensor], str]:
    """Return the outputs of a copy of the network, or why there are none; ``see`` is shown those of all modules."""
    copy = surgery.replaced(
        network, lambda name, tensor: tensor.detach().to(images.dtype) if tensor.is_floating_point() else None
    ).eval()
    running = Running(copy, see)
    try:
        with torch.no_grad():
            return list(tensors_in(copy(images))), ""
    except Exception as error:
        return [], running.failure(error)


def _difference(wanted: Tensor, found: Tensor) -> float:
    """Return the largest difference as a share of the largest number; infinite where they cannot be compared."""
    if wanted.shape != found.shape:
        return float("inf")
    if wanted.is_meta or not wanted.numel():
        return 0.0
    off, size = (wanted.double() - found.double()).abs().max(), wanted.double().abs().max()
    return float(off / size.clamp(min=1e-30)) if off.isfinite() else float("inf")

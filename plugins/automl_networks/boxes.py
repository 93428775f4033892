"""Boxes of detectors, corner by corner (x1, y1, x2, y2) in pixels: where they begin, move, overlap and look."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

RATIOS = (1 / 2, 3 / 4, 1.0, 4 / 3, 2.0)  # height to width
SCALES = (32, 64, 128, 256, 512)  # pixels of a side of the square of the same area


def anchors(
    size: tuple[int, int], stride: int = 16, scales: Sequence[float] = SCALES, ratios: Sequence[float] = RATIOS
) -> Tensor:
    """Return the boxes about the centre of each position of a map, row by row; (positions x scales x ratios) x 4.

    At each position all ratios of the first scale come first. The size is height, width (Ren et al., 2015).
    """
    sides = [(scale / math.sqrt(ratio), scale * math.sqrt(ratio)) for scale in scales for ratio in ratios]
    about = torch.tensor([(-width, -height, width, height) for width, height in sides]) / 2
    y, x = torch.meshgrid(*((torch.arange(length) + 0.5) * stride for length in size), indexing="ij")
    return (torch.stack([x, y, x, y], dim=-1)[:, :, None] + about).flatten(0, 2)


def moved(boxes: Tensor, deltas: Tensor) -> Tensor:
    """Return the boxes, ... x 4, moved by shares of their sides and scaled by powers of e (dx, dy, dw, dh)."""
    sides = boxes[..., 2:] - boxes[..., :2]
    centres = boxes[..., :2] + sides / 2 + deltas[..., :2] * sides
    half = sides * deltas[..., 2:].clamp(max=math.log(1000 / 16)).exp() / 2  # Ren et al.'s bound, against infinities
    return torch.cat([centres - half, centres + half], dim=-1)


def clipped(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the boxes cut off at the edges of an image of that height and width."""
    height, width = size
    return boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))


def overlaps(first: Tensor, second: Tensor) -> Tensor:
    """Return intersection over union of each box with each, ... x A x B for ... x A x 4 and ... x B x 4."""
    first, second = first[..., :, None, :], second[..., None, :, :]
    low, high = first[..., :2].maximum(second[..., :2]), first[..., 2:].minimum(second[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (first, second)]
    return shared / (areas[0] + areas[1] - shared).clamp(min=1e-9)


def kept(boxes: Tensor, threshold: float) -> Tensor:
    """Return which boxes, N x B x 4 by falling score, overlap none that is kept before them by more; N x B."""
    close = overlaps(boxes, boxes) > threshold
    keep = torch.ones(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    for place in range(boxes.shape[1]):
        keep[:, place + 1 :] &= ~(keep[:, place, None] & close[:, place, place + 1 :])
    return keep


def align_by_position(maps: Tensor, regions: Tensor, stride: int = 16, bins: int = 7, samples: int = 2) -> Tensor:
    """Return what regions, N x R x 4, see of maps, N x (C bins bins) x height x width: N x R x C x bins x bins.

    Bin (i, j) of channel c is the mean of samples x samples points, between pixels, of map (c, i, j) alone: row i and
    column j of the region (position-sensitive align; Dai et al., 2016, and He et al., 2017).
    """
    height, width = maps.shape[-2:]
    x1, y1, x2, y2 = (regions / stride).unbind(-1)
    rows = _weights(y1, y2, height, bins, samples)
    columns = _weights(x1, x2, width, bins, samples)
    return torch.einsum("nrih,ncijhw,nrjw->nrcij", rows, torch.unflatten(maps, 1, (-1, bins, bins)), columns)


def _weights(begin: Tensor, end: Tensor, length: int, bins: int, samples: int) -> Tensor:
    """Return what each pixel of a line counts for in each bin between begin and end; they add up to one."""
    share = (torch.arange(bins * samples, device=begin.device) + 0.5) / (bins * samples)
    at = (begin[..., None] + (end - begin)[..., None] * share - 0.5).clamp(0, length - 1)  # a pixel's centre is half
    near = (1 - (at[..., None] - torch.arange(length, device=begin.device)).abs()).clamp(min=0)
    return torch.unflatten(near, -2, (bins, samples)).mean(-2)

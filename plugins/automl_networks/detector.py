"""ThunderNet's detector: a light map of regions, attention by what proposes them, a light head."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from automl_networks.boxes import RATIOS, SCALES, align_by_position, anchors, clipped, kept, moved
from automl_networks.classifier import Classifier
from automl_networks.conv_norm import conv_norm

BINS = 7
DEPTH = 5  # channels that each bin of a region sees
THIN = DEPTH * BINS * BINS  # 245 channels of the map that regions look at
STRIDE = 16  # pixels between positions of that map
PROPOSED = 256  # channels of what proposes
ANCHORS = len(SCALES) * len(RATIOS)


class ContextEnhancement(nn.Module):
    """Add up a map, the next smaller one at its size, and the mean of the latter: 245 channels (Qin et al., 2019)."""

    def __init__(self, middle: int, last: int, outputs: int = THIN) -> None:
        super().__init__()
        self.middle = nn.Conv2d(middle, outputs, 1)
        self.last = nn.Conv2d(last, outputs, 1)
        self.whole = nn.Linear(last, outputs)

    def forward(self, middle: Tensor, last: Tensor) -> Tensor:
        larger = functional.interpolate(self.last(last), middle.shape[-2:])
        whole = self.whole(last.mean((2, 3))).unflatten(1, (-1, 1, 1))
        out: Tensor = self.middle(middle) + larger + whole
        return out


class RegionProposal(nn.Module):
    """Tell for each anchor whether it holds an object, and how to move it there (Ren et al., 2015).

    Returns the features it tells it by, N x 256 x height x width, scores N x anchors, moves N x anchors x 4, in the
    order of ``anchors``.
    """

    def __init__(self, inputs: int = THIN, features: int = PROPOSED) -> None:
        super().__init__()
        self.features = nn.Sequential(conv_norm(inputs, inputs, 5, groups=inputs), conv_norm(inputs, features))
        self.objectness = nn.Conv2d(features, ANCHORS, 1)
        self.moves = nn.Conv2d(features, 4 * ANCHORS, 1)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.features(maps)
        scores, moves = (layer(features).permute(0, 2, 3, 1).flatten(1) for layer in (self.objectness, self.moves))
        return features, scores, moves.unflatten(1, (-1, 4))


class SpatialAttention(nn.Module):
    """Multiply maps by numbers in (0, 1) that the proposing features give, so that objects stand out."""

    def __init__(self, features: int = PROPOSED, outputs: int = THIN) -> None:
        super().__init__()
        self.weigh = conv_norm(features, outputs, activation=nn.Sigmoid)

    def forward(self, maps: Tensor, features: Tensor) -> Tensor:
        weights: Tensor = self.weigh(features)
        return maps * weights


class RegionHead(nn.Module):
    """Class scores ... x (classes + 1), the first being no object, and moves ... x classes x 4 of regions ... x 245."""

    def __init__(self, classes: int, inputs: int = THIN, features: int = 1024) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Linear(inputs, features), nn.ReLU(inplace=True))
        self.scores = nn.Linear(features, classes + 1)
        self.moves = nn.Linear(features, 4 * classes)

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(regions)
        return self.scores(features), self.moves(features).unflatten(-1, (-1, 4))


class Detections(NamedTuple):
    """What a detector says of N images, with A anchors and R regions in each; scores are logits."""

    objectness: Tensor  # N x A
    moves: Tensor  # N x A x 4, of the anchors
    regions: Tensor  # N x R x 4, the most likely ones, in pixels
    scores: Tensor  # N x R x (classes + 1), the first being no object
    boxes: Tensor  # N x R x classes x 4, in pixels


class ThunderNetDetector(nn.Module):
    """Images to detections in two stages (Qin et al., 2019), for images whose sides are multiples of 32.

    The backbone's first two stages end at stride 16 and its others at 32, with so many ``channels``; its head is
    unused. Of the ``candidates`` likeliest anchors, moved, those that overlap a likelier one by more than 0.7 come
    last, and the first ``regions`` are looked at.
    """

    def __init__(
        self,
        backbone: Classifier,
        channels: tuple[int, int],
        classes: int = 80,
        *,
        regions: int = 200,
        candidates: int = 1000,
    ) -> None:
        super().__init__()
        self.middle = nn.Sequential(backbone.stem, *list(backbone.stages)[:2])
        self.last = nn.Sequential(*list(backbone.stages)[2:])
        self.context = ContextEnhancement(*channels)
        self.propose = RegionProposal()
        self.attend = SpatialAttention()
        self.head = RegionHead(classes)
        self.regions = regions
        self.candidates = candidates

    def forward(self, images: Tensor) -> Detections:
        middle = self.middle(images)
        maps = self.context(middle, self.last(middle))
        features, objectness, moves = self.propose(maps)
        regions = self._likeliest(images, maps, objectness, moves)
        seen = align_by_position(self.attend(maps, features), regions, STRIDE, BINS)
        scores, shifts = self.head(seen.flatten(2))
        size = (images.shape[-2], images.shape[-1])
        return Detections(objectness, moves, regions, scores, clipped(moved(regions[:, :, None], shifts), size))

    @torch.no_grad()
    def _likeliest(self, images: Tensor, maps: Tensor, objectness: Tensor, moves: Tensor) -> Tensor:
        """Return the regions, N x R x 4."""
        at = anchors((maps.shape[-2], maps.shape[-1]), STRIDE).to(moves)
        boxes = clipped(moved(at, moves), (images.shape[-2], images.shape[-1]))
        likely = objectness.topk(min(self.candidates, objectness.shape[1])).indices
        boxes = _taken(boxes, likely)
        order = kept(boxes, 0.7).logical_not().to(torch.uint8).argsort(dim=1, stable=True)
        return _taken(boxes, order[:, : self.regions])


def _taken(boxes: Tensor, places: Tensor) -> Tensor:
    """Return the boxes, N x ... x 4, at those places, N x R."""
    return boxes.gather(1, places[..., None].expand(-1, -1, 4))

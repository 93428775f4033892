"""A data set as tensors, a batch at a time: all in memory, on the device, and drawn by seed alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from automl import BadInput, Dataset

if TYPE_CHECKING:
    from torch import Tensor


def seed_of(seed: int, purpose: str, *place: int) -> int:
    """Return the seed, of 63 bits, for one purpose at one place, such as ("order", epoch)."""
    text = f"{seed}/{purpose}/{'/'.join(map(str, place))}"
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def cut(count: int, batch_size: int) -> list[tuple[int, int]]:
    """Cut so many images into batches of nearly equal size, as (start, stop); every image is in one.

    No batch is larger than the batch size, and none has a single image, of which batch normalisation could make
    nothing: where one image would be left over, the batches share it out (65 by 64 are 33 and 32), and one batch
    may be larger by one (3 by 2 is one batch of 3).

    >>> cut(65, 64)
    [(0, 33), (33, 65)]
    """
    if count < 2:
        raise BadInput(f"there are {count} training images, of which no batch can be made: give at least 2")
    batches = min(-(-count // batch_size), count // 2)
    bounds = [-(-count * number // batches) for number in range(batches + 1)]
    return list(pairwise(bounds))


class Batches:
    """Images and labels of one split on one device.

    Images stay bytes until they are in a batch and augmented: a quarter of the memory and of the moving, and the
    conversion costs next to nothing.
    """

    def __init__(
        self,
        dataset: Dataset,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
    ) -> None:
        self.images = torch.from_numpy(dataset.images).to(device)
        self.labels = torch.from_numpy(dataset.labels).to(device)
        channels = (1, -1, 1, 1)
        # (x / 255 - mean) / std as one product and one sum
        self.scale = (1 / (255 * torch.tensor(std, dtype=torch.float64))).float().view(channels).to(device)
        self.shift = -(torch.tensor(mean, dtype=torch.float64) / torch.tensor(std, dtype=torch.float64)).float()
        self.shift = self.shift.view(channels).to(device)

    def __len__(self) -> int:
        return len(self.labels)

    def order(self, seed: int, epoch: int) -> Tensor:
        """Return the order of the images in that epoch, the same on every device."""
        generator = torch.Generator().manual_seed(seed_of(seed, "order", epoch))
        return torch.randperm(len(self), generator=generator).to(self.labels.device)

    def take(self, which: Tensor) -> tuple[Tensor, Tensor]:
        """Return those images, still as bytes, and their labels."""
        return self.images[which], self.labels[which]

    def normalise(self, images: Tensor) -> Tensor:
        """Return images given as bytes with the mean 0 and the deviation 1 of the training images."""
        return torch.addcmul(self.shift, images.float(), self.scale)

    def in_turn(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every image once, normalised, in batches of that size, the last as large as it comes."""
        for start in range(0, len(self), size):
            which = slice(start, start + size)
            yield self.normalise(self.images[which]), self.labels[which]


def first(dataset: Dataset, images: int | None) -> Dataset:
    """Return so many images of a data set, each class in its share; all of it where there are no more."""
    if images is None or images >= len(dataset):
        return dataset
    chosen = np.sort(stratified(dataset.labels)[:images])
    return Dataset(dataset.images[chosen], dataset.labels[chosen])


def stratified(labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the places of all images in an order of which every beginning has each class in its share."""
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # within the class
    share = (rank + 0.5) / np.repeat(sizes, sizes)  # how much of its class is taken before it
    begins = rank == 0  # one of each class before a second of any
    return order[np.lexsort((share, ~begins))]

"""A task is what a network has to do: its data, its input and outputs, its loss and its metrics."""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Lt

from automl.errors import printable

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import Generator, Tensor

    from automl.splits import Images, Labels

logger = logging.getLogger("automl")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images, uint8, N x channels x height x width, and the class index of each, int64."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Data:
    """What a task loads: every labelled image it has, the classes by index, and an official test set if there is one.

    ``names`` tells the labelled images apart in warnings, for example by their files; where empty, positions do.
    """

    images: Images
    labels: Labels
    classes: Sequence[str]
    test: Dataset | None = None
    names: Sequence[str] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)  # for data.json: files left out, layouts told, ...


@dataclass(kw_only=True)
class Task(ABC):
    """Images to classify. Subclasses are dataclasses that say in ``load`` where their images come from.

    After ``prepare`` a task holds the training and the validation images. It never holds the test images:
    ``prepare`` returns them, the only reference there is, to whoever trains the final network.
    """

    batch_size: Annotated[int, Ge(2)] = 128
    validation: Annotated[float, Gt(0), Lt(1)] = 0.15  # share of all images, or of those that come with a test set
    test: Annotated[float, Gt(0), Lt(1)] = 0.15  # share of all images, unless they come with a test set
    images: Annotated[int, Ge(4)] | None = None  # at most so many in training and validation together, stratified
    crop: Annotated[int, Ge(0)] = 0  # training images are shifted by up to so many pixels
    flip: bool = False  # and mirrored half of the time
    cutout: Annotated[int, Ge(0)] = 0  # and lose a square of this side

    # born in prepare
    train: Dataset = field(init=False, repr=False, compare=False)
    held_out: Dataset = field(
        init=False, repr=False, compare=False
    )  # the validation images: held out of training, seen by the search
    classes: tuple[str, ...] = field(init=False, repr=False, compare=False)
    mean: tuple[float, ...] = field(
        init=False, repr=False, compare=False
    )  # of the training images, a channel, in [0, 1]
    std: tuple[float, ...] = field(init=False, repr=False, compare=False)
    notes: dict[str, Any] = field(init=False, repr=False, compare=False)  # what data.json says

    name: ClassVar[str] = ""  # as it is registered

    @abstractmethod
    def load(self) -> Data:
        """Return everything there is; raises BadInput for files that are missing, damaged or not images."""

    def prepare(self, seed: int) -> Dataset:
        """Load, split once by the seed, and return the test images; raises BadInput for data that cannot be split.

        The splits depend on the seed and on the images, not on their order. Every class is in every split, in
        nearly the same share. Images with equal pixels are one image to the split, so that none is on two sides
        of it; with a test set given, training images that equal one of its images are left out. With ``images``
        set, one of each set of equal images is kept.
        """
        from automl.splits import Split, count, moments

        data = self.load()
        given = None if data.test is None else data.test.images
        split = Split(data.images, data.labels, data.classes, data.names, given, seed)
        if data.test is None:
            members = split.take_test(self.test, self.validation)
            test = Dataset(data.images[members], data.labels[members])
        else:
            test = data.test
        train, held_out = split.take_train_and_validation(self.validation, self.images)
        self.train = Dataset(data.images[train], data.labels[train])
        self.held_out = Dataset(data.images[held_out], data.labels[held_out])
        self.classes = tuple(data.classes)
        self.mean, self.std = moments(self.train.images)
        self.notes = {
            "classes": list(self.classes),
            "input": list(self.input),
            "images": len(data.labels) + (0 if data.test is None else len(data.test)),
            "train": count(self.train.labels, self.outputs).tolist(),
            "validation": count(self.held_out.labels, self.outputs).tolist(),
            "test": count(test.labels, self.outputs).tolist(),
            **split.notes,
            **data.notes,
        }
        if absent := [name for name, images in zip(self.classes, self.notes["test"], strict=True) if not images]:
            shown = ", ".join(map(printable, absent[:5]))
            logger.warning("%d of %d classes have no image in the test set: %s", len(absent), self.outputs, shown)
        return test

    @property
    def input(self) -> tuple[int, int, int]:
        """Channels, height and width of the images that a network is given."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def outputs(self) -> int:
        """The number of classes."""
        return len(self.classes)

    def describe(self) -> str:
        """Return the data in a line: how many images there are, of how many classes, and how they are split."""
        train, validation, test = (sum(self.notes[split]) for split in ("train", "validation", "test"))
        extras = [
            f"{self.notes[key]:,} {words}"
            for key, words in (
                ("duplicates", "copies of others"),
                ("conflicts", "with two labels"),
                ("equal_to_test", "left out for being in the test set too"),
                ("unused", "not used"),
            )
            if self.notes[key]
        ]
        return (
            f"{self.name or type(self).__name__} ({self.notes['images']:,} images, {self.outputs} classes; "
            f"{train:,} train, {validation:,} validation, {test:,} test kept aside{''.join('; ' + e for e in extras)})"
        )

    def read_image(self, path: str | Path) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
        """Return an image file as channels x height x width, uint8, in the colours and the size of the training images.

        It is stretched to that size, as the images of a folder are. Raises BadInput for a file that is no image.
        """
        from automl.images import as_array, read

        channels, height, width = self.input
        return as_array(read(path, at_least=max(height, width)), channels, height, width)

    def augment(self, images: Tensor, generator: Generator) -> Tensor:
        """Return the images, N x C x H x W, each shifted, mirrored and cut out as the fields say, by the generator.

        Of any type, on any device, in either memory format, which they keep; those given are not changed. What is
        shifted in or cut out is zero. A square is centred on any pixel, so at the border a part of it lies outside
        (cutout: DeVries & Taylor, 2017).
        """
        import torch

        if not (self.crop or self.flip or self.cutout):
            return images
        count, channels, height, width = images.shape
        device = images.device
        channels_last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
        drawn = torch.rand((5, count, 1), generator=generator, device=generator.device).to(device)
        rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
        if self.crop or self.flip:
            mirrored = (drawn[0] < 0.5) if self.flip else torch.zeros_like(drawn[0], dtype=torch.bool)
            shifts = (drawn[1:3] * (2 * self.crop + 1)).long()
            from_rows = rows + shifts[0]
            from_columns = torch.where(mirrored, width - 1 - columns, columns) + shifts[1]
            # one gather over whole pictures laid flat; by rows and columns it takes three times as long
            places = from_rows[:, :, None] * (width + 2 * self.crop) + from_columns[:, None, :]
            padded = torch.nn.functional.pad(images, [self.crop] * 4).flatten(2)
            images = padded.gather(2, places.flatten(1)[:, None].expand(-1, channels, -1))
            images = images.view(count, channels, height, width)
        if self.cutout:
            top = (drawn[3] * height).long() - self.cutout // 2
            left = (drawn[4] * width).long() - self.cutout // 2
            in_rows = (rows >= top) & (rows < top + self.cutout)
            in_columns = (columns >= left) & (columns < left + self.cutout)
            images = images.masked_fill(in_rows[:, None, :, None] & in_columns[:, None, None, :], 0)
        return images.contiguous(memory_format=torch.channels_last) if channels_last else images

    def loss(self, outputs: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """Return the mean cross-entropy, in float32 whatever the precision of the outputs, for training."""
        from torch.nn import functional

        return functional.cross_entropy(outputs.float(), labels, label_smoothing=smoothing)

    def metrics(self) -> tuple[str, ...]:
        """Return the names of what ``score`` tells, the one to look at first."""
        return ("accuracy", "loss")

    def score(self, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return each metric summed over a batch, on the device; sums over all batches / images are the metrics."""
        from torch.nn import functional

        return {
            "accuracy": (outputs.argmax(1) == labels).sum(),
            "loss": functional.cross_entropy(outputs.float(), labels, reduction="sum"),
        }


def fingerprint(task: Task, test: Dataset) -> str:
    """Return what tells the splits of a prepared task from any others: a run is not gone on with on other images."""
    import numpy as np

    digest = hashlib.blake2b(digest_size=8)
    for split in (task.train, task.held_out, test):
        digest.update(repr(split.images.shape).encode())
        digest.update(np.ascontiguousarray(split.images).data)
        digest.update(np.ascontiguousarray(split.labels).data)
    return digest.hexdigest()

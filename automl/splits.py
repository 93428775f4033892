"""Splits labelled images into those to train on, to validate on and to test on, so that no image is in two of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from automl.errors import BadInput, printable

Images = np.ndarray[tuple[int, int, int, int], np.dtype[np.uint8]]  # N x channels x height x width
Labels = np.ndarray[tuple[int], np.dtype[np.int64]]
Counts = np.ndarray[tuple[int], np.dtype[np.int64]]
Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]

logger = logging.getLogger("automl")


class Split:
    """Which labelled image goes where.

    Images with equal pixels are one *picture*, and pictures are what is split, stratified by class. One with two
    labels counts for the rarer class. The order in which pictures are taken is that of a hash of the seed and
    their pixels, so that the order of the files does not matter. ``notes`` tells what was found.

    Raises BadInput where there are fewer than two classes, or no images.
    """

    def __init__(
        self,
        images: Images,
        labels: Labels,
        classes: Sequence[str],
        names: Sequence[str],
        test: Images | None,
        seed: int,
    ) -> None:
        assert images.dtype == np.uint8
        assert images.ndim == 4
        assert labels.shape == images.shape[:1]
        if len(classes) < 2:
            named = "".join(f" ({printable(name)!r})" for name in classes)
            raise BadInput(f"the data have {len(classes)} class{named}, and the least is 2: add a class")
        if not len(labels):
            raise BadInput(f"the data have {len(classes)} classes and no images: add some of each")
        self.labels, self.classes, self.names = labels, classes, names
        digests = _digests(images)
        pictures, self.first, self.picture, copies = np.unique(
            digests, return_index=True, return_inverse=True, return_counts=True
        )
        self.owner = labels[self.first]
        conflicting = self._share_out_conflicts()
        in_test = np.zeros(len(pictures), dtype=bool) if test is None else np.isin(pictures, _digests(test))
        self.free: Flags = ~in_test
        self.pictures = int(self.free.sum())
        salt = blake2b(str(seed).encode(), digest_size=16).digest()
        keys = b"".join(blake2b(picture.tobytes(), digest_size=8, salt=salt).digest() for picture in pictures)
        self.order = np.lexsort((np.frombuffer(keys, ">u8"), self.owner))
        self.notes: dict[str, Any] = {
            "duplicates": len(labels) - len(pictures),  # images that equal an earlier one
            "conflicts": len(conflicting),  # pictures with two labels or more, of which the first hundred are named
            "conflicting": conflicting[:100],
            "equal_to_test": int(copies[in_test].sum()),  # left out of training
            "unused": 0,  # beyond the number asked for
        }

    def _share_out_conflicts(self) -> list[str]:
        """Give each picture with several labels to its rarest class, warn of them and return them named."""
        sizes = count(self.labels, len(self.classes))
        named: list[str] = []
        for picture in np.unique(self.picture[self.labels != self.owner[self.picture]]):
            members = np.flatnonzero(self.picture == picture)
            claims = np.unique(self.labels[members])
            owner = min(claims, key=lambda label: (sizes[label], label))
            self.owner[picture] = owner
            self.first[picture] = members[self.labels[members] == owner][0]
            where = ", ".join(self.names[m] if self.names else f"image {m}" for m in members[:4])
            named.append(f"{where} ({' and '.join(self.classes[label] for label in claims)})")
        if named:
            shown = "; ".join(printable(text) for text in named[:5]) + ("; ..." if len(named) > 5 else "")
            logger.warning("%d images have equal pixels and two labels: %s", len(named), shown)
        return named

    def take_test(self, share: float, validation: float) -> Labels:
        """Return which images are the test set, that share of every class, leaving two pictures of each at least."""
        if share + validation >= 1:
            raise BadInput(
                f"task.test={share:g} and task.validation={validation:g} leave nothing to train on: "
                "together they must be below 1"
            )
        free = self._free_per_class(least=3)
        taken = self._take(_apportion(round(share * self.pictures), free, 1, free - 2))
        return np.flatnonzero(taken[self.picture])

    def take_train_and_validation(self, share: float, limit: int | None) -> tuple[Labels, Labels]:
        """Return which images are to train on and which to validate on, the latter that share of all there were.

        With a limit below what there is, so many pictures are used, one image of each, and the share is of them.
        """
        free = self._free_per_class(least=2)
        total = int(free.sum())
        available = int(self.free[self.picture].sum())
        validation = share * self.pictures
        members = np.ones(len(self.labels), dtype=bool)
        if limit is not None and limit < available:
            if limit < 2 * len(free):
                raise BadInput(
                    f"task.images={limit} is too few for {len(free)} classes, each of which needs one to train on "
                    f"and one to validate on: the least is {2 * len(free)}"
                )
            members[:] = False
            members[self.first] = True
            free = _apportion(min(limit, total), free, 2, free)
            self.free = self._take(free)
            validation *= free.sum() / total
            self.notes["unused"] = available - int(free.sum())
        held_out = self._take(_apportion(round(validation), free, 1, free - 1))
        return np.flatnonzero(self.free[self.picture] & members), np.flatnonzero(held_out[self.picture] & members)

    def _free_per_class(self, least: int) -> Counts:
        free = count(self.owner[self.free], len(self.classes))
        scarce = int(free.argmin())
        if free[scarce] < least:
            have = int((self.labels == scarce).sum())
            but = "" if have == free[scarce] else f", but only {free[scarce]} that differ and are nowhere else"
            raise BadInput(
                f"class {printable(self.classes[scarce])!r} has {have} image{'s' * (have != 1)}{but}; "
                f"the least is {least}, one for each split: add images or remove the class"
            )
        return free

    def _take(self, wanted: Counts) -> Flags:
        """Take so many free pictures of each class, in their order; return which."""
        order = self.order[self.free[self.order]]
        owners = self.owner[order]
        rank = np.arange(len(order)) - np.searchsorted(owners, owners)  # within the class
        taken = np.zeros(len(self.free), dtype=bool)
        taken[order[rank < wanted[owners]]] = True
        self.free = self.free & ~taken
        return taken


def count(labels: Labels, classes: int) -> Counts:
    """Return how many labels there are of each class."""
    counts: Counts = np.bincount(labels, minlength=classes)
    return counts


def moments(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, in [0, 1]; a constant channel has the deviation 1."""
    channels = images.shape[1]
    histogram = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, len(images), 1024):  # in pieces, since counting widens its input eightfold
        for channel in range(channels):
            histogram[channel] += np.bincount(images[start : start + 1024, channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    weights = histogram / histogram.sum(1, keepdims=True)
    means = weights @ values
    deviations = np.sqrt((weights * (values - means[:, None]) ** 2).sum(1))
    return tuple(means.tolist()), tuple(d if d > 1e-6 else 1.0 for d in deviations.tolist())


def _digests(images: Images) -> np.ndarray[tuple[int], np.dtype[np.bytes_]]:
    """Return 16 bytes for each image, equal for equal pixels."""
    joined = b"".join(blake2b(memoryview(image), digest_size=16).digest() for image in np.ascontiguousarray(images))
    return np.frombuffer(joined, dtype="V16")


def _apportion(total: int, sizes: Counts, low: int, high: Counts) -> Counts:
    """Share the total out in proportion to the sizes, by largest remainders, each between low and high."""
    quotas = total * sizes / sizes.sum()
    shares: Counts = np.clip(np.floor(quotas).astype(np.int64), low, high)
    for index in np.argsort(shares - quotas, kind="stable"):
        if shares.sum() < total:
            shares[index] += shares[index] < high[index]
    while shares.sum() > total and shares.max() > low:  # what small classes get above their share, large ones give
        shares[shares.argmax()] -= 1
    return shares

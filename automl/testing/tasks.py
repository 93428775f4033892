"""The contract of tasks."""

from __future__ import annotations

from collections.abc import Callable

from automl.task import Dataset, Task, fingerprint


def check_task(factory: Callable[[], Task], *, seed: int = 0) -> None:
    """Raise AssertionError, in a sentence, where the tasks that the factory makes break their contract.

    Images are bytes, N x channels x height x width, a class each; splits share no image and are the same by one seed;
    a loss that is a number and has a gradient; metrics by their names, each a sum over a batch.
    """
    import numpy as np
    import torch

    task, again = factory(), factory()
    name = type(task).__name__
    test, test_again = task.prepare(seed), again.prepare(seed)
    assert fingerprint(task, test) == fingerprint(again, test_again), f"{name} splits differently by one seed"
    assert task.classes, f"{name} names no classes"
    shapes = set()
    seen: dict[bytes, str] = {}
    for split, dataset in (("training", task.train), ("validation", task.held_out), ("test", test)):
        _check_images(name, split, dataset, task.outputs)
        shapes.add(dataset.images.shape[1:])
        for image in np.unique(dataset.images.reshape(len(dataset), -1), axis=0):
            other = seen.setdefault(image.tobytes(), split)
            assert other == split, f"{name} has one image in the {other} and the {split} images"
    assert len(shapes) == 1, f"{name} has images of several shapes: {sorted(shapes)}"
    outputs = torch.zeros(2, task.outputs, requires_grad=True)
    labels = torch.from_numpy(task.train.labels[:2]).long()
    loss = task.loss(outputs, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.ndim == 0, f"{name}.loss returns {tuple(loss.shape)}, not one number"
    assert outputs.grad is not None, f"{name}.loss has no gradient"
    assert torch.isfinite(outputs.grad).all(), f"{name}.loss has a gradient that is not finite"
    metrics, scores = task.metrics(), task.score(outputs.detach(), labels)
    missing = [metric for metric in metrics if metric not in scores]
    assert metrics, f"{name}.metrics names none"
    assert not missing, f"{name}.score does not tell {missing}, which metrics() names"


def _check_images(name: str, split: str, dataset: Dataset, classes: int) -> None:
    images, labels = dataset.images, dataset.labels
    assert len(dataset), f"{name} has no {split} images"
    assert images.ndim == 4, f"{name} has {split} images of shape {images.shape}, not N x channels x height x width"
    assert images.dtype == "uint8", f"{name} has {split} images of {images.dtype}, not of bytes (uint8)"
    assert len(labels) == len(images), f"{name} has {len(images)} {split} images and {len(labels)} labels"
    assert 0 <= labels.min() <= labels.max() < classes, f"{name} has {split} labels that are none of its classes"

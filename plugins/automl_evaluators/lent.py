"""What an evaluator that trains lends a compressor: its training and its training images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.modules.batchnorm import _BatchNorm

from automl import Task
from automl.checkpoint import Checkpoint
from automl_evaluators.batches import Batches, cut, seed_of
from automl_evaluators.learner import Learner

MakeLearner = Callable[..., Learner]
_SECONDS_BETWEEN_SAVES = 20.0


class Lent:
    """The training of one evaluator, for one compression; see ``automl.Training``.

    With a folder, each training keeps a checkpoint there by its number, so that a compression that was interrupted
    is done again as far as its trainings, which go on from where they were.
    """

    def __init__(self, task: Task, train: Batches, seed: int, learner: MakeLearner, folder: Path | None = None) -> None:
        self.task, self.seed = task, seed
        self._train, self._learner, self._folder = train, learner, folder
        self._trainings = 0

    def train(
        self,
        network: Module,
        epochs: int,
        *,
        rate: float = 1.0,
        loss: Callable[[Module, Tensor, Tensor], Tensor] | None = None,
        before_step: Callable[[Module], None] | None = None,
    ) -> None:
        """Train in place; see ``automl.Training``."""
        number = self._trainings
        self._trainings += 1
        seed = seed_of(self.seed, "lent", number)
        learner = self._learner(network, epochs, rate, seed, loss=loss, before_step=before_step)
        path = None if self._folder is None else self._folder / f"{number}.safetensors"
        if path is not None and path.exists():
            learner.restore(Checkpoint.load(path), "an interrupted compression")
        last = time.monotonic()

        def save(every: float = _SECONDS_BETWEEN_SAVES) -> None:
            nonlocal last
            if path is not None and time.monotonic() - last >= every:
                learner.checkpoint({}).save(path)
                last = time.monotonic()

        while learner.epoch < epochs:
            learner.finish_epoch(save)
        save(0)

    def recalibrate(self, network: Module, batches: int = 8) -> None:
        """Measure the statistics of batch normalisation anew; see ``automl.Training``."""
        norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        if not norms:
            return
        was_training, momenta = network.training, [norm.momentum for norm in norms]
        network.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean
            norm.train()
        with torch.no_grad():
            for images, _ in self.batches(batches):
                network(images)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        network.train(was_training)

    def batches(self, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield so many batches of training images; see ``automl.Training``."""
        bounds = cut(len(self._train), self.task.batch_size)
        for number in range(count):
            epoch, place = divmod(number, len(bounds))
            start, stop = bounds[place]
            images, labels = self._train.take(self._train.order(seed_of(self.seed, "calibration"), epoch)[start:stop])
            yield self._train.normalise(images), labels

    def loss(self, network: Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the task's mean loss; see ``automl.Training``."""
        outputs: Any = network(images)
        return self.task.loss(outputs[0] if isinstance(outputs, tuple) else outputs, labels)

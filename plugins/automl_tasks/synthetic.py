"""Made-up pictures that a small network learns in a moment, for tests."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge

from automl import Data, Task


@dataclass(kw_only=True)
class Synthetic(Task):
    """Bars at as many angles as there are classes, somewhere in the picture, in noise.

    The pictures depend on ``data_seed`` alone, so that studies with different seeds split the same pictures.
    """

    batch_size: Annotated[int, Ge(2)] = 32
    count: Annotated[int, Ge(8)] = 300
    size: Annotated[int, Ge(2)] = 8
    channels: Annotated[int, Ge(1)] = 1
    labels: Annotated[int, Ge(2)] = 3
    noise: Annotated[float, Ge(0)] = 0.1  # standard deviation, where a bar is 1
    data_seed: Annotated[int, Ge(0)] = 0

    name: ClassVar[str] = "synthetic"

    def load(self) -> Data:
        rng = np.random.default_rng(self.data_seed)
        labels = np.arange(self.count) % self.labels
        angles = (math.pi * labels / self.labels)[:, None, None]
        rows, columns = np.mgrid[: self.size, : self.size] - (self.size - 1) / 2
        offsets = rng.uniform(-0.2, 0.2, self.count)[:, None, None] * self.size
        distances = np.abs(columns * np.sin(angles) - rows * np.cos(angles) - offsets)
        bars = np.clip(1.5 - distances, 0, 1)[:, None]
        tints = rng.uniform(0.5, 1, (self.count, self.channels, 1, 1))
        noise = rng.normal(0, self.noise, (self.count, self.channels, self.size, self.size))
        images = np.round(255 * np.clip(bars * tints + noise, 0, 1)).astype(np.uint8)
        names = [f"{180 * k / self.labels:.0f} degrees" for k in range(self.labels)]
        return Data(images, labels, names)

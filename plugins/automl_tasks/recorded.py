"""A task without images, for studies that look up what was trained before."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge

from automl import Data, Dataset, Task


@dataclass(kw_only=True)
class Recorded(Task):
    """No images: those of 32 x 32 that networks were trained on elsewhere. Nothing can be trained on it."""

    labels: Annotated[int, Ge(2)] = 10

    name: ClassVar[str] = "recorded"

    def load(self) -> Data:
        images = np.zeros((0, 3, 32, 32), dtype=np.uint8)
        return Data(images, np.zeros(0, dtype=np.int64), [str(label) for label in range(self.labels)])

    def prepare(self, seed: int) -> Dataset:
        """Return no images, and hold none."""
        data = self.load()
        nothing = Dataset(data.images, data.labels)
        self.train = self.held_out = nothing
        self.classes = tuple(data.classes)
        self.mean, self.std = (0.0,) * 3, (1.0,) * 3
        none_of_any = [0] * self.labels
        self.notes = {
            "classes": list(self.classes),
            "input": list(self.input),
            "images": 0,
            "train": none_of_any,
            "validation": none_of_any,
            "test": none_of_any,
        }
        return nothing

    def describe(self) -> str:
        return f"{self.name} (no images: what is looked up was trained before)"

"""Latencies of candidates that are predicted, not measured: by a table of kernels, and what it lacks timed at once."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from automl import latency_table
from automl.deploy import Deployed
from automl.device import Device, Here
from automl.errors import BadInput, TrialFailed, printable
from automl.kernel_files import Files
from automl.kernels import Kernel, Placed, counts, cut
from automl.latency_model import CALL
from automl.latency_table import Table


class Prediction:
    """Predicts what networks take on a device, by a table of it."""

    def __init__(self, table: Table, device: Device, image: tuple[int, int, int], what: str) -> None:
        """Begin; raises BadInput where the table is of another device or other images, or has no networks."""
        table.refuse_other(device.identity, image, what)
        if not table.networks:
            raise BadInput(
                f"{what} has no networks that were measured whole, by which others are predicted: make one by automl "
                "latency build --out FILE +space=NAME"
            )
        self.table, self.device, self.what = table, device, what
        self._image = image
        self._files = Files()
        self._model = table.model()
        self._judged = table.judged()

    @classmethod
    def read(cls, path: str, device: Device, image: tuple[int, int, int], what: str) -> Prediction:
        """Return what predicts by a file; raises BadInput for one that is none, or of something else."""
        return cls(latency_table.read(Path(path).expanduser(), "latency_ms", what), device, image, what)

    def milliseconds(self, network: nn.Module, task: Any) -> float:
        """Return what a network, trained or not, takes as it would be shipped; raises TrialFailed where unknown.

        Of the task only what ``automl.deploy.Deployed`` takes is looked at.
        """
        deployed = Deployed.of(copy.deepcopy(network), task)
        placed = cut(deployed, self._image, self.device.batch)
        self._know(placed)
        return self._model.predict(counts(placed))

    def alone(self, module: nn.Module, shape: tuple[int, int, int]) -> float:
        """Return what a part of a network adds to it where its input has this shape; raises TrialFailed as above."""
        placed = cut(module, shape, self.device.batch)
        self._know(placed)
        return self._model.part(counts(placed))

    def describe(self) -> str:
        """Return in words by what the latencies are predicted, and how well."""
        how = "" if self._judged is None else f", {self._judged.describe()}"
        source = "" if self.table.source is None else f" by {printable(self.table.source.name)}"
        return f"predicted{source} for {printable(self.table.describe())}{how}"

    def _know(self, placed: Sequence[Placed]) -> None:
        """Time the kernels that the table lacks, where the device is this machine."""
        lacking = {one.kernel.name: one.kernel for one in placed if one.kernel.name not in self.table.operations}
        if not lacking:
            return
        if not isinstance(self.device, Here):
            more = f", nor {len(lacking) - 1} more that this network needs" if len(lacking) > 1 else ""
            raise TrialFailed(
                f"{self.what} has no {next(iter(lacking))!r}{more}: make a table of this space, of more networks"
            )
        try:
            self._files.add(list(lacking.values()))
            call = self.table.operations.get(CALL, 0.0)
            found = time_kernels(lacking, self._files, self.device, call)
        except BadInput as error:
            raise TrialFailed(str(error)) from error
        self.table.operations.update(found)
        self._model.milliseconds.update(found)


def time_kernels(kernels: Mapping[str, Kernel], files: Files, device: Device, call: float) -> dict[str, float]:
    """Return the milliseconds of each kernel alone, less those of a call; the files are to know them all."""
    models = {name: files.alone(kernel) for name, kernel in kernels.items()}
    return {name: max(0.0, found - call) for name, found in device.quietest(models, (1, 1, 1)).items()}

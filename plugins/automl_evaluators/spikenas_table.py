"""SpikeNAS-Bench: the learning curves of 15,625 spiking networks on CIFAR-10 (Sun et al., 2024)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np

from automl import BadInput, Report
from automl.errors import printable
from automl_evaluators.tables import CELLS, Table, find, order_by_code, reading

_FILE = "spikenas_cifar10.npz"
_IMAGES = 25_000  # to train on, and as many to validate on
_NOT_FINITE = 65_535
_CURVES = ("val_correct", "val_loss_milli", "train_correct", "train_loss_milli")
_NUMBERS = ("params", "test_acc", "train_seconds", "schedule_epochs")


class SpikenasTable(Table):
    """The first 100 epochs of each training, which 690 cells had by a schedule of 200; their outcome is after those."""

    space: ClassVar[str] = "spikenas"
    operations: ClassVar[tuple[str, ...]] = ("none", "skip", "spike_0.5", "spike_1.0", "spike_1.5")
    steps: ClassVar[int | None] = 100

    def __init__(self, root: str | None) -> None:
        path = find("spikenas_bench", _FILE, root)
        with reading(path), path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            missing = [name for name in ("ops", *_CURVES, *_NUMBERS) if name not in file]
            arrays = {name: file[name] for name in ("ops", *_CURVES, *_NUMBERS) if name in file}
        shapes = {
            "ops": (CELLS, 6),
            **dict.fromkeys(_CURVES, (CELLS, 100)),
            **dict.fromkeys(_NUMBERS, (CELLS,)),
        }
        if missing:
            raise BadInput(f"{printable(str(path))} has no array {missing[0]!r}: give a file with {', '.join(shapes)}")
        for name, shape in shapes.items():
            if (found := arrays[name].shape) != shape:
                raise BadInput(
                    f"{printable(str(path))} holds {name!r} as {_by(found)}, not {_by(shape)}: fetch it anew"
                )
        order = order_by_code(path, arrays["ops"])
        self._curves = [arrays[name][order] for name in _CURVES]
        params, test, seconds, epochs = (arrays[name][order] for name in _NUMBERS)
        self._parameters: list[int] = params.tolist()
        self._test: list[float] = (np.round(test.astype(float), 4) / 100).tolist()
        self._epoch_seconds: list[float] = (seconds.astype(float) / epochs).tolist()

    def costs(self, code: int) -> dict[str, float]:
        return {"parameters": self._parameters[code]}

    def reports(self, code: int, begun: float, until: float) -> Iterator[Report]:
        before, last = round(100 * begun), max(1, int(100 * until + 0.5))
        first = min(before, last - 1)  # of a parent that was trained as far, what it ended with
        parameters, seconds = self._parameters[code], self._epoch_seconds[code]
        curves = [curve[code, first:last].tolist() for curve in self._curves]
        for epoch, (right, loss, train_right, train_loss) in enumerate(zip(*curves, strict=True), first + 1):
            metrics = {"accuracy": right / _IMAGES, "train_accuracy": train_right / _IMAGES}
            if loss != _NOT_FINITE:
                metrics["loss"] = loss / 1000
            if train_loss != _NOT_FINITE:
                metrics["train_loss"] = train_loss / 1000
            metrics["parameters"] = parameters
            metrics["seconds"] = max(epoch - before, 0) * seconds
            yield Report(metrics, epoch / 100)

    def outcome(self, code: int) -> Mapping[str, float]:
        return {"test_accuracy": self._test[code], "validation_accuracy": int(self._curves[0][code, -1]) / _IMAGES}

    def metrics(self) -> frozenset[str]:
        return frozenset({"accuracy", "loss", "train_accuracy", "train_loss", "parameters", "seconds"})


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))

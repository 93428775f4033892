"""NAS-Bench-201: accuracy after 12 and after 200 epochs, costs and latencies of 15,625 cells (Dong & Yang, 2020)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import ClassVar, Literal

import numpy as np

from automl import BadInput, Report
from automl.errors import printable
from automl_evaluators.tables import Array, Table, column_names, find, order_by_code, read_columns

_FILE, _LATENCIES = "nb201.csv.gz", "nb201_latency.csv.gz"
_EDGES = ("op01", "op02", "op12", "op03", "op13", "op23")
_PREFIXES = {"cifar10": "c10", "cifar100": "c100"}
_EPOCHS = 200


class NASBench201Table(Table):
    """The cells as they were trained by one of two schedules, each a training of its own.

    ``wanted`` has the metrics that are asked for: latencies are read where they are. Multiply-adds are those that the
    benchmark counts; they include one for each class, the classifier's bias.
    """

    space: ClassVar[str] = "nasbench201"
    operations: ClassVar[tuple[str, ...]] = (
        "none",
        "skip_connect",
        "nor_conv_1x1",
        "nor_conv_3x3",
        "avg_pool_3x3",
    )

    def __init__(
        self, root: str | None, dataset: Literal["cifar10", "cifar100"], epochs: int, wanted: Collection[str]
    ) -> None:
        path = find(self.space, _FILE, root)
        prefix = _PREFIXES[dataset]
        searched = "val_acc_12ep" if epochs == 12 else "val_acc"
        names = [searched, "val_acc", "test_acc", "train_seconds_200ep", "params_m", "flops_m"]
        columns = read_columns(path, ["index", *_EDGES, *dict.fromkeys(f"{prefix}_{name}" for name in names)])
        order = order_by_code(path, np.column_stack([columns[edge] for edge in _EDGES]))
        accuracy, valid, test, seconds, params, flops = (columns[f"{prefix}_{name}"][order] for name in names)
        self._accuracy: list[float] = _shares(accuracy)
        self._validation: list[float] = _shares(valid)
        self._test: list[float] = _shares(test)
        self._seconds: list[float] = (seconds * (epochs / _EPOCHS)).tolist()
        self._parameters: list[int] = np.rint(params * 1e6).astype(int).tolist()
        self._multiply_adds: list[int] = np.rint(flops * 1e6).astype(int).tolist()
        self._latencies = path.parent / _LATENCIES
        self._measured = self._read_latencies(columns["index"][order], wanted)

    def costs(self, code: int) -> dict[str, float]:
        costs: dict[str, float] = {
            "parameters": self._parameters[code],
            "multiply_adds": self._multiply_adds[code],
        }
        for name, column in self._measured.items():
            costs[name] = column[code]
        return costs

    def reports(self, code: int, begun: float, until: float) -> Iterator[Report]:
        yield Report({"accuracy": self._accuracy[code], **self.costs(code), "seconds": self._seconds[code]})

    def outcome(self, code: int) -> Mapping[str, float]:
        return {"test_accuracy": self._test[code], "validation_accuracy": self._validation[code]}

    def metrics(self) -> frozenset[str]:
        measured = self._columns() if self._latencies.is_file() else {}
        return frozenset({"accuracy", "parameters", "multiply_adds", "seconds", *measured})

    def _columns(self) -> dict[str, str]:
        """Return the columns of measurements by the names that they are reported under."""
        found = {}
        for column in column_names(self._latencies):
            match = re.fullmatch(r"(?:help|hw360)_(\w+)_(ms|mj)", column)
            if match is not None:
                kind = "latency" if match[2] == "ms" else "energy"
                found[f"{kind}_{match[1]}_{match[2]}"] = column
        return found

    def _read_latencies(self, index: Array, wanted: Collection[str]) -> dict[str, list[float]]:
        if not any(name.startswith(("latency_", "energy_")) for name in wanted):
            return {}
        path = self._latencies
        if not path.is_file():
            raise BadInput(f"there is no {printable(str(path))}, which has the latencies: put it beside {_FILE}")
        columns = {name: column for name, column in self._columns().items() if name in wanted}
        values = read_columns(path, ["index", *columns.values()])
        order = np.argsort(values["index"])
        if not np.array_equal(values["index"][order], np.arange(len(index))):
            raise BadInput(f"{printable(str(path))} does not have the {len(index):,} cells of {_FILE}: fetch it anew")
        place = order[index.astype(int)]
        return {name: values[column][place].tolist() for name, column in columns.items()}


def _shares(percent: Array) -> list[float]:
    shares: list[float] = np.round(percent / 100, 8).tolist()
    return shares

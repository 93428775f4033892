"""How well latencies are predicted on real devices from networks that were measured whole, beside simple means.

python benchmarks/latency.py --data ../shared/data [--networks 30 100 300] [--json FILE]
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

from automl.latency_model import CALL, Accuracy, Counts, Model, accuracy, kind

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
CELL_OPERATIONS = ("none", "skip", "conv1x1", "conv3x3", "pool")
HELD_OUT = 500
PREDICTORS = ("ours", "lookup table", "multiply-adds")


@dataclass(frozen=True)
class Device:
    """A table of one device: networks by their operations, their multiply-adds, their milliseconds."""

    name: str
    networks: list[Counts]
    work: np.ndarray[Any, Any]
    milliseconds: np.ndarray[Any, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("AUTOML_DATA", "../shared/data")))
    parser.add_argument("--networks", type=int, nargs="+", default=[30, 100, 300], help="measured whole, to learn from")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found: list[dict[str, Any]] = []
    print(f"{'device':<34}{'networks':>9}" + "".join(f"{name:>24}" for name in PREDICTORS))
    for device in devices(given.data):
        for networks in given.networks:
            runs = [compared(device, networks, seed) for seed in range(given.seeds)]
            means = {name: mean([run[name] for run in runs]) for name in PREDICTORS}
            cells = [f"{one.mape:.1%} {one.spearman:.3f} {one.kendall:.3f}" for one in means.values()]
            print(f"{device.name:<34}{networks:>9}" + "".join(f"{cell:>24}" for cell in cells), flush=True)
            figures = {name: asdict(one) for name, one in means.items()}
            found.append({"device": device.name, "networks": networks, "seeds": given.seeds, **figures})
    print("mean absolute percentage error, Spearman and Kendall on networks held out")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


def compared(device: Device, networks: int, seed: int) -> dict[str, Accuracy]:
    """Return how well each predictor does on networks held out, from so many others."""
    order = np.random.default_rng(seed).permutation(len(device.networks))
    learnt, held = order[:networks], order[networks : networks + HELD_OUT]
    seen, truth = device.milliseconds[learnt], device.milliseconds[held]
    table = estimated([device.networks[one] for one in learnt], seen, device)
    model = Model(table, [device.networks[one] for one in learnt], seen)
    lookup = looked_up([device.networks[one] for one in learnt], seen)
    line = np.polyfit(device.work[learnt], seen, 1)
    floor = 0.1 * seen.min()
    return {
        "ours": accuracy([model.predict(device.networks[one]) for one in held], truth),
        "lookup table": accuracy([max(floor, lookup(device.networks[one])) for one in held], truth),
        "multiply-adds": accuracy(np.maximum(floor, np.polyval(line, device.work[held])).tolist(), truth),
    }


def estimated(networks: Sequence[Counts], seen: np.ndarray[Any, Any], device: Device) -> dict[str, float]:
    """Return what stands for a table of kernels, of which these devices have none: milliseconds by operation.

    Each is its multiply-adds by one rate and a number of its kind, by non-negative least squares on relative errors.
    """
    names = sorted({name for counts in device.networks for name in counts})
    work = np.maximum(0, _solved(device.networks, device.work, names))
    kinds = sorted({kind(name) for name in names})
    columns = np.zeros((len(names), len(kinds) + 2))
    columns[:, 0] = work / max(1e-12, work.max())
    for row, name in enumerate(names):
        columns[row, 1 + kinds.index(kind(name))] = 1
    design = _matrix(networks, names) @ columns
    design[:, -1] = 1
    weights, _ = nnls(design / seen[:, None], np.ones(len(seen)))
    least = 1e-3 * float(seen.min()) / max(1, _matrix(networks, names).sum(1).mean())
    found = np.maximum(least, columns @ weights)
    return {**dict(zip(names, found.tolist(), strict=True)), CALL: float(weights[-1])}


def looked_up(networks: Sequence[Counts], seen: np.ndarray[Any, Any]) -> Any:
    """Return a sum of milliseconds by operation and place, fitted by ridge regression to the same networks."""
    names = sorted({name for counts in networks for name in counts})
    design, middle = _matrix(networks, names), float(seen.mean())
    gram = design @ design.T
    ridge = 0.01 * np.trace(gram) / len(gram)
    dual = np.linalg.solve(gram + ridge * np.eye(len(gram)), seen - middle)
    found = dict(zip(names, (design.T @ dual).tolist(), strict=True))
    return lambda counts: middle + sum(number * found.get(name, 0.0) for name, number in counts.items())


def _solved(networks: Sequence[Counts], values: np.ndarray[Any, Any], names: Sequence[str]) -> np.ndarray[Any, Any]:
    """Return what each operation has of a value that is a sum over operations."""
    found: np.ndarray[Any, Any] = np.linalg.lstsq(_matrix(networks, names), values, rcond=None)[0]
    return found


def _matrix(networks: Sequence[Counts], names: Sequence[str]) -> np.ndarray[Any, Any]:
    places = {name: place for place, name in enumerate(names)}
    found = np.zeros((len(networks), len(names)))
    for row, counts in enumerate(networks):
        for name, number in counts.items():
            found[row, places[name]] = number
    return found


def mean(found: Sequence[Accuracy]) -> Accuracy:
    """Return the means over seeds."""
    values = np.mean([[one.mape, one.spearman, one.kendall] for one in found], axis=0).tolist()
    return Accuracy(*values, found[0].networks)


def devices(data: Path) -> Iterator[Device]:
    """Yield the tables of the data folder, one at a time."""
    yield from _cells(data / "nasbench201")
    yield from _layers(data / "fbnet_ofa" / "fbnet_latency.csv.gz")
    yield from _stages(data / "accel_nasbench" / "accel_nasbench.csv.gz")


def _cells(folder: Path) -> Iterator[Device]:
    """NAS-Bench-201: the operations of the edges and the sums; those on no path are of a kind of their own.

    Not every runtime leaves out what nobody reads. Cells without a path are left out.
    """
    rows, times = _rows(folder / "nb201.csv.gz"), _rows(folder / "nb201_latency.csv.gz")
    cells = [_cell([int(row[f"op{one}{other}"]) for one, other in EDGES]) for row in rows]
    chosen = [place for place, cell in enumerate(cells) if not all(name.startswith("dead") for name in cell)]
    work = {"conv1x1": 3.93216, "conv3x3": 35.38944}  # millions; those on no path are not counted
    for column in ("help_raspi4_ms", "help_pixel3_ms", "hw360_pi5_onnx_cifar100_ms", "help_titanx_1_ms"):
        kept = [place for place in chosen if times[place][column]]
        yield Device(
            f"NAS-Bench-201 {column}",
            [cells[place] for place in kept],
            np.array([7.78 + sum(work.get(kind(name), 0.0) for name in cells[place]) for place in kept]),
            np.array([float(times[place][column]) for place in kept]),
        )


def _cell(operations: Sequence[int]) -> dict[str, int]:
    there = [(edge, CELL_OPERATIONS[op]) for edge, op in zip(EDGES, operations, strict=True) if op]
    reached, needed = {0}, {3}
    for (start, end), _ in sorted(there):
        reached |= {end} if start in reached else set()
    for (start, end), _ in sorted(there, reverse=True):
        needed |= {start} if end in needed else set()
    alive = [(edge, op) for edge, op in there if edge[0] in reached and edge[1] in needed]
    ends = [end for (_, end), _ in alive]
    sums = {f"add: {end}": ends.count(end) - 1 for end in set(ends) if ends.count(end) > 1}
    dead = {f"dead {op}: {start}{end}": 1 for (start, end), op in there if ((start, end), op) not in alive}
    return {**{f"{op}: {start}{end}": 1 for (start, end), op in alive}, **sums, **dead}


def _layers(path: Path) -> Iterator[Device]:
    """FBNet: one of nine operations in each of 22 layers."""
    rows = _rows(path)
    networks = [{f"{op}: {place}": 1 for place, op in enumerate(row["arch"].split("_"))} for row in rows]
    work = np.array([float(row["flops"]) for row in rows])
    for column in ("pixel3_ms", "samsung_s7_ms", "gold_6226_ms", "eyeriss_ms", "1080ti_1_ms"):
        yield Device(f"FBNet {column}", list(networks), work, np.array([float(row[column]) for row in rows]))


def _stages(path: Path) -> Iterator[Device]:
    """Accel-NASBench: expansion, kernel, layers and squeeze-excite of each of seven stages, on an FPGA."""
    rows = [row for row in _rows(path) if row["zcu102_ms"]]
    networks = [
        {f"k{row[f'k{one}']} se{row[f'se{one}']}: {one} e{row[f'e{one}']} l{row[f'l{one}']}": 1 for one in range(7)}
        for row in rows
    ]
    work = np.array([float(row["macs_m"]) for row in rows])
    yield Device("Accel-NASBench zcu102_ms", list(networks), work, np.array([float(r["zcu102_ms"]) for r in rows]))


def _rows(path: Path) -> list[Mapping[str, str]]:
    with gzip.open(path, "rt", newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()

"""What one-shot searches find, really trained, by what NAS-Bench-201's table says of the cells they end with.

    python benchmarks/one_shot.py --root FILE [--seeds 3] [--trials 300] [--json benchmarks/figures/one-shot.json]

Each method searches the space nasbench201 on real images (a CIFAR-10 file, see ``task=cifar10``) at a small scale, with
one set of shared weights; what counts is the recorded test accuracy, after 200 epochs on all of CIFAR-10, of the cell
that it would keep. Beside them stand cells drawn at random. ``guarded`` ends a search that collapses to skips at the
last cell that was sound; until then it is the search without a guard, and so is run only where that one was alarmed.
The table is found as by ``evaluator=tabular``. A search that is in the JSON file with the same settings is not run
again: a benchmark that was stopped goes on, and one file holds several settings.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
HALF = 0.85 / 2  # of the images train the weights: 15 % validate, and half of the others are for the choices
ALARM = 0.5  # share of skips, as in the strategies
SETTINGS = ("trials", "climb", "images", "size", "batch", "cells", "channels")
GUARDED = ", guarded"
METHODS: Mapping[str, Sequence[str]] = {
    "DARTS": ["strategy=darts", "strategy.learning_rate={climb}"],
    "DARTS, guarded": ["strategy=darts", "strategy.learning_rate={climb}", "strategy.guard=true"],
    "DARTS, second order": ["strategy=darts", "strategy.learning_rate={climb}", "strategy.order=second"],
    "SNAS": ["strategy=snas", "strategy.learning_rate={climb}", "strategy.decay={trials}"],
    "SNAS, guarded": [
        "strategy=snas",
        "strategy.learning_rate={climb}",
        "strategy.decay={trials}",
        "strategy.guard=true",
    ],
    "GDAS": ["strategy=gdas", "strategy.learning_rate={climb}", "strategy.decay={trials}"],
    "GDAS, guarded": [
        "strategy=gdas",
        "strategy.learning_rate={climb}",
        "strategy.decay={trials}",
        "strategy.guard=true",
    ],
    "PC-DARTS": ["strategy=pc_darts", "strategy.learning_rate={climb}"],
    "ENAS": ["strategy=reinforce", "evaluator.scored=256"],
    "single-path one-shot": ["strategy=evolution", "evaluator.epochs={epochs}", "evaluator.batches=0", "trials=100"],
}


def searched(registry: Any, words: Sequence[str], seed: int, root: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Run one search and return the decisions that it ends with, and what there is to say of its course."""
    from automl import config
    from automl.experiment import Experiment

    epochs = max(1, round(given.trials * given.batch / (HALF * given.images)))  # as many steps as the others take
    chosen = ["+space=nasbench201", f"space.cells={given.cells}", f"space.channels={given.channels}", "retrain=none"]
    chosen += ["evaluator=supernet", "evaluator.probe=0", f"evaluator.decay={given.trials}", "watch=[]"]
    chosen += ["task=cifar10", f"task.root={root}", f"task.images={given.images}", f"task.batch_size={given.batch}"]
    chosen += [f"task.crop={given.size // 8}", f"seed={seed}", f"trials={given.trials}"]
    filled = [word.format(trials=given.trials, epochs=epochs, climb=given.climb) for word in words]
    kept = [word for word in chosen if word.split("=")[0] not in {one.split("=")[0] for one in filled}]
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        study = Experiment(config.compose([*kept, *filled, f"runs={folder}"], registry), registry).run()
    seconds = time.process_time() - began
    course = [trial.candidate.notes.get("skips") for trial in study.trials]
    alarmed = next((number for number, skips in enumerate(course) if skips is not None and skips > ALARM), None)
    return {
        "found": study.summary["found"],
        "trials": len(study.trials),
        "alarmed": alarmed,  # the first trial with more skips than the alarm allows
        "course": course[:: max(1, given.trials // 20)] if course[-1] is not None else None,
        "judged": [(trial.architecture, trial.score) for trial in study.trials] if course[-1] is None else [],
        "cpu_seconds": round(seconds, 1),
    }


def rank_correlation(judged: Sequence[tuple[Any, float]], recorded: Callable[[Any], float]) -> float | None:
    """Return Spearman's between what shared weights say of the cells judged and what the table does."""
    from scipy.stats import spearmanr

    if not judged:
        return None
    accuracies = dict(judged)  # the last of each cell
    return round(float(spearmanr(list(accuracies.values()), [recorded(cell) for cell in accuracies]).statistic), 2)


def shrunk(registry: Any, given: argparse.Namespace, folder: Path) -> Path:
    """Write the images, shrunk to the size by the mean of squares, to an npz file, and return it."""
    import numpy as np

    data = registry.build("task", {"name": "cifar10", "root": str(given.root)}).load()
    arrays = {"x_train": data.images, "y_train": data.labels}
    if data.test is not None:
        arrays |= {"x_test": data.test.images, "y_test": data.test.labels}
    side = data.images.shape[-1] // given.size
    for name in ("x_train", "x_test"):
        if name in arrays:
            count, channels = arrays[name].shape[:2]
            squares = arrays[name].reshape(count, channels, given.size, side, given.size, side)
            arrays[name] = np.round(squares.mean((3, 5))).astype(np.uint8)
    path = folder / "images.npz"
    np.savez(path, **arrays)
    return path


def told(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a table, a line for each method."""
    lines = ["| search | test accuracy, mean | each seed | skips | trials | CPU seconds |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
    for name in METHODS:
        of_method = [row for row in rows if row["method"] == name]
        if of_method:
            accuracies = [row["accuracy"] for row in of_method]
            each = ", ".join(f"{accuracy:.2f}" for accuracy in accuracies)
            skips = ", ".join(f"{row['skips']}/6" for row in of_method)
            trials = ", ".join(str(row["trials"]) for row in of_method)
            seconds = statistics.mean(row["cpu_seconds"] for row in of_method)
            lines.append(
                f"| {name} | {statistics.mean(accuracies):.2f} | {each} | {skips} | {trials} | {seconds:.0f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="the folder or file with CIFAR-10's images")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=300, help="steps of a search")
    parser.add_argument("--climb", type=float, default=0.05, help="learning rate of the choices' logits")
    parser.add_argument("--images", type=int, default=10000)
    parser.add_argument("--size", type=int, choices=(8, 16, 32), default=16, help="pixels that a side is shrunk to")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--cells", type=int, default=1)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--only", nargs="*", choices=METHODS, metavar="METHOD", help="methods by their names here")
    parser.add_argument("--json", type=Path, help="file of figures, gone on with if there is one")
    given = parser.parse_args()
    settings = {name: getattr(given, name) for name in SETTINGS}

    from automl.files import write_json
    from automl.plugins import Registry

    registry = Registry()
    space = registry.build("space", {"name": "nasbench201"})
    task = registry.build("task", {"name": "recorded"})
    task.prepare(0)
    table = registry.build("evaluator", {"name": "tabular"})
    table.start(space, task)

    def recorded(architecture: Any) -> float:
        return 100 * float(table.outcome(architecture)["test_accuracy"])

    rng = random.Random(0)
    drawn = [recorded(space.sample(rng)) for _ in range(1000)]
    chance = {"mean": statistics.mean(drawn), "deviation": statistics.stdev(drawn), "best": max(drawn)}
    chance |= {"deciles": [round(cut, 2) for cut in statistics.quantiles(drawn, n=10)]}
    print(f"1,000 random cells: {chance['mean']:.2f} +- {chance['deviation']:.2f}, deciles {chance['deciles']}")
    figures: dict[str, Any] = {"random": chance, "searches": []}
    if given.json and given.json.exists():
        figures = json.loads(given.json.read_text())
    alike = [block["rows"] for block in figures["searches"] if block["settings"] == settings]
    rows: list[dict[str, Any]] = alike[0] if alike else []
    if not alike:
        figures["searches"].append({"settings": settings, "rows": rows})
    with tempfile.TemporaryDirectory() as folder:
        root = shrunk(registry, given, Path(folder))
        for name in given.only or METHODS:
            for seed in range(given.seeds):
                if any((row["method"], row["seed"]) == (name, seed) for row in rows):
                    continue
                twin = [row for row in rows if (f"{row['method']}{GUARDED}", row["seed"]) == (name, seed)]
                if twin and twin[0]["alarmed"] is None:  # the guard had nothing to do: it is the same search
                    rows.append({**twin[0], "method": name, "same": True})
                else:
                    found = searched(registry, METHODS[name], seed, root, given)
                    cell = space.read(found.pop("found"))
                    found["rank_correlation"] = rank_correlation(found.pop("judged"), recorded)
                    skips = sum(op.name == "skip_connect" for op in cell.blueprint)
                    row = {"method": name, "seed": seed, "accuracy": round(recorded(cell), 2), "skips": skips, **found}
                    rows.append({**row, "cell": space.arch(cell.blueprint)})
                print(rows[-1], flush=True)
                if given.json:
                    write_json(given.json, figures)
    print(told(rows))


if __name__ == "__main__":
    main()

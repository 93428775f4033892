"""What one-shot searches find, really trained, by what NAS-Bench-201's table says of the cells they end with.

    python benchmarks/one_shot.py --root DIR [--seeds 3] [--trials 600] [--json benchmarks/figures/one-shot.json]

Each method searches the space nasbench201 on real images (a CIFAR-10 file, see ``task=cifar10``) at a small scale, with
one set of shared weights; what counts is the recorded test accuracy, after 200 epochs on all of CIFAR-10, of the cell
that it would keep. Beside them stand cells drawn at random. ``guarded`` ends a search that collapses to skips at the
last cell that was sound. The table is found as by ``evaluator=tabular``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
CLIMB = ["strategy.learning_rate=0.01"]
METHODS: Mapping[str, Sequence[str]] = {
    "DARTS": ["strategy=darts", *CLIMB],
    "DARTS, guarded": ["strategy=darts", *CLIMB, "strategy.guard=true"],
    "DARTS, second order": ["strategy=darts", *CLIMB, "strategy.order=second"],
    "SNAS": ["strategy=snas", *CLIMB, "strategy.decay={trials}"],
    "SNAS, guarded": ["strategy=snas", *CLIMB, "strategy.decay={trials}", "strategy.guard=true"],
    "GDAS": ["strategy=gdas", *CLIMB, "strategy.decay={trials}"],
    "GDAS, guarded": ["strategy=gdas", *CLIMB, "strategy.decay={trials}", "strategy.guard=true"],
    "ENAS": ["strategy=reinforce", "evaluator.scored=64"],
    "single-path one-shot": ["strategy=evolution", "evaluator.epochs={epochs}", "evaluator.batches=0", "trials=100"],
}


def searched(registry: Any, words: Sequence[str], seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """Run one search and return the decisions that it ends with, and what there is to say of its course."""
    from automl import config
    from automl.experiment import Experiment

    epochs = max(1, given.trials * 64 // given.images)
    chosen = ["+space=nasbench201", f"space.cells={given.cells}", f"space.channels={given.channels}", "retrain=none"]
    chosen += ["evaluator=supernet", "evaluator.probe=0", f"evaluator.decay={given.trials}", "watch=[]"]
    chosen += ["task=cifar10", f"task.root={given.root}", f"task.images={given.images}", "task.batch_size=64"]
    chosen += [f"seed={seed}", f"trials={given.trials}"]
    filled = [word.format(trials=given.trials, epochs=epochs) for word in words]
    kept = [word for word in chosen if word.split("=")[0] not in {one.split("=")[0] for one in filled}]
    with tempfile.TemporaryDirectory() as folder:
        study = Experiment(config.compose([*kept, *filled, f"runs={folder}"], registry), registry).run()
    last = study.trials[-1].candidate.notes
    return {"found": study.summary["found"], "trials": len(study.trials), "skips": last.get("skips")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="the folder or file with CIFAR-10's images")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=600)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--cells", type=int, default=1)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--only", nargs="*", help="methods to run, by their names here")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()

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
    print(
        f"random cells: {statistics.mean(drawn):.2f} +- {statistics.stdev(drawn):.2f}, best of 1,000 {max(drawn):.2f}"
    )
    rows: list[dict[str, Any]] = []
    for name, words in METHODS.items():
        if given.only and name not in given.only:
            continue
        for seed in range(given.seeds):
            began = time.monotonic()
            found = searched(registry, words, seed, given)
            accuracy = recorded(space.read(found["found"]))
            rows.append({"method": name, "seed": seed, "accuracy": accuracy, **found})
            seconds = time.monotonic() - began
            print(
                f"| {name} | {seed} | {accuracy:.2f} | {found['skips']} | {found['trials']} | {seconds:.0f} |",
                flush=True,
            )
            if given.json:
                told = {"rows": rows, "random": {"mean": statistics.mean(drawn), "deviation": statistics.stdev(drawn)}}
                given.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()

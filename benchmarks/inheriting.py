"""Candidates that begin with a parent's weights beside candidates from scratch, at equal epochs.

    python benchmarks/inheriting.py --root DIR [--seeds 0 1 2] [--spaces morphisms]
        [--json benchmarks/figures/inheriting.json]

Evolution over two spaces on the same Fashion-MNIST images, one epoch a candidate: with evaluator=training and with
evaluator=morphism. What each found is then trained from scratch by one schedule and tested once. A search that inherits
judges networks that were trained for longer, by their ancestors' epochs, so the last column alone compares them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
SPACES: Mapping[str, Mapping[str, Any]] = {
    "morphisms": {"name": "morphisms", "steps": 8},
    "nasnet": {"name": "nasnet", "blocks": 3, "channels": 8, "cells": 1},
}
EVALUATORS: Mapping[str, Mapping[str, Any]] = {
    "from scratch": {"name": "training", "epochs": 1},
    "inheriting": {"name": "morphism", "inner": {"name": "training", "epochs": 1}},
}
AT = (10, 20, 40)  # trials at which the best so far is read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="the folder with Fashion-MNIST's files")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--spaces", nargs="+", choices=[*SPACES], default=[*SPACES])
    parser.add_argument("--trials", type=int, default=max(AT))
    parser.add_argument("--images", type=int, default=3_000)
    parser.add_argument("--epochs", type=int, default=9, help="of the final training")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(given.json.read_text()) if given.json and given.json.exists() else []
    done = {(row["space"], row["evaluator"], row["seed"]) for row in rows}
    for seed in given.seeds:
        for space in given.spaces:
            for evaluator in EVALUATORS:
                if (space, evaluator, seed) not in done:
                    rows.append(measured(space, evaluator, seed, given))
                    print(rows[-1], flush=True)
                    if given.json:
                        given.json.write_text(json.dumps(rows, indent=1) + "\n")
    table(rows)


def measured(space_name: str, evaluator_name: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    from automl import Objective, Study, measure
    from automl.deploy import Deployed
    from automl.final import score
    from automl.plugins import Registry

    registry = Registry()
    task = registry.build(
        "task", {"name": "fashion_mnist", "root": given.root, "images": given.images, "batch_size": 64}
    )
    test = task.prepare(seed)
    space = registry.build("space", dict(SPACES[space_name]))
    evaluator = registry.build("evaluator", dict(EVALUATORS[evaluator_name]))
    strategy = registry.build("strategy", {"name": "evolution", "population": 10, "tournament": 5})
    with tempfile.TemporaryDirectory() as folder:
        evaluator.folder = Path(folder)
        began = time.process_time()
        study = Study(space, strategy, evaluator, task, (Objective("accuracy"),), trials=given.trials, seed=seed)
        study.run()
        spent = time.process_time() - began
    trainer = registry.build("evaluator", {"name": "training", "epochs": given.epochs})
    trainer.start(space, task)
    network = trainer.fit(strategy.recommend(study.trials), seed)
    found = [trial.metrics["accuracy"] for trial in study.trials if trial.is_scored]
    return {
        "space": space_name,
        "evaluator": evaluator_name,
        "seed": seed,
        "best": [max(found[:count]) for count in AT],
        "mean": statistics.fmean(found[10:]),
        "heirs": sum(trial.metrics.get("inherited", 0.0) > 0 for trial in study.trials),
        "seconds": spent,
        "parameters": measure.parameters(network),
        "test": float(score(Deployed.of(network, task), test, task)["accuracy"]),
    }


def table(rows: Sequence[Mapping[str, Any]]) -> None:
    print(f"| space | candidates | {' | '.join(f'best of {count}' for count in AT)} | mean | parameters | test |")
    print("| --- | --- | " + "---: | " * (len(AT) + 3))
    for space in SPACES:
        for evaluator in EVALUATORS:
            members = [row for row in rows if (row["space"], row["evaluator"]) == (space, evaluator)]
            if members:
                cells = [spread([row["best"][place] for row in members]) for place in range(len(AT))]
                cells += [spread([row[key] for row in members]) for key in ("mean", "test")]
                size = statistics.fmean(row["parameters"] for row in members)
                print(f"| {space} | {evaluator} | {' | '.join(cells[:-1])} | {size:,.0f} | {cells[-1]} |")


def spread(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()

"""Kills a study at random instants, resumes it, and says what became of it; a process of its own, which forks.

python tests/killed.py hyperband-tpe FOLDER KILLS SEED
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import time
import traceback
import zlib
from dataclasses import dataclass
from pathlib import Path

from automl import Evaluator, Report
from automl.executor import Local
from automl.journal import Journal
from automl.plugins import Registry
from automl.processes import Processes
from automl.snapshots import Snapshots
from automl.study import Study
from automl.testing import NO_TASK, ConditionalSpace, story
from automl_evaluators import training

SETTINGS = {  # so that most of the trials learn
    "ddpg": {"hidden": 16, "batch": 16, "warmup": 10},
    "evolution": {"population": 3, "tournament": 3},
}
sys.path.append(str(Path(__file__).parent / "toys"))


@dataclass
class Stepped(Evaluator):
    """Takes a millisecond a step, and goes on from the file that its parent left."""

    epochs: int = 9

    def steps(self):
        return self.epochs

    def evaluate(self, trial):
        until = round(trial.candidate.fidelity * self.epochs)
        done = 0
        if trial.candidate.parent is not None:
            left = json.loads((self.folder / f"{trial.candidate.parent}.json").read_text())
            assert left["decisions"] == trial.architecture.to_json(), "a parent of another architecture"
            done = left["steps"]
        worth = zlib.crc32(json.dumps(trial.architecture.to_json()).encode()) / 2**32
        while done < until:
            time.sleep(0.001)
            done += 1
            if done == until:
                aside = self.folder / f".{trial.number}.json"
                aside.write_text(json.dumps({"decisions": trial.architecture.to_json(), "steps": done}))
                aside.replace(self.folder / f"{trial.number}.json")
            yield Report({"accuracy": worth * (1 - 0.5**done)}, done / self.epochs)


def study(kind: str, folder: Path) -> Study:
    folder.mkdir(parents=True, exist_ok=True)
    registry = Registry()
    name = kind.rpartition("-")[2]
    strategy = registry.build("strategy", {"name": name, **SETTINGS.get(name, {})})
    journal = Journal(folder / "journal", {})
    if kind.startswith("supernet"):
        task = registry.build("task", {"name": "synthetic", "count": 60, "batch_size": 8})
        task.prepare(0)
        space = registry.build("space", {"name": "nasbench201", "cells": 1, "channels": 4})
        shared = {"name": "supernet", "accelerator": "cpu", "scored": 8, "recalibrate": 1, "probe": 5}
        supernet = registry.build("evaluator", shared)
        snapshots = Snapshots(folder / "snapshots", seconds=0.1)
        return Study(space, strategy, supernet, task, trials=20, seed=3, journal=journal, snapshots=snapshots)
    if kind.startswith("amc"):
        training._SECONDS_BETWEEN_SAVES = 0.0  # of the network that is made smaller, which takes half of the time
        task = registry.build("task", {"name": "synthetic", "count": 60, "channels": 3, "labels": 4, "batch_size": 16})
        task.prepare(0)
        network = {"name": "module", "target": "given:plain"}
        space = registry.build("space", {"name": "compressed", "space": network, "compressor": {"name": "amc"}})
        space.check(task)
        tuned = registry.build("evaluator", {"name": "training", "epochs": 12, "tuning": 1, "accelerator": "cpu"})
        tuned.folder = folder
        return Study(space, strategy, tuned, task, trials=6, seed=3, journal=journal)
    if kind.startswith("inheriting"):
        task = registry.build("task", {"name": "synthetic", "count": 120, "batch_size": 20})
        task.prepare(0)
        space = registry.build("space", {"name": "morphisms", "steps": 6, "filters": [4, 4], "most": 16})
        inner = {"name": "training", "epochs": 1, "accelerator": "cpu"}
        heirs = registry.build("evaluator", {"name": "morphism", "inner": inner, "parents": 3})
        heirs.folder = folder
        return Study(space, strategy, heirs, task, trials=16, seed=3, journal=journal)
    evaluator: Evaluator = Stepped()
    if "hyperband" in kind:
        evaluator = registry.build("evaluator", {"name": "hyperband", "inner": "training"})
        evaluator.inner = Stepped()
    evaluator.folder = folder
    executor = Processes(workers=2, ordered=True, ahead=4) if kind.startswith("workers") else Local()
    return Study(
        ConditionalSpace(), strategy, evaluator, NO_TASK, trials=60, seed=3, journal=journal, executor=executor
    )


def computes(kind: str) -> bool:
    """Return whether a study is at work all the time: its instants are told by that, however busy the machine is."""
    return kind.startswith(("supernet", "amc", "inheriting"))


def spent(kind: str) -> float:
    """Return the seconds, since some beginning, that studies in children took, or all of them."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime if computes(kind) else time.monotonic()


def forked(kind: str, folder: Path, after: float | None) -> bool:
    """Run the study in a child, killed after so many seconds; say whether it came to its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if after is not None and computes(kind):
                signal.setitimer(signal.ITIMER_PROF, max(after, 1e-3))  # it ends there, as by SIGKILL
            study(kind, folder).run()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if after is not None and not computes(kind):
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit(f"the study failed by itself in {folder}")
    return os.WIFEXITED(status)


def main(kind: str, root: Path, kills: int, seed: int) -> None:
    rng = random.Random(seed)
    study(kind, root / "warm").run()  # here, so that no child has anything to import
    began = spent(kind)
    forked(kind, root / "unbroken", None)
    took = spent(kind) - began
    unbroken = story(root / "unbroken" / "journal")
    cut = 0
    for number in range(kills):
        folder = root / str(number)
        cut += not forked(kind, folder, rng.random() * took)
        if number % 3 == 0:
            forked(kind, folder, rng.random() * took)  # and once more while it is resumed
        forked(kind, folder, None)
        if story(folder / "journal") != unbroken:
            sys.exit(f"the journal in {folder} differs from the unbroken one")
    numbers = [record["trial"] for record in unbroken if record["event"] == "finished"]
    parents = [record["parent"] for record in unbroken if record["event"] == "started"]
    print(json.dumps({"killed": cut, "finished": sorted(numbers), "parents": parents}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))

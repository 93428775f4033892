"""What workers cost: wall-clock overhead of trials that sleep, and of trials that are free, beside Ray Tune.

    python benchmarks/executors.py [--json] [--free 10000] [--timed 200] [--seconds 1] [--workers 2] [--only NAME ...]

Each contestant runs in an interpreter of its own. Overhead is by how much the wall-clock exceeds trials x seconds /
workers, without and with what starting the workers takes. A trial has 20 decisions of 4 options each and one report.
Ray Tune needs pip install 'ray[tune]'; where it cannot be imported its rows are left out, and that is said.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automl import Evaluator, Report, Trial

DECISIONS, OPTIONS = 20, 4
Figures = dict[str, float]


@dataclass
class Sleeping(Evaluator):
    """Sleeps, then says how early that was."""

    seconds: float = 0.0

    def evaluate(self, trial: Trial) -> Iterator[Report]:
        time.sleep(self.seconds)
        yield Report({"accuracy": trial.number * 0.6180339887498949 % 1})


def ours(name: str, ordered: bool, trials: int, seconds: float, workers: int) -> Figures:
    from automl.executor import find
    from automl.journal import Journal
    from automl.study import Study
    from automl.testing import ToySpace
    from automl_strategies.random import Random

    class Started:
        """Notes when the workers are there."""

        def call(self, hook: str, **arguments: Any) -> list[Any]:
            if hook == "automl_study_started":
                self.at = time.monotonic()
            elif hook == "automl_trial_finished":
                self.ended = time.monotonic()
            return []

    watchers = Started()
    made: Callable[..., Any] = find(name)
    settings = {} if name == "local" else {"workers": workers, "ordered": ordered}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        study = Study(
            ToySpace(DECISIONS, OPTIONS),
            Random(),
            Sleeping(seconds),
            None,  # type: ignore[arg-type]  # nothing here looks at a task
            trials=trials,
            executor=made(**settings),
            journal=Journal(Path(folder) / "journal", {}),
            watchers=watchers,  # type: ignore[arg-type]
        )
        used = time.process_time()
        study.run()
        used = time.process_time() - used
    assert len(study.trials) == trials
    assert not study.failed
    return {"start": watchers.at - began, "work": watchers.ended - watchers.at, "driver": used}


def pool(trials: int, seconds: float, workers: int) -> Figures:
    """Sleep in a pool of the standard library, which keeps nothing and tells no one: the least there is."""
    began = time.monotonic()
    with ProcessPoolExecutor(workers) as executor:
        for one in [executor.submit(time.sleep, 0) for _ in range(workers)]:
            one.result()
        at, used = time.monotonic(), time.process_time()
        for one in as_completed([executor.submit(time.sleep, seconds) for _ in range(trials)]):
            one.result()
        return {"start": at - began, "work": time.monotonic() - at, "driver": time.process_time() - used}


def tune(trials: int, seconds: float, workers: int) -> Figures:
    """Run a search of Ray Tune, its first trial's start counted as its own."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}
    import ray
    from ray import tune as ray_tune

    def sleep(config: dict[str, Any]) -> dict[str, float]:
        time.sleep(seconds)
        return {"accuracy": config["number"]}

    began = time.monotonic()
    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    at, used = time.monotonic(), time.process_time()
    space: dict[str, Any] = {f"d{number}": ray_tune.choice(list(range(OPTIONS))) for number in range(DECISIONS)}
    with tempfile.TemporaryDirectory() as folder:
        tuner = ray_tune.Tuner(
            ray_tune.with_resources(sleep, {"cpu": 1}),
            param_space={**space, "number": ray_tune.uniform(0, 1)},
            tune_config=ray_tune.TuneConfig(
                metric="accuracy",
                mode="max",
                num_samples=trials,
                max_concurrent_trials=workers,
                reuse_actors=True,
            ),
            run_config=ray_tune.RunConfig(storage_path=folder, verbose=0),
        )
        found = tuner.fit()
        figures = {"start": at - began, "work": time.monotonic() - at, "driver": time.process_time() - used}
    assert len(found) == trials
    assert not found.errors
    ray.shutdown()
    return figures


CONTESTANTS: dict[str, Callable[[int, float, int], Figures]] = {
    "automl, processes": lambda *asked: ours("processes", False, *asked),
    "automl, processes, ordered": lambda *asked: ours("processes", True, *asked),
    "automl, ray": lambda *asked: ours("ray", False, *asked),
    "pool of the standard library": pool,
    "Ray Tune": tune,
}


def compare(names: list[str], sizes: list[tuple[int, float]], workers: int) -> dict[str, list[Figures | None]]:
    """Return the figures of each contestant at each size, each measured in an interpreter of its own."""
    found: dict[str, list[Figures | None]] = {name: [] for name in names}
    for trials, seconds in sizes:
        for name in names:
            command = [sys.executable, __file__, "--measure", name, str(trials), str(seconds), str(workers)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no word"])[-1]
                print(f"{name} is left out: {last}", file=sys.stderr)
            found[name].append(json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None)
    return {name: figures for name, figures in found.items() if any(figures)}


def table(found: dict[str, list[Figures | None]], sizes: list[tuple[int, float]], workers: int) -> str:
    """Return the figures as Markdown tables: of free trials milliseconds each, of others the overhead."""
    lines = []
    for place, (trials, seconds) in enumerate(sizes):
        told = f"{trials:,} trials of {seconds:g} s" if seconds else f"{trials:,} free trials"
        kind = "overhead | with the start" if seconds else "ms a trial | trials/s"
        lines += [f"| {told}, {workers} workers | {kind} | start s | driver's CPU ms a trial |"]
        lines += ["| --- | ---: | ---: | ---: | ---: |"]
        for name, figures in found.items():
            one = figures[place]
            if one is None:
                continue
            least = trials * seconds / workers
            if seconds:
                cells = [f"{100 * (one['work'] / least - 1):.1f} %"]
                cells += [f"{100 * ((one['start'] + one['work']) / least - 1):.1f} %"]
            else:
                cells = [f"{1e3 * one['work'] / trials:.2f}", f"{trials / one['work']:,.0f}"]
            cells += [f"{one['start']:.1f}", f"{1e3 * one['driver'] / trials:.2f}"]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--free", type=int, default=10_000, help="trials that take no time; 0: none")
    parser.add_argument("--timed", type=int, default=200, help="trials that sleep; 0: none")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long they sleep")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS), metavar="NAME")
    parser.add_argument("--measure", nargs=4, metavar=("NAME", "TRIALS", "SECONDS", "WORKERS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        name, trials, seconds, workers = given.measure
        print(json.dumps(CONTESTANTS[name](int(trials), float(seconds), int(workers))))
        return
    sizes = [(trials, seconds) for trials, seconds in ((given.timed, given.seconds), (given.free, 0.0)) if trials]
    found = compare(given.only, sizes, given.workers)
    if given.json:
        print(json.dumps({"unit": "seconds", "sizes": sizes, "workers": given.workers, "loops": found}, indent=1))
    else:
        print(table(found, sizes, given.workers))


if __name__ == "__main__":
    main()

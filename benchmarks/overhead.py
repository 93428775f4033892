"""What the loop costs: CPU microseconds a trial of 20 categorical decisions and a free objective, beside peers.

    python benchmarks/overhead.py [--json] [--trials 1000 10000 100000] [--repeats 3]

Every measurement runs in an interpreter of its own, one contestant after the other and then again, so that neither
memory nor a busy machine favours any. Optuna stops at 10,000 trials: more would take it minutes. The objective
depends on the trial's number alone, so that no search converges and every ask is work.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

DECISIONS, OPTIONS = 20, 4
POPULATION, TOURNAMENT = 100, 10  # Syne Tune's defaults


def objective(number: int) -> float:
    """Return a number in [0, 1) that costs next to nothing: multiples of the golden ratio, which never repeat."""
    return number * 0.6180339887498949 % 1


def ours(strategy: str, trials: int, journal: Path | None) -> Callable[[], None]:
    from automl import Evaluator, Objective, Report, Space, Strategy, Trial
    from automl.journal import Journal
    from automl.study import Study
    from automl_strategies.evolution import Evolution
    from automl_strategies.random import Random

    class Categorical(Space[list[int]]):
        def describe(self, choose: Any) -> list[int]:
            return [choose(name, options) for name in names]

        def build(self, blueprint: list[int], task: Any) -> Any:
            raise NotImplementedError

    class Free(Evaluator):
        def evaluate(self, trial: Trial) -> Iterator[Report]:
            yield Report({"accuracy": objective(trial.number)})

    names, options = [f"d{number}" for number in range(DECISIONS)], range(OPTIONS)
    searched: Strategy = Random() if strategy == "random" else Evolution(POPULATION, TOURNAMENT)
    return Study(
        Categorical(),
        searched,
        Free(),
        None,  # type: ignore[arg-type]  # nothing here looks at a task
        (Objective("accuracy"),),
        trials=trials,
        journal=None if journal is None else Journal(journal, {}),
    ).run


def optuna(trials: int) -> Callable[[], None]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    names, options = [f"d{number}" for number in range(DECISIONS)], list(range(OPTIONS))

    def evaluate(trial: optuna.Trial) -> float:
        for name in names:
            trial.suggest_categorical(name, options)
        return objective(trial.number)

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    return lambda: study.optimize(evaluate, n_trials=trials)


def syne_tune(trials: int) -> Callable[[], None]:
    """Drive the scheduler as the tuner does, with no back end and nothing kept but the scheduler's population."""
    from datetime import datetime

    from syne_tune.backend.trial_status import Trial
    from syne_tune.config_space import choice
    from syne_tune.optimizer.schedulers.searchers.regularized_evolution import RegularizedEvolution
    from syne_tune.optimizer.schedulers.single_objective_scheduler import SingleObjectiveScheduler

    space = {f"d{number}": choice(list(range(OPTIONS))) for number in range(DECISIONS)}
    searcher = RegularizedEvolution(space, population_size=POPULATION, sample_size=TOURNAMENT, random_seed=0)
    scheduler = SingleObjectiveScheduler(space, metric="loss", do_minimize=True, searcher=searcher, random_seed=0)

    def run() -> None:
        for number in range(trials):
            config = scheduler.suggest().config
            trial = Trial(trial_id=number, config=config, creation_time=datetime.now())
            scheduler.on_trial_add(trial)
            scheduler.on_trial_complete(trial, {"loss": -objective(number)})

    return run


CONTESTANTS: dict[str, tuple[Callable[[int, Path], Callable[[], None]], int]] = {
    "automl random": (lambda trials, folder: ours("random", trials, None), 10**9),
    "automl evolution": (lambda trials, folder: ours("evolution", trials, None), 10**9),
    "automl random, journal": (lambda trials, folder: ours("random", trials, folder / "journal"), 10**9),
    "automl evolution, journal": (lambda trials, folder: ours("evolution", trials, folder / "journal"), 10**9),
    "Optuna random, in memory": (lambda trials, folder: optuna(trials), 10_000),
    "Syne Tune evolution, nothing kept": (lambda trials, folder: syne_tune(trials), 100_000),
}


def measure(contestant: str, trials: int) -> float:
    """Return the CPU seconds of so many trials, in this interpreter."""
    prepare, _ = CONTESTANTS[contestant]
    with tempfile.TemporaryDirectory() as folder:
        run = prepare(trials, Path(folder))
        start = time.process_time()
        run()
        return time.process_time() - start


def compare(sizes: list[int], repeats: int) -> dict[str, dict[int, float]]:
    """Return the median CPU microseconds a trial, by contestant and number of trials."""
    seconds: dict[tuple[str, int], list[float]] = {}
    for trials in sizes:
        for _ in range(repeats):
            for contestant, (_, most) in CONTESTANTS.items():
                if trials <= most:
                    command = [sys.executable, __file__, "--measure", contestant, str(trials)]
                    done = subprocess.run(command, check=True, capture_output=True, text=True)
                    seconds.setdefault((contestant, trials), []).append(float(done.stdout))
    return {
        contestant: {
            trials: median(seconds[contestant, trials]) / trials * 1e6
            for trials in sizes
            if (contestant, trials) in seconds
        }
        for contestant in CONTESTANTS
    }


def table(found: dict[str, dict[int, float]], sizes: list[int]) -> str:
    """Return the figures as a Markdown table: microseconds, trials a second at the largest size, growth."""
    heads = ["loop", *(f"{trials:,} trials" for trials in sizes), "trials/s", "last / first", "times ours"]
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for contestant, by_size in found.items():
        cells = [f"{by_size[trials]:.1f}" if trials in by_size else "-" for trials in sizes]
        last = max(by_size)
        same = found["automl random" if "random" in contestant else "automl evolution"]
        cells += [f"{1e6 / by_size[last]:,.0f}", f"{by_size[last] / by_size[min(by_size)]:.2f}"]
        cells.append(f"{by_size[last] / same[last]:.1f}")
        lines.append(f"| {contestant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--trials", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="sizes of the studies")
    parser.add_argument("--repeats", type=int, default=3, help="measurements a figure, of which the median counts")
    parser.add_argument("--measure", nargs=2, metavar=("LOOP", "TRIALS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(measure(given.measure[0], int(given.measure[1])))
        return
    sizes = sorted(given.trials)
    found = compare(sizes, given.repeats)
    if given.json:
        print(json.dumps({"unit": "CPU microseconds a trial", "loops": found}, indent=1))
    else:
        print("CPU microseconds a trial\n")
        print(table(found, sizes))


if __name__ == "__main__":
    main()

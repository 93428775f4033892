"""What the loop costs: CPU microseconds a trial of 20 categorical decisions and a free objective, beside peers.

    python benchmarks/overhead.py [--json] [--trials 1000 10000 100000] [--repeats 3] [--only NAME ...]

Every measurement runs in an interpreter of its own, one contestant after the other and then again, so that neither
memory nor a busy machine favours any. Optuna stops at 10,000 trials: more would take it minutes. The objective
depends on the trial's number alone, so that no search converges and every ask is work. Loops on a table look
NAS-Bench-201 up, with six decisions, and evaluate a cell that they meet again; they are left out where it is not there.
"""

from __future__ import annotations

import argparse
import json
import resource
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


def on_table(strategy: str, trials: int, journal: Path) -> Callable[[], None]:
    from automl import Architecture, Objective
    from automl.executor import Simulated
    from automl.journal import Journal
    from automl.plugins import Registry
    from automl.study import Study
    from automl_evaluators.tabular import Tabular

    class Anew(Tabular):
        def key(self, architecture: Architecture) -> None:  # type: ignore[override]
            return None

    registry = Registry()
    values = {"name": strategy} | ({"population": POPULATION, "tournament": TOURNAMENT} if strategy != "random" else {})
    return Study(
        registry.build("space", {"name": "nasbench201"}),
        registry.build("strategy", values),
        Anew(),
        None,  # type: ignore[arg-type]
        (Objective("accuracy"),),
        trials=trials,
        journal=Journal(journal, {}),
        executor=Simulated(),
    ).run


def sampled(strategy: str, trials: int) -> Callable[[], None]:
    """Return a search by one of Optuna's samplers, in our loop."""
    from automl.plugins import Registry

    study = ours("random", trials, None)
    study.__self__.strategy = Registry().build("strategy", {"name": strategy})  # type: ignore[attr-defined]
    return study


def optuna(trials: int, sampler: str = "RandomSampler", **settings: Any) -> Callable[[], None]:
    import warnings

    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    names, options = [f"d{number}" for number in range(DECISIONS)], list(range(OPTIONS))

    def evaluate(trial: optuna.Trial) -> float:
        for name in names:
            trial.suggest_categorical(name, options)
        return objective(trial.number)

    warnings.simplefilter("ignore")  # multivariate is experimental, it says
    drawn = getattr(optuna.samplers, sampler)(seed=0, **settings)
    study = optuna.create_study(direction="maximize", sampler=drawn)
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
    "automl random, table, journal": (lambda trials, folder: on_table("random", trials, folder / "journal"), 10**9),
    "automl evolution, table, journal": (
        lambda trials, folder: on_table("evolution", trials, folder / "journal"),
        10**9,
    ),
    "automl tpe": (lambda trials, folder: sampled("tpe", trials), 1_000),
    "automl nsga2": (lambda trials, folder: sampled("nsga2", trials), 10_000),
    "automl cmaes": (lambda trials, folder: sampled("cmaes", trials), 1_000),
    "automl gp": (lambda trials, folder: sampled("gp", trials), 1_000),
    "automl reinforce": (lambda trials, folder: sampled("reinforce", trials), 1_000),
    "automl ppo": (lambda trials, folder: sampled("ppo", trials), 1_000),
    "automl q_learning": (lambda trials, folder: sampled("q_learning", trials), 10_000),
    "Optuna random, in memory": (lambda trials, folder: optuna(trials), 10_000),
    "Optuna TPE, multivariate, in memory": (
        lambda trials, folder: optuna(trials, "TPESampler", multivariate=True, group=True),
        1_000,
    ),
    "Optuna NSGA-II, in memory": (lambda trials, folder: optuna(trials, "NSGAIISampler"), 10_000),
    "Syne Tune evolution, nothing kept": (lambda trials, folder: syne_tune(trials), 100_000),
}


def measure(contestant: str, trials: int) -> tuple[float, float]:
    """Return the CPU seconds of so many trials in this interpreter, and by how many kilobytes its memory grew."""
    prepare, _ = CONTESTANTS[contestant]
    with tempfile.TemporaryDirectory() as folder:
        run = prepare(trials, Path(folder))
        start = time.process_time()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run()
        return time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def compare(
    contestants: list[str], sizes: list[int], repeats: int
) -> tuple[dict[str, dict[int, float]], dict[str, float]]:
    """Return the median CPU microseconds a trial by contestant and number of trials, and the most kilobytes a trial."""
    seconds: dict[tuple[str, int], list[float]] = {}
    kilobytes: dict[str, float] = {}
    for trials in sizes:
        for _ in range(repeats):
            for contestant in contestants:
                if trials <= CONTESTANTS[contestant][1]:
                    command = [sys.executable, __file__, "--measure", contestant, str(trials)]
                    done = subprocess.run(command, capture_output=True, text=True)
                    if done.returncode and "table" in contestant:
                        continue  # the table is not there
                    done.check_returncode()
                    took, grew = map(float, done.stdout.split())
                    seconds.setdefault((contestant, trials), []).append(took)
                    kilobytes[contestant] = grew / trials
    found = {
        contestant: {
            trials: median(seconds[contestant, trials]) / trials * 1e6
            for trials in sizes
            if (contestant, trials) in seconds
        }
        for contestant in contestants
    }
    return {contestant: by_size for contestant, by_size in found.items() if by_size}, kilobytes


def table(found: dict[str, dict[int, float]], kilobytes: dict[str, float], sizes: list[int]) -> str:
    """Return the figures as a Markdown table: microseconds, trials a second and memory at the largest size, growth."""
    heads = ["loop", *(f"{trials:,} trials" for trials in sizes), "trials/s", "last / first", "KB a trial"]
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for contestant, by_size in found.items():
        cells = [f"{by_size[trials]:.1f}" if trials in by_size else "-" for trials in sizes]
        last = max(by_size)
        cells += [f"{1e6 / by_size[last]:,.0f}", f"{by_size[last] / by_size[min(by_size)]:.2f}"]
        cells.append(f"{kilobytes[contestant]:.1f}")
        lines.append(f"| {contestant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--trials", type=int, nargs="+", default=[1_000, 10_000, 100_000], help="sizes of the studies")
    parser.add_argument("--repeats", type=int, default=3, help="measurements a figure, of which the median counts")
    parser.add_argument("--only", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS), metavar="NAME")
    parser.add_argument("--measure", nargs=2, metavar=("LOOP", "TRIALS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(*measure(given.measure[0], int(given.measure[1])))
        return
    sizes = sorted(given.trials)
    found, kilobytes = compare(given.only, sizes, given.repeats)
    if given.json:
        print(json.dumps({"unit": "CPU microseconds a trial", "loops": found, "KB a trial": kilobytes}, indent=1))
    else:
        print("CPU microseconds a trial\n")
        print(table(found, kilobytes, sizes))


if __name__ == "__main__":
    main()

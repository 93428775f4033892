"""How good searches are: every strategy on recorded trainings, many seeds, beside Optuna's own loop in the same run.

    python benchmarks/quality.py nasbench201 --dataset cifar10 --seeds 100
    python benchmarks/quality.py spikenas --seeds 100
    python benchmarks/quality.py nasbench201 --only gp tpe --trials 50 100 --json results.json

NAS-Bench-201 (Dong & Yang, 2020): the search sees the validation accuracy after 12 epochs; what counts is the test
accuracy after 200 epochs of the architecture that it would keep. SpikeNAS-Bench (Sun et al., 2024): schedules that
cut trainings short, by simulated hours; what counts is the validation accuracy after all 100 epochs. Both with means
over seeds and their standard deviations. The tables are found as by ``evaluator=tabular``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
PATIENT = {"population": 50, "tournament": 10}


@dataclass
class Contestant:
    """A strategy with its settings, a schedule around the table where there is one, and how many trials it may take."""

    strategy: dict[str, Any]
    schedule: dict[str, Any] = field(default_factory=dict)
    most: int = 1_000_000
    peer: bool = False
    seeds: int = 1_000_000


def ours(name: str, most: int = 1_000_000, seeds: int = 1_000_000, **settings: Any) -> Contestant:
    return Contestant({"name": name, **settings}, most=most, seeds=seeds)


def scheduled(strategy: str, schedule: str, seeds: int = 1_000_000, **settings: Any) -> Contestant:
    return Contestant({"name": strategy, **settings}, {"name": schedule}, seeds=seeds)


NASBENCH201 = {
    "random": ours("random"),
    "evolution 10/3": ours("evolution", most=100, population=10, tournament=3),
    "evolution 50/10": ours("evolution", most=500, **PATIENT),
    "evolution 100/25": ours("evolution", population=100, tournament=25),
    "tpe": ours("tpe", most=300),
    "tpe, for longer": ours("tpe", seeds=10),
    "tpe, independent": ours("tpe", most=300, multivariate=False, group=False),
    "cmaes": ours("cmaes"),
    "nsga2": ours("nsga2"),
    "gp": ours("gp", most=300),
    "gp, for longer": ours("gp", seeds=5),
    "reinforce": ours("reinforce"),
    "ppo": ours("ppo"),
    "reinforce, logits alone": ours("reinforce", hidden=0, learning_rate=0.01, entropy=0.0, baseline=0.9, batch=1),
    "q_learning, length 100": ours("q_learning", most=100, length=100),
    "q_learning, length 300": ours("q_learning", most=300, length=300),
    "q_learning, length 1000": ours("q_learning", length=1000),
    "Optuna TPE": Contestant({"multivariate": False}, most=300, peer=True),
    "Optuna TPE, multivariate": Contestant({"multivariate": True}, most=300, peer=True),
    "Optuna TPE, multivariate, for longer": Contestant({"multivariate": True}, peer=True, seeds=10),
}
SPIKENAS = {
    "random, full": ours("random"),
    "evolution, full": ours("evolution"),
    "tpe, full": ours("tpe"),
    "gp, full": ours("gp"),
    "random, successive halving": scheduled("random", "successive_halving"),
    "random, hyperband": scheduled("random", "hyperband"),
    "evolution, hyperband": scheduled("evolution", "hyperband"),
    "evolution 50/10, hyperband": scheduled("evolution", "hyperband", **PATIENT),
    "tpe, hyperband (BOHB)": scheduled("tpe", "hyperband"),
    "gp, hyperband": scheduled("gp", "hyperband", seeds=20),
    "random, asha": scheduled("random", "asha"),
    "evolution, asha": scheduled("evolution", "asha"),
    "evolution 50/10, asha": scheduled("evolution", "asha", **PATIENT),
    "tpe, asha": scheduled("tpe", "asha"),
    "evolution, curve": Contestant({"name": "evolution"}, {"name": "curve", "every": 25}, seeds=2),
    "Optuna random, HyperbandPruner": Contestant({"sampler": "random"}, peer=True),
    "Optuna TPE, HyperbandPruner": Contestant({"sampler": "tpe"}, peer=True),
}


@cache
def table(kind: str, dataset: str) -> tuple[Any, Any, Any]:
    """Return the registry, the space and a started evaluator: opened once a process."""
    from automl.plugins import Registry
    from automl.trial import Objective

    registry = Registry()
    space = registry.build("space", {"name": kind})
    evaluator = registry.build("evaluator", {"name": "tabular", "table": kind, "dataset": dataset})
    evaluator.objectives = (Objective("accuracy"),)
    evaluator.start(space, None)
    return registry, space, evaluator


def search(
    kind: str, dataset: str, contestant: Contestant, seed: int, trials: int, hours: float | None
) -> tuple[list[Any], float]:
    """Return the told trials of one search, and the CPU seconds that it took."""
    from automl.executor import Simulated
    from automl.study import Study

    registry, space, evaluator = table(kind, dataset)
    if contestant.schedule:
        inner = evaluator
        evaluator = registry.build("evaluator", {**contestant.schedule, "inner": {"name": "tabular", "table": kind}})
        evaluator.inner = inner
    began = time.process_time()
    study = Study(
        space,
        registry.build("strategy", contestant.strategy),
        evaluator,
        None,  # type: ignore[arg-type]  # nothing here looks at a task
        trials=trials,
        seed=seed,
        executor=Simulated(hours),
    )
    study.run()
    return study.trials, time.process_time() - began


def on_nasbench201(dataset: str, marks: Sequence[int], name: str, seed: int) -> dict[str, Any]:
    """Return by number of evaluations the validation accuracy and the test accuracy of what would be kept."""
    contestant = NASBENCH201[name]
    due = [mark for mark in marks if mark <= contestant.most]
    outcome = table("nasbench201", dataset)[2].outcome
    if contestant.peer:
        told, seconds = optuna_loop(dataset, contestant.strategy["multivariate"], seed, max(due))
    else:
        trials, seconds = search("nasbench201", dataset, contestant, seed, max(due), None)
        told = [(trial.score, trial.architecture) for trial in trials]
    found: dict[str, Any] = {"seconds": seconds / len(told)}
    for mark in due:
        score, architecture = max(told[:mark], key=lambda one: one[0])
        found[str(mark)] = (100 * score, 100 * outcome(architecture)["test_accuracy"])
    return found


def optuna_loop(dataset: str, multivariate: bool, seed: int, trials: int) -> tuple[list[tuple[float, Any]], float]:
    """Return value and architecture of each trial of Optuna's TPE in its own loop, and the CPU seconds of the loop."""
    import warnings

    import optuna

    from automl.trial import Candidate, Trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _, space, evaluator = table("nasbench201", dataset)
    told = []

    def evaluate(trial: Any) -> float:
        chosen = space.make(lambda name, domain: domain.options[trial.suggest_categorical(name, range(domain.count))])
        (report,) = evaluator.evaluate(Trial(trial.number, Candidate(chosen), 0))
        told.append((report.metrics["accuracy"], chosen))
        return float(report.metrics["accuracy"])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=multivariate)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        began = time.process_time()
        study.optimize(evaluate, n_trials=trials)
    return told, time.process_time() - began


def on_spikenas(hours: Sequence[float], name: str, seed: int) -> dict[str, Any]:
    """Return by simulated hours the final validation accuracy of what would be kept."""
    contestant = SPIKENAS[name]
    outcome = table("spikenas", "cifar10")[2].outcome
    found: dict[str, Any] = {}
    if contestant.peer:
        kept, seconds = optuna_pruned(contestant.strategy["sampler"], seed, max(hours))
    else:
        trials, seconds = search("spikenas", "cifar10", contestant, seed, 1_000_000, max(hours))
        kept = [(trial.ended / 3600, trial.rank, trial.architecture) for trial in trials]
    for mark in hours:
        early = [(rank, architecture) for ended, rank, architecture in kept if ended <= mark]
        if early:
            _, architecture = max(early, key=lambda one: one[0])
            found[f"{mark:g}"] = (100 * outcome(architecture)["validation_accuracy"],)
    found["seconds"] = seconds / max(len(kept), 1)
    return found


def optuna_pruned(kind: str, seed: int, hours: float) -> tuple[list[Any], float]:
    """Return when each trial of Optuna's Hyperband ended, its rank and its architecture, and the CPU seconds."""
    import warnings

    import optuna

    from automl.trial import Candidate, Trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    _, space, evaluator = table("spikenas", "cifar10")
    steps = evaluator.steps()
    told: list[Any] = []
    clock = 0.0

    def evaluate(trial: Any) -> float:
        nonlocal clock
        chosen = space.make(lambda name, domain: domain.options[trial.suggest_categorical(name, range(domain.count))])
        fidelity = accuracy = spent = 0.0
        try:
            for report in evaluator.evaluate(Trial(trial.number, Candidate(chosen), 0)):
                fidelity, accuracy = report.fidelity, report.metrics["accuracy"]
                spent = report.metrics["seconds"] / 3600
                trial.report(accuracy, round(fidelity * steps))
                if trial.should_prune():
                    raise optuna.TrialPruned
        finally:
            clock += spent
            told.append((clock, (True, fidelity, accuracy), chosen))
            if clock > hours:
                trial.study.stop()
        return accuracy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samplers = optuna.samplers
        sampler = samplers.RandomSampler(seed=seed) if kind == "random" else samplers.TPESampler(seed=seed)
        pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=steps, reduction_factor=3)
        study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
        began = time.process_time()
        study.optimize(evaluate)
    return told, time.process_time() - began


def summed(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return mean and deviation of each figure at each mark."""
    marks = dict.fromkeys(mark for row in rows for mark in row if mark != "seconds")
    found: dict[str, Any] = {"seeds": len(rows), "milliseconds": 1e3 * fmean(row["seconds"] for row in rows)}
    for mark in marks:
        columns = list(zip(*(row[mark] for row in rows if mark in row), strict=True))
        found[mark] = [(fmean(column), stdev(column) if len(column) > 1 else 0.0) for column in columns]
    return found


def shown(name: str, found: Mapping[str, Any], marks: Sequence[str]) -> str:
    cells = []
    for mark in marks:
        figures = found.get(mark)
        cells.append("-" if figures is None else " / ".join(f"{mean:.2f} ± {spread:.2f}" for mean, spread in figures))
    return f"| {name} | {found['seeds']} | " + " | ".join(cells) + f" | {found['milliseconds']:.2f} |"


def about(given: argparse.Namespace) -> dict[str, Any]:
    """Return what a file of figures says of itself."""
    if given.table == "nasbench201":
        return {
            "title": f"NAS-Bench-201, {given.dataset}",
            "about": "Validation accuracy after 12 epochs / test accuracy after 200 of the architecture kept, percent.",
            "command": f"python benchmarks/quality.py nasbench201 --dataset {given.dataset} --seeds {given.seeds}",
            "unit": "evaluations",
            "marks": given.trials,
            "drawn": 100,
            "drawn_as": "Test accuracy after 100 evaluations, percent",
            "contestants": {},
        }
    return {
        "title": "SpikeNAS-Bench, CIFAR-10: schedules by simulated hours",
        "about": "Validation accuracy after all 100 epochs of the architecture kept, percent.",
        "command": f"python benchmarks/quality.py spikenas --seeds {given.seeds}",
        "unit": "hours",
        "marks": [f"{hours:g}" for hours in given.hours],
        "drawn": f"{max(given.hours):g}",
        "drawn_as": f"Final validation accuracy at {max(given.hours):g} hours, percent",
        "contestants": {},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=["nasbench201", "spikenas"])
    parser.add_argument("--dataset", choices=["cifar10", "cifar100"], default="cifar10")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--trials", type=int, nargs="+", default=[50, 100, 300, 1000], help="of NAS-Bench-201")
    parser.add_argument("--hours", type=float, nargs="+", default=[10, 30, 100], help="of SpikeNAS-Bench, simulated")
    parser.add_argument("--only", nargs="+", help="names of contestants")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, help="a file for the figures; those in it already are kept")
    given = parser.parse_args()
    contestants = NASBENCH201 if given.table == "nasbench201" else SPIKENAS
    work: Callable[..., dict[str, Any]]
    if given.table == "nasbench201":
        work, marks = partial(on_nasbench201, given.dataset, given.trials), [str(mark) for mark in given.trials]
        print("| strategy | seeds | " + " | ".join(f"{m}: validation / test" for m in marks) + " | CPU ms a trial |")
    else:
        work, marks = partial(on_spikenas, given.hours), [f"{mark:g}" for mark in given.hours]
        print("| search | seeds | " + " | ".join(f"{m} h" for m in marks) + " | CPU ms a trial |")
    print("| --- | ---: | " + " | ".join("---:" for _ in marks) + " | ---: |", flush=True)
    kept = json.loads(given.json.read_text()) if given.json is not None and given.json.exists() else about(given)
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
        for name in given.only or contestants:
            if name not in contestants:
                sys.exit(f"no contestant is named {name!r}; there are {', '.join(contestants)}")
            seeds = min(given.seeds, contestants[name].seeds)
            rows = list(pool.map(partial(work, name), range(seeds)))
            found = summed(rows)
            print(shown(name, found, marks), flush=True)
            if given.json is not None:
                kept["contestants"][name] = found
                given.json.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()

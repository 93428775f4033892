"""One experiment in its folder: search, retrain the best, test it once, measure, export, report."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import platform
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from automl import config as configs
from automl import device as devices
from automl import executor, logs, pareto, runs, trust
from automl.decisions import Architecture
from automl.errors import BadInput, JournalError, SearchFailed, StorageError, near_miss
from automl.evaluator import Evaluator, Trainer
from automl.executor import Executor
from automl.files import Lock, write_json, write_text
from automl.final import Final, is_settled, settle
from automl.following import PATIENCE, Follower
from automl.interrupts import Interrupted, Interrupts
from automl.joining import joined, parts
from automl.journal import Journal
from automl.plugins import Registry, check, construct
from automl.snapshots import Snapshots
from automl.space import Space
from automl.strategy import Strategy
from automl.study import Study
from automl.task import Task, fingerprint
from automl.trial import Cost, Limit, LogCost, Objective, Trial, by_reason, full
from automl.watching import Watchers

if TYPE_CHECKING:
    from omegaconf import DictConfig


SCHEMA = 1
PACKAGES = ("torch", "lightning", "hydra-core", "optuna", "numpy", "scikit-learn", "onnx", "onnxruntime")
_log = logging.getLogger("automl")


class Experiment:
    """What a config describes, built and checked; nothing is written before ``run``."""

    def __init__(self, config: DictConfig, registry: Registry | None = None, command: str = "") -> None:
        """Build every component; raises BadInput for whatever does not fit."""
        self.registry = registry or Registry()
        self.command = command
        values = configs.resolved(config)
        self.trials: int = check(values.get("trials"), Annotated[int, Ge(1)], "trials")
        seed = check(values.get("seed"), Annotated[int, Ge(0)] | None, "seed")
        if seed is None:
            seed = secrets.randbelow(1 << 31)
            config = configs.change(config, [f"seed={seed}"])
        self.seed: int = seed
        self.config = config
        self.root = Path(check(values.get("runs"), str, "runs")).expanduser()
        self.objectives, self.limits = _objectives(values["objective"])
        self.space: Space[Any] = self.registry.build_space(parts(values))
        final = parts(values, final=True)
        self.final_space: Space[Any] = self.registry.build_space(final)
        self.strategy: Strategy = self.registry.build("strategy", values["strategy"])
        self.evaluator: Evaluator = self.registry.build("evaluator", values["evaluator"])
        self.task: Task = self.registry.build("task", values["task"])
        place = dict(values.get("executor") or {"name": "local"})
        self.executor: Executor = construct(executor.find(place.pop("name", None)), place, "executor")
        self.device = devices.build(values.get("device"))
        retrain = values.get("retrain")
        self.trainer = self.registry.build("evaluator", retrain) if retrain and retrain.get("name") != "none" else None
        if retrain and self.trainer is not None and not isinstance(self.trainer, Trainer):
            raise BadInput(
                f"retrain={retrain['name']} trains no network: give an evaluator that trains, or retrain=none"
            )
        watch = check(values.get("watch"), list[str], "watch")
        self.trackers = {name: self.registry.build("tracker", {"name": name}) for name in watch}
        for name, tracker in self.trackers.items():
            if hasattr(tracker, "check"):
                raise BadInput(f"watch is for what is always on, and {name} may fail or wait: type tracker={name}")
        patience = check(values.get("patience", PATIENCE), Annotated[float, Gt(0)], "patience")
        self.followers = [
            Follower(name, self.registry.build("tracker", chosen, f"tracker.{name}"), patience=patience)
            for name, chosen in check(values.get("tracker") or {}, dict[str, dict[str, Any]], "tracker").items()
        ]
        kinds = ("space", "compressor", "strategy", "evaluator", "task")
        self.names = {kind: values[kind]["name"] for kind in kinds if values.get(kind)}
        written = configs.without_secrets(values, config)
        # what made the journal: a run is only gone on with under the same
        self.heading: dict[str, Any] = {
            "space": joined(parts(written)),
            **{kind: written[kind] for kind in ("strategy", "evaluator", "task")},
            "executor": {
                key: value for key, value in (written.get("executor") or {}).items() if key not in self.executor.open
            },
            "objectives": [asdict(objective) for objective in self.objectives],
            "limits": [asdict(limit) for limit in self.limits],
            "seed": self.seed,
            **({} if (weights := self.space.digest()) is None else {"weights": weights}),
        }
        if (elsewhere := trust.without(values.get("device") or devices.HERE, "device.")) != devices.HERE:
            self.heading["device"] = elsewhere
        self.final = {"space": joined(final), "retrain": retrain}
        self.create: Callable[[str], Path] = lambda label: runs.create(self.root, label)

    def prepare(self) -> None:
        """Load and split the data, and see that space, task, evaluator and objective fit; raises BadInput."""
        self.test = self.task.prepare(self.seed)
        for space in (self.space, self.final_space):
            space.check(self.task)
        if len(self.objectives) > 1 and not self.strategy.several:
            raise BadInput(
                f"strategy {self.names['strategy']} follows one objective, and here are {len(self.objectives)}: "
                "type objective=mnasnet, which makes one of two, or strategy=nsga2"
            )
        if self.strategy.gradients and not self.space.relaxes:
            raise BadInput(
                f"strategy {self.names['strategy']} asks for all operations at once, of which no compressor makes a "
                "smaller network: type strategy=evolution, or leave the compressor out"
            )
        if self.strategy.gradients and not self.evaluator.differentiable:
            raise BadInput(
                f"strategy {self.names['strategy']} learns from gradients, and evaluator {self.names['evaluator']} "
                "reports none: type evaluator=supernet, or strategy=reinforce, which learns from scores"
            )
        if self.space.finishes and not self.evaluator.finishes:
            raise BadInput(
                f"evaluator {self.names['evaluator']} trains no network that a compressor could make smaller: "
                "type evaluator=training"
            )
        self._check_recipe()
        self.executor.check(self.evaluator, self.strategy)
        self.evaluator.objectives, self.evaluator.limits = self.objectives, self.limits
        self.evaluator.trainer, self.evaluator.device = self.trainer, self.device
        self.device.check()
        self.evaluator.start(self.space, self.task)
        if self.space.brings and self.space.finishes and self.evaluator.steps() is None:
            raise BadInput(
                "what a compressor made is judged as it is, without a training whose settings could be decided: type "
                "evaluator.tuning=5, or leave space.with_hyperparameters out"
            )
        if rested := self.evaluator.rests_on():
            retrain = self.final["retrain"] or {}
            self.heading["retrain"] = {key: value for key, value in retrain.items() if key in ("name", *rested)}
        reported = self.evaluator.metrics()
        if reported is None:
            return
        for name in sorted(self.evaluator.wanted - reported):
            raise BadInput(
                f"evaluator {self.names['evaluator']} reports no metric {name!r}{near_miss(name, reported)}: "
                f"for objective take one of {', '.join(sorted(reported))}"
            )
        for name in self.executor.needs - reported:
            raise BadInput(
                f"executor=simulated goes by the metric {name!r}, which evaluator {self.names['evaluator']} does not "
                "report: type executor=local"
            )

    def _check_recipe(self) -> None:
        """Raise BadInput where architectures decide settings of a training that nothing here is trained by."""
        for kind, one in (("evaluator", self.evaluator), ("retrain", self.trainer)):
            unknown = sorted(self.space.brings - one.takes) if one is not None else []
            if one is None or not unknown:
                continue
            name = self.names["evaluator"] if kind == "evaluator" else (self.final["retrain"] or {}).get("name")
            if not one.takes:
                raise BadInput(
                    f"{kind}={name} trains no network by settings of its own, and space.with_hyperparameters=true "
                    f"decides these: type {kind}=training, or leave it out"
                )
            raise BadInput(
                f"{kind}={name} takes no {unknown[0]} from an architecture: type "
                f"space.hyperparameters.{unknown[0]}=null, or another {kind}; it takes {', '.join(sorted(one.takes))}"
            )

    def seconds(self, trials: int) -> float | None:
        """Return about how long so many trials and the final training take here; None if unknown."""
        rng = random.Random(self.seed)
        each = [self.evaluator.estimate(self.space.sample(rng)) for _ in range(2)]
        if any(estimate is None for estimate in each):
            return None
        total = trials * sum(estimate for estimate in each if estimate) / len(each)
        if self.trainer is not None:
            self.trainer.start(self.final_space, self.task)
            total += self.trainer.estimate(self.final_space.sample(rng)) or 0.0
        return total

    def run(self, folder: Path | None = None) -> Study:
        """Search in a new folder, or go on in one, to the end; returns the study.

        Raises Interrupted after a signal, SearchFailed where nothing was found, and whatever else went wrong; the
        summary and the report of what is there are then written.
        """
        interrupts = Interrupts()
        interrupts.start()
        lock = None
        handler = None
        try:
            fresh = folder is None
            if folder is not None:
                lock = Lock(folder)
            with interrupts:
                for follower in self.followers:
                    follower.check()
                self.prepare()
                planned = self._planned()
                estimate = self.seconds(planned) if fresh else None
            if folder is None:
                named = [self.names[kind] for kind in ("space", "compressor", "strategy") if kind in self.names]
                folder = self.create("-".join(named))
                lock = Lock(folder)
            journal = Journal(folder / "journal.jsonl", {**self.heading, "data": fingerprint(self.task, self.test)})
            next(journal.events(), None)  # refuses another study's journal, before anything is written
            handler = logs.into(folder)
            write_text(folder / "config.yaml", configs.as_yaml(self.config))
            write_json(folder / "data.json", {"schema": SCHEMA, "command": self.command, **self.task.notes})
            self._announce(folder, planned, estimate, fresh)
            return self._run(folder, journal, interrupts, handler.warnings)
        finally:
            self.executor.close()
            for follower in self.followers:
                follower.close()
            names = [f"tracker:{name}" for name in self.trackers]
            for name in [*names, *(f"following:{follower.name}" for follower in self.followers)]:
                if self.registry.manager.has_plugin(name):
                    self.registry.manager.unregister(name=name)
            if handler is not None:
                _log.removeHandler(handler)
                handler.close()
            if lock is not None:
                lock.release()
            interrupts.stop()

    def _run(self, folder: Path, journal: Journal, interrupts: Interrupts, warnings: list[str]) -> Study:
        for name, tracker in self.trackers.items():
            self.registry.watch(name, tracker)
        for follower in self.followers:
            self.registry.manager.register(follower, f"following:{follower.name}")
        watchers = Watchers(self.registry.manager)
        for one in (self.evaluator, self.trainer):
            if one is not None:
                one.folder = folder
        self.study = study = Study(
            self.space,
            self.strategy,
            self.evaluator,
            self.task,
            self.objectives,
            limits=self.limits,
            executor=self.executor,
            trials=self.trials,
            seed=self.seed,
            journal=journal,
            watchers=watchers,
            directory=folder,
            interruptible=interrupts,
            snapshots=Snapshots(folder / "snapshots"),
        )
        study.config = trust.without(configs.unresolved(self.config))
        self.executor.say = lambda line: print(line, flush=True)
        self._reported: dict[str, Any] = {}
        self._found: Architecture | None = None
        ended: BaseException | None = None
        try:
            study.run()
            if study.ending is not None:
                print(f"{study.ending[0].upper()}{study.ending[1:]}.")
            if study.best is None:
                reason = by_reason(study.failed)[0][0] if study.failed else "no trial was asked for"
                raise SearchFailed(f"none of the {len(study.trials)} trials finished; the commonest reason: {reason}")
            if study.best.violation:
                raise BadInput(_nothing_legal(study.best, self.limits))
            self._found = found = study.strategy.recommend(study.trials)
            recorded = self.evaluator.outcome(found)
            if recorded is not None:
                self._reported = {"recorded": dict(recorded)}
            if self.trainer is not None:
                study.trainer = self.trainer
                self._reported |= self._final(self.trainer).make(
                    found,
                    folder,
                    interrupts,
                    watch=lambda report: watchers.call("automl_retraining", study=study, report=report),
                    measure=lambda network: watchers.call("automl_measure", model=network, task=self.task),
                )
        except (JournalError, StorageError):
            raise
        except (Interrupted, Exception) as error:  # whatever it is, what is finished is summed up
            ended = error
        study.summary = self._summarise(study, warnings)
        write_json(folder / "summary.json", study.summary)
        watchers.call("automl_study_finished", study=study)
        if ended is not None:
            raise ended
        if self.trainer is not None:
            settle(folder)
        return study

    def _final(self, trainer: Trainer) -> Final:
        return Final(
            self.final_space,
            trainer,
            self.final,
            self.task,
            self.names["task"],
            self.test,
            self.seed,
            self.command,
            self.device,
        )

    def _summarise(self, study: Study, warnings: list[str]) -> dict[str, Any]:
        winner = study.best
        reported = dict(self._reported)
        clock = max((trial.ended for trial in study.trials), default=0.0)
        spent = {"search": round(clock, 3), **reported.pop("seconds", {})}
        summary: dict[str, Any] = {
            "schema": SCHEMA,
            "command": self.command,
            "best": None
            if winner is None
            else {
                "trial": winner.number,
                "decisions": winner.architecture.to_json(),
                "metrics": dict(winner.metrics),
            },
            **_front(study),
            **reported,
            "trials": {
                "finished": len(study.trials) - len(study.failed),
                "failed": len(study.failed),
                "rejected": sum(trial.is_rejected for trial in study.trials),
                "interrupted": len(study.running),
                "duplicates": study.duplicates,
                "total": self.trials,
            },
            "ending": study.ending,
            "evaluations": round(study.evaluations, 6),
            "seconds": spent,
            "executor": {**self.heading["executor"], **self.executor.facts()},
            "seed": self.seed,
            "data": {
                "task": self.names["task"],
                "classes": list(self.task.classes),
                "train": len(self.task.train),
                "validation": len(self.task.held_out),
                "test": len(self.test),
            },
            **({"provenance": dict(whence)} if (whence := self.evaluator.provenance()) else {}),
            "warnings": warnings,
            "versions": versions(),
        }
        found = self._found or (winner.architecture if winner is not None else None)
        if found is not None:
            summary["found"] = found.to_json()  # the best trial's, unless the strategy recommends another
            if graph := self.space.graph(found.blueprint):
                summary["graph"] = graph
        return summary

    def _planned(self) -> int:
        """Return how many trials there are at most: one an architecture where the space has fewer than trials."""
        if self.space.exceeds(self.trials):
            return self.trials
        try:
            return sum(1 for _ in islice(self.space.enumerate(), self.trials))
        except BadInput:
            return self.trials

    def _announce(self, folder: Path, planned: int, estimate: float | None, fresh: bool) -> None:
        space, strategy = self.names["space"], self.names["strategy"]
        compressor = f", compressor {self.names['compressor']}" if "compressor" in self.names else ""
        joins = " with hyperparameters" if self.space.brings else ""
        print(f"Space {space}{compressor}{joins}, strategy {strategy}, task {self.task.describe()}")
        about = "" if estimate is None else f", about {_duration(estimate)} on this machine"
        place = "Results" if fresh else "Going on in"
        fewer = "" if planned == self.trials else f" at most, the space has {planned} architecture{'s' * (planned > 1)}"
        count = f"{self.trials} trial{'s' * (self.trials > 1)}"
        print(f"{count}{fewer}{about}. {place}: {folder}. Ctrl-C stops and keeps them.", flush=True)


def resuming(
    path: str | None, words: Sequence[str], registry: Registry | None = None
) -> tuple[Experiment | None, Path]:
    """Return the experiment of a run, the latest where no path is given, ready to go on in its folder.

    None where there is nothing left to do, said so. ``words`` may change ``trials``, a total, and settings that
    no finished trial rests on.
    """
    registry = registry or Registry()
    folder = runs.find(path, runs.root())
    config = configs.read(folder / "config.yaml")
    config, settings = configs.choose_trackers(config, words, registry)
    configs.refuse_choices(config, settings)
    config = configs.change(config, settings)
    plain = configs.unresolved(config)
    again = f"automl resume {folder} space.target=package.module:factory"
    trust.refuse_missing(plain["space"], str(folder), again)
    if (plain.get("device") or {}).get("command") == trust.ASKED:
        raise BadInput(
            f"the latencies of {folder} are measured by a command of yours, which is typed anew each time: type "
            f"automl resume {folder} 'device.command=COMMAND {{model}}'"
        )
    run = runs.Run(folder)
    data = folder / "data.json"
    command = runs.read_json(data).get("command") if data.exists() else None
    experiment = Experiment(config, registry, str(command or configs.command(["resume", str(folder)])))
    done, total = len(run.trials), experiment.trials
    if done > total:
        print(f"{done} trials exist already, and trials={total} removes none: give trials={done} or more.")
        return None, folder
    if done == total and is_settled(folder, run.summary, total) and not words:
        print(f"{done} of {total} trials are done, and so is the final network: nothing is left to do.")
        return None, folder
    again = "".join(f"; trial {trial.number} was running and starts again" for trial in run.interrupted)
    kept = f"trials 0-{done - 1} kept" if done else "no trial finished yet"
    if experiment.strategy.stateful or experiment.evaluator.stateful:
        kept, again = f"{done} trials are written down, and those after the latest snapshot happen again", ""
    print(f"{kept}{again}" if done < total else f"{done} of {total} trials are done")
    return experiment, folder


def search(
    space: str,
    strategy: str = "evolution",
    task: str = "digits",
    trials: int = 20,
    *,
    overrides: Sequence[str] = (),
    **settings: Any,
) -> Study:
    """Search from Python as the command line does, and return the study.

    ``settings`` are keys of the config: ``search("nasnet", seed=3)``; those with a dot go into ``overrides`` in the
    command line's form: ``overrides=["evaluator.epochs=2", "task.root=photos"]``. Interrupted, it returns what
    there is. Raises BadInput for what does not fit, SearchFailed where nothing was found.
    """
    registry = Registry()
    words = [f"+space={space}", f"strategy={strategy}", f"task={task}", f"trials={json.dumps(trials)}"]
    words += [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]
    words += overrides
    experiment = Experiment(configs.compose(words, registry), registry, configs.command(words))
    try:
        return experiment.run()
    except Interrupted:
        return experiment.study


def versions() -> dict[str, str]:
    """Return the versions that a result rests on."""
    found = {"automl": importlib.metadata.version("automl-lightweight"), "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _objectives(values: Mapping[str, Any]) -> tuple[tuple[Objective, ...], tuple[Limit, ...]]:
    """Return what a config's objective asks for: what to make large or small, and what to keep."""
    keys = {"metric", "goal", "goals", "cost", "target", "alpha", "beta", "log_cost", "limits"}
    unknown = values.keys() - keys
    if unknown:
        raise BadInput(f"objective has no key {min(unknown)!r}; its keys: {', '.join(sorted(keys))}")
    Goal = Literal["max", "min"]  # noqa: N806
    if "goals" in values:
        goals = check(values["goals"], dict[str, Goal], "objective.goals")
        if not goals:
            raise BadInput("objective.goals={} asks for nothing: give it a metric, as {accuracy: max}")
    else:
        metric = check(values.get("metric"), str, "objective.metric")
        goals = {metric: check(values.get("goal", "max"), Goal, "objective.goal")}
    costs: tuple[Cost | LogCost, ...] = ()
    if "log_cost" in values:
        costs = (LogCost(check(values["log_cost"], Literal["multiply_adds", "parameters"], "objective.log_cost")),)
        for metric, goal in goals.items():
            if goal != "max" or not metric.endswith("accuracy"):
                raise BadInput(
                    f"objective.log_cost weighs what an accuracy lacks to 1, which {metric} ({goal}) does not say: "
                    "give objective.metric=accuracy"
                )
    if "cost" in values:
        positive, power = Annotated[float, Gt(0)], Annotated[float, Le(0)]
        costs = (
            Cost(
                check(values["cost"], str, "objective.cost"),
                check(values.get("target"), positive, "objective.target"),
                check(values.get("alpha", -0.07), power, "objective.alpha"),
                check(values.get("beta", -0.07), power, "objective.beta"),
            ),
        )
    limits = []
    for metric, bound in check(values.get("limits") or {}, dict[str, float], "objective.limits").items():
        better = goals.get(metric, "max" if metric.endswith("accuracy") else "min")
        limits.append(Limit(metric, bound, better))
    return tuple(Objective(metric, goal, costs) for metric, goal in goals.items()), tuple(limits)


def _front(study: Study) -> dict[str, Any]:
    """Return what a summary says of the front: its trials and, for several objectives, its volume and its knee."""
    front = study.front
    found: dict[str, Any] = {"front": [trial.number for trial in front]}
    if len(study.objectives) > 1 and front:
        reference = pareto.worst([trial.scores for trial in full(study.trials)])
        points = [trial.scores for trial in front]
        found["hypervolume"] = {"value": pareto.hypervolume(points, reference), "reference": list(reference)}
        found["knee"] = front[pareto.knee(points)].number
    return found


def _nothing_legal(nearest: Trial, limits: Sequence[Limit]) -> str:
    """Return in a sentence which limit no architecture kept, and what came nearest to it."""
    broken = next(limit for limit in limits if limit.metric in nearest.metrics and limit.violation(nearest.metrics))
    found = nearest.metrics[broken.metric]
    return (
        f"no architecture kept objective.limits.{broken.metric}={broken.bound:g}: the nearest, trial {nearest.number}, "
        f"has {found:,.6g}; {'raise' if broken.goal == 'min' else 'lower'} the limit, or search for longer"
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} second{'s' * (round(seconds) > 1)}"
    if seconds < 5400:
        return f"{round(seconds / 60)} minutes"
    return f"{seconds / 3600:.1f} hours"

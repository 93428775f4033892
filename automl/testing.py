"""The contracts by which components are tested, ours and others' alike, with toy spaces and toy evaluators."""

from __future__ import annotations

import json
import random
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from automl.decisions import MISFIT, Architecture, Choose, Integer, Op, Options, Real
from automl.errors import BadInput, TrialFailed
from automl.evaluator import Evaluator
from automl.journal import Journal, read
from automl.space import Space
from automl.strategy import Strategy
from automl.study import Study
from automl.task import Task
from automl.trial import Candidate, Objective, Report, Trial

if TYPE_CHECKING:
    from torch.nn import Module

NO_TASK: Any = None  # what a toy study is given for its task: nothing here looks at it
OBJECTIVES = (Objective("accuracy"),)


@dataclass
class ToySpace(Space[tuple[int, ...]]):
    """Independent decisions, each of so many options: the simplest space there is."""

    decisions: Annotated[int, Ge(1)] = 4
    options: Annotated[int, Ge(1)] = 3

    def describe(self, choose: Choose) -> tuple[int, ...]:
        return tuple([choose(f"d{number}", range(self.options)) for number in range(self.decisions)])

    def build(self, blueprint: tuple[int, ...], task: Task) -> Module:
        raise NotImplementedError("a toy space builds no network")


@dataclass
class ConditionalSpace(Space[Any]):
    """One of everything: nested conditions, domains that depend on earlier decisions, priors, tuples, look-alikes.

    With ``rate`` there is a decision over real numbers too, and so no end of architectures.
    """

    rate: bool = True

    def describe(self, choose: Choose) -> Any:
        depth = choose("depth", range(1, 4))
        width = choose("width", Integer(1, 8, log=True))
        layers: list[Any] = []
        for number in range(depth):
            kind = choose(f"layer.{number}.kind", _KINDS, context=(number / depth, 1.0))
            kernel = choose(f"layer.{number}.kernel", _KERNELS) if kind.name == "conv" else None
            layers.append((kind.name, kernel, choose(f"layer.{number}.channels", Integer(1, width))))
        momentum = choose("momentum", [None, 0.9, "0.9", True])
        rate = choose("rate", Real(1e-4, 1e-1, log=True)) if self.rate and momentum is not None else None
        return tuple(layers), momentum, rate

    def build(self, blueprint: Any, task: Task) -> Module:
        raise NotImplementedError("a toy space builds no network")


def _no_module() -> Module:
    raise NotImplementedError("a toy operation makes no module")


_KINDS = Options((Op("conv", _no_module), Op("pool", _no_module), Op("skip", _no_module)), prior=(2, 1, 1))
_KERNELS = ((3, 3), (5, 5), (3, 5))


@dataclass
class Checksum(Evaluator):
    """Reports an accuracy in [0, 1) that depends on the decisions alone, in so many reports; free of cost."""

    reports: Annotated[int, Ge(1)] = 1

    def evaluate(self, trial: Trial) -> Iterator[Report]:
        accuracy = zlib.crc32(json.dumps(trial.architecture.to_json()).encode()) / 2**32
        for number in range(1, self.reports + 1):
            share = number / self.reports
            yield Report({"accuracy": accuracy * share}, share)


@dataclass
class Scripted(Evaluator):
    """Does by trial number what it is given: reports metrics, raises an exception, or ends without a report.

    Trials beyond the script report ``otherwise``.
    """

    script: Mapping[int, Mapping[str, float] | BaseException | None]
    otherwise: float = 0.5

    def evaluate(self, trial: Trial) -> Iterator[Report]:
        act = self.script.get(trial.number, {"accuracy": self.otherwise})
        if isinstance(act, BaseException):
            raise act.with_traceback(None)  # one that was raised before still has its frames
        if act is not None:
            yield Report(act)


def story(path: Path) -> list[dict[str, Any]]:
    """Return a journal's records without the clock's part, so that equal studies have equal stories."""
    return [
        {key: record[key] for key in record if key not in ("time", "clock", "seconds", "crc")}
        for record, _ in read(path)
    ]


def check_space(space: Space[Any], task: Task | None = None, *, samples: int = 50, seed: int = 0) -> None:
    """Raise AssertionError, in a sentence, where the space breaks the contract of spaces.

    With a task, an architecture is built too, and must answer two images with two rows of its outputs.
    """
    rng = random.Random(seed)
    name = type(space).__name__
    for number in range(samples):
        rng.seed(f"{seed}/{number}")
        one = space.sample(rng)
        other = space.sample(rng)
        rng.seed(f"{seed}/{number}")
        assert space.sample(rng) == one, f"{name} draws different architectures by one seed: draw from rng alone"
        _check_architecture(space, one)
        _check_mutation(space, one, rng)
        _check_crossing(space, one, other, rng)
        nothing_kept = space.complete({key: object() for key in one.values} | {"nonsense": 1}, rng)
        _check_architecture(space, nothing_kept)
        assert space.complete(one.values, rng) == one, f"{name}.complete changes decisions that all still apply"
    if task is not None:
        _check_network(space, space.sample(rng), task, seed)


def check_strategy(
    factory: Callable[[], Strategy],
    spaces: Sequence[Space[Any]] | None = None,
    *,
    trials: int = 24,
    evaluator: Callable[[], Evaluator] = Checksum,
) -> None:
    """Raise AssertionError, in a sentence, where the strategies that the factory makes break their contract.

    Determined by the seed; legal; the same when resumed at any event of the journal; content with tells that come
    late, out of order, twice, or failed.
    """
    for space in (ToySpace(), ConditionalSpace(), ToySpace(2, 2)) if spaces is None else spaces:
        with tempfile.TemporaryDirectory() as folder:
            _check_resuming(factory, space, trials, evaluator, Path(folder))
        for reverse in (False, True):
            _check_tells(factory, space, trials, reverse)


def check_evaluator(factory: Callable[[], Evaluator], space: Space[Any], task: Task, *, seed: int = 0) -> None:
    """Raise AssertionError, in a sentence, where the evaluators that the factory makes break their contract.

    Reports of finite numbers, each better informed than the last up to fidelity 1; the same for the same trial;
    and content with being closed after any of them.
    """
    architecture = space.sample(random.Random(seed))
    told = []
    for _ in range(2):
        evaluator = factory()
        evaluator.start(space, task)
        reports = list(evaluator.evaluate(Trial(0, Candidate(architecture), seed)))
        name = type(evaluator).__name__
        assert reports, f"{name} ends without a report"
        fidelities = [report.fidelity for report in reports]
        assert fidelities == sorted(set(fidelities)), f"{name} reports fidelities that do not rise: {fidelities}"
        assert fidelities[0] >= 0, f"{name} reports fidelity {fidelities[0]}, which is not in [0, 1]"
        assert fidelities[-1] == 1.0, f"{name} does not reach fidelity 1: {fidelities}"
        for report in reports:
            for metric, value in report.metrics.items():
                assert type(value) in (int, float), f"{name} reports {metric} as {value!r}, which is no number"
        told.append([_without_clock(report) for report in reports])
    assert told[0] == told[1], f"{name} reports differently of the same trial: draw from trial.seed alone"
    evaluator = factory()
    evaluator.start(space, task)
    running = evaluator.evaluate(Trial(0, Candidate(architecture), seed))
    next(running)
    close = getattr(running, "close", None)
    if close is not None:
        close()


def _without_clock(report: Report) -> tuple[float, dict[str, float]]:
    return report.fidelity, {name: value for name, value in report.metrics.items() if "second" not in name}


def _check_architecture(space: Space[Any], one: Architecture) -> None:
    name = type(space).__name__
    for decision, value in one.values.items():
        domain = one.domains[decision]
        assert domain.fit(value) == value, f"{name} decides {decision}={value!r}, which is not {domain}"
    again = space.read(json.loads(json.dumps(one.to_json(), allow_nan=False)))
    assert again.values == one.values, f"{name} reads back another architecture than {one!r}"
    if one.weights:
        one = again  # of a network that holds all choices, what is derived has to be sound
    assert hash(again) == hash(one), f"{name} hashes equal architectures differently: {one!r}"
    kinds = [type(value) for value in again.values.values()], [type(value) for value in one.values.values()]
    assert kinds[0] == kinds[1], f"{name} reads back other types than those of {one!r}"
    key = space.canonical(one.blueprint)
    hash(key)
    assert space.canonical(again.blueprint) == key, f"{name}.canonical differs for two equal architectures"
    written = one.to_json()
    for decision in written:
        _must_refuse(space, {key: value for key, value in written.items() if key != decision}, decision)
        _must_refuse(space, {**written, decision: {"no": "value"}}, decision)
    _must_refuse(space, {**written, "nonsense": 1}, "nonsense")


def _must_refuse(space: Space[Any], values: Mapping[str, Any], decision: str) -> None:
    refusal = ""
    try:
        space.read(values)
    except BadInput as error:
        refusal = str(error)
    assert refusal, f"{type(space).__name__}.read accepts decisions with a wrong {decision!r}: {values}"
    assert repr(decision) in refusal, f"the error does not name decision {decision!r}: {refusal}"


def _check_mutation(space: Space[Any], one: Architecture, rng: random.Random) -> None:
    free = [decision for decision, domain in one.domains.items() if domain.count != 1]
    mutants = [space.mutate(one, rng), *(space.mutate(one, rng, [decision]) for decision in free)]
    for number, mutant in enumerate(mutants):
        _check_architecture(space, mutant)
        both = [decision for decision in mutant.values if decision in one.values]
        changed = [decision for decision in both if one.values[decision] != mutant.values[decision]]
        name = type(space).__name__
        assert bool(changed) == bool(free), f"{name}.mutate changes {changed} of {one!r}"
        if number:
            assert changed[0] == free[number - 1], f"{name}.mutate changes {changed}, asked for {free[number - 1]!r}"
        for decision in changed[1:]:
            kept = mutant.domains[decision].fit(one.values[decision])
            assert kept is MISFIT or kept == mutant.values[decision], (
                f"{name}.mutate changes {changed}: {decision!r} could have been kept"
            )
    if not free:
        assert mutants[0] == one, f"{type(space).__name__}.mutate changes {one!r}, where nothing can be changed"


def _check_crossing(space: Space[Any], one: Architecture, other: Architecture, rng: random.Random) -> None:
    child = space.cross(one, other, rng)
    _check_architecture(space, child)
    groups: dict[str, list[str]] = {}
    for decision in child.values:
        groups.setdefault(decision.rpartition(".")[0], []).append(decision)
    for group, decisions in groups.items():
        whole = any(
            all(_comes_from(child, decision, first, second) for decision in decisions)
            for first, second in ((one, other), (other, one))
        )
        assert whole, f"{type(space).__name__}.cross does not take group {group!r} from one parent: {child!r}"


def _comes_from(child: Architecture, decision: str, first: Architecture, second: Architecture) -> bool:
    parent = first if decision in first.values else second
    if decision not in parent.values:
        return True  # applies to neither: drawn
    kept = child.domains[decision].fit(parent.values[decision])
    return kept is MISFIT or kept == child.values[decision]


def _check_network(space: Space[Any], one: Architecture, task: Task, seed: int) -> None:
    import torch

    space.check(task)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = space.build(one.blueprint, task).eval()
        answers = model(torch.randn(2, *task.input))
    assert answers.shape == (2, task.outputs), (
        f"{type(space).__name__} builds a network that answers 2 images with {tuple(answers.shape)}, "
        f"not (2, {task.outputs})"
    )


def _check_resuming(
    factory: Callable[[], Strategy], space: Space[Any], trials: int, evaluator: Callable[[], Evaluator], folder: Path
) -> None:
    def run(path: Path) -> Study:
        study = Study(space, factory(), evaluator(), NO_TASK, OBJECTIVES, trials=trials, journal=Journal(path, {}))
        study.run()
        return study

    study = run(folder / "unbroken")
    name = type(study.strategy).__name__
    for trial in study.trials:
        _check_architecture(space, trial.architecture)
    study.strategy.recommend(study.trials)
    unbroken = story(folder / "unbroken")
    run(folder / "again")
    assert story(folder / "again") == unbroken, f"{name} asks differently by one seed: draw from self.rng alone"
    written = (folder / "unbroken").read_bytes()
    for number, (_, end) in enumerate(read(folder / "unbroken")):
        resumed = folder / f"resumed{number}"
        resumed.write_bytes(written[:end])
        run(resumed)
        assert story(resumed) == unbroken, f"{name} goes on differently when resumed after line {number + 1}"


def _check_tells(factory: Callable[[], Strategy], space: Space[Any], trials: int, reverse: bool) -> None:
    """Ask for several at once, and tell them late: in order or in reverse, every third failed, every fifth twice."""
    strategy, rng, judge = factory(), random.Random(0), Checksum()
    strategy.start(space, rng)
    told: list[Trial] = []
    while len(told) < trials:
        batch: list[Trial] = []
        for _ in range(4):
            rng.seed(f"ask/{len(told) + len(batch)}")
            candidate = strategy.ask()
            if candidate is None:
                break
            _check_architecture(space, candidate.architecture)
            assert 0 < candidate.fidelity <= 1, f"{type(strategy).__name__} asks for fidelity {candidate.fidelity}"
            batch.append(Trial(len(told) + len(batch), candidate, 0))
        if not batch:
            return
        for trial in reversed(batch) if reverse else batch:
            trial.reports = list(judge.evaluate(trial))
            trial.judge(OBJECTIVES)
            if trial.number % 3 == 0 or len(told) < 4:
                trial.error, trial.scores = str(TrialFailed("every third fails")), ()
            for _ in range(2 if trial.number % 5 == 0 else 1):
                rng.seed(f"tell/{trial.number}")
                strategy.tell(trial)
            told.append(trial)

"""The contract of strategies."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from automl.errors import TrialFailed
from automl.evaluator import Evaluator
from automl.journal import Journal, read
from automl.space import Space
from automl.strategy import Strategy
from automl.study import Study
from automl.testing.spaces import check_architecture
from automl.testing.toys import NO_TASK, OBJECTIVES, Checksum, ConditionalSpace, ToySpace
from automl.trial import Trial


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


def story(path: Path) -> list[dict[str, Any]]:
    """Return a journal's records without the clock's part, so that equal studies have equal stories."""
    return [
        {key: record[key] for key in record if key not in ("time", "clock", "seconds", "crc")}
        for record, _ in read(path)
    ]


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
        check_architecture(space, trial.architecture)
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
            check_architecture(space, candidate.architecture)
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

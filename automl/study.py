"""The loop: ask, evaluate, tell, write down; the same whatever the space, the strategy and the evaluator are."""

from __future__ import annotations

import json
import random
from collections.abc import Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import islice
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.decisions import Architecture, Domain
from automl.errors import JournalError, SearchFailed
from automl.evaluator import Evaluator, Trainer
from automl.executor import Executor, Failure, Local
from automl.journal import Journal, decisions_of
from automl.known import Known
from automl.snapshots import Snapshot, Snapshots
from automl.space import Space
from automl.standing import Told
from automl.strategy import Strategy
from automl.task import Task
from automl.trial import NOTHING, Candidate, Limit, Objective, Report, Trial, by_reason, in_floats
from automl.watching import Watchers

if TYPE_CHECKING:
    import pandas

MOST_WAITING = 100  # repeats of one running trial, after which its end is waited for
FIRST_FAILURES = 5  # so many trials at the start, all failed alike, end a study


class Study(Told):
    """One search: a space, a strategy and an evaluator, until so many trials are told.

    The generator of the strategy is reseeded by seed and count before each ask and tell, so a study that is
    resumed by asking again (``Journal``) draws what an unbroken one would. An architecture met again
    (``Evaluator.key``) is not evaluated again: the strategy is told the known result, and no trial is counted.
    """

    def __init__(
        self,
        space: Space[Any],
        strategy: Strategy,
        evaluator: Evaluator,
        task: Task,
        objectives: Sequence[Objective] = (Objective("accuracy"),),
        *,
        trials: int,
        limits: Sequence[Limit] = (),
        executor: Executor | None = None,
        seed: int = 0,
        journal: Journal | None = None,
        watchers: Watchers | None = None,
        directory: Path | None = None,
        interruptible: AbstractContextManager[Any] | None = None,
        snapshots: Snapshots | None = None,
    ) -> None:
        self.space = space
        self.strategy = strategy
        self.evaluator = evaluator
        self.task = task
        self.objectives = tuple(objectives)
        self.limits = tuple(limits)
        self.executor = executor or Local()
        self.total = trials
        self.seed = seed
        self.directory = directory
        self.trials: list[Trial] = []  # told, in the order of telling
        self.running: dict[int, Trial] = {}
        self.duplicates = 0
        self.replayed = 0  # trials that were read from the journal
        self.ending: str | None = None  # why the search ended before its total, in a sentence
        self.trainer: Trainer | None = None  # what trains the final network, once the search has ended
        self.summary: Mapping[str, Any] = {}
        self.config: Mapping[str, Any] = NOTHING  # as it was composed, for trackers; secrets are not resolved in it
        self._journal = journal
        self._watchers = watchers or Watchers()
        self._interruptible = interruptible or nullcontext()
        self._snapshots = snapshots
        self._decisions: Mapping[str, Any] = NOTHING  # of the last trial that was begun, as the journal has them
        self._asks = 0
        self._known: Known
        self._by_number: dict[int, Trial] = {}  # the told trials
        self._keys: dict[int, Hashable] = {}  # of the running trials, where a repeat would be worth the same
        self._busy: dict[Hashable, int] = {}  # the same, the other way round
        self._waiting: dict[int, list[Candidate]] = {}  # repeats of a running trial, to be told with it
        self._again: list[Trial] = []  # were running when the journal ended, and are to be submitted again
        self._begun_again: frozenset[int] = frozenset()
        self._names = list(dict.fromkeys(name for one in self.objectives for name in one.metrics))
        self._names += [limit.metric for limit in self.limits if limit.metric not in self._names]
        self._flaws: dict[int, str] = {}  # by trial, why what it reported cannot be taken
        self._domains: dict[Hashable, Mapping[str, Domain]] = {}
        self._rng = random.Random()

    def to_dataframe(self) -> pandas.DataFrame:
        """Return the records as a pandas data frame, a row a trial."""
        import pandas

        return pandas.DataFrame.from_records(self.to_records())

    def _repr_html_(self) -> str:
        from automl.notebook import html

        return html(self)

    def run(self) -> None:
        """Search until the total is told, the space is exhausted, or the strategy asks for nothing more.

        ``interruptible`` is entered while a candidate is evaluated, and only then.

        Raises SearchFailed when the first trials all fail alike. KeyboardInterrupt, and whatever else the
        evaluator is interrupted by, leaves the running trial untold.
        """
        self.start()
        executor = self.executor
        try:
            while not self._is_over():
                while executor.free and self._goes_on() and not self._pauses:
                    trial = self.ask()
                    if trial is None:
                        break
                    executor.submit(trial)
                if not self.running:
                    break
                with self._interruptible:
                    trial, event = executor.next()
                if self._is_over():
                    break
                if isinstance(event, Report):
                    if not self.report(trial, event):
                        executor.stop(trial)
                        self.tell(trial)
                else:
                    self.tell(trial, event)
                if self._snapshots is not None and self._snapshots.is_due:
                    self._take_snapshot()
            self._take_snapshot()
        finally:
            executor.close()
            self.close()

    @property
    def is_stateful(self) -> bool:
        """Whether the journal alone does not restore the search."""
        return self.strategy.stateful or self.evaluator.stateful

    @property
    def _pauses(self) -> bool:
        """Whether what is running is waited for before more is asked for: a state is only written down at rest."""
        return bool(self.running) and self.is_stateful and self._snapshots is not None and self._snapshots.is_due

    def _take_snapshot(self) -> None:
        """Write down the states that the journal does not restore, where nothing is running that they depend on."""
        if self._snapshots is None or self._journal is None or self.running or not self.is_stateful:
            return
        self._journal.sync()
        strategy = self.strategy.state() if self.strategy.stateful else None
        evaluator = self.evaluator.state() if self.evaluator.stateful else None
        self._snapshots.save(Snapshot(*self._journal.place, self._asks, strategy, evaluator))

    def start(self) -> None:
        """Start the evaluator and the strategy, and resume from the journal if it has a past."""
        self.evaluator.objectives, self.evaluator.limits = self.objectives, self.limits
        self.evaluator.start(self.space, self.task)
        self._known = Known(self.space, self.evaluator)
        self.strategy = self.evaluator.schedule(self.strategy)
        self.strategy.start(self.space, self._rng)
        if self._journal is not None:
            self._replay(self._journal)
        self.executor.start(self.evaluator, max((trial.ended for trial in self.trials), default=0.0))
        self._watchers.call("automl_study_started", study=self)

    def close(self) -> None:
        """Have the journal hold all that was written."""
        if self._journal is not None:
            self._journal.close()

    def ask(self) -> Trial | None:
        """Ask the strategy until it names something new, and begin that trial; None where there is nothing now."""
        if self._again:
            trial = self._again.pop(0)
            trial.began = self.executor.begin_again(trial.began)
            self._watchers.call("automl_trial_started", study=self, trial=trial)
            return trial
        while True:
            candidate = self._ask()
            if candidate is None:
                if not self.running:
                    told, total = len(self.trials), self.total
                    self.ending = f"the strategy asked for nothing more after {told} of {total} trials"
                return None
            key, known = self._meet(candidate)
            if known is None and key in self._busy:
                self._write({"event": "duplicate", "of": self._busy[key], **self._asked(candidate)})
                if self._wait(candidate, key):
                    continue
                return None
            if known is None:
                trial = self._begin(candidate, key, self.executor.clock)
                if self._journal is not None:
                    asked = self._shortened(self._asked(candidate), candidate)
                    clock = round(trial.began, 6)
                    self._journal.append({"event": "started", "trial": trial.number, **asked, "clock": clock})
                self._watchers.call("automl_trial_started", study=self, trial=trial)
                return trial
            if self._journal is not None:
                self._journal.append({"event": "duplicate", "of": known.number, **self._asked(candidate)})
            self._repeat(candidate, known)
            if self.ending is not None:
                return None

    def report(self, trial: Trial, report: Report) -> bool:
        """Take a report; say whether the trial should go on."""
        if trial.reports and report.fidelity <= trial.reports[-1].fidelity:
            if trial.number in self._begun_again:
                return True  # no news until better informed than before
            before = trial.reports[-1].fidelity
            self._flaws[trial.number] = (
                f"a report of fidelity {report.fidelity} came after one of {before}: it must rise"
            )
            return False
        report = in_floats(report)
        if not all(map(isfinite, report.metrics.values())):
            name, value = next(pair for pair in report.metrics.items() if not isfinite(pair[1]))
            self._flaws[trial.number] = f"{name} was {value}"
            return False
        self._write(
            {
                "event": "reported",
                "trial": trial.number,
                "fidelity": report.fidelity,
                "metrics": dict(report.metrics),
            }
        )
        trial.reports.append(report)
        self._watchers.call("automl_trial_reported", study=self, trial=trial, report=report)
        return self._keep(trial, report)

    def tell(self, trial: Trial, failure: Failure | None = None) -> None:
        """End a trial: score it, write it down, tell the strategy.

        Raises SearchFailed if the first trials all failed alike.
        """
        if failure is None:
            failure = self._flaw(trial)
        if failure is not None:
            trial.error, trial.traceback = failure
        trial.ended = self.executor.clock
        record: dict[str, Any] = {"event": "finished", "trial": trial.number}
        record |= {"seconds": round(trial.seconds, 6), "clock": round(trial.ended, 6)}
        if failure is not None:
            record |= {"event": "failed", "reason": failure.reason, "traceback": failure.traceback}
        self._write(record)
        self._told(trial)
        self._watchers.call("automl_trial_finished", study=self, trial=trial)
        self._give_up()

    def _asked(self, candidate: Candidate) -> dict[str, Any]:
        """Return what the journal keeps of an answer of the strategy."""
        record: dict[str, Any] = {
            "ask": self._asks - 1,
            "decisions": candidate.architecture.to_json(),
            "fidelity": candidate.fidelity,
            "parent": candidate.parent,
        }
        if candidate.notes:
            record["notes"] = dict(candidate.notes)
        return record

    def _shortened(self, asked: dict[str, Any], candidate: Candidate) -> dict[str, Any]:
        """Have a soft candidate tell only what changed since the last trial: such searches have thousands of trials."""
        decisions, before = asked["decisions"], self._decisions
        self._decisions = decisions
        if candidate.architecture.weights and decisions.keys() == before.keys():
            del asked["decisions"]
            asked["changes"] = {name: value for name, value in decisions.items() if before[name] != value}
        return asked

    def _goes_on(self) -> bool:
        """Say whether another trial is due."""
        return bool(self._again) or (self.ending is None and len(self.trials) + len(self.running) < self.total)

    def _is_over(self) -> bool:
        """Say whether the executor's hours are spent; what is running is then left."""
        if not self.executor.is_over:
            return False
        self.ending = f"{self.executor.hours:g} hours are spent, after {len(self.trials)} of {self.total} trials"
        return True

    def _keep(self, trial: Trial, report: Report) -> bool:
        """Say whether the trial should go on: by its limits before it is trained, by its strategy afterwards."""
        return self.strategy.keep(trial) if report.fidelity else not self._breaks(report.metrics)

    def _breaks(self, metrics: Mapping[str, float]) -> bool:
        return any(limit.violation(metrics) for limit in self.limits if limit.metric in metrics)

    def _ask(self) -> Candidate | None:
        self._rng.seed(f"{self.seed}/ask/{self._asks}")
        candidate = self.strategy.ask()
        if candidate is not None:
            self._asks += 1
        return candidate

    def _meet(self, candidate: Candidate) -> tuple[Hashable | None, Trial | None]:
        """Return what the candidate is known by, if repeats are worth the same, and the trial that was the same."""
        key = self._known.key(candidate)
        return key, None if key is None else self._known.find(key)

    def _begin(self, candidate: Candidate, key: Hashable | None, clock: float) -> Trial:
        number = len(self.trials) + len(self.running)
        trial = Trial(number, candidate, seed=(self.seed << 32) + number)
        trial.began = clock
        if candidate.parent is not None:
            trial.parent = self._by_number[candidate.parent]
        self.running[number] = trial
        if key is not None:
            self._keys[number] = key
            self._busy[key] = number
        return trial

    def _wait(self, candidate: Candidate, key: Hashable) -> bool:
        """Have a repeat of a running trial told when that is; say whether it makes sense to ask for another."""
        waiting = self._waiting.setdefault(self._busy[key], [])
        waiting.append(candidate)
        return len(waiting) < MOST_WAITING

    def _told(self, trial: Trial, again: bool = False) -> None:
        """Take a trial that ended; ``again``: the strategy knows it already, by its own state."""
        del self.running[trial.number]
        if trial.error is None:
            trial.judge(self.objectives, self.limits)
        if self._journal is not None:
            trial.traceback = None  # the journal keeps it
        self._share_domains(trial.architecture)
        self.trials.append(trial)
        self._by_number[trial.number] = trial
        key = self._keys.pop(trial.number, None)
        if key is not None:
            self._known.add(key, trial)
            del self._busy[key]
        if not again:
            self._rng.seed(f"{self.seed}/tell/{trial.number}")
            self.strategy.tell(trial)
        if trial.architecture.weights:  # what is told keeps its figures and what it derived, not its weights
            trial.candidate = replace(trial.candidate, architecture=self.space.read(trial.architecture.to_json()))
            trial.reports = [replace(report, gradients=NOTHING) for report in trial.reports]
        for candidate in self._waiting.pop(trial.number, ()):
            self._repeat(candidate, trial)

    def _share_domains(self, architecture: Architecture) -> None:
        """Have architectures with the same decisions share one dict of domains: it is most of their weight."""
        domains = architecture.domains
        key = (tuple(domains), tuple(map(id, domains.values())))
        shared = self._domains.get(key)
        if shared is not None:
            architecture.domains = shared
        elif len(self._domains) < 1_000:
            self._domains[key] = domains

    def _repeat(self, candidate: Candidate, known: Trial) -> None:
        again = Trial(known.number, candidate, known.seed)
        again.reports, again.error = known.reports, known.error
        again.scores, again.violation, again.parent = known.scores, known.violation, known.parent
        again.began, again.ended = known.began, known.ended
        self.duplicates += 1
        self.ending = self._known.repeat()
        self._rng.seed(f"{self.seed}/duplicate/{self._asks}")
        self.strategy.tell(again)

    def _flaw(self, trial: Trial) -> Failure | None:
        """Return why a trial that ended cannot be scored."""
        if trial.number in self._flaws:
            return Failure(self._flaws.pop(trial.number), "")
        if not trial.reports:
            return Failure("no report", "")
        metrics = trial.metrics
        for name in self._names:
            if name not in metrics and not self._breaks(metrics):
                return Failure(f"no metric `{name}`; it reported: {', '.join(metrics) or 'none'}", "")
        return None

    def _give_up(self) -> None:
        first = min(FIRST_FAILURES, self.total)
        if len(self.trials) == first and self.replayed < first:
            groups = by_reason(self.trials)
            if len(groups) == 1 and len(groups[0][1]) == first:
                raise SearchFailed(
                    f"the first {first} trials all failed for one reason: {self.trials[0].error}; "
                    "mend that and start again (the journal has each traceback)"
                )

    def _write(self, record: dict[str, Any]) -> None:
        if self._journal is not None:
            self._journal.append(record)

    def _replay(self, journal: Journal) -> None:
        """Ask again for all that the journal holds, and open it to go on.

        What was written after the last trial was settled belongs to trials that were running: it is cut, they
        start again, and with one worker the journal ends as that of an unbroken study. Where a state is needed that
        the journal does not restore, it is cut back to the latest snapshot, and what came after it happens again.
        """
        size, lines = 0, 0
        held: list[dict[str, Any]] = []
        snapshot = self._snapshots.latest(journal.size) if self._snapshots and self.is_stateful else None
        until = inf if not self.is_stateful else 0 if snapshot is None else snapshot.size
        for record, end in journal.events():
            if end > until:
                break
            held.append(record)
            if record["event"] in ("finished", "failed", "duplicate", "study"):
                for earlier in held:
                    self._follow(journal, earlier)
                held.clear()
                size, lines = end, record["line"] + 1
        if snapshot is not None:
            self._asks = snapshot.asks
            if self.strategy.stateful:
                self.strategy.restore(snapshot.strategy or {}, self.trials)
            if snapshot.evaluator is not None:
                self.evaluator.restore(snapshot.evaluator)
        self.replayed = len(self.trials)
        self._again = list(self.running.values())
        self._begun_again = frozenset(self.running)
        journal.open(size, lines)

    def _follow(self, journal: Journal, record: dict[str, Any]) -> None:
        """Do again what a record says was done."""
        event = record["event"]
        try:
            if event == "started" and self.strategy.stateful:
                self._decisions = decisions_of(record, self._decisions)
                architecture = self.space.read(self._decisions)
                notes = record.get("notes", NOTHING)
                candidate = Candidate(architecture, record["fidelity"], record["parent"], notes)
                self._begin(candidate, self._known.key(candidate), record.get("clock", 0.0))
            elif event in ("started", "duplicate"):
                candidate = self._agree(journal, record, self._ask())
                key, known = self._meet(candidate)
                if event == "started":
                    self._begin(candidate, key, record.get("clock", 0.0))
                elif known is None and key in self._busy and self._busy[key] == record["of"]:
                    self._wait(candidate, key)
                else:
                    if known is None or known.number != record["of"]:
                        raise JournalError(
                            f"{journal.path} cannot be gone on with: it has an architecture as that of trial "
                            f"{record['of']}, which it is not by now; resume with the version that wrote it"
                        )
                    self._repeat(candidate, known)
            elif event == "reported":
                trial = self.running[record["trial"]]
                report = Report(record["metrics"], record["fidelity"])
                trial.reports.append(report)
                if not self.strategy.stateful:
                    self._keep(trial, report)
            elif event in ("finished", "failed"):
                trial = self.running[record["trial"]]
                trial.ended = record.get("clock", trial.began + record["seconds"])
                trial.error, trial.traceback = record.get("reason"), record.get("traceback")
                self._told(trial, again=self.strategy.stateful)
            elif event != "study":
                raise KeyError(event)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise JournalError(
                f"{journal.path} line {record['line'] + 1} does not follow from what precedes it "
                f"({type(error).__name__}: {error}): it was written by another version, or by hand"
            ) from error

    def _agree(self, journal: Journal, record: Mapping[str, Any], candidate: Candidate | None) -> Candidate:
        """Refuse a journal that holds another answer than the strategy gives now."""
        if candidate is None:
            now: Any = "nothing"
        else:
            asked = self._asked(candidate)
            now = asked["decisions"]
            if all(value == record.get(key) for key, value in asked.items()):
                return candidate
            if json.loads(json.dumps(asked)).items() <= record.items():  # tuples were written as lists
                return candidate
        raise JournalError(
            f"{journal.path} cannot be gone on with: for trial {record.get('trial', record.get('of'))} the journal has "
            f"{_shown(record['decisions'], now)}, the strategy now asks for {_shown(now, record['decisions'])}; "
            "resume with the versions and the settings that wrote it"
        )


def _shown(decisions: Any, other: Any) -> str:
    """Return the decisions that differ from the other's, at most three of them."""
    if not isinstance(decisions, Mapping) or not isinstance(other, Mapping):
        return str(decisions)[:200]
    missing = object()
    different = {name: value for name, value in decisions.items() if other.get(name, missing) != value}
    return (
        ", ".join(f"{name}={value!r}" for name, value in islice(different.items(), 3)) or "the same decisions and less"
    )

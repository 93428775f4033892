"""Workers: tried again, shared out, limited, refused in time, ordered, and gone with their driver."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from automl import BadInput, Candidate, allotment
from automl.executor import EXECUTORS
from automl.journal import Journal, read
from automl.plugins import Registry
from automl.processes import Processes
from automl.study import Study
from automl.testing import NO_TASK, ConditionalSpace, ToySpace, story
from automl_strategies.random import Random
from waiting import wait_for
from working import Dawdling, Dying, Holding, Lambdas, Raising, Stateful, Telling, Uneven

TOYS = Path(__file__).parent / "toys"


def search(evaluator, executor, trials=8, strategy=None, space=None, path=None, task=NO_TASK):
    journal = None if path is None else Journal(path, {})
    given = {"trials": trials, "executor": executor, "journal": journal}
    study = Study(space or ToySpace(9, 4), strategy or Random(), evaluator, task, **given)
    study.run()
    return study


def outcome(study):
    return {trial.number: trial.error for trial in study.trials}


def gone(pids, seconds):
    """Wait until none of the processes is alive; return those that still are."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        left = [pid for pid in pids if _is_alive(pid)]
        if not left:
            return []
        time.sleep(0.1)
    return left


def _is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_worker_that_dies_is_replaced_and_its_trial_tried_again(tmp_path, caplog):
    evaluator = Dying(always=(3,), once=(1, 5), marks=str(tmp_path))
    study = search(evaluator, Processes(workers=2), path=tmp_path / "journal")
    assert outcome(study) == {**dict.fromkeys(range(8)), 3: "worker died (signal 9) 3 times"}
    tries = {number: len((tmp_path / str(number)).read_text()) for number in range(8)}
    assert tries == {**dict.fromkeys(range(8), 1), 1: 2, 3: 3, 5: 2}
    reported = [record["trial"] for record in story(tmp_path / "journal") if record["event"] == "reported"]
    assert sorted(reported) == sorted([3, *[number for number in range(8) if number != 3] * 2])
    assert "a worker died (signal 9) in trial 1, which is tried again" in caplog.text


def test_an_error_that_cannot_be_sent_arrives_as_text(caplog):
    told = outcome(search(Raising(), Processes(workers=2), trials=8))
    assert told == {
        0: "TwoParts: one",
        1: "Locked: locked",
        2: "Local: here",
        3: "Speechless: it has no text",
        4: "ValueError: half \\ud800 of a pair",
        5: "TypeError: the evaluator yielded str, which is no Report",
        6: None,
        7: None,
    }
    assert caplog.messages.count("raising is in for a surprise") == 8  # what workers log is the driver's to write


@pytest.mark.parametrize(("workers", "cores", "given", "threads"), [(2, 2, "", 1), (4, 2, "", 1), (3, 16, "", 5)])
def test_processors_are_shared_out(workers, cores, given, threads):
    assert allotment.threads(workers, cores, {"OMP_NUM_THREADS": given}) == str(threads)
    assert allotment.threads(workers, cores, {"OMP_NUM_THREADS": "7"}) == "7"


def test_an_affinity_mask_is_honoured():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no affinity masks")
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert allotment.cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("given", [None, "2"])
def test_torch_has_its_share_of_the_threads_in_each_worker(tmp_path, monkeypatch, given):
    monkeypatch.delenv("OMP_NUM_THREADS")
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    study = search(Telling(str(tmp_path), torch=True, together=2), Processes(workers=2), trials=2)
    threads = int(given or max(1, allotment.cores() // 2))
    assert [json.loads((tmp_path / f"{number}.json").read_text())["threads"] for number in (0, 1)] == [threads] * 2
    assert [worker["threads"] for worker in study.executor.facts()["workers"]] == [str(threads)] * 2
    assert os.environ.get("OMP_NUM_THREADS") == given


@pytest.mark.parametrize(
    ("visible", "found"),
    [("2,3", ["2", "3"]), ("", []), (" GPU-8f , MIG-1 ", ["GPU-8f", "MIG-1"]), ("1,-1,0", ["1"]), ("-1", [])],
)
def test_graphics_cards_are_those_that_are_visible(visible, found):
    assert allotment.devices({"CUDA_VISIBLE_DEVICES": visible}) == found


@pytest.mark.parametrize(("visible", "seen"), [("2,3", ["2", "2", "3"]), ("", ["", "", ""])])
def test_each_worker_sees_one_graphics_card_in_turn(tmp_path, monkeypatch, visible, seen):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    search(Telling(str(tmp_path), together=3), Processes(workers=3), trials=3)
    told = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    assert sorted(one["CUDA_VISIBLE_DEVICES"] for one in told) == seen
    assert len({one["process"] for one in told}) == 3
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible


def test_lambdas_travel():
    study = search(Uneven(), Processes(workers=1), trials=3, space=Lambdas())
    assert outcome(study) == {0: None, 1: None, 2: None}


class Holder:
    """A task with an open file."""

    def __init__(self, file):
        self.file = file


def test_what_cannot_travel_is_refused_by_its_name_before_the_first_trial(tmp_path):
    with pytest.raises(BadInput, match=r"evaluator\.counts is a lock, which cannot be sent .* executor=local"):
        search(Holding(), Processes(workers=1), path=tmp_path / "journal")
    with (tmp_path / "log").open("w") as file, pytest.raises(BadInput, match=r"task\.file is a TextIOWrapper, which"):
        search(Uneven(), Processes(workers=1), task=Holder(file))
    assert "started" not in (tmp_path / "journal").read_text()


SCRIPT = """
from automl import Evaluator, Report, Space, Study
from automl.executor import find
from automl_strategies.random import Random

class Mine(Space):
    def describe(self, choose):
        return choose("a", range(50))
    def build(self, blueprint, task):
        raise NotImplementedError

class Odd(Exception):
    def __init__(self, one, two):
        super().__init__(one)

class Strange(Random):
    lock = __import__("threading").Lock()  # a strategy stays where it is

class Ours(Evaluator):
    def evaluate(self, trial):
        if trial.number == 1:
            raise Odd("one", "two")
        yield Report({"accuracy": trial.architecture.values["a"] / 50})

study = Study(Mine(), Strange(), Ours(), None, trials=4, executor=find("EXECUTOR")(workers=2))
study.run()
print(sorted((trial.number, trial.error) for trial in study.trials))
"""


def test_what_a_script_defines_works_and_the_script_runs_once(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.replace("EXECUTOR", "processes"))
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("[(0, None), (1, 'Odd: one'), (2, None), (3, None)]\n", "")


def test_a_trial_over_its_time_is_killed_with_all_that_it_started(tmp_path):
    evaluator = Dawdling(slow=(1,), marks=str(tmp_path))
    study = search(evaluator, Processes(workers=2, trial_minutes=0.05), trials=4)
    assert outcome(study) == {0: None, 1: "over its time limit of 0.05 minutes", 2: None, 3: None}
    assert gone(map(int, (tmp_path / "1").read_text().split()), 10) == []


def test_a_trial_over_its_memory_is_killed(tmp_path):
    evaluator = Dawdling(slow=(1,), marks=str(tmp_path), megabytes=700)
    study = search(evaluator, Processes(workers=2, trial_memory=0.5), trials=4)
    told = outcome(study)
    assert told.pop(1).startswith("over its memory limit of 0.5 GiB (0.")
    assert set(told.values()) == {None}


class Halving(Random):
    """Stops what is odd after its first report."""

    def keep(self, trial):
        return trial.number % 2 == 0


@pytest.mark.parametrize("ordered", [False, True])
def test_a_trial_that_is_not_kept_is_left(ordered):
    study = search(Uneven(), Processes(workers=2, ordered=ordered), trials=8, strategy=Halving())
    assert {trial.number: len(trial.reports) for trial in study.trials} == dict(zip(range(8), [3, 1] * 4, strict=True))


KINDS = ["random", "evolution", "tpe", "hyperband"]


def ordered(kind, workers, path):
    registry = Registry()
    name = "random" if kind == "hyperband" else kind
    small = {"evolution": {"population": 4, "tournament": 2}, "tpe": {"startup": 3}}
    strategy = registry.build("strategy", {"name": name, **small.get(name, {})})
    evaluator = Uneven()
    if kind == "hyperband":
        evaluator = registry.build("evaluator", {"name": "hyperband", "inner": "training"})
        evaluator.inner = Uneven(epochs=9, seconds=0.005)
    executor = Processes(workers=workers, ordered=True, ahead=4)
    search(evaluator, executor, 20, strategy, ConditionalSpace(), path)
    return story(path)


@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_workers_makes_the_same_decisions_in_order(tmp_path, kind):
    one, two, three = (ordered(kind, workers, tmp_path / str(workers)) for workers in (1, 2, 3))
    assert one == two == three
    assert sum(record["event"] == "finished" for record in one) == 20


def test_an_ordered_study_goes_on_from_any_line_of_its_journal(tmp_path):
    unbroken = ordered("evolution", 2, tmp_path / "unbroken")
    written = (tmp_path / "unbroken").read_bytes()
    ends = [end for _, end in read(tmp_path / "unbroken")]
    for number in (3, len(ends) // 2, len(ends) - 2):
        path = tmp_path / f"resumed{number}"
        path.write_bytes(written[: ends[number]])
        assert ordered("evolution", 2, path) == unbroken


def test_more_workers_than_are_asked_for_ahead_are_refused():
    with pytest.raises(BadInput, match=r"executor\.workers=9 are more than the executor\.ahead=8 trials"):
        Processes(workers=9, ordered=True)


@pytest.mark.parametrize("name", ["processes", "ray"])
def test_an_evaluator_with_a_state_is_refused_with_what_to_type(name):
    from automl.executor import find

    assert name in EXECUTORS
    with pytest.raises(BadInput, match=r"evaluator stateful learns from trial to trial.*type executor=local"):
        find(name)(workers=2).check(Stateful(), Random())


def test_the_hours_end_a_search_in_the_middle_of_trials(tmp_path):
    evaluator = Dawdling(slow=(0, 1), marks=str(tmp_path))
    study = search(evaluator, Processes(workers=2, hours=1 / 3600), trials=4)
    assert study.ending == "0.000277778 hours are spent, after 0 of 4 trials"
    assert gone([int(pid) for number in (0, 1) for pid in (tmp_path / str(number)).read_text().split()], 10) == []


def words(folder, *more):
    common = ["+space=toy", "strategy=random", "evaluator=toy", "task=synthetic", "retrain=none", "watch=[]"]
    executor = [] if any(word.startswith("executor=") for word in more) else ["executor=processes"]
    return [*common, *executor, f"runs={folder}", *more]


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(TOYS), os.environ.get("PYTHONPATH", "")])}


def begin(folder, *more):
    return subprocess.Popen(
        [sys.executable, "-m", "automl", *words(folder, *more)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def descendants(pid, count):
    """Wait until a process has so many workers; return all processes that it started."""
    end = time.monotonic() + 60
    found: list[psutil.Process] = []
    while time.monotonic() < end:
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(pid).children(recursive=True)
            if sum("spawn_main" in " ".join(one.cmdline()) for one in found) >= count:
                return [one.pid for one in found]
        time.sleep(0.05)
    raise AssertionError(f"process {pid} has no {count} workers")


def written(path, letters):
    wait_for(lambda: path.exists() and len(path.read_text()) >= letters)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_its_driver(tmp_path, number):
    driver = begin(tmp_path / "runs", "executor.workers=4", "evaluator.sleep=500", f"evaluator.counts={tmp_path / 'n'}")
    try:
        written(tmp_path / "n", 4)
        workers = descendants(driver.pid, 4)
        driver.send_signal(number)
        assert gone(workers, 30 if number == signal.SIGKILL else 10) == []
        _, err = driver.communicate(timeout=30)
        assert driver.returncode == (-9 if number == signal.SIGKILL else 130)
        assert "Traceback" not in err
    finally:
        driver.kill()


def test_a_study_killed_with_workers_loses_and_doubles_nothing(tmp_path):
    """R6: failed trials stay failed, and no more run at once than there are workers."""
    more = ["executor.workers=2", "evaluator.sleep=0.1", "trials=8", f"evaluator.counts={tmp_path / 'n'}"]
    driver = begin(tmp_path / "runs", *more, "evaluator.wrong={1:raise,2:raise,3:raise}")
    written(tmp_path / "n", 6)
    driver.kill()
    driver.communicate()
    (folder,) = (tmp_path / "runs").glob("20*/*")
    before = story(folder / "journal.jsonl")
    command = [sys.executable, "-m", "automl", "resume", str(folder)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    after = story(folder / "journal.jsonl")
    settled = [record for record in after if record["event"] in ("finished", "failed")]
    assert sorted(record["trial"] for record in settled) == list(range(8))
    assert sorted(record["trial"] for record in settled if record["event"] == "failed") == [1, 2, 3]
    assert [record for record in before if record["event"] == "failed"] == settled[:3]
    running: set[int] = set()
    for record in after:
        if record["event"] == "started":
            running.add(record["trial"])
        elif record["event"] in ("finished", "failed"):
            running.remove(record["trial"])
        assert len(running) <= 2
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["trials"] == {
        "finished": 5,
        "failed": 3,
        "rejected": 0,
        "interrupted": 0,
        "duplicates": 0,
        "total": 8,
    }
    assert len(summary["executor"]["workers"]) == 2


def test_repeats_of_running_trials_wait_for_them():
    class Repeating(Random):
        asked = -1

        def ask(self):
            self.asked += 1
            if self.asked % 2 == 0:
                self.last = super().ask()
            return Candidate(self.last.architecture)

    study = search(Uneven(), Processes(workers=3), trials=9, strategy=Repeating())
    assert sorted(trial.number for trial in study.trials) == list(range(9))
    assert len({trial.architecture for trial in study.trials}) == 9
    assert study.duplicates in (8, 9)

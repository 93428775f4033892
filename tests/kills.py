"""Kills whole runs, and what they start, at random instants; resumes them; and counts what was lost: nothing may be.

python tests/kills.py COUNT [KIND...]
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import whole

from automl.testing import story

HERE = Path(__file__).parent
STUDIES = (  # of killed.py
    "hyperband-tpe",
    "reinforce",
    "ddpg",
    "supernet-darts",
    "supernet-reinforce",
    "amc-ddpg",
    "inheriting-evolution",
)
MARK = "AUTOML_KILLED_RUN"  # in the environment of all that a run starts
PATIENCE = 30.0  # seconds until all that a killed driver started is gone
HANGS = 300.0  # seconds that a run never takes
TRIALS = 4


@dataclass(frozen=True)
class Kind:
    """A whole run by these words; of a kind with other processes, any of them may be the one that is killed."""

    words: tuple[str, ...] = ()
    others: bool = False
    same: bool = True  # as the unbroken run, to the byte but for times: with several workers the order is another's
    forked: bool = True  # from a process that has imported everything; Ray and forks do not go together
    survives: bool = True  # the death of any other process; without Ray's own nothing can go on, until it is resumed


RUNS = {
    "run": Kind(),
    "processes": Kind(("executor=processes", "executor.workers=2"), others=True, same=False),
    "ray": Kind(("executor=ray", "executor.workers=2"), others=True, same=False, forked=False, survives=False),
    "tracker": Kind(("tracker=tensorboard",), others=True),
}


def main(count: int, kinds: Sequence[str]) -> int:
    """Kill so many times in all, shared out among the kinds; print a line each."""
    failed = False
    for number, name in enumerate(kinds):
        kills = count // len(kinds) + (number < count % len(kinds))
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            try:
                killed, beside = study(name, Path(folder), kills) if name in STUDIES else run(name, Path(folder), kills)
            except Exception:
                failed = True
                traceback.print_exc()
                print(f"{name:<20} failed", flush=True)
                continue
        spent = time.monotonic() - began
        print(f"{name:<20}{kills:>6} instants, {killed:>6} within the run, {beside:>6} of another process, "
              f"all as unbroken, {spent:6.0f} s", flush=True)  # fmt: skip
    return int(failed)


def study(name: str, folder: Path, kills: int) -> tuple[int, int]:
    """Have killed.py kill a study alone, in a process of its own; return how often that was while it ran."""
    words = [sys.executable, HERE / "killed.py", name, folder, str(kills), "1"]
    told = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(told.splitlines()[-1])["killed"], 0


def run(name: str, root: Path, kills: int) -> tuple[int, int]:
    """Kill whole runs; return how often while they ran, and how often it was another process than the driver."""
    kind, rng, monkeypatch = RUNS[name], random.Random(f"{name}/1"), pytest.MonkeyPatch()
    whole.quick(monkeypatch)
    unbroken = root / "unbroken" / "run"
    whole.begin(unbroken, TRIALS, kind.words if kind.same else ())  # here, so that no fork has anything to import
    expected = whole.told(unbroken)
    times = []
    for number in range(3):
        began = time.monotonic()
        _wait(_start(root / f"timed{number}" / "run", name)[1])
        times.append(time.monotonic() - began)
    took = min(times)
    killed = beside = 0
    for number in range(kills):
        folder = root / str(number) / "run"
        for _ in range(1 + (number % 3 == 0)):  # now and then once more, while it is resumed
            mark, driver = _start(folder, name)
            time.sleep(rng.random() * took)
            others = [one for one in driver.children(recursive=True) if kind.others] if driver.is_running() else []
            victim = rng.choice([driver, *others])
            if _kill(victim):
                killed += 1
                beside += victim is not driver
            code = _wait(driver, kind.survives)
            if victim is not driver and code != 0 and kind.survives:
                raise AssertionError(f"the driver ended with {code} after process {victim.pid} was killed: {folder}")
            _all_gone(mark)
        if kind.same:
            found = whole.end(folder, TRIALS, kind.words)
            wrong = [key for key, value in expected.items() if found[key] != value]
        else:
            mark, driver = _start(folder, name)
            _wait(driver)
            _all_gone(mark)
            wrong = [] if _numbers(folder) == list(range(TRIALS)) else ["trials"]
        if wrong:
            kept = shutil.copytree(root / str(number), Path(tempfile.mkdtemp()) / "run")
            raise AssertionError(f"after kill {number} {', '.join(wrong)} differ, see {kept}")
        shutil.rmtree(root / str(number))
    monkeypatch.undo()
    return killed, beside


def _start(folder: Path, name: str) -> tuple[str, psutil.Process]:
    """Run, or go on, in a child; what it starts bears a mark."""
    kind = RUNS[name]
    mark = f"{os.getpid()}/{time.monotonic_ns()}"
    if not kind.forked:
        words = [sys.executable, __file__, "--alone", str(folder), name]
        return mark, psutil.Process(os.posix_spawn(words[0], words, {**os.environ, MARK: mark}))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.environ[MARK] = mark
            whole.end(folder, TRIALS, kind.words)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return mark, psutil.Process(child)


def _alone(folder: Path, name: str) -> None:
    """Run, or go on, in this process."""
    whole.quick(pytest.MonkeyPatch())
    whole.end(folder, TRIALS, RUNS[name].words)


def _kill(process: psutil.Process) -> bool:
    try:
        running = process.status() != psutil.STATUS_ZOMBIE
        process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return False
    return running


def _wait(driver: psutil.Process, survives: bool = True) -> int:
    """Wait for the end of the driver, and return its exit code, or minus the number of the signal that ended it."""
    until = time.monotonic() + HANGS
    while (ended := os.waitpid(driver.pid, os.WNOHANG))[0] == 0:
        if time.monotonic() > until:
            raise AssertionError(f"the driver {driver.pid} has hung for {HANGS:.0f} s")
        time.sleep(0.02)
    code = os.waitstatus_to_exitcode(ended[1])
    if survives and code not in (0, -signal.SIGKILL):
        raise AssertionError(f"the run failed by itself with {code}")
    return code


def _all_gone(mark: str) -> None:
    """Wait until no process bears the mark; raises AssertionError after half a minute."""
    until = time.monotonic() + PATIENCE
    while True:
        left = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                    left.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        if not left:
            return
        if time.monotonic() > until:
            raise AssertionError(f"left behind: {', '.join(' '.join(process.cmdline())[:100] for process in left)}")
        time.sleep(0.2)


def _numbers(folder: Path) -> list[int]:
    """Return the numbers of the trials that ended, each as often as it did."""
    return sorted(
        record["trial"] for record in story(folder / "journal.jsonl") if record["event"] in ("finished", "failed")
    )


if __name__ == "__main__":
    paths = [str(HERE / "toys"), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ |= {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    sys.path.append(paths[0])
    if sys.argv[1:2] == ["--alone"]:
        _alone(Path(sys.argv[2]), sys.argv[3])
        sys.exit()
    sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 1_000, sys.argv[2:] or ("run", *STUDIES)))

"""A whole run on a disk that fails, tears, fills up or is killed at any call ends, resumed, as the unbroken one."""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import whole
from faults import Faults

from automl import cli, runs
from automl.errors import StorageError
from automl.testing import story

TRIALS = 3


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        whole.quick(monkeypatch)
        whole.begin(folder, TRIALS)
        yield whole.told(folder)


@pytest.mark.slow
@pytest.mark.parametrize("torn", [False, True])
def test_a_disk_that_fails_at_any_call_of_a_run_costs_nothing_that_was_finished(unbroken, tmp_path, monkeypatch, torn):
    for nth in range(1, 1_000):
        folder = tmp_path / str(nth) / "run"
        with Faults(nth, errno.ENOSPC, torn=torn, forever=bool(nth % 2)).installed(monkeypatch) as faults:
            try:
                whole.begin(folder, TRIALS)
            except StorageError as error:
                assert "disk is full: make room" in str(error)
                assert "\n" not in str(error)
                done = len(runs.Run(folder).trials) if (folder / "journal.jsonl").exists() else 0
            else:
                done = TRIALS
        if runs.is_run(folder):
            assert len(runs.Run(folder).trials) == done
        assert whole.end(folder, TRIALS) == unbroken, f"call {nth}, {faults.names[nth - 1 : nth]}"
        shutil.rmtree(folder)
        if not faults.fired:
            break
    assert nth > 20


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_run_killed_at_any_call_ends_as_the_unbroken_one(tmp_path):
    killed = subprocess.run(
        [sys.executable, Path(__file__).parent / "whole.py", tmp_path, str(TRIALS)],
        capture_output=True,
        text=True,
        timeout=570,
        env={**{key: value for key, value in os.environ.items() if "COV" not in key}, "OMP_NUM_THREADS": "1"},
    )
    assert killed.returncode == 0, killed.stderr[-2_000:]
    begun, torn, extended = json.loads(killed.stdout.splitlines()[-1])
    assert begun > 35
    assert extended > 25
    assert torn > 15


FULL = """
mount -t tmpfs -o size=48k none disk || exit 77
"$@"
echo "ended with $?"
mount -o remount,size=8m disk
"$1" -m automl resume "$(ls -d disk/2*/*)" > /dev/null
echo "resumed with $?"
cp -r "$(ls -d disk/2*/*)" kept
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("unshare") is None, reason="this system has no unshare")
def test_a_disk_that_is_really_full_is_said_and_gone_on_from_once_there_is_room(tmp_path):
    (tmp_path / "disk").mkdir()
    words = ["+space=toy", "strategy=random", "task=synthetic", "evaluator=toy", "retrain=none", "watch=[]"]
    words += ["trials=150", "space.depth=3"]
    paths = os.pathsep.join([str(Path(__file__).parent / "toys"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {name: value for name, value in os.environ.items() if "COV" not in name}
    environment |= {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    in_a_namespace = ["unshare", "--map-root-user", "--mount", "sh", "-c", FULL, "sh"]
    done = subprocess.run(
        [*in_a_namespace, sys.executable, "-m", "automl", *words, "runs=disk"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    if "ended with" not in done.stdout:
        pytest.skip(f"this account may mount nothing: {done.stderr.strip()[-200:]}")
    assert "ended with 2" in done.stdout, done.stdout + done.stderr
    assert "the disk is full: make room" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "resumed with 0" in done.stdout, done.stderr
    subprocess.run(
        [sys.executable, "-m", "automl", *words, "runs=there"], cwd=tmp_path, env=environment, check=True, timeout=300
    )
    (unbroken,) = (tmp_path / "there").glob("*/*/journal.jsonl")
    assert story(tmp_path / "kept" / "journal.jsonl") == story(unbroken)


def test_clocks_that_jump_change_nothing_that_is_computed(unbroken, tmp_path, monkeypatch):
    real, ticks = time.time, itertools.cycle([0, 3600, -3600, 0, 7200, -86_400])
    monkeypatch.setattr(time, "time", lambda: real() + next(ticks))
    folder = tmp_path / "jumping" / "run"
    whole.begin(folder, 1)
    whole.go_on(folder, f"trials={TRIALS}")
    found = whole.told(folder)
    assert found["journal"] == unbroken["journal"]
    assert found["summary"]["best"] == unbroken["summary"]["best"]
    assert found["model.safetensors"] == unbroken["model.safetensors"]
    records = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    written = [record["time"] for record in records]
    assert written != sorted(written)
    clocks = [record["clock"] for record in records if "clock" in record]
    assert clocks == sorted(clocks)  # of a clock that only goes on
    assert min(trial.seconds for trial in runs.Run(folder).trials) >= 0


def test_a_run_whose_driver_was_killed_is_reported_as_interrupted_before_it_is_resumed(tmp_path, capsys):
    folder = tmp_path / "run"
    whole.begin(folder, TRIALS)
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    cut = next(n for n, line in enumerate(lines) if json.loads(line).get("trial") == 2) + 1
    (folder / "journal.jsonl").write_bytes(b"".join(lines[:cut]))
    for name in ("summary.json", "report.html", "model.safetensors", "architecture.json"):
        (folder / name).unlink()
    run = runs.Run(folder)
    assert [trial.number for trial in run.trials] == [0, 1]
    assert [trial.number for trial in run.interrupted] == [2]
    assert cli.main(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert "interrupted" in page
    assert "running" not in re.sub(r"<(style|script).*?</\1>", "", page, flags=re.DOTALL)
    capsys.readouterr()
    assert cli.main(["predict", str(folder), "x.png"]) == 2
    assert f"automl resume {folder}" in capsys.readouterr().err


RESUME = """
import sys
import time
import whole
from automl import cli
sys.stdin.readline()
sys.exit(cli.main(["resume", sys.argv[1]]))
"""


@pytest.mark.slow
def test_of_two_drivers_that_resume_at_once_one_wins_and_nothing_is_doubled(tmp_path):
    words = ["+space=toy", "strategy=random", "task=synthetic", "evaluator=toy", "evaluator.sleep=0.5"]
    words += ["retrain=none", "watch=[]", "trials=8", f"runs={tmp_path}"]
    assert cli.main(words) == 0
    (folder,) = tmp_path.glob("2*/*")
    unbroken = story(folder / "journal.jsonl")
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "journal.jsonl").write_bytes(b"".join(lines[:4]) + lines[4][:20])
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here / "toys"), *filter(None, [os.environ.get("PYTHONPATH")])])
    both = [
        subprocess.Popen(
            [sys.executable, "-c", RESUME, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": paths},
        )
        for _ in range(2)
    ]
    for one in both:
        one.stdin.write("\n")
        one.stdin.flush()
    said = [one.communicate(timeout=120)[1] for one in both]
    codes = [one.returncode for one in both]
    assert sorted(codes) == [0, 2], said
    assert "is in use by process" in said[codes.index(2)]
    assert str(both[codes.index(0)].pid) in said[codes.index(2)]
    assert story(folder / "journal.jsonl") == unbroken

"""A whole run on a disk that fails, tears, fills up or is killed at any call ends, resumed, as the unbroken one."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import whole
from faults import Faults

from automl import runs
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
        timeout=500,
        env={**{key: value for key, value in os.environ.items() if "COV" not in key}, "OMP_NUM_THREADS": "1"},
    )
    assert killed.returncode == 0, killed.stderr[-2_000:]
    begun, torn, extended = json.loads(killed.stdout.splitlines()[-1])
    assert begun > 70
    assert extended > 50
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

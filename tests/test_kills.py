"""Studies that are killed at any instant and resumed: no trial lost, doubled or orphaned, the journal as unbroken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = {
    "hyperband-tpe": 20,
    "reinforce": 20,
    "ddpg": 6,
    "supernet-darts": 6,
    "supernet-reinforce": 6,
    "amc-ddpg": 4,
    "inheriting-evolution": 6,
    "workers-hyperband-tpe": 6,
}
TRIALS = {"supernet-darts": 20, "supernet-reinforce": 20, "amc-ddpg": 6, "inheriting-evolution": 16}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("kind", KILLS)
def test_a_study_killed_at_random_instants_ends_as_if_it_had_not_been(tmp_path, kind):
    killed = subprocess.run(
        [sys.executable, Path(__file__).parent / "killed.py", kind, tmp_path, str(KILLS[kind]), "0"],
        capture_output=True,
        text=True,
        timeout=500,
        env={**{key: value for key, value in os.environ.items() if "COV" not in key}, "OMP_NUM_THREADS": "1"},
    )
    assert killed.returncode == 0, killed.stderr[-2_000:]
    told = json.loads(killed.stdout.splitlines()[-1])
    assert told["killed"] > KILLS[kind] // 2
    assert told["finished"] == list(range(TRIALS.get(kind, 60)))
    if "hyperband" in kind:
        assert sum(parent is not None for parent in told["parents"]) > 10  # promotions went on from their parents
    if "inheriting" in kind:
        assert sum(parent is not None for parent in told["parents"]) > 4

"""The smallest whole run, within one process: search, retrain, test, export, report; gone on with, and told.

As a program, it is killed at every call of the seam for writing: python tests/whole.py FOLDER
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib.metadata
import io
import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from faults import Faults
from jinja2 import Environment

from automl import cli, config, deploy, measure, runs
from automl.experiment import Experiment, resuming
from automl.files import make_folder
from automl.plugins import Registry
from automl.testing import story

WORDS = ["+space=toy", "space.width=4", "strategy=evolution", "strategy.population=2", "strategy.tournament=2"]
WORDS += ["task=synthetic", "task.count=60", "task.batch_size=16", "evaluator.epochs=1", "retrain.epochs=2", "seed=1"]
ALONE = ("time", "clock", "seconds", "crc", "search", "retrain")


def quick(monkeypatch) -> None:
    """Have each config be composed, each network exported, and the page's template compiled once in a process.

    Nor is time spent on timing, or on looking for plugins again. None of this writes anything.
    """
    as_onnx, compose, compiled, known = deploy._as_onnx, config.compose, Environment.compile, {}
    ours = [one for one in importlib.metadata.distributions() if one.entry_points.select(group="automl")]

    def compiled_once(self, source, *names, **more):
        if source not in known:
            known[source] = compiled(self, source, *names, **more)
        return known[source]

    def exported_once(deployed, facts):
        digest = hashlib.sha256(repr(sorted(facts.items())).encode())
        for name, tensor in deployed.state_dict().items():
            digest.update(name.encode() + tensor.numpy().tobytes())
        key = digest.hexdigest()
        if key not in known:
            known[key] = as_onnx(deployed, facts)
        return known[key]

    def composed_once(words, registry):
        key = " ".join(words)
        if key not in known:
            known[key] = compose(words, registry)
        return copy.deepcopy(known[key])

    latency = measure.Latency(1.0, 1.0, 1.0, 1, 1, 1, "a stopped clock")
    monkeypatch.setattr(deploy, "_as_onnx", exported_once)
    monkeypatch.setattr(config, "compose", composed_once)
    monkeypatch.setattr(importlib.metadata, "distributions", lambda **_: ours)
    monkeypatch.setattr(Environment, "compile", compiled_once)
    monkeypatch.setattr(measure, "onnx_latency", lambda *_, **__: latency)
    monkeypatch.setattr(Experiment, "seconds", lambda *_: None)


def begin(folder: Path, trials: int, words: tuple[str, ...] = ()) -> None:
    """Run in that very folder, which is not there yet."""
    said = [*WORDS, f"trials={trials}", *words]
    registry = Registry()
    one = Experiment(config.compose(said, registry), registry, config.command(said))

    def create(label: str) -> Path:
        make_folder(folder)
        return folder

    one.create = create
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        one.run()


def go_on(folder: Path, *words: str) -> None:
    """Resume, as the command does."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        one, place = resuming(str(folder), words)
        if one is not None:
            one.run(place)


def end(folder: Path, trials: int, words: tuple[str, ...] = ()) -> dict[str, Any]:
    """Go on in a folder that may hold anything up to a whole run, and return what it ends as."""
    if runs.is_run(folder):
        go_on(folder)
    else:  # nothing was computed
        shutil.rmtree(folder, ignore_errors=True)
        begin(folder, trials, words)
    if not (folder / "report.html").exists():  # which a warning told of
        with contextlib.redirect_stdout(io.StringIO()):
            assert cli.main(["report", str(folder)]) == 0
    return told(folder)


def told(folder: Path) -> dict[str, Any]:
    """Return all that a run folder holds, but for times."""
    summary = json.loads((folder / "summary.json").read_text())
    for key in ALONE:
        summary["seconds"].pop(key, None)
    summary["warnings"] = [warning for warning in summary["warnings"] if "torn line dropped" not in warning]
    return {
        "journal": story(folder / "journal.jsonl"),
        "summary": summary,
        "page": re.sub(r"[\d.,]+ ?(s|min|h|ms|seconds?)\b", "", (folder / "report.html").read_text())[:2_000],
        "names": sorted(path.name for path in folder.iterdir() if not re.fullmatch(r"\..*|run\.log", path.name)),
        **{
            name: re.sub(rb"/\S+/run\b", b"RUN", (folder / name).read_bytes())
            for name in ("config.yaml", "model.safetensors", "architecture.json", "model.onnx", "MODEL_CARD.md")
        },
    }


def main(root: Path, trials: int) -> None:
    """Kill a run at its nth call, before it and within it, for every n; and one that is extended, likewise."""
    monkeypatch = pytest.MonkeyPatch()
    quick(monkeypatch)
    begin(root / "unbroken" / "run", trials)  # here, so that no child has anything to import
    unbroken = told(root / "unbroken" / "run")
    begin(root / "extended" / "run", 1)
    shutil.copytree(root / "extended", root / "short")
    go_on(root / "extended" / "run", f"trials={trials}")
    extended = told(root / "extended" / "run")
    if told(root / "short" / "run")["model.onnx"] == extended["model.onnx"]:
        sys.exit("the run that is extended finds no other network")
    counts = []
    for kind, torn, step in (("begun", False, 1), ("begun", True, 3), ("extended", False, 3)):
        for nth in range(1, 1_000, step):
            folder = root / f"{kind}-{torn}-{nth}"
            if kind == "extended":
                shutil.copytree(root / "short", folder)
            if not _killed(monkeypatch, kind, folder / "run", trials, nth, torn):
                counts.append(nth - 1)
                break
            if kind == "extended":
                go_on(folder / "run", f"trials={trials}")
                found = told(folder / "run")
            else:
                found = end(folder / "run", trials)
            for key, value in (unbroken if kind == "begun" else extended).items():
                if found[key] != value:
                    sys.exit(f"killed at call {nth} ({kind}, torn: {torn}), {key} differs in {folder}")
            shutil.rmtree(folder)
    print(json.dumps(counts))


def _killed(monkeypatch: pytest.MonkeyPatch, kind: str, folder: Path, trials: int, nth: int, torn: bool) -> bool:
    """Run in a child that is killed at the nth call; say whether it was."""
    child = os.fork()
    if child == 0:
        with Faults(nth, None, torn=torn).installed(monkeypatch):
            begin(folder, trials) if kind == "begun" else go_on(folder, f"trials={trials}")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit(f"the run failed by itself in {folder}")
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parent / "toys"))
    main(Path(sys.argv[1]), int(sys.argv[2]))

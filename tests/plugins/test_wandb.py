"""What W&B is given, read back from its offline files record by record."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from automl import BadInput
from automl_trackers.offline_files import files, records, rows
from automl_trackers.wandb_steps import Steps
from automl_trackers.weights_and_biases import WeightsAndBiases
from followed import ODD, Epochs, study
from waiting import wait_for
from wandb_server import Server

CURVE = [{"fidelity": 0.5, "accuracy": 0.4}, {"fidelity": 1.0, "accuracy": 0.6}]
SUMMARY = {"retrain": {"curve": CURVE}, "test": {"accuracy": 0.55}, "front": [0, 3]}
PATH = os.pathsep.join([str(Path(__file__).parents[1] / "toys"), os.environ.get("PYTHONPATH", "")])
LINE = ["+space=toy", "task=synthetic", "retrain=none", "watch=[]", "tracker=wandb", "evaluator=toy"]


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """A home with nothing in it, and W&B offline; its process ends with each test."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


def everything(folder):
    """Return what the offline files of a run have: its id, the records by kind, and all rows in order."""
    run = json.loads((folder / "wandb.json").read_text())["id"]
    paths = files(folder, run)
    found = {}
    for path in paths:
        for record in records(path):
            kind = record.WhichOneof("record_type")
            found.setdefault(kind, []).append(getattr(record, kind))
    return run, found, [row for path in paths for row in rows(path)]


def summary(found):
    """Return the summary that the updates come to."""
    return {
        "/".join(item.nested_key) or item.key: json.loads(item.value_json)
        for update in found["summary"]
        for item in update.update
    }


def steps(history):
    return [row["_step"] for row in history]


def test_trials_epochs_tables_and_figures_are_read_back(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("model.onnx", "MODEL_CARD.md"):
        (folder / name).write_text(name)
    done = study(folder, {"wandb": WeightsAndBiases()}, summary={**SUMMARY, "model": {"parameters": 7}})
    run, found, history = everything(folder)
    assert [record.run_id for record in found["run"]] == [run]
    assert found["run"][0].display_name == "run"
    config = {item.key: json.loads(item.value_json) for item in found["run"][0].config.update}
    assert config["token"] == "${oc.env:TOKEN}"
    assert config["space"] == {"name": "everything"}
    assert "tracker" not in config
    assert steps(history) == sorted(set(steps(history)))
    trials = {row["trial"]: row for row in history if "trial" in row}
    assert [row["trial"] for row in history if "trial" in row] == [0, 1, 2, 3]
    assert [trials[number]["state"] for number in range(4)] == ["finished", "failed", "failed", "finished"]
    assert {name: trials[3][f"metrics/{name}"] for name in ODD} == ODD
    assert trials[3]["metrics/accuracy"] == 3.2
    assert [trials[number]["best/accuracy"] for number in range(4)] == [0.2, 0.2, 0.2, 3.2]
    axes = {metric.glob_name: metric.step_metric for metric in found["metric"] if metric.glob_name}
    assert axes == {
        "metrics/*": "trial",
        "best/*": "trial",
        "retrain/*": "share/retrain",
        "curve/0/*": "share/0",
        "curve/3/*": "share/3",
    }
    curve = [(row["share/3"], row["curve/3/accuracy"], row["curve/3/_step"]) for row in history if "share/3" in row]
    assert curve == [(0.5, 3.1, 4.0), (1.0, 3.2, 4.0)]
    assert [row["retrain/accuracy"] for row in history if "share/retrain" in row] == [0.4, 0.6]
    (sizes,) = [(row["trials/nrows"], row["front/nrows"]) for row in history if "trials/nrows" in row]
    assert sizes == (4, 2)
    (path,) = [row["trials/path"] for row in history if "trials/path" in row]
    table = json.loads(next(folder.glob(f"wandb/offline-run-*/files/{path}")).read_text())
    options = [row[table["columns"].index("decision/none")] for row in table["data"]]
    assert options == [trial.architecture.values["none"] for trial in done.trials]
    assert [row[table["columns"].index("reason")] for row in table["data"]] == [
        None,
        "accuracy was nan",
        "no room",
        None,
    ]
    assert json.loads(table["data"][0][table["columns"].index("decision/pair")]) in ([3, 5], [5, 3])
    figures = summary(found)
    assert figures["test"] == {"accuracy": 0.55}
    (artifact,) = [one for one in found["artifact"] if one.type == "model"]
    assert sorted(entry.path for entry in artifact.manifest.contents) == ["MODEL_CARD.md", "model.onnx"]


def test_each_curve_has_an_axis_of_its_own_and_nothing_is_dropped(tmp_path):
    study(tmp_path / "run", {"wandb": WeightsAndBiases()}, 3, evaluator=Epochs(epochs={0: 4, 1: 2, 2: 4}))
    _, _, history = everything(tmp_path / "run")
    curves = {number: [row[f"share/{number}"] for row in history if f"share/{number}" in row] for number in range(3)}
    assert curves == {0: [0.25, 0.5, 0.75, 1.0], 1: [0.5, 1.0], 2: [0.25, 0.5, 0.75, 1.0]}
    assert steps(history) == list(range(14))


def test_a_study_that_goes_on_goes_on_in_the_same_run_with_rising_steps(tmp_path):
    folder = tmp_path / "run"
    study(folder, {}, 1)
    ids = set()
    for trials in (2, 2, 4):
        study(folder, {"wandb": WeightsAndBiases(curves=3)}, trials, summary=SUMMARY)
        run, _, history = everything(folder)
        ids.add(run)
        assert [row["trial"] for row in history if "trial" in row] == list(range(trials))
        assert steps(history) == sorted(set(steps(history)))
    assert len(ids) == 1
    # the network that was trained after two trials, once, and that after four, under a name of its own
    assert [row["retrain/accuracy"] for row in history if "retrain/accuracy" in row] == [0.4, 0.6]
    assert [row["retrain 2/accuracy"] for row in history if "retrain 2/accuracy" in row] == [0.4, 0.6]
    assert [row["share/0"] for row in history if "share/0" in row] == [0.5, 1.0]
    assert not [row for row in history if "share/3" in row]


def test_a_file_that_was_cut_off_is_read_to_there_and_what_it_lost_is_added(tmp_path):
    folder = tmp_path / "run"
    study(folder, {"wandb": WeightsAndBiases()}, 3, evaluator=Epochs())
    run, _, whole = everything(folder)
    (path,) = files(folder, run)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    kept = list(rows(path))
    assert kept == whole[: len(kept)]
    assert 0 < len(kept) < 9
    study(folder, {"wandb": WeightsAndBiases()}, 4, evaluator=Epochs())
    _, _, history = everything(folder)
    assert [row["trial"] for row in history if "trial" in row] == [0, 1, 2, 3]
    assert steps(history) == sorted(set(steps(history)))
    path.write_bytes(b"")
    assert list(rows(path)) == []


def test_records_that_span_blocks_are_read_back(tmp_path):
    odd = {f"metric {'x' * 200} {number}": float(number) for number in range(200)}
    study(tmp_path / "run", {"wandb": WeightsAndBiases()}, 2, evaluator=Epochs(odd=odd))
    _, _, history = everything(tmp_path / "run")
    (last,) = [row for row in history if row.get("trial") == 1]
    assert {name: last[f"metrics/{name}"] for name in odd} == odd


def test_disabled_it_does_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    tracker = WeightsAndBiases()
    tracker.check()
    study(tmp_path / "run", {"wandb": tracker}, 2)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["journal.jsonl"]


def test_w_and_b_s_own_variables_are_obeyed(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_ENTITY", "us")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("WANDB_NAME", "named")
    monkeypatch.setenv("WANDB_RUN_ID", "given")
    (tmp_path / "elsewhere").mkdir()
    study(tmp_path / "run", {"wandb": WeightsAndBiases()}, 2)
    (path,) = files(tmp_path / "elsewhere", "given")
    (run,) = [record.run for record in records(path) if record.WhichOneof("record_type") == "run"]
    assert (run.project, run.entity, run.display_name, run.run_id) == ("theirs", "us", "named", "given")


def test_a_ledger_that_is_damaged_is_refused_by_name(tmp_path):
    (tmp_path / "wandb.json").write_text('{"schema": 1, "extras": 3}')
    with pytest.raises(BadInput, match=r"wandb\.json is damaged"):
        Steps(tmp_path, 5)


def command(*words, **variables):
    environment = {**os.environ, "PYTHONPATH": PATH, **variables}
    return subprocess.Popen(
        [sys.executable, "-m", "automl", *LINE, *words],
        env={name: value for name, value in environment.items() if value is not None},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    "variables",
    [
        {"WANDB_MODE": None},
        {"WANDB_MODE": None, "WANDB_API_KEY": "a" * 40, "WANDB_BASE_URL": "http://127.0.0.1:9"},
    ],
    ids=["no key", "no network"],
)
def test_what_cannot_be_reached_is_refused_before_anything_is_written(variables):
    process = command("trials=2", **variables)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err.count("\n") == 1
    assert "WANDB_MODE=offline" in err
    assert "wandb login" in err
    assert not Path("runs").exists()


def alive(folder):
    """Return the processes of W&B that have a file of the folder open, or were started in it."""
    found = []
    for process in psutil.process_iter():
        try:
            if "wandb-core" in process.name() and process.cwd() == str(folder):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_a_run_that_was_killed_leaves_no_process_and_goes_on_in_the_same_run(tmp_path, monkeypatch):
    slow = command("trials=6", "evaluator.sleep=1.0", "seed=3")
    wait_for(lambda: alive(tmp_path) and list(Path("runs").glob("*/*/journal.jsonl")))
    folder = next(Path("runs").glob("*/*/journal.jsonl")).parent.resolve()
    journal = folder / "journal.jsonl"
    wait_for(lambda: journal.read_text().count('"event":"reported","trial":2') == 1)
    slow.kill()
    slow.communicate()
    monkeypatch.setenv("PYTHONPATH", PATH)
    again = [sys.executable, "-m", "automl", "resume", str(folder)]
    done = subprocess.run(again, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    wait_for(lambda: not alive(tmp_path), 30)
    run, _, history = everything(folder)
    assert len(files(folder, run)) == 2
    assert [row["trial"] for row in history if "trial" in row] == list(range(6))
    assert steps(history) == sorted(set(steps(history)))
    whole = command("trials=6", "seed=3", "runs=whole")
    assert whole.communicate(timeout=120)[0]
    _, _, unbroken = everything(next(Path("whole").glob("*/*/wandb.json")).parent)
    told = [
        {name: value for name, value in row.items() if "/" in name or name in ("trial", "_step")} for row in history
    ]
    same = [
        {name: value for name, value in row.items() if "/" in name or name in ("trial", "_step")} for row in unbroken
    ]
    assert told[:-1] == same[:-1]  # the last has tables, in files of other names


@pytest.mark.slow
def test_a_run_that_was_interrupted_leaves_no_process_and_a_file_that_can_be_read(tmp_path):
    process = command("trials=50", "evaluator.sleep=0.5")
    wait_for(lambda: alive(tmp_path) and list(Path("runs").glob("*/*/journal.jsonl")))
    folder = next(Path("runs").glob("*/*/journal.jsonl")).parent.resolve()
    wait_for(lambda: '"event":"finished","trial":1' in (folder / "journal.jsonl").read_text())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert [line.partition(":")[0] for line in err.splitlines()] == ["W&B"]  # nothing else is said
    wait_for(lambda: not alive(tmp_path), 30)
    _, found, history = everything(folder)
    assert [row["trial"] for row in history if "trial" in row][:2] == [0, 1]
    assert len(found["exit"]) == 1


@pytest.mark.slow
def test_a_process_of_w_and_b_s_that_hangs_is_ended_and_the_search_is_not(tmp_path):
    process = command("trials=6", "evaluator.sleep=0.5", "patience=2")
    wait_for(lambda: alive(tmp_path) and list(Path("runs").glob("*/*/wandb.json")))
    (service,) = alive(tmp_path)
    service.suspend()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "warning: tracker wandb was not done 2 seconds after the end, and is left" in err
    assert not service.is_running() or service.status() == psutil.STATUS_ZOMBIE
    folder = Path(out.splitlines()[-1])
    assert json.loads((folder / "summary.json").read_text())["trials"]["finished"] == 6


@pytest.mark.slow
def test_a_sweep_is_a_group_of_runs_that_are_named_by_what_tells_them_apart(tmp_path):
    words = ["strategy=random,evolution", "seed=0,1", "trials=2"]
    process = command("-m", *words)
    out, err = process.communicate(timeout=160)
    assert process.returncode == 0, err
    sweep = Path(out.splitlines()[-1])
    named = []
    for folder in sorted(path.parent for path in sweep.glob("*/wandb.json")):
        _, found, history = everything(folder)
        (run,) = found["run"]
        config = {item.key: json.loads(item.value_json) for item in run.config.update}
        named.append((run.run_group, run.display_name, config["strategy"]["name"], config["seed"]))
        assert [row["trial"] for row in history if "trial" in row] == [0, 1]
    assert named == [
        (sweep.name, f"strategy={strategy},seed={seed}", strategy, seed)
        for strategy in ("random", "evolution")
        for seed in (0, 1)
    ]
    wait_for(lambda: not alive(tmp_path), 30)


def test_nothing_of_it_is_imported_where_it_is_not_chosen():
    code = "import sys, automl_trackers, automl_trackers.weights_and_biases as tracker\n"
    code += "tracker.WeightsAndBiases(); print('wandb' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("False\n", "")


@pytest.fixture
def server(monkeypatch):
    """A server of W&B's that is reached."""
    running = Server()
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_BASE_URL", running.address)
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    yield running
    running.close()


def test_online_a_study_goes_on_in_the_same_run_and_the_server_has_each_row_once(tmp_path, server, capsys):
    folder = tmp_path / "run"
    study(folder, {}, 1)
    for trials in (2, 2, 4):
        tracker = WeightsAndBiases()
        tracker.check()
        study(folder, {"wandb": tracker}, trials, summary=SUMMARY)
        (run,) = server.history
        lines = server.history[run]
        assert list(lines) == list(range(len(lines)))
        history = list(lines.values())
        assert [row["trial"] for row in history if "trial" in row] == list(range(trials))
        assert steps(history) == sorted(set(steps(history)))
    assert [row["retrain 2/accuracy"] for row in history if "retrain 2/accuracy" in row] == [0.4, 0.6]
    assert server.runs[run]["displayName"] == "run"
    assert capsys.readouterr().err.splitlines() == [f"W&B: {server.address}/us/automl/runs/{run}"] * 3


def test_a_key_that_the_server_does_not_know_is_refused(server):
    server.knows_key = False
    with pytest.raises(BadInput, match=r"tracker=wandb cannot log in .*WANDB_MODE=offline.*wandb login"):
        WeightsAndBiases().check()


@pytest.mark.slow
def test_a_network_that_is_lost_stops_nothing_and_is_one_warning(tmp_path, server):
    process = command("trials=3", "evaluator.sleep=1.0", "patience=2", WANDB_MODE=None)
    wait_for(lambda: any("process" in path.read_text() for path in Path("runs").glob("*/*/wandb.json")))
    server.close()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    (warning,) = [line for line in err.splitlines() if not line.startswith("W&B: http")]
    assert warning.startswith("warning: tracker wandb was not done 2 seconds after the end, and is left")
    assert json.loads((Path(out.splitlines()[-1]) / "summary.json").read_text())["trials"]["finished"] == 3
    wait_for(lambda: not alive(tmp_path), 30)


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["refused", "silent"])
def test_no_process_outlives_a_run_that_was_killed_while_its_network_was_lost(tmp_path, server, lost):
    process = command("trials=3", "evaluator.sleep=0.5", "patience=100", WANDB_MODE=None)
    wait_for(lambda: any("process" in path.read_text() for path in Path("runs").glob("*/*/wandb.json")))
    server.answers.clear() if lost == "silent" else server.close()
    wait_for(lambda: list(Path("runs").glob("*/*/summary.json")))
    time.sleep(3)  # it is sending now
    assert process.poll() is None
    process.kill()
    process.communicate()
    wait_for(lambda: not alive(tmp_path), 40)

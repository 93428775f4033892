"""What a user does, from the command line, with real training: search, stop, kill, resume, extend, predict, load."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

TOYS = Path(__file__).parent / "toys"
REAL = ["+space=toy", "task=synthetic", "task.noise=0.05", "evaluator.epochs=2", "retrain.epochs=3", "seed=1"]
FREE = ["+space=toy", "task=synthetic", "evaluator=toy", "retrain=none", "seed=1"]


def environment(**extra):
    paths = os.pathsep.join([str(TOYS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "AUTOML_RUNS": "runs", **extra}


def automl(*words, folder, code=0, **extra):
    """Run the command line as a user does; return what it printed, after checking its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "automl", *words],
        cwd=folder,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def start(*words, folder):
    return subprocess.Popen(
        [sys.executable, "-m", "automl", *words],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def lines(run):
    """Return the journal's records without what differs between two equal runs: times and checksums."""
    records = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in record.items() if key not in ("time", "clock", "seconds", "crc")}
        for record in records
    ]


def until(journal, count, process):
    """Wait until a journal has so many lines."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        for file in journal:
            if file.exists() and file.read_bytes().count(b"\n") >= count:
                return file
        time.sleep(0.01)
    raise AssertionError(process.communicate())


class Journals:
    """The journals of a folder's runs, looked up anew each time."""

    def __init__(self, folder):
        self.folder = folder

    def __iter__(self):
        return self.folder.glob("runs/*/*/journal.jsonl")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run of the main job in its smallest form: searched, retrained, tested, exported, reported."""
    folder = tmp_path_factory.mktemp("finished")
    done = automl(*REAL, "trials=4", folder=folder)
    return folder, folder / done.stdout.splitlines()[-1], done


def test_the_main_job_leaves_all_that_it_promises(finished):
    folder, run, done = finished
    assert run.is_dir()
    for name in (
        "config.yaml",
        "data.json",
        "journal.jsonl",
        "summary.json",
        "model.safetensors",
        "architecture.json",
        "model.onnx",
        "MODEL_CARD.md",
        "report.html",
        "run.log",
    ):
        assert (run / name).stat().st_size > 0 or name == "run.log", name
    assert not (run / "checkpoint").exists()
    assert (folder / "runs" / "latest").resolve() == run
    summary = json.loads((run / "summary.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert summary["trials"]["finished"] == 4
    assert summary["test"]["images"] == summary["data"]["test"] == 45
    assert 0 <= summary["test"]["accuracy"] <= 1
    assert summary["baseline"]["name"] == "logistic regression"
    assert summary["model"]["parameters"] > 0
    assert summary["model"]["latency_ms"] > 0
    assert summary["seconds"]["search"] > 0
    assert summary["seconds"]["retrain"] > 0
    assert summary["versions"]["torch"].startswith("2.")
    out = done.stdout
    assert "found network" in out
    assert "logistic regression" in out
    assert "\x1b" not in out + done.stderr


def test_its_figures_are_true(finished):
    """It counts the best trial from the journal, and the test accuracy from the shipped network, once more."""
    import torch

    import automl

    _, run, _ = finished
    summary = json.loads((run / "summary.json").read_text())
    reports = [record for record in lines(run) if record["event"] == "reported" and record["fidelity"] == 1.0]
    assert summary["best"]["metrics"]["accuracy"] == max(record["metrics"]["accuracy"] for record in reports)
    from automl.plugins import Registry

    task = Registry().build("task", {"name": "synthetic", "noise": 0.05})
    test = task.prepare(1)
    network = automl.load(run)
    with torch.no_grad():
        answers = network(torch.from_numpy(test.images).float() / 255).argmax(1).numpy()
    assert summary["test"]["accuracy"] == pytest.approx((answers == test.labels).mean())
    assert network.classes == task.classes
    assert sum(p.numel() for p in network.parameters()) == summary["model"]["parameters"]


def test_the_exported_file_is_whole_and_equal(finished, tmp_path):
    import onnxruntime
    import torch

    import automl

    _, run, _ = finished
    alone = shutil.copy(run / "model.onnx", tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(alone, providers=["CPUExecutionProvider"])
    network = automl.load(run)
    images = np.random.default_rng(0).random((17, *network.input), dtype=np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(session.run(None, {"images": images})[0], expected, atol=1e-4)
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == list(network.classes)
    assert facts["run"] == run.name


def test_resuming_a_finished_run_does_nothing(finished):
    folder, run, _ = finished
    before = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    done = automl("resume", folder=folder)
    assert "4 of 4 trials are done" in done.stdout
    assert done.stdout.splitlines()[-1] == str(run)
    assert {path: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    done = automl("resume", str(run), "trials=2", folder=folder)
    assert "4 trials exist already" in done.stdout
    assert {path: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_predict_report_and_export_serve_a_finished_run(finished, tmp_path):
    from PIL import Image

    folder, run, _ = finished
    Image.new("L", (20, 30), 128).save(tmp_path / "[red]x.png")
    done = automl("predict", str(run), str(tmp_path / "[red]x.png"), "--json", folder=folder)
    answer = json.loads(done.stdout)
    assert sum(answer["classes"].values()) == pytest.approx(1, abs=1e-5)
    (tmp_path / "broken.png").write_bytes(b"no image")
    refused = automl("predict", str(run), str(tmp_path / "broken.png"), folder=folder, code=2)
    assert "broken.png" in refused.stderr
    (run / "report.html").unlink()
    done = automl("report", str(run), folder=folder)
    assert done.stdout.strip() == str(run / "report.html")
    assert (run / "report.html").exists()
    before = (run / "model.onnx").read_bytes()
    (run / "model.onnx").unlink()
    automl("export", str(run), folder=folder)
    assert len((run / "model.onnx").read_bytes()) == pytest.approx(len(before), rel=0.01)


def test_a_changed_network_file_is_refused(finished, tmp_path):
    _, run, _ = finished
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    description = json.loads((copy / "architecture.json").read_text())
    description["decisions"]["depth"] = 7
    (copy / "architecture.json").write_text(json.dumps(description))
    refused = automl("export", str(copy), folder=tmp_path, code=2)
    assert "decision 'depth' is 7, but must be one of 1, 2, 3" in refused.stderr
    shutil.copy(run / "architecture.json", copy)
    (copy / "model.safetensors").write_bytes(b"\x80\x04 no safetensors")
    refused = automl("export", str(copy), folder=tmp_path, code=2)
    assert "only safetensors" in refused.stderr


@pytest.mark.slow
def test_extending_equals_a_longer_run(finished, tmp_path):
    """R4 b: a finished run of 4 trials extended to 6 equals a fresh run of 6, metrics and final network included."""
    _, run, _ = finished
    extended = Path(shutil.copytree(run, tmp_path / "runs" / "day" / "extended"))
    automl("resume", str(extended), "trials=6", folder=tmp_path)
    fresh = tmp_path / automl(*REAL, "trials=6", folder=tmp_path).stdout.splitlines()[-1]
    assert lines(extended) == lines(fresh)
    assert (extended / "model.safetensors").read_bytes() == (fresh / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_killed_run_ends_as_an_unbroken_one(finished, tmp_path):
    """R1, with real training: kill -9 in the search and in the final training, then resume."""
    _, run, _ = finished
    process = start(*REAL, "trials=4", folder=tmp_path)
    journal = until(Journals(tmp_path), 6, process)
    process.kill()
    process.communicate()
    process = start("resume", str(journal.parent), folder=tmp_path)
    deadline = time.monotonic() + 200
    while not (journal.parent / "checkpoint").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert not (journal.parent / "model.safetensors").exists()
    automl("resume", folder=tmp_path)
    assert lines(journal.parent) == lines(run)
    curves = [json.loads((folder / "summary.json").read_text())["retrain"] for folder in (journal.parent, run)]
    assert curves[0] == curves[1]
    assert (journal.parent / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_is_there_and_resuming_goes_on(tmp_path, number, code):
    words = [*FREE, "trials=8", "evaluator.sleep=0.5"]
    process = start(*words, folder=tmp_path)
    journal = until(Journals(tmp_path), 8, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code, out + err
    assert "Traceback" not in err
    run = journal.parent
    assert out.splitlines()[-1] == str(run.relative_to(tmp_path))
    summary = json.loads((run / "summary.json").read_text())
    assert summary["trials"]["interrupted"] == 1
    assert 0 < summary["trials"]["finished"] < 8
    assert "model" not in summary
    assert "interrupted" in (run / "report.html").read_text()
    done = automl("resume", folder=tmp_path)
    assert "kept; trial" in done.stdout
    assert "starts again" in done.stdout
    unbroken = tmp_path / automl(*words, "evaluator.sleep=0.5", folder=tmp_path).stdout.splitlines()[-1]
    assert lines(run) == lines(unbroken)


def test_a_second_driver_is_refused_and_names_the_owner(tmp_path):
    process = start(*FREE, "trials=8", "evaluator.sleep=1", folder=tmp_path)
    try:
        run = until(Journals(tmp_path), 2, process).parent
        before = (run / "config.yaml").read_bytes()
        refused = automl("resume", str(run), "trials=9", folder=tmp_path, code=2)
        assert f"in use by process {process.pid}" in refused.stderr
        assert (run / "config.yaml").read_bytes() == before
        automl("report", str(run), folder=tmp_path)
    finally:
        process.kill()
        process.communicate()
    automl("resume", str(run), "trials=3", "evaluator.sleep=1", folder=tmp_path)


def test_the_run_folder_alone_says_how_to_go_on(tmp_path):
    """R3: strategy and fields come from the run, from any folder."""
    words = [*FREE, "strategy.population=7", "strategy.tournament=4", "evaluator.sleep=0.1", "trials=20"]
    process = start(*words, folder=tmp_path)
    run = until(Journals(tmp_path), 40, process).parent
    process.kill()
    process.communicate()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    automl("resume", str(run), folder=elsewhere)
    unbroken = tmp_path / automl(*words, folder=tmp_path).stdout.splitlines()[-1]
    assert lines(run) == lines(unbroken)


def test_two_runs_started_at_once_get_two_folders(tmp_path):
    processes = [start(*FREE, "trials=2", folder=tmp_path) for _ in range(3)]
    outs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outs
    folders = {out.splitlines()[-1] for out, _ in outs}
    assert len(folders) == 3
    assert all((tmp_path / folder / "summary.json").exists() for folder in folders)


def test_a_strategy_that_answers_otherwise_is_not_gone_on_with(tmp_path):
    words = [*FREE, "strategy=changed", "trials=3"]
    run = tmp_path / automl(*words, folder=tmp_path).stdout.splitlines()[-1]
    before = (run / "journal.jsonl").read_bytes()
    for _ in range(5):  # two processes of one number modulo 97 ask alike
        done = subprocess.run(
            [sys.executable, "-m", "automl", "resume", str(run), "trials=4"],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
        )
        if done.returncode == 2:
            break
    assert done.returncode == 2
    assert re.search(r"for trial \d the journal has", done.stderr)
    assert "the strategy now asks for" in done.stderr
    assert (run / "journal.jsonl").read_bytes() == before


def test_a_journal_of_another_space_is_refused(tmp_path):
    run = tmp_path / automl(*FREE, "trials=2", folder=tmp_path).stdout.splitlines()[-1]
    before = (run / "journal.jsonl").read_bytes()
    settings = (run / "config.yaml").read_bytes()
    refused = automl("resume", str(run), "space.width=9", "trials=3", folder=tmp_path, code=2)
    assert "is of another study: its space" in refused.stderr
    assert (run / "journal.jsonl").read_bytes() == before
    assert (run / "config.yaml").read_bytes() == settings
    text = (run / "journal.jsonl").read_text().splitlines(keepends=True)
    (run / "journal.jsonl").write_text("".join([*text[:2], text[3], *text[4:]]))
    refused = automl("resume", str(run), "trials=3", folder=tmp_path, code=2)
    assert "damaged at line 3" in refused.stderr


def test_a_full_disk_ends_in_one_sentence_and_is_gone_on_from(tmp_path):
    words = [*FREE, "trials=40"]
    limited = (
        "import resource, sys; from automl.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, *words],
        cwd=tmp_path,
        env={name: value for name, value in environment().items() if not name.startswith("COVERAGE")},
        capture_output=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
    )
    assert done.returncode == 2, done.stderr
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
    run = next(iter(Journals(tmp_path))).parent
    assert (run / "journal.jsonl").read_bytes().endswith(b"\n")
    automl("resume", str(run), folder=tmp_path)
    unbroken = tmp_path / automl(*words, folder=tmp_path).stdout.splitlines()[-1]
    assert lines(run) == lines(unbroken)


def test_searching_from_python_returns_a_study(tmp_path, monkeypatch):
    import automl

    monkeypatch.chdir(tmp_path)
    study = automl.search("toy", "random", "synthetic", 4, overrides=["evaluator=toy", "retrain=none"], seed=3)
    assert len(study.trials) == 4
    assert study.best.score == max(trial.score for trial in study.trials)
    assert study.best in study.front
    assert study.directory.is_dir()
    frame = study.to_dataframe()
    assert list(frame["trial"]) == [0, 1, 2, 3]
    assert frame["accuracy"].max() == study.best.score
    assert "<svg" in study._repr_html_()
    with pytest.raises(automl.BadInput, match="no space is named"):
        automl.search("nope")


@pytest.mark.slow
def test_a_final_training_that_was_stopped_may_turn_to_another_network(tmp_path):
    """A run is stopped while it trains the best of 2 trials, then extended to 8, whose best is another."""
    words = ["+space=toy", "task=synthetic", "evaluator=toy", "seed=1", "task.images=40", "retrain.epochs=200"]
    process = start(*words, "trials=2", folder=tmp_path)
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob("runs/*/*/checkpoint/*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    run = tmp_path / out.splitlines()[-1]
    before = json.loads((run / "summary.json").read_text())
    assert before["trials"]["interrupted"] == 0
    assert "test" not in before
    automl("resume", str(run), "trials=8", "retrain.epochs=2", folder=tmp_path)
    after = json.loads((run / "summary.json").read_text())
    assert after["best"]["trial"] != before["best"]["trial"]
    assert after["test"]["images"] == 45
    assert not (run / "checkpoint").exists()


def test_a_final_training_that_diverges_is_said_and_the_search_is_kept(tmp_path):
    words = ["+space=toy", "task=synthetic", "evaluator=toy", "seed=1", "trials=2", "task.images=40"]
    failed = automl(
        *words, "retrain.epochs=2", "retrain.seconds=60", "retrain.learning_rate=1e30", folder=tmp_path, code=1
    )
    assert "the best architecture could not be trained in full: diverged: loss was" in failed.stderr
    run = tmp_path / failed.stdout.splitlines()[-1]
    summary = json.loads((run / "summary.json").read_text())
    assert summary["trials"]["finished"] == 2
    assert "test" not in summary
    automl("resume", str(run), "retrain.learning_rate=0.05", folder=tmp_path)
    assert "test" in json.loads((run / "summary.json").read_text())

"""Where networks are timed: here, or by a command of the user's own, whose words no file may give."""

from __future__ import annotations

import json
import re
import shlex
import sys
import textwrap
import time
from types import SimpleNamespace

import pytest
from torch import nn

from automl import BadInput, TrialFailed, device, trust
from automl.cli import main
from automl.deploy import exported
from automl.device import Command, Here, candidate_latency, milliseconds
from automl.sweeps import Sweep

TASK = SimpleNamespace(input=(1, 4, 4), mean=[0.5], std=[0.5], classes=["a", "b"], outputs=2)
SEARCH = ["+space=chain", "space.stages=1", "space.depth=1", "space.channels=2", "strategy=random", "trials=1"]
SEARCH += ["task=synthetic", "task.count=40", "evaluator.epochs=1", "retrain.epochs=1"]


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2))


@pytest.fixture(scope="module")
def model():
    return exported(network(), TASK)


def command(folder, source):
    """Return the words of a command that runs a small program on the model."""
    path = folder / "bench.py"
    path.write_text(textwrap.dedent(source))
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(path))} {{model}}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3.25 ms", 3.25),
        ("warm-up 9 ms\nmean 3.25ms, 40 fps\n", 3.25),
        ("Average inference time cost total: 1.5e1 ms\nTotal inference run time: 3.1 s", 15),
        ("  7\n", 7),
        ('{"latency_ms": 2, "other": "9 ms"}', 2),
        (".5 ms", 0.5),
    ],
)
def test_it_reads_the_last_milliseconds_or_what_stands_alone(text, expected):
    assert milliseconds(text) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "printed no milliseconds but 'nothing': print a number followed by ms"),
        ("done in 3 s", "printed no milliseconds but 'done in 3 s'"),
        ("1,234.5 ms", "no milliseconds"),  # of which the end alone would be a number
        ("v2ms", "no milliseconds"),
        ("12 msec", "no milliseconds"),
        ("7 8", "no milliseconds"),
        ('{"latency_ms": true}', "no milliseconds"),
        ('{"latency_ms": "3"}', "no milliseconds"),
        ("nan ms", "printed nan ms, where more than 0 is possible"),
        ("-3 ms", "printed -3 ms, where more"),
        ("0 ms", "printed 0 ms"),
        ("inf", "printed inf ms"),
        ('{"latency_ms": NaN}', "printed nan ms"),
        ("1e999 ms", "printed inf ms"),
        ("\x1b[31mbroken", r"but '\\\\x1b"),
    ],
)
def test_it_takes_nothing_else_for_milliseconds(text, told):
    with pytest.raises(BadInput, match=told):
        milliseconds(text)


def test_a_command_is_given_the_model_with_its_batch_fixed_and_no_shell(tmp_path, model):
    source = """
        import sys, onnx
        (given,) = onnx.load(sys.argv[1]).graph.input
        print(len(sys.argv), sys.argv[2], [side.dim_value for side in given.type.tensor_type.shape.dim])
        print(sum(side.dim_value for side in given.type.tensor_type.shape.dim), "ms")
    """
    words = f"{command(tmp_path, source)} '$HOME;exit 3'"
    found = Command(command=words, batch=3, called="a board").time(model, TASK.input)
    assert (found.median_ms, found.runs, found.threads, found.batch) == (3 + 1 + 4 + 4, 1, None, 3)
    assert found.describe() == "a board by device=command, batch 3, 1 run"


def test_the_median_of_its_repeats_counts(tmp_path, model):
    source = """
        import pathlib
        path = pathlib.Path(__file__).with_name("count")
        number = int(path.read_text()) + 1 if path.exists() else 1
        path.write_text(str(number))
        print(number * number, "ms")
    """
    found = Command(command=command(tmp_path, source), repeats=3).time(model, TASK.input)
    assert (found.p10_ms, found.median_ms, found.p90_ms, found.runs) == (1, 4, 9, 3)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import sys; sys.exit(3)", "ended with exit code 3, and says nothing on its standard error"),
        ("raise OSError('no phone')", "ended with exit code 1: OSError: no phone"),
        ("print('hello')", "printed no milliseconds but 'hello'"),
        ("print('nan ms')", "printed nan ms"),
    ],
)
def test_a_command_that_fails_is_told_in_a_sentence_and_fails_a_candidate(source, told, tmp_path, model):
    place = Command(command=command(tmp_path, source))
    with pytest.raises(BadInput, match=f"^device.command {told}"):
        place.time(model, TASK.input)
    with pytest.raises(TrialFailed, match=f"^device.command {told}"):
        candidate_latency(place, network(), TASK)


def test_a_command_that_hangs_is_ended_with_all_that_it_began(tmp_path, model):
    source = """
        import pathlib, subprocess, sys, time
        late = pathlib.Path(__file__).with_name("late")
        subprocess.Popen([sys.executable, "-c", f"import time; time.sleep(3); open({str(late)!r}, 'w')"])
        time.sleep(600)
    """
    began = time.monotonic()
    with pytest.raises(BadInput, match=r"was not done after 1 seconds: give device.seconds=N"):
        Command(command=command(tmp_path, source), seconds=1.0).time(model, TASK.input)
    assert time.monotonic() - began < 60
    time.sleep(3)
    assert not (tmp_path / "late").exists()


def test_a_command_without_a_model_or_a_program_is_refused():
    with pytest.raises(BadInput, match=r"has no \{model\}, which .*: type 'device.command=ssh pi bench \{model\}'"):
        Command(command="ssh pi bench")
    with pytest.raises(BadInput, match=r"is no command \(No closing quotation\)"):
        Command(command="bench '{model}")
    with pytest.raises(BadInput, match="runs no-such-program, which is no program here: give its path"):
        Command(command="no-such-program {model}").check()
    with pytest.raises(BadInput, match="no device is named 'phone'; installed: command, here"):
        device.build({"name": "phone"})
    for value in (True, 1e308):
        with pytest.raises(BadInput, match=f"device={re.escape(str(value))} has no settings: type device=here"):
            device.build(value)


def test_what_a_measurement_rests_on_is_told_without_the_commands_words():
    one, two = Command(command="ssh me@secret bench {model}"), Command(command="bench {model}", called="Pi 5")
    assert "secret" not in json.dumps(one.identity) + one.describe()
    assert one.identity != Command(command="bench {model}").identity
    assert two.identity == Command(command="other {model}", called="Pi 5").identity
    assert Here(threads=2).identity != Here().identity
    assert Here().time(exported(network(), TASK), TASK.input, runs=5).threads == 1


def test_a_file_that_onnxruntime_does_not_run_is_told_in_a_sentence():
    for work in (lambda: Here().time(b"no model", (1, 4, 4)), lambda: Here().quietest({"a kernel": b"x"}, (1, 4, 4))):
        with pytest.raises(BadInput, match=r"^onnxruntime does not run (the network|a kernel) \("):
            work()


# the command line


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the folder of a search whose latencies a command measures, and the words that were typed."""
    folder = tmp_path_factory.mktemp("device")
    words = command(folder, "print('2.5 ms')")
    typed = ["device=command", f"device.command={words}", "device.called=Pi 5"]
    assert main([*SEARCH, *typed, "objective.limits.latency_ms=3", f"runs={folder / 'runs'}"]) == 0
    return (folder / "runs" / "latest").resolve(), typed


def test_the_final_network_and_candidates_have_the_latency_of_the_device(run):
    folder, _ = run
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["model"]["latency_ms"] == summary["best"]["metrics"]["latency_ms"] == 2.5
    assert summary["model"]["latency_of"] == "Pi 5 by device=command, batch 1, 1 run"
    assert summary["provenance"] == {"latency_ms": "measured on Pi 5 by device=command"}
    assert "2.500 ms (Pi 5 by device=command" in (folder / "MODEL_CARD.md").read_text()
    page = (folder / "report.html").read_text()
    assert "measured on Pi 5 by device=command" in page


def test_no_file_of_the_run_gives_the_command_and_resuming_asks_for_it(run, capsys):
    folder, typed = run
    assert "command: ???" in (folder / "config.yaml").read_text()
    assert '"command":"???"' in (folder / "journal.jsonl").read_text()
    capsys.readouterr()
    assert main(["resume", str(folder), "trials=2"]) == 2
    assert "measured by a command of yours, which is typed anew each time" in capsys.readouterr().err
    evil = folder.parent / "evil"
    evil.mkdir()
    text = (folder / "config.yaml").read_text().replace("command: ???", f"command: {typed[1].partition('=')[2]!r}")
    (evil / "config.yaml").write_text(text)
    (evil / "journal.jsonl").write_bytes((folder / "journal.jsonl").read_bytes())
    assert main(["resume", str(evil), "trials=2"]) == 2
    assert "names code: it is only taken from the command line" in capsys.readouterr().err


def test_a_run_is_gone_on_with_when_the_command_is_typed_again(run, capsys):
    folder, typed = run
    assert main(["resume", str(folder), "trials=2", typed[1]]) == 0
    assert len(json.loads((folder / "summary.json").read_text())["front"]) >= 1
    assert "command: ???" in (folder / "config.yaml").read_text()
    assert "Go on" not in capsys.readouterr().err


def test_a_command_that_fails_fails_the_trial_with_its_reason(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    typed = ["device=command", f"device.command={command(tmp_path, 'raise OSError(7)')}", "retrain=none", "watch=[]"]
    assert main([*SEARCH[:-1], *typed, "objective.limits.latency_ms=3"]) == 1
    assert "device.command ended with exit code 1: OSError: 7" in capsys.readouterr().err


def test_a_final_network_that_no_command_times_is_kept(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    typed = ["device=command", f"device.command={command(tmp_path, 'raise OSError(7)')}"]
    assert main([*SEARCH, *typed]) == 0
    folder = tmp_path / "runs" / "latest"
    summary = json.loads((folder / "summary.json").read_text())
    assert "latency_ms" not in summary["model"]
    assert any("the latency is not measured: device.command ended" in warning for warning in summary["warnings"])


def test_latency_prints_one_screen_with_two_commands_for_a_phone(run, capsys):
    folder, typed = run
    assert main(["latency", str(folder), "--threads", "2", "--batch", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 15
    assert lines[1].startswith("median ")
    assert ", p10 " in lines[1]
    assert "; 2 threads, onnxruntime " in lines[1]
    assert "batch 3" in lines[1]
    assert f"  adb push {folder}/model.onnx /data/local/tmp/model.onnx" in lines
    assert any(line.startswith("  adb shell 'cd /data/local/tmp && ./onnxruntime_perf_test ") for line in lines)
    assert main(["latency", str(folder), *typed, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["median_ms"], found["threads"], found["device"], found["runs"]) == (2.5, None, "Pi 5", 1)
    assert main(["latency", str(folder), "--runtime", "torch", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runtime"].startswith("torch ")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--int8"], r"model.int8.onnx cannot be read .*: type automl export .* --int8, which writes it"),
        (["--threads", "0"], "--threads 0 must be an integer, at least 1"),
        (["--runtime", "torch", "--int8"], "times the float network on this machine: leave out --int8"),
        (["device=command"], r"device.command is missing: type device.command=VALUE"),
        (["device=phone"], "no device is named 'phone'; installed: command, here"),
        (["device=command", "device.command=x {model}", "--threads", "2"], "device has no key 'threads'"),
        (["other"], "one run is timed at a time: leave out other"),
    ],
)
def test_latency_refuses_what_does_not_fit(words, told, run, capsys):
    import re

    assert main(["latency", str(run[0]), *words]) == 2
    assert re.search(told, capsys.readouterr().err)


# words that name code


def test_words_are_written_without_what_names_code():
    words = ["device.command=ssh pi {model}", "space.target=a:b", "seed=1"]
    assert trust.words_without(words) == ["device.command=???", "space.target=???", "seed=1"]
    assert trust.words_without(trust.words_without(words), words[:1])[0] == words[0]
    plain = {"device": {"name": "command", "command": "rm"}, "other": {"command": "stays"}}
    assert list(trust.named(plain)) == [("device.command", "rm")]
    assert trust.without(plain)["device"]["command"] == "???"
    assert trust.without(plain)["other"] == {"command": "stays"}


def test_a_sweep_asks_for_its_command_again(tmp_path):
    words = ["device=command", "device.command=bench {model}"]
    sweep = Sweep(tmp_path, "automl", [words, [*words, "seed=1"]])
    sweep.folder = tmp_path / "sweep"
    sweep.folder.mkdir()
    sweep._write()
    assert "bench" not in json.dumps(
        [job["words"] for job in json.loads((sweep.folder / "sweep.json").read_text())["jobs"]]
    )
    with pytest.raises(BadInput, match=r"type automl resume .*sweep device.command=COMMAND"):
        Sweep.read(sweep.folder)
    assert Sweep.read(sweep.folder, words[1:]).jobs[1]["words"] == [*words, "seed=1"]
    with pytest.raises(BadInput, match=r"a sweep has one device\.command, and here are"):
        Sweep(tmp_path, "automl", [words, ["device.command=other {model}"]])

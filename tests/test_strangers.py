"""What a stranger may have written into a run folder, or onto a command line: it runs nothing and tells no secret."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from automl import cli, runs
from automl.errors import BadInput
from automl.plugins import Registry

CHEAP = ["+space=toy", "evaluator=toy", "retrain=none", "task=synthetic", "trials=2"]
NAMES = ["os.system", "logging.os.system", "builtins.eval"]
DOUBLING = "\n".join(["a0: xxxxxxxxxx", *(f"a{n}: ${{a{n - 1}}}${{a{n - 1}}}" for n in range(1, 60))])
ALIASES = "\n".join(["b0: &b0 [x, x]", *(f"b{n}: &b{n} [*b{n - 1}, *b{n - 1}]" for n in range(1, 30))])


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUTOML_RUNS", raising=False)
    monkeypatch.delitem(sys.modules, "this", raising=False)
    yield
    assert not list(tmp_path.rglob("PICKLE_RAN"))
    assert "this" not in sys.modules


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    assert cli.main([*CHEAP, "watch=[report]", f"runs={folder}"]) == 0
    (path,) = folder.glob("2*/*")
    return path


@pytest.fixture
def run(tmp_path, finished):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def refused(capsys, *words):
    code = cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert code == 2, (out, err)
    assert err.startswith("automl: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", ["{}", "strategy:\n  name: random\n  {}", "task:\n  name: synthetic\n  {}"])
def test_a_config_file_that_names_code_is_refused(run, capsys, name, place):
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text + place.format(f"_target_: {name}\n") + "\n")
    sentence = refused(capsys, "resume", run, "trials=5")
    assert "_target_" in sentence
    assert "names code" in sentence


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("_args_: [mkdir PICKLE_RAN]", "names code"),
        ("_partial_: true", "names code"),
        ("extra: !!python/object/apply:os.mkdir [PICKLE_RAN]", "no config of a run"),
        ("extra: !!python/module:this", "no config of a run"),
        ("extra: !!python/name:os.system", "no config of a run"),
        (ALIASES, "it has an alias"),
        (DOUBLING, "which may take minutes"),
        ("a: ${b}\nb: ${a}", "which may take minutes"),
        ("a: ${oc.decode:'[1'}", "which may take minutes"),
        ("a: ${${runs}}", "which may take minutes"),
        ("a: " + "[" * 3_000 + "]" * 3_000, "no config of a run"),
        ("a: " + "x" * 1_000_000, "more than 1,000,000 bytes"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_config_file_does_nothing(run, capsys, lines, why):
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(f"{text}\n{lines}\n")
    before = (run / "journal.jsonl").read_bytes()
    assert why in refused(capsys, "resume", run, "trials=5")
    assert (run / "journal.jsonl").read_bytes() == before


def test_a_value_that_is_taken_from_another_key_is_resumed(run):
    assert cli.main(["resume", str(run), "trials=${space.width}"]) == 0
    assert "trials: ${space.width}" in (run / "config.yaml").read_text()
    assert cli.main(["resume", str(run)]) == 0
    assert len(runs.Run(run).trials) == 8


def test_a_word_that_names_code_is_refused(capsys, tmp_path):
    name = NAMES[1]
    for word in (
        f"strategy._target_={name}",
        f"+strategy._target_={name}",
        f"+_target_={name}",
        f"hydra.x._target_={name}",
    ):
        refused(capsys, *CHEAP, word)
    assert not (tmp_path / "runs").exists()


def test_what_the_environment_holds_stays_there(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", str(tmp_path / "geheim"))
    assert cli.main([*CHEAP, "evaluator.counts=${oc.env:TOKEN}"]) == 0
    run = tmp_path / capsys.readouterr().out.splitlines()[-1]
    assert (tmp_path / "geheim").read_text() == "xx"
    for path in run.rglob("*"):
        assert path.is_dir() or b"geheim" not in path.read_bytes(), path
    assert cli.main(["resume", str(run), "trials=3"]) == 0
    assert (tmp_path / "geheim").read_text() == "xxx"
    monkeypatch.delenv("TOKEN")
    capsys.readouterr()
    assert "TOKEN" in refused(capsys, "resume", run, "trials=4")


@pytest.mark.parametrize("name", [*NAMES, "this"])
def test_an_architecture_that_names_code_is_refused(run, name):
    for space in (
        {"name": name},
        {"name": "toy", "_target_": name},
        {"_target_": name},
        {"name": "module", "target": name},
    ):
        (run / "architecture.json").write_text(
            json.dumps({"schema": 1, "input": [1, 8, 8], "classes": ["a", "b"], "decisions": {}, "space": space})
        )
        from automl import load

        with pytest.raises(BadInput):
            load(run)


@pytest.mark.parametrize("file", ["evil.pt", "names_code.ckpt"])
def test_a_pickle_in_the_place_of_a_model_is_refused(run, cases, file):
    from automl import load

    (run / "architecture.json").write_text(
        json.dumps(
            {
                "schema": 1,
                "input": [1, 8, 8],
                "classes": ["a", "b", "c"],
                "space": {"name": "toy", "single": True},
                "decisions": {"only": "a"},
                "mean": [0.5],
                "std": [0.5],
            }
        )
    )
    (run / "model.safetensors").write_bytes((cases / "security" / file).read_bytes())
    with pytest.raises(BadInput, match="only safetensors files are read"):
        load(run)


@pytest.mark.parametrize("depth", [500, 100_000])
def test_json_of_any_depth_is_refused(run, capsys, depth):
    for name in ("summary.json", "data.json"):
        whole = (run / name).read_bytes()
        (run / name).write_text('{"schema": 1, "a": ' + "[" * depth + "]" * depth + "}")
        code = cli.main(["report" if name == "summary.json" else "resume", str(run)])
        assert code == 2 or depth == 500
        assert "Traceback" not in capsys.readouterr().err
        (run / name).write_bytes(whole)


def test_a_recipe_of_a_plugin_that_names_code_is_refused(tmp_path, monkeypatch, capsys):
    package = tmp_path / "strange"
    (package / "conf" / "experiment").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "conf" / "__init__.py").write_text("")
    (package / "conf" / "experiment" / "evil.yaml").write_text(
        "# @package _global_\nstrategy:\n  _target_: os.system\n  _args_: [mkdir PICKLE_RAN]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    paths = Registry.config_paths
    monkeypatch.setattr(Registry, "config_paths", lambda self: [*paths(self), "pkg://strange.conf"])
    assert "names code" in refused(capsys, *CHEAP, "+experiment=evil")
    assert not Path("runs").exists()

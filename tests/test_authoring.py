"""New plugins: what is written, and what is refused. That their tests pass is tests/test_packaging.py's."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from automl import BadInput
from automl.authoring import COMMANDS, new_plugin
from automl.cli import main
from automl.plugins import KINDS, Registry

REGISTRY = Registry()


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_is_written_whole(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new-plugin", "my_own", kind]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        f"automl-my-own holds {kind} my_own. Next:\n\n  cd automl-my-own\n  pip install -e '.[dev]'\n"
    )
    assert COMMANDS[kind].format(name="my_own") in out
    files = [path for path in Path("automl-my-own").rglob("*") if path.is_file()]
    assert {str(path.relative_to("automl-my-own")) for path in files} == {
        "README.md",
        "pyproject.toml",
        "src/automl_my_own/__init__.py",
        "src/automl_my_own/py.typed",
        f"src/automl_my_own/{kind}.py",
        "src/automl_my_own/conf/__init__.py",
        f"src/automl_my_own/conf/{kind}/my_own.yaml",
        "tests/test_my_own.py",
    }
    for path in files:
        text = path.read_text()
        assert "{{" not in text
        if path.suffix == ".py":
            ast.parse(text)


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        (
            "own",
            "spaces",
            r"there is no kind 'spaces' \(did you mean 'space'\?\): give one of space, strategy, evaluato",
        ),
        ("space", "own", "did you mean: automl new-plugin own space"),
        ("nasnet", "space", "space 'nasnet' is there already, of plugin automl-lightweight:spaces: give another name"),
        ("toys", "strategy", "a package automl_toys is installed already"),
        ("spaces", "strategy", "a package automl_spaces is installed already"),
        ("Own", "space", "'Own' is no name for a component: give up to 24 small letters, .*, as own$"),
        ("my-own", "space", "as my_own$"),
        ("../own", "space", "as own$"),
        ("1st", "space", "a letter first$"),
        ("", "space", "'' is no name"),
        ("own\x1b", "space", r"'own\\x1b' is no name"),
        ("a" * 25, "space", "is no name for a component"),
        ("null", "space", "'null' is a value to YAML"),
    ],
)
def test_what_cannot_be_written_is_refused_in_a_sentence_and_nothing_is(name, kind, reason, tmp_path):
    with pytest.raises(BadInput, match=reason) as refused:
        new_plugin(name, kind, tmp_path, REGISTRY)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_as_it_is(tmp_path):
    (tmp_path / "automl-own").mkdir()
    (tmp_path / "automl-own" / "work").write_text("of years")
    with pytest.raises(BadInput, match="automl-own exists, and nothing is written over it"):
        new_plugin("own", "space", tmp_path, REGISTRY)
    assert [path.name for path in (tmp_path / "automl-own").iterdir()] == ["work"]


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="automl-own cannot be written: File exists"):
        new_plugin("own", "space", tmp_path / "file", REGISTRY)

"""The documents do what they say: links lead somewhere, commands exist, the plugin shown works as written."""

import ast
import html
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from automl import config
from automl.cli import COMMANDS, main
from automl.errors import BadInput
from automl.hooking import hooks
from automl.plugins import Registry

ROOT = Path(__file__).parents[1]
MADE = ("_build", "components")  # within docs/: of the site, not of the tree
DOCS = ROOT / "docs"
WRITTEN = [path for path in sorted(DOCS.rglob("*.md")) if path.relative_to(DOCS).parts[0] not in MADE]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "examples" / "automl-hello" / "README.md", *WRITTEN]
OTHERS = "stages|hello|attention"  # spaces of plugins that the pages write


def _name(page):
    return str(page.relative_to(ROOT))


def _plain(page):
    return page.read_text().replace("\\\n", " ").replace("\\|", "|")


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_local_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            made = (page.parent / target).resolve().relative_to(ROOT)
            assert (ROOT / made).exists() or made.parts[:2] == ("docs", "components"), target


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_setting_it_names_exists(page):
    """It composes each automl command with key=value words that a page shows."""
    registry = Registry()
    for command in re.findall(rf"automl ((?:-m |measure )?\+space=(?!{OTHERS})[^`\n]*)", _plain(page)):
        words = [word.split("|")[0] for word in shlex.split(command, comments=True) if "=" in word]
        words = [word.replace("=NAME", "=chain") for word in words if "..." not in word]
        try:
            for job in config.jobs(words, registry)[:3] if command.startswith("-m") else [words]:
                config.compose(job, registry)
        except BadInput as error:
            pytest.fail(f"{command}: {error}")


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_other_command_it_shows_exists_with_its_options(page, capsys):
    for line in re.findall(r"(?:^|`)automl ([a-z][^`\n]*)(?:`|$)", _plain(page), re.MULTILINE):
        words = shlex.split(line, comments=True)
        name, asked = words[0], {word.partition("=")[0] for word in words if word.startswith("--")}
        assert name in COMMANDS, line
        within = words[1:2] if words[:2] == ["latency", "build"] else []
        with pytest.raises(SystemExit):
            main([name, *within, "--help"])
        assert asked <= set(re.findall(r"--[\w-]+", capsys.readouterr().out)), line


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_line_of_python_it_shows_can_be_read(page):
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        ast.parse(block)


def test_the_page_about_plugins_names_every_hook_with_its_arguments():
    text = (DOCS / "plugins.md").read_text()
    for name, arguments in hooks().items():
        assert f"`{name}({', '.join(arguments)})`" in text


SMALL = ["task=synthetic", "task.size=8", "trials=2", "evaluator.epochs=1", "retrain.epochs=1"]
SMALLER = {"nasnet": ["space.blocks=1", "space.channels=4", "space.reductions=1"], "mobilenet_v2": ["space.width=0.1"]}


@pytest.mark.slow
def test_the_commands_and_the_python_of_the_tutorial_run(tmp_path, monkeypatch, capsys):
    """Each in its smallest form, in the order of the page."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Image.new("L", (8, 8), 200).save("digit.png")
    text = (DOCS / "tutorial.md").read_text().partition("Then choose otherwise")[0]
    ran = []
    for kind, block in re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL):
        if kind == "python":
            exec(compile(block, "tutorial", "exec"), {})
            assert re.fullmatch(r"\d+ degrees\n", capsys.readouterr().out), block
            ran.append("python")
        for command in block.splitlines() if kind == "" else []:
            name, *words = shlex.split(command)
            if name == "automl":
                if words[0].startswith("+"):
                    words += [*SMALL, *SMALLER.get(words[0].partition("=")[2], [])]
                words = ["trials=3" if word == "trials=30" else word for word in words]
                assert main(words) == 0, f"{command}: {capsys.readouterr().err}"
                capsys.readouterr()
                ran.append(words[0])
    assert ran.count("python") == 2
    assert [word for word in ran if word != "python"] == ["+space=nasnet", "measure", "predict", "export", "resume"]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    """It has a page for every component that is ours, and every public name of Python."""
    words = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", str(tmp_path / "trees")]
    done = subprocess.run([*words, str(DOCS), str(tmp_path / "html")], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    components = tmp_path / "html" / "components"
    for (kind, name), found in Registry().components.items():
        if found[0].package == "automl-lightweight":
            assert name in (components / kind / f"{name}.html").read_text()
    chain = html.unescape(re.sub("<[^>]*>", "", (components / "space" / "chain.html").read_text()))
    assert "searched layer by layer (Cai et al., 2019, ProxylessNAS;" in chain
    assert re.search(r"space\.least\s+1\s+an integer, at least 1", chain)
    assert "least: 1            # and at least; where it equals depth" in chain
    python = (components / "python.html").read_text()
    import automl

    assert [name for name in automl.__all__ if f'id="automl.{name}"' not in python] == []
    fetched = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(https?:[^"]+)"', python)
    assert fetched == []


def test_the_plugin_of_the_docs_works_as_written(tmp_path):
    """It writes the files that docs/plugins.md shows, and searches with them."""
    text = (DOCS / "plugins.md").read_text()
    blocks = dict(re.findall(r"`(automl_stages/[\w/.]+)`[^`]*?:\n\n```\w+\n(.*?)```", text, re.DOTALL))
    assert set(blocks) == {
        "automl_stages/__init__.py",
        "automl_stages/conf/space/stages.yaml",
        "automl_stages/space.py",
    }
    for name, content in {**blocks, "automl_stages/conf/__init__.py": ""}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    installed = tmp_path / "automl_stages-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: automl-stages\nVersion: 1.0\n")
    entry = re.search(r"\[project.entry-points.automl\]\n(.*?)```", text, re.DOTALL)[1].replace('"', "")
    (installed / "entry_points.txt").write_text(f"[automl]\n{entry}")
    (tmp_path / "test_it.py").write_text(
        re.search(r"```python\n(from automl.testing import.*?)```", text, re.DOTALL)[1]
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    run = [sys.executable, "-m", "automl", "+space=stages", "strategy=random", "task=synthetic", "trials=2"]
    for words in (
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"],
        [sys.executable, "-m", "automl", "explain", "space", "stages"],
        [*run, "evaluator.epochs=1", "retrain.epochs=1"],
    ):
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_tracker_of_the_docs_works_as_written(tmp_path, capsys):
    from automl import Objective
    from automl.testing import Checksum
    from followed import study

    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "tracking.md").read_text(), re.DOTALL)
    found: dict = {}
    exec(block, found)
    done = study(
        tmp_path / "run",
        {"bell": found["Bell"](loud=True)},
        6,
        evaluator=Checksum(),
        objectives=[Objective("accuracy")],
    )
    best, news = None, 0
    for trial in done.trials:
        news += best is None or trial.score > best
        best = trial.score if best is None else max(best, trial.score)
    assert capsys.readouterr().out == "\a!" * news

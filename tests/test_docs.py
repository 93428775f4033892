"""The documents do what they say: links lead somewhere, settings exist, the plugin shown works as written."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_local_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_setting_it_names_exists(page):
    """It composes each automl command with key=value words that a page shows."""
    from automl import config
    from automl.errors import BadInput
    from automl.plugins import Registry

    registry = Registry()
    text = page.read_text().replace("\\\n", " ").replace("\\|", "|")
    for command in re.findall(r"automl ((?:-m )?\+space=(?!stages)[^`\n]*)", text):
        words = [word.split("|")[0] for word in shlex.split(command, comments=True) if "=" in word]
        words = [word for word in words if "..." not in word]
        try:
            for job in config.jobs(words, registry)[:3] if command.startswith("-m") else [words]:
                config.compose(job, registry)
        except BadInput as error:
            pytest.fail(f"{command}: {error}")


def test_the_plugin_of_the_docs_works_as_written(tmp_path):
    """It writes the files that docs/plugins.md shows, and searches with them."""
    text = (ROOT / "docs" / "plugins.md").read_text()
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

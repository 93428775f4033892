"""The wheel holds all that a run needs, and runs without the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_packages_configs_templates_and_types(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert wheel.name.endswith("-py3-none-any.whl")
    tops = {name.split("/")[0] for name in names if "dist-info" not in name}
    assert tops == {"automl", *(folder.name for folder in (ROOT / "plugins").glob("automl_*"))}
    for top in tops:
        assert f"{top}/py.typed" in names
    for file in (ROOT / "conf").rglob("*.yaml"):
        assert f"automl/conf/{file.relative_to(ROOT / 'conf')}" in names
    for file in (ROOT / "plugins" / "automl_trackers" / "templates").iterdir():
        assert f"automl_trackers/templates/{file.name}" in names


def test_an_unpacked_wheel_runs_by_itself(wheel, tmp_path):
    """Its own metadata and files come before the checkout's on the path."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    paths = os.pathsep.join([str(tmp_path / "site"), str(ROOT / "tests" / "toys")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    words = ["+space=toy", "strategy=random", "evaluator=toy", "retrain=none", "task=synthetic", "trials=2"]
    code = (
        "import sys, automl, automl_spaces, automl.config; from automl.cli import main; site = sys.argv.pop(1)\n"
        "assert automl.__file__.startswith(site), automl.__file__\n"
        "assert automl_spaces.__file__.startswith(site), automl_spaces.__file__\n"
        "assert str(automl.config.folder()).startswith(site), automl.config.folder()\n"
        "sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "site"), *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / done.stdout.splitlines()[-1] / "report.html").exists()

"""The wheel holds all that a run needs, and runs without the checkout; so do the plugins of others beside it."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from automl.plugins import KINDS

ROOT = Path(__file__).parents[1]


EXAMPLE = ROOT / "examples" / "automl-hello"


def build(project, folder):
    """Return the wheel of a project, built without a network."""
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(project)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build(ROOT, tmp_path_factory.mktemp("wheel"))


class Environment:
    """A new environment, with what automl rests on from the one that tests run in."""

    def __init__(self, folder):
        self.folder, self.bin = folder, folder / "bin"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        self.site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))

    def install(self, *what):
        quiet = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]
        pip = [sys.executable, "-m", "pip", "--python", str(self.bin / "python"), "install", *quiet]
        done = self.run(*pip, *map(str, what), cwd=self.folder)
        assert done.returncode == 0, done.stdout + done.stderr

    def lend(self):
        """Have it find the packages of the tests' own environment, after its own; editable ones stay out."""
        paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        (self.site / "lent.pth").write_text("\n".join(sorted(paths)) + "\n")

    def run(self, *words, cwd, **variables):
        kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "AUTOML_BLOCK")}
        environment = {**kept, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **variables}
        return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)

    def automl(self, *words, cwd, **variables):
        return self.run(str(self.bin / "automl"), *words, cwd=cwd, **variables)

    def passes(self, tests, cwd):
        done = self.run(
            *(str(self.bin / "python"), "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"),
            *("--rootdir", str(cwd), *map(str, tests)),
            cwd=cwd,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment with our wheel, and the example installed editable."""
    if os.name != "posix":
        pytest.skip("paths of a POSIX environment")
    environment = Environment(tmp_path_factory.mktemp("environment"))
    environment.install(wheel)
    environment.lend()
    environment.install("-e", EXAMPLE)
    return environment


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
    for file in (ROOT / "automl" / "templates").rglob("*.j2"):
        assert str(file.relative_to(ROOT)) in names


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


HELLO = ["+space=hello", "strategy=hello", "+hello=quick"]
HELLO += ["task=synthetic", "trials=6", "evaluator.epochs=1", "retrain.epochs=1"]


@pytest.mark.slow
def test_the_example_is_installed_beside_our_wheel_searches_and_passes_its_tests(installed, tmp_path):
    where = installed.run(str(installed.bin / "python"), "-c", "import automl; print(automl.__file__)", cwd=tmp_path)
    assert where.stdout.startswith(str(installed.site)), where.stdout + where.stderr
    done = installed.automl(*HELLO, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / done.stdout.splitlines()[-1]
    assert (folder / "model.onnx").exists()
    diary = (folder / "hello.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in diary[1:-1]] == [f"trial {number}" for number in range(6)]
    assert (diary[0], diary[-1]) == ("Hello, 0 trials are done", "Goodbye")
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")
    assert "6 passed" in installed.passes(["tests"], tmp_path)
    blocked = installed.automl(*HELLO, cwd=tmp_path, AUTOML_BLOCK="automl-hello")
    assert (blocked.returncode, blocked.stdout) == (2, "")
    assert blocked.stderr.startswith("automl: no space is named 'hello'")


@pytest.mark.slow
def test_one_plugin_installed_editable_and_as_a_wheel_counts_once(installed, tmp_path):
    """A stale egg-info lies in the working directory, and the wheel comes earlier on the path (case G2)."""
    (tmp_path / "automl_hello.egg-info").mkdir()
    (tmp_path / "automl_hello.egg-info" / "PKG-INFO").write_text(
        "Metadata-Version: 2.1\nName: automl-hello\nVersion: 0.9\n"
    )
    (tmp_path / "automl_hello.egg-info" / "entry_points.txt").write_text("[automl]\nold = automl_hello_gone\n")
    copy = tmp_path / "copy"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    project = copy / "pyproject.toml"
    project.write_text(project.read_text().replace('version = "1.0"', 'version = "1.1"'))
    (tmp_path / "dist").mkdir()
    zipfile.ZipFile(build(copy, tmp_path / "dist")).extractall(tmp_path / "earlier")
    python = str(installed.bin / "python")
    for earlier, version in (("", "1.0"), (str(tmp_path / "earlier"), "1.1")):
        done = installed.run(python, "-m", "automl", "plugins", "--json", cwd=tmp_path, PYTHONPATH=earlier)
        assert (done.returncode, done.stderr) == (0, "")
        rows = [row for row in json.loads(done.stdout) if row["package"] == "automl-hello"]
        assert [row["kind"] for row in rows] == ["space", "strategy", "tracker"]
        assert {row["version"] for row in rows} == {version}
        assert {row["plugin"] for row in rows} == {"automl-hello:hello"}


@pytest.mark.slow
def test_new_plugins_of_every_kind_pass_their_tests_as_written(installed, tmp_path):
    """They are checked by ruff and strict mypy too."""
    names = {kind: f"my_{kind}" for kind in KINDS} | {"space": "a", "tracker": "abcdefghi_jklmnop_qrstuv"}
    for kind, name in names.items():
        done = installed.automl("new-plugin", name, kind, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    folders = sorted(tmp_path.glob("automl-*"))
    assert len(folders) == len(KINDS)
    installed.install(*(word for folder in folders for word in ("-e", folder)))
    passed = installed.passes([f"{folder}/tests" for folder in folders], tmp_path)
    assert f"{2 * len(KINDS)} passed" in passed
    for folder in folders:
        for words in (["check"], ["format", "--check"]):
            done = installed.run(sys.executable, "-m", "ruff", *words, "--no-cache", ".", cwd=folder)
            assert done.returncode == 0, done.stdout
    checked = [str(path) for path in [EXAMPLE / "src", *folders]]
    words = ["--strict", "--config-file", "pyproject.toml", *checked]
    done = installed.run(sys.executable, "-m", "mypy", *words, cwd=ROOT)
    assert done.returncode == 0, done.stdout

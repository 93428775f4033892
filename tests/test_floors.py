"""Who may import whom: the floors of docs/design.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = [
    {"errors", "mixture"},
    {
        "decisions",
        "files",
        "images",
        "interrupts",
        "sharing",
        "splits",
        "downloads",
        "trust",
        "distributions",
        "allotment",
        "reaper",
        "joining",
    },
    {"space", "task", "trial", "checkpoint", "drawing", "logs"},
    {"strategy", "hookspecs", "measure", "pareto", "baseline", "snapshots", "latency_model", "conditions"},
    {"evaluator", "compressor", "hooking", "kernels", "latency_table"},
    {"journal", "known", "plugins", "executor", "watching", "notebook", "standing", "travel"},
    {"study", "runs", "deploy", "config", "explain", "layers", "authoring", "following", "worker"},
    {"testing", "final", "sweeps", "int8", "dashboard", "workers", "device", "kernel_files", "doctor"},
    {
        "experiment",
        "comparison",
        "compression",
        "measuring",
        "exporting",
        "processes",
        "cluster",
        "latency",
        "prediction",
    },
    {"latency_build"},
    {"cli"},
    {"__main__"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
UPWARD: dict[tuple[str, str], str] = {}  # (file, what it imports inside a function): the reason
PLUGINS = ["networks", "spaces", "strategies", "evaluators", "compressors", "tasks", "trackers"]
MAY_USE = {"automl_spaces": {"automl_networks"}}
NOT_FOR_PLUGINS = {"cli", "config", "experiment", "__main__"}
HEAVY = [
    "torch",
    "lightning",
    "sklearn",
    "hydra",
    "pandas",
    "matplotlib",
    "onnxruntime",
    "scipy",
    "optuna",
    "wandb",
    "ray",
]


def imported(path: Path) -> Iterator[str]:
    """Yield what a file imports, anywhere in it, but for the eyes of type checkers."""
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports by dots: write the whole name"
            assert node.module is not None
            if node.module == "automl":
                yield from (f"automl.{alias.name}" for alias in node.names)
            else:
                yield node.module


def core(path: Path) -> set[str]:
    """Return the core's files that a file of the core imports."""
    names = [name.split(".")[1] for name in imported(path) if name.startswith("automl.")]
    return {name if name in FLOOR else "__init__" for name in names}


FILES = sorted([*(ROOT / "automl").glob("*.py"), *(ROOT / "automl").glob("*/*.py")])


def room(path: Path) -> str:
    """Return the name of a file, or of the package within the core that it belongs to."""
    return path.stem if path.parent.name == "automl" else path.parent.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_imports_only_from_floors_below_its_own(path):
    own = room(path)
    if own == "__init__":
        return
    assert own in FLOOR, f"automl/{own} has no floor: give it one in this test and in docs/design.md"
    for name in core(path) - {own if path.parent.name == own else ""}:
        if (own, name) not in UPWARD:
            assert name != "__init__", f"automl/{path.name} imports from automl itself: name the file"
            assert FLOOR[name] < FLOOR[own], f"automl/{path.name} imports automl.{name}, which is not below it"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_hydra_lives_in_the_config_file_alone(path):
    if path.stem != "config":
        assert not [name for name in imported(path) if name.split(".")[0] in ("hydra", "omegaconf")]


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_uses_the_core_and_no_other_plugin(plugin):
    package = f"automl_{plugin}"
    paths = list((ROOT / "plugins" / package).rglob("*.py"))
    assert paths
    for path in paths:
        for name in imported(path):
            top, _, rest = name.partition(".")
            assert top != "plugins", f"{path} imports {name}: import it as an installed package does"
            if top.startswith("automl_"):
                assert top == package or top in MAY_USE.get(package, ()), f"{path} imports {name} of another plugin"
            if top == "automl":
                assert rest.split(".")[0] not in NOT_FOR_PLUGINS, f"{path} imports {name}, which is not for plugins"
            assert top not in ("hydra", "omegaconf"), f"{path} imports {name}, which lives in automl/config.py"


def test_nothing_of_the_core_imports_a_plugin():
    for path in FILES:
        assert not [name for name in imported(path) if name.startswith("automl_")], path


@pytest.mark.parametrize(
    "modules",
    [
        "automl, automl.study, automl.runs, automl.testing, automl_spaces.nasnet, automl_strategies.evolution",
        "automl.cli, automl.plugins; automl.plugins.Registry().components",
    ],
)
def test_light_modules_import_nothing_heavy(modules):
    code = f"import sys\nimport {modules}\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("\n", "")

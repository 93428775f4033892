from __future__ import annotations

import importlib
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Lt

from automl import BadInput
from automl.errors import PluginError
from automl.plugins import Registry, check, construct

SPACE = """
from dataclasses import dataclass
from automl.testing import ToySpace
from automl import hookimpl

@dataclass
class Hello(ToySpace):
    depth: int = 3

@hookimpl
def automl_spaces():
    return {"NAME": "MODULE:Hello"}
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return a function that puts a distribution with one module in a folder on the path, the last one first."""
    modules = []

    def install(name, module, code, *, version="1.0", entry="spaces", folder="site", component=None, kind="dist-info"):
        site = tmp_path / folder
        site.mkdir(exist_ok=True)
        code = dedent(code).replace("NAME", component or module).replace("MODULE", module)
        (site / f"{module}.py").write_text(code)
        info = site / f"{name.replace('-', '_')}-{version}.{kind}"
        info.mkdir()
        metadata = "METADATA" if kind == "dist-info" else "PKG-INFO"
        (info / metadata).write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[automl]\n{entry} = {module}\n")
        if str(site) not in sys.path:
            monkeypatch.syspath_prepend(site)
        importlib.invalidate_caches()
        modules.append(module)
        return site

    yield install
    for module in modules:
        sys.modules.pop(module, None)


def names(registry):
    return {name for kind, name in registry.components if kind == "space"}


def plugins(registry):
    """Return the names of the plugins that the tests installed."""
    found = registry.manager.list_name_plugin()
    return sorted(name for name, plugin in found if Path(plugin.__file__).stem.startswith("toy_"))


def test_our_own_components_are_found():
    registry = Registry()
    assert registry.problems == {}
    assert "nasnet" in registry.names("space")
    assert {"evolution", "random"} <= set(registry.names("strategy"))
    component = registry.find("strategy", "evolution")
    assert (component.plugin, component.package) == ("automl-lightweight:strategies", "automl-lightweight")
    assert component.path == "automl_strategies.evolution:Evolution"
    strategy = registry.build("strategy", {"name": "evolution", "population": 7})
    assert strategy.population == 7


def test_two_distributions_may_call_their_entry_points_alike(installed):
    installed("one-plugin", "toy_one", SPACE)
    installed("other_plugin", "toy_other", SPACE)
    registry = Registry()
    assert {"toy_one", "toy_other"} <= names(registry)
    assert plugins(registry) == ["one-plugin:spaces", "other-plugin:spaces"]
    assert registry.problems == {}


def test_one_distribution_found_twice_counts_once_with_the_version_that_is_imported(installed):
    installed("toy.twice", "toy_twice", SPACE, version="1.0", folder="old")
    installed("toy_twice", "toy_twice", SPACE, version="0.9", folder="stale", kind="egg-info")
    installed("toy-twice", "toy_twice", SPACE, version="2.0", folder="new")
    registry = Registry()
    component = registry.find("space", "toy_twice")
    assert component.version == "2.0"
    assert Path(sys.modules["toy_twice"].__file__).parent.name == "new"
    assert plugins(registry) == ["toy-twice:spaces"]
    assert registry.problems == {}


def test_one_folder_under_two_names_counts_once(installed, tmp_path, monkeypatch):
    site = installed("toy-linked", "toy_linked", SPACE)
    (tmp_path / "lib64").symlink_to(site)
    monkeypatch.syspath_prepend(tmp_path / "lib64")
    monkeypatch.syspath_prepend(site)
    registry = Registry()
    assert plugins(registry) == ["toy-linked:spaces"]
    assert registry.problems == {}


def test_an_old_version_under_a_new_one_is_not_imported(installed):
    installed("toy-renewed", "toy_gone", "raise AssertionError('gone')", version="1", entry="old", folder="system")
    installed("toy-renewed", "toy_here", SPACE, version="2", folder="user")
    registry = Registry()
    assert plugins(registry) == ["toy-renewed:spaces"]
    assert "toy_gone" not in sys.modules
    assert registry.problems == {}


def test_two_components_of_one_name_are_refused_when_it_is_used(installed):
    installed("first-plugin", "toy_first", SPACE, component="nasnet2")
    installed("second-plugin", "toy_second", SPACE, component="nasnet2")
    installed("third-plugin", "toy_third", SPACE)
    registry = Registry()
    with pytest.raises(
        PluginError, match=r"space 'nasnet2' comes from two plugins, \S+:spaces and \S+:spaces"
    ) as refused:
        registry.build("space", {"name": "nasnet2"})
    assert "first-plugin:spaces" in str(refused.value)
    assert "second-plugin:spaces" in str(refused.value)
    assert "AUTOML_BLOCK=" in str(refused.value)
    assert type(registry.build("space", {"name": "toy_third"})).__name__ == "Hello"


BROKEN = {
    "import": ("import no_such_module", "it cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
    "syntax": ("def :", "it cannot be imported: SyntaxError: "),
    "exit": ("import sys\nsys.exit(3)", "it cannot be imported: SystemExit: 3"),
    "raise": ("raise RuntimeError('at import')", "it cannot be imported: RuntimeError: at import"),
    "hook": (
        "from automl import hookimpl\n@hookimpl\ndef automl_trial_finish(trial): ...",
        "it implements automl_trial_finish, which is no hook (did you mean 'automl_trial_finished'?)",
    ),
    "argument": ("from automl import hookimpl\n@hookimpl\ndef automl_trial_finished(trail): ...", "trail"),
    "none": (
        "from automl import hookimpl\n@hookimpl\ndef automl_spaces(): ...",
        "its automl_spaces does not return names and paths: TypeError",
    ),
    "class": (
        "from automl import hookimpl\nclass Hello: ...\n@hookimpl\ndef automl_spaces(): return {'hello': Hello}",
        "its automl_spaces does not return names and paths: TypeError: 'hello': <class ",
    ),
    "hook that raises": (
        "from automl import hookimpl\n@hookimpl\ndef automl_spaces(): raise SystemExit(2)",
        "its automl_spaces does not return names and paths: SystemExit: 2",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_is_named_with_its_reason_and_hides_no_other(installed, monkeypatch, kind):
    code, reason = BROKEN[kind]
    installed("broken-plugin", "toy_broken", code)
    installed("good-plugin", "toy_good", SPACE)
    registry = Registry()
    assert type(registry.build("space", {"name": "toy_good"})).__name__ == "Hello"
    assert "nasnet" in names(registry)
    assert list(registry.problems) == ["broken-plugin:spaces"]
    assert reason in registry.problems["broken-plugin:spaces"]
    assert "\n" not in registry.problems["broken-plugin:spaces"]
    with pytest.raises(BadInput) as refused:
        registry.find("space", "toy_broken")
    assert "plugin broken-plugin:spaces is left out: " in str(refused.value)
    for blocked in ("broken-plugin", "broken-plugin:spaces", "other, broken-plugin"):
        monkeypatch.setenv("AUTOML_BLOCK", blocked)
        silenced = Registry()
        assert "toy_good" in names(silenced)
        assert silenced.problems == {}


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("no_such_module:Hello", "cannot be imported: ModuleNotFoundError"),
        ("toy_bad:Nothing", "cannot be imported: AttributeError"),
        ("toy_bad:Hello", "which is no space"),
        ("toy_bad:NUMBER", "which is no space"),
        ("toy_exits:Hello", "cannot be imported: SystemExit: 3"),
        ("toy_raises:Hello", "cannot be imported: ZeroDivisionError"),
    ],
)
def test_a_component_that_cannot_be_had_is_refused_when_it_is_built(installed, path, reason):
    code = "from automl import hookimpl\nclass Hello: ...\nNUMBER = 3\n@hookimpl\ndef automl_spaces(): "
    site = installed("bad-plugin", "toy_bad", code + f"return {{'bad': {path!r}}}")
    (site / "toy_exits.py").write_text("import sys\nsys.exit(3)")
    (site / "toy_raises.py").write_text("1 / 0")
    registry = Registry()
    assert registry.find("space", "bad").plugin == "bad-plugin:spaces"
    with pytest.raises(PluginError, match="space 'bad' of plugin bad-plugin:spaces") as refused:
        registry.build("space", {"name": "bad"})
    assert reason in str(refused.value)


def test_what_an_interrupted_installation_left_behind_hides_nothing(installed):
    site = installed("good-plugin", "toy_left", SPACE)
    (site / "~oken-1.0.dist-info").mkdir()
    (site / "torn-1.0.dist-info").mkdir()
    (site / "torn-1.0.dist-info" / "METADATA").write_bytes(b"")
    registry = Registry()
    assert "toy_left" in names(registry)
    assert registry.problems == {}


def test_an_unknown_name_is_refused_with_its_near_miss():
    registry = Registry()
    with pytest.raises(BadInput, match=r"no space is named 'nasnett' \(did you mean 'nasnet'\?\); installed: .*nasnet"):
        registry.build("space", {"name": "nasnett"})
    with pytest.raises(BadInput, match=r"strategy.name is None: give one of .*evolution, .*random"):
        registry.build("strategy", {})
    with pytest.raises(BadInput, match=r"no key 'populaton' \(did you mean 'population'\?\); its keys: population"):
        registry.build("strategy", {"name": "evolution", "populaton": 3})


def test_a_plugin_is_found_by_a_fresh_interpreter(installed):
    site = installed("fresh-plugin", "toy_fresh", SPACE)
    code = "from automl.plugins import Registry; print(Registry().build('space', {'name': 'toy_fresh', 'depth': 4}))"
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{site}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout == "Hello(decisions=4, options=3, depth=4)\n", done.stderr


@dataclass
class Fields:
    """One field of each kind."""

    trials: Annotated[int, Ge(1)] = 1
    rate: Annotated[float, Gt(0), Lt(1)] = 0.5
    text: str = ""
    flag: bool = False
    kind: Literal["max", "min"] = "max"
    size: Annotated[int, Ge(1)] | None = None
    names: tuple[str, ...] = ()
    born: Any = field(default=None, init=False)


NAN = float("nan")
AN_INTEGER = "an integer"


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("trials", "abc", AN_INTEGER),
        ("trials", "3", AN_INTEGER),
        ("trials", 3.7, AN_INTEGER),
        ("trials", 10.0, AN_INTEGER),
        ("trials", True, AN_INTEGER),
        ("trials", False, AN_INTEGER),
        ("trials", None, AN_INTEGER),
        ("trials", [3], AN_INTEGER),
        ("trials", {}, AN_INTEGER),
        ("trials", "", AN_INTEGER),
        ("trials", -1, "at least 1"),
        ("trials", 0, "at least 1"),
        ("trials", NAN, AN_INTEGER),
        ("rate", "fast", "a number"),
        ("rate", "0.3", "a number"),
        ("rate", True, "a number"),
        ("rate", None, "a number"),
        ("rate", 0, "more than 0"),
        ("rate", 1.0, "less than 1"),
        ("rate", NAN, "a number"),
        ("rate", float("inf"), "a number"),
        ("text", 20240102, "text"),
        ("text", 1e5, "text"),
        ("text", True, "text"),
        ("text", None, "text"),
        ("flag", 1, "true or false"),
        ("flag", "true", "true or false"),
        ("flag", None, "true or false"),
        ("kind", "most", "one of max, min"),
        ("kind", 1, "one of max, min"),
        ("size", 0, "at least 1"),
        ("size", "big", "an integer"),
        ("names", "abc", "a list of text"),
        ("names", [1], "text"),
        ("names", [None], "text"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_naming_key_value_and_what_is_allowed(key, value, word):
    with pytest.raises(BadInput, match=word) as refused:
        construct(Fields, {key: value}, "task")
    assert str(refused.value).startswith(f"task.{key}=")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        ("trials", 10**30, 10**30),
        ("rate", 1e-300, 1e-300),
        ("text", "1e5", "1e5"),
        ("text", "café/a(1)", "café/a(1)"),
        ("flag", True, True),
        ("kind", "min", "min"),
        ("size", None, None),
        ("size", 3, 3),
        ("names", ["a", "b"], ("a", "b")),
        ("names", [], ()),
    ],
)
def test_a_value_of_the_right_type_is_taken_as_it_is(key, value, kept):
    found = getattr(construct(Fields, {key: value}, "task"), key)
    assert found == kept
    assert type(found) is type(kept)


def test_an_integer_may_stand_for_a_real_number():
    assert check(1, float, "x") == 1.0
    assert type(check(1, float, "x")) is float


@pytest.mark.parametrize("key", ["born", "trial", "__class__"])
def test_a_key_that_is_no_setting_is_refused(key):
    with pytest.raises(BadInput, match=f"task has no key '{key}'"):
        construct(Fields, {key: 1}, "task")


def test_a_setting_without_a_default_is_asked_for():
    @dataclass
    class Needy:
        weights: str

    with pytest.raises(BadInput, match=r"task\.weights is missing: give it text"):
        construct(Needy, {}, "task")


def test_a_component_within_another_is_built_from_its_own_settings():
    registry = Registry()
    inner = {"name": "training", "epochs": 9}
    built = registry.build("evaluator", {"name": "hyperband", "eta": 2, "inner": {"name": "curve", "inner": inner}})
    assert (built.eta, built.inner.inner.epochs) == (2, 9)
    with pytest.raises(BadInput, match=r"evaluator\.inner\.epochs=0 must be an integer, at least 1"):
        registry.build("evaluator", {"name": "hyperband", "inner": {"name": "training", "epochs": 0}})
    with pytest.raises(BadInput, match=r"evaluator\.inner has no key 'epoch' \(did you mean 'epochs'\?\)"):
        registry.build("evaluator", {"name": "hyperband", "inner": {"name": "training", "epoch": 1}})
    with pytest.raises(BadInput, match=r"no evaluator is named 'trainin'"):
        registry.build("evaluator", {"name": "hyperband", "inner": {"name": "trainin"}})
    with pytest.raises(BadInput, match=r"evaluator\.inner is missing: give it one of the group evaluator, by its name"):
        registry.build("evaluator", {"name": "hyperband"})
    with pytest.raises(BadInput, match=r"evaluator\.inner\.name is 3"):
        registry.build("evaluator", {"name": "hyperband", "inner": 3})

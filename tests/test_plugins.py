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

from automl import BadInput, config
from automl.cli import main
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

    def install(
        name,
        module,
        code,
        *,
        version="1.0",
        entry="spaces",
        folder="site",
        component=None,
        kind="dist-info",
        requires=(),
    ):
        site = tmp_path / folder
        site.mkdir(exist_ok=True)
        code = dedent(code).replace("NAME", component or module).replace("MODULE", module)
        (site / f"{module}.py").write_text(code)
        info = site / f"{name.replace('-', '_')}-{version}.{kind}"
        info.mkdir()
        metadata = "METADATA" if kind == "dist-info" else "PKG-INFO"
        needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
        (info / metadata).write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
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
    "argument": (
        "from automl import hookimpl\n@hookimpl\ndef automl_trial_finished(trail): ...",
        "its automl_trial_finished asks for 'trail' (did you mean 'trial'?), and is given study, trial: it may be "
        "written for another version of automl",
    ),
    "wrapper": (
        "from automl import hookimpl\n@hookimpl(wrapper=True)\ndef automl_trial_finished(trial): yield",
        "it wraps automl_trial_finished, and every plugin's is called by itself: leave out wrapper=True",
    ),
    "nothing": ("def automl_spaces(): return {}", "it implements no hook: mark functions named as the hooks are by @"),
    "lines": ("raise RuntimeError('one\\ntwo\\x1b[31m')", r"it cannot be imported: RuntimeError: one two\x1b[31m"),
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


WATCHER = """
import json
from automl import hookimpl
CALLS = []

@hookimpl
def automl_study_started(study):
    CALLS.append(("started", len(study.trials)))

@hookimpl
def automl_trial_finished(study, trial):
    CALLS.append(("finished", trial.number, _last(study)))

@hookimpl
def automl_study_finished(study):
    CALLS.append(("ended", len(study.trials)))

def _last(study):
    return json.loads((study.directory / "journal.jsonl").read_text().splitlines()[-1])["event"]
"""
SMALL = ["+space=toy", "strategy=random", "evaluator=toy", "retrain=none", "task=synthetic", "trials=6"]


def said(capsys, *words):
    """Return exit code, output and errors of a command."""
    code = main(words)
    out, errors = capsys.readouterr()
    return code, out, errors


@pytest.mark.parametrize(
    ("requires", "reason"),
    [
        (["automl-lightweight>=99"], "it requires automl-lightweight>=99, and 0.1.0 is installed: type pip install"),
        (["AutoML_Lightweight == 0.0.9"], "it requires automl-lightweight==0.0.9, and "),
        (["automl-lightweight>=0.1", "automl-lightweight-extras>=99"], None),
        (["automl-lightweight>=99; extra == 'dev'", "automl-lightweight ?"], None),
        (["numpy", "automl-lightweight"], None),
    ],
)
def test_a_plugin_of_another_version_of_automl_is_left_out_and_said(installed, requires, reason):
    code = "raise AssertionError('imported')" if reason else SPACE
    installed("toy-version", "toy_version", code, requires=requires)
    registry = Registry()
    assert list(registry.problems) == (["toy-version:spaces"] if reason else [])
    if reason:
        assert registry.problems["toy-version:spaces"].startswith(reason)
    else:
        assert "toy_version" in names(registry)


def test_what_a_build_left_in_the_working_directory_counts_nothing_where_the_plugin_is_installed(installed):
    """The egg-info comes first on the path; the code is beside the other (case G2)."""
    installed("toy-built", "toy_built", SPACE, version="2.0", folder="site")
    site = installed("toy-built", "toy_gone", SPACE, version="0.9", folder="here", kind="egg-info", entry="old")
    (site / "toy_gone.py").unlink()
    importlib.invalidate_caches()
    registry = Registry()
    assert registry.find("space", "toy_built").version == "2.0"
    assert plugins(registry) == ["toy-built:spaces"]
    assert registry.problems == {}


def test_a_module_that_two_entry_points_name_counts_once(installed):
    installed("toy-old-name", "toy_shared", SPACE)
    installed("toy-new-name", "toy_shared", SPACE)
    registry = Registry()
    assert len(plugins(registry)) == 1
    assert type(registry.build("space", {"name": "toy_shared"})).__name__ == "Hello"
    assert registry.problems == {}


def test_a_clash_is_told_by_a_command_that_leaves_out_what_is_not_ours(installed, capsys):
    installed("other-plugin", "toy_clashing", SPACE, component="nasnet")
    with pytest.raises(PluginError, match=r"leave one out by AUTOML_BLOCK=other-plugin:spaces$"):
        Registry().load("space", "nasnet")
    code, out, errors = said(capsys, "plugins")
    assert (code, errors.count("\n")) == (0, 1)
    assert errors.startswith("space 'nasnet' comes from two plugins, ")
    assert out.count("space       nasnet ") == 2


@pytest.mark.parametrize("kind", BROKEN)
def test_commands_go_on_with_a_broken_plugin_and_name_it(installed, capsys, monkeypatch, kind):
    code, reason = BROKEN[kind]
    installed("broken-plugin", "toy_broken", code)
    for words in (["--help"], ["plugins"], *([["doctor"]] if kind == "import" else [])):
        exit_code, out, errors = said(capsys, *words)
        assert exit_code == 0
        assert (out + errors).count("plugin broken-plugin:spaces is left out: ") == 1
        assert reason in out + errors
    exit_code, out, errors = said(capsys, "+space=toy_broken", "strategy=random")
    assert (exit_code, out, errors.count("\n")) == (2, "", 1)
    assert errors.startswith("automl: no space is named 'toy_broken'")
    assert reason in errors
    monkeypatch.setenv("AUTOML_BLOCK", "broken-plugin")
    assert said(capsys, "plugins")[2] == ""


def test_a_run_that_does_not_need_a_broken_plugin_warns_of_it_once(installed, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    installed("broken-plugin", "toy_broken", "import no_such_module")
    code, out, errors = said(capsys, *SMALL, "trials=1", "watch=[]")
    assert code == 0, errors
    assert errors == (
        "warning: plugin broken-plugin:spaces is left out: it cannot be imported: ModuleNotFoundError: No module named "
        "'no_such_module' (AUTOML_BLOCK=broken-plugin:spaces says that it shall be)\n"
    )
    assert Path(out.splitlines()[-1]).is_dir()


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ("None", "it returns None, which is no 'pkg://PACKAGE'"),
        ("'conf'", "it returns 'conf', which is no 'pkg://PACKAGE'"),
        ("'pkg://toy_no_such.conf'", "ModuleNotFoundError: No module named 'toy_no_such'"),
        ("'pkg://toy_nowhere'", "there is no package toy_nowhere"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_folder_of_settings_that_is_none_is_named_and_the_rest_goes_on(installed, capsys, returned, reason):
    installed("toy-settings", "toy_settings", SPACE + f"@hookimpl\ndef automl_config_path(): return {returned}\n")
    code, out, errors = said(capsys, "plugins")
    assert code == 0
    assert "toy_settings" in out
    assert errors == f"plugin toy-settings:spaces is left out: its automl_config_path failed: {reason}\n"
    code, _, errors = said(capsys, "+space=toy_settings", "strategy=random")
    assert code == 2
    assert reason in errors


def test_hooks_are_called_once_an_event_the_line_of_the_journal_first(installed, capsys, monkeypatch, tmp_path):
    """The plugin is found twice, as in G2 (case G5)."""
    monkeypatch.chdir(tmp_path)
    installed("toy-watching", "toy_watching", WATCHER, folder="old", version="0.9")
    installed("toy-watching", "toy_watching", WATCHER)
    code, out, errors = said(capsys, *SMALL, "watch=[]")
    assert code == 0, errors
    calls = sys.modules["toy_watching"].CALLS
    assert calls == [("started", 0), *[("finished", number, "finished") for number in range(6)], ("ended", 6)]
    code, out, errors = said(capsys, "plugins")
    assert [line.split() for line in out.splitlines() if "toy-watching" in line] == [
        ["hooks", "spaces", "toy-watching", "1.0"]
    ]


TRACKERS = """
from dataclasses import dataclass
from automl import hookimpl

@dataclass
class Counting:
    every: int = 1

    @hookimpl
    def automl_trial_finished(self, study, trial):
        with (study.directory / "counted").open("a") as file:
            file.write(str(trial.number))

class Misspelt:
    @hookimpl
    def automl_trial_finish(self, trial): ...

class Asking:
    @hookimpl
    def automl_trial_finished(self, trial, network): ...

class Idle: ...

@hookimpl
def automl_trackers():
    return {name: f"MODULE:{name.rstrip('2').capitalize()}" for name in ("counting", "counting2", "misspelt", "asking", "idle")}
"""  # noqa: E501


def test_two_trackers_of_one_class_are_both_told_once(installed, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    installed("toy-trackers", "toy_trackers", TRACKERS)
    code, out, errors = said(capsys, *SMALL, "watch=[counting,counting2]")
    assert code == 0, errors
    assert (tmp_path / out.splitlines()[-1] / "counted").read_text() == "001122334455"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("misspelt", "it implements automl_trial_finish, which is no hook (did you mean 'automl_trial_finished'?)"),
        ("asking", "its automl_trial_finished asks for 'network', and is given study, trial"),
        ("idle", "it watches nothing: mark methods named as the hooks are by @automl.hookimpl"),
    ],
)
def test_a_tracker_that_would_not_be_told_is_refused_before_anything_runs(
    installed, capsys, monkeypatch, tmp_path, name, reason
):
    monkeypatch.chdir(tmp_path)
    installed("toy-trackers", "toy_trackers", TRACKERS)
    code, out, errors = said(capsys, *SMALL, f"watch=[{name}]")
    assert (code, out) == (2, "")
    assert errors.startswith(f"automl: tracker '{name}' of plugin toy-trackers:spaces cannot be used: {reason}")
    assert not (tmp_path / "runs").exists()


def test_a_group_of_a_plugin_is_added_by_a_plus(installed):
    site = installed(
        "toy-grouped", "toy_grouped", SPACE + "@hookimpl\ndef automl_config_path(): return 'pkg://toy_own'"
    )
    (site / "toy_own" / "pace").mkdir(parents=True)
    (site / "toy_own" / "__init__.py").touch()
    (site / "toy_own" / "pace" / "brisk.yaml").write_text("# @package _global_\ntrials: 3\n")
    registry = Registry()
    assert config.options(registry)["pace"] == ["brisk"]
    assert config.compose([*SMALL[:-1], "+pace=brisk"], registry).trials == 3
    assert config.compose([*SMALL, "+pace=brisk"], registry).trials == 6
    with pytest.raises(BadInput, match=r"pace=brisk: pace has no default, so it is added with a plus; did you mean: "):
        config.compose([*SMALL, "pace=brisk"], registry)
    with pytest.raises(BadInput, match=r"no pace is named 'brsk' \(did you mean 'brisk'\?\)"):
        config.compose([*SMALL, "+pace=brsk"], registry)


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

"""The Optuna mirror: types kept, states told, each trial once, whatever the storage."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from automl import BadInput, Integer, Objective, Op, Report, Space, TrialFailed
from automl.testing import ConditionalSpace
from automl_trackers.distributions import Distributions, distribution_of, ranges
from automl_trackers.optuna_mirror import OptunaMirror
from followed import LIMIT, ODD, Epochs, study
from waiting import wait_for


@pytest.fixture
def postgresql(tmp_path_factory):
    """The URL of a database of a PostgreSQL server that lives as long as the test, without a port of the machine's."""
    psycopg = pytest.importorskip("psycopg")
    places = os.pathsep.join(
        [os.environ["PATH"], *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
    )  # where Debian has it
    initdb, postgres = (shutil.which(name, path=places) for name in ("initdb", "postgres"))
    if initdb is None or postgres is None:
        pytest.skip("no PostgreSQL is installed here")
    folder = tmp_path_factory.mktemp("pg")
    who = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}  # it refuses root
    if who:
        shutil.chown(folder, "postgres", "postgres")
        for parent in [*folder.parents][:3]:
            parent.chmod(parent.stat().st_mode | 0o011)
    how = {"cwd": folder, "stdout": subprocess.DEVNULL, **who}
    data = folder / "data"
    subprocess.run(
        [initdb, "--pgdata", data, "--username", "automl", "--auth", "trust", "--no-sync"],
        check=True,
        timeout=100,
        **how,
    )
    settings = ("-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}", "-c", "fsync=off")
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([postgres, "-D", data, *settings], stderr=log, **how)
    url = f"postgresql://automl@/postgres?host={folder}"
    try:
        wait_for(lambda: answers(psycopg, url))
        yield url
    finally:
        server.send_signal(signal.SIGQUIT)  # at once, without what would make the next start quicker
        server.wait(60)


def answers(psycopg, url):
    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(url).close()
        return True
    return False


def mirrored(folder, storage=None):
    return optuna.load_study(study_name=folder.name, storage=storage or f"sqlite:///{folder / 'optuna.db'}")


def test_every_trial_is_there_with_its_types_values_and_epochs(tmp_path):
    done = study(tmp_path / "run", {"optuna": OptunaMirror()}, limits=[LIMIT], trials=5)
    there = mirrored(tmp_path / "run")
    assert [direction.name for direction in there.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert there.metric_names == ["accuracy", "cost"]
    assert [trial.state for trial in there.trials] == [
        TrialState.COMPLETE,
        TrialState.FAIL,
        TrialState.FAIL,
        TrialState.COMPLETE,
        TrialState.COMPLETE,
    ]
    assert [trial.user_attrs.get("reason") for trial in there.trials] == [
        None,
        "accuracy was nan",
        "no room",
        None,
        None,
    ]
    for trial, frozen in zip(done.trials, there.trials, strict=True):
        values = trial.architecture.to_json()
        assert json.loads(frozen.params.pop("pair")) == values.pop("pair")
        assert frozen.params == values
        assert [type(value) for value in frozen.params.values()] == [type(values[name]) for name in frozen.params]
        assert frozen.distributions["step"] == IntDistribution(2, 8, step=2)
        assert frozen.distributions["whole"] == IntDistribution(1, 64, log=True)
        assert frozen.distributions["rate"] == FloatDistribution(1e-4, 1e-1, log=True)
        assert repr(frozen.distributions["none"]) == repr(CategoricalDistribution((None, True, "1")))
        assert frozen.distributions["pair"] == CategoricalDistribution(("[3, 5]", "[5, 3]"))
    last = there.trials[4]
    assert last.values == [4.2, 40.0]
    assert last.intermediate_values == {1: 4.1, 2: 4.2}
    assert {name: last.user_attrs[f"metrics/{name}"] for name in ODD} == ODD
    assert last.system_attrs["constraints"] == [20.0]
    assert there.trials[0].system_attrs["constraints"] == [-20.0]
    assert [trial.number for trial in there.best_trials] == [0]


def test_a_study_that_goes_on_adds_what_is_lacking_and_doubles_nothing(tmp_path):
    study(tmp_path / "run", {}, trials=2)
    for trials in (3, 3, 6):
        study(tmp_path / "run", {"optuna": OptunaMirror()}, trials=trials)
        assert [trial.user_attrs["trial"] for trial in mirrored(tmp_path / "run").trials] == list(range(trials))


def test_a_journal_file_is_a_storage_too(tmp_path):
    path = tmp_path / "mirror.log"
    mirror = OptunaMirror(storage=str(path))
    mirror.check()
    study(tmp_path / "run", {"optuna": mirror})
    assert len(mirrored(tmp_path / "run", JournalStorage(JournalFileBackend(str(path)))).trials) == 4


@pytest.mark.slow
def test_postgresql_has_what_a_file_has(tmp_path, postgresql):
    mirror = OptunaMirror(storage=postgresql)
    mirror.check()
    study(tmp_path / "run", {"optuna": mirror}, limits=[LIMIT], trials=3)
    study(tmp_path / "run", {"optuna": OptunaMirror(storage=postgresql)}, limits=[LIMIT], trials=5)
    (tmp_path / "file").mkdir()
    study(tmp_path / "file" / "run", {"optuna": OptunaMirror()}, limits=[LIMIT], trials=5)
    storage = RDBStorage(postgresql)
    there, expected = mirrored(tmp_path / "run", storage), mirrored(tmp_path / "file" / "run")
    assert there.directions == expected.directions
    for one, other in zip(there.trials, expected.trials, strict=True):
        alike = ("number", "state", "values", "params", "distributions", "intermediate_values", "system_attrs")
        assert repr([getattr(one, name) for name in alike]) == repr([getattr(other, name) for name in alike])
        assert {**one.user_attrs, "seconds": 0} == {**other.user_attrs, "seconds": 0} or "nan" in repr(one.user_attrs)
    with pytest.raises(BadInput, match=r"cannot be opened \(.*nowhere.*\): mend the address"):
        OptunaMirror(storage=postgresql.replace("/postgres?", "/nowhere?")).check()
    storage.engine.dispose()


def test_domains_that_depend_on_decisions_are_told(tmp_path):
    done = study(tmp_path / "run", {"optuna": OptunaMirror()}, 12, space=ConditionalSpace(), evaluator=Epochs())
    for trial, frozen in zip(done.trials, mirrored(tmp_path / "run").trials, strict=True):
        assert frozen.params.keys() == trial.architecture.values.keys()
        width = trial.architecture.values["width"]
        assert frozen.distributions["layer.0.channels"] == IntDistribution(1, width)


def test_other_options_under_one_name_go_by_another():
    found = Distributions()
    assert found.of({"a": "x"}, {"a": ("x", "y")})[0] == {"a": "x"}
    assert found.of({"a": "x"}, {"a": ("x", "z")})[0] == {"a (2)": "x"}
    assert found.of({"a": 3}, {"a": Integer(1, 4)})[0] == {"a (3)": 3}
    assert found.of({"a": 9}, {"a": Integer(1, 9)})[0] == {"a (3)": 9}
    assert found.of({"a": "y"}, {"a": ("x", "y")})[0] == {"a": "y"}
    assert found.of({"b": 1}, {})[1] == {"b": CategoricalDistribution((1,))}


def test_an_operation_goes_by_its_name():
    domain = (Op("conv", print), Op("pool", print))
    assert distribution_of(domain) == CategoricalDistribution(("conv", "pool"))
    assert distribution_of((4,)) == CategoricalDistribution((4,))
    assert distribution_of((4, 2)) == CategoricalDistribution((4, 2))


def test_domains_that_are_not_known_are_what_was_decided():
    assert ranges([{"a": 1, "b": 0.5}, {"a": True, "b": 0.1}]).keys() == {"a", "b"}
    found = ranges([{"a": 1, "b": 0.5, "c": [1, 2]}, {"a": "1", "b": 0.1, "c": [1, 2]}])
    assert found["a"] == (1, "1")
    assert (found["b"].low, found["b"].high) == (0.1, 0.5)
    assert found["c"] == ([1, 2],)


def test_a_rejected_trial_is_pruned(tmp_path):
    class Cheap(Space):
        def describe(self, choose):
            return choose("a", range(30))

        def build(self, blueprint, task):
            raise NotImplementedError

    class Early(Epochs):
        def evaluate(self, trial):
            yield Report({"cost": 100.0 * trial.number}, 0.0)
            yield Report({"cost": 100.0 * trial.number, "accuracy": 0.5})

    run = {"objectives": (Objective("accuracy"),), "limits": [LIMIT], "evaluator": Early()}
    study(tmp_path / "run", {"optuna": OptunaMirror()}, 3, space=Cheap(), **run)
    trials = mirrored(tmp_path / "run").trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.PRUNED]
    assert trials[1].system_attrs["constraints"] == [80.0]
    assert trials[1].intermediate_values == {}


@pytest.mark.parametrize(
    ("storage", "part"),
    [
        ("sqlite:////no/such/folder/x.db", "cannot be opened (unable to open database file)"),
        ("nosuch://x", "needs a package that is not installed|cannot be opened"),
        ("://", "is no URL of a database"),
        ("/no/such/folder/x.log", "cannot be opened: /no/such/folder cannot be written to"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_refused_in_a_sentence(storage, part):
    with pytest.raises(BadInput) as refused:
        OptunaMirror(storage=storage).check()
    assert any(words in str(refused.value) for words in part.split("|")), str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_refusal_does_not_tell_the_password():
    with pytest.raises(BadInput) as refused:
        OptunaMirror(storage="mysql+nothing://me:secret@host/name").check()
    assert "secret" not in str(refused.value)


def test_a_long_reason_is_cut(tmp_path):
    wrong = {1: TrialFailed("x" * 3_000)}
    study(tmp_path / "run", {"optuna": OptunaMirror()}, 2, evaluator=Epochs(wrong=wrong))
    assert mirrored(tmp_path / "run").trials[1].user_attrs["reason"] == "x" * 1_000

"""Trackers as a user chooses them: by group, several at once, in sweeps, on resuming, and those of plugins."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import optuna
import pytest
import yaml

from automl import BadInput, cli, config
from automl.dashboard import Dashboard
from automl.experiment import Experiment, resuming
from automl.plugins import Registry
from automl_trackers.distributions import distribution_of

ROOT = Path(__file__).parents[1]
REGISTRY = Registry()
SMALL = ["+space=toy", "evaluator=toy", "retrain=none", "task=synthetic", "watch=[]", "trials=6"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUTOML_RUNS", raising=False)
    return tmp_path


def composed(*words):
    return config.unresolved(config.compose(["+space=toy", *words], REGISTRY))["tracker"]


def run(*words):
    return Experiment(config.compose([*SMALL, *words], REGISTRY), REGISTRY).run()


def told(path):
    return [line.split("|")[:2] for line in Path(path).read_text().splitlines()]


def mirrored(directory):
    there = optuna.load_study(study_name=directory.name, storage=f"sqlite:///{directory / 'optuna.db'}")
    return [trial.user_attrs["trial"] for trial in there.trials]


def test_none_is_chosen_by_default():
    assert composed() == {}
    assert composed("tracker=null") == {}
    assert composed("tracker=[]") == {}


def test_one_or_several_are_chosen_each_with_its_own_settings():
    assert list(composed("tracker=wandb")) == ["wandb"]
    found = composed("tracker=[wandb, optuna]", "tracker.wandb.project=mine", "tracker.optuna.storage=sqlite:///a?b=c")
    assert list(found) == ["wandb", "optuna"]
    assert found["wandb"]["project"] == "mine"
    assert list(composed('tracker=["wandb", "csv"]')) == ["wandb", "csv"]  # as automl.search(tracker=[...]) has it
    assert found["optuna"]["storage"] == "sqlite:///a?b=c"


def test_they_can_be_swept_over():
    words = ["+space=toy", "tracker=[wandb,csv],optuna,null", "seed=1,2"]
    jobs = config.jobs(words, REGISTRY)
    assert [list(composed(*job[1:])) for job in jobs[::2]] == [["wandb", "csv"], ["optuna"], []]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["tracker=wandbb"], "no tracker is named 'wandbb' (did you mean 'wandb'?); installed: again, counts, csv"),
        (["tracker=[csv,tensorbord]"], "did you mean 'tensorboard'?"),
        (["+tracker=csv"], "tracker=csv"),
        (["tracker=wandb,csv"], "for a sweep type automl -m"),
        (["tracker.wandb.project=x"], "tracker wandb is not chosen: type tracker=wandb, too"),
        (["tracker=wandb", "tracker.wandb.projekt=x"], "tracker.wandb has no key 'projekt' (did you mean 'project'?)"),
        (["tracker=csv", "tracker.csv.every=soon"], "tracker.csv.every=soon must be a number, at least 0"),
        (["watch=[wandb]"], "type tracker=wandb"),
        (["tracker=csv", "patience=0"], "patience=0 must be a number, more than 0"),
        (["tracker=optuna", "tracker.optuna.storage=sqlite:////no/where/x.db"], "cannot be opened"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(capsys, words, part):
    assert cli.main([*SMALL, *words]) == 2
    error = capsys.readouterr().err
    assert part in error
    assert error.count("\n") == 1
    assert not Path("runs").exists()


def test_those_of_a_plugin_are_told_once_of_each_event_the_journals_line_first():
    run("tracker=[counts,again]")
    for path in ("counts.txt", "again.txt"):  # two of one class
        assert told(path) == [["started", "0"], *(["finished", str(number)] for number in range(6)), ["ended", "6"]]


def test_several_write_at_once():
    directory = run("tracker=[csv,optuna,counts]").directory
    rows = (directory / "trials.csv").read_text().splitlines()
    assert rows[0].startswith("trial,state,reason,fidelity,seconds,accuracy,loss,")
    assert [row.split(",")[0] for row in rows[1:]] == list("012345")
    assert mirrored(directory) == list(range(6))


def test_resuming_goes_on_with_the_same_trackers():
    directory = run("tracker=[counts,optuna]").directory
    experiment, _ = resuming(str(directory), ["trials=8"])
    experiment.run(directory)
    assert told("counts.txt")[8:] == [["started", "6"], ["finished", "6"], ["finished", "7"], ["ended", "8"]]
    assert mirrored(directory) == list(range(8))


def test_resuming_takes_other_trackers_and_keeps_the_settings_of_those_it_had():
    directory = run("tracker=counts", "tracker.counts.file=mine.txt").directory
    experiment, _ = resuming(str(directory), ["tracker=[counts,optuna]"])
    experiment.run(directory)
    assert told("mine.txt")[8:] == [["started", "6"], ["ended", "6"]]
    assert mirrored(directory) == list(range(6))
    experiment, _ = resuming(str(directory), ["tracker=null", "trials=7"])
    experiment.run(directory)
    assert mirrored(directory) == list(range(6))
    with pytest.raises(BadInput, match="no tracker is named 'nothing'"):
        resuming(str(directory), ["tracker=nothing"])


def test_a_run_without_trackers_says_so_of_its_settings():
    directory = run().directory
    assert config.unresolved(config.read(directory / "config.yaml"))["tracker"] == {}
    assert not Path("counts.txt").exists()


def test_a_tracker_that_fails_is_a_warning_in_the_summary():
    study = run("tracker=counts", "tracker.counts.file=/no/such/folder/x")
    (warning,) = study.summary["warnings"]
    assert warning.startswith("tracker:counts failed in automl_study_started and is ignored: FileNotFoundError")
    assert len(study.trials) == 6


def test_the_page_of_a_tracker_names_its_keys(capsys):
    assert cli.main(["explain", "tracker", "wandb"]) == 0
    assert "tracker.wandb.project=null    text or null" in capsys.readouterr().out


def test_a_dashboard_shows_a_run_over_a_network_of_ones_own():
    network = ["+space=module", "space.target=given:plain", "+compressor=pruning", "compressor.across=layers"]
    words = [*network, "task=synthetic", "task.count=60", "task.channels=3", "task.labels=4", "retrain=none"]
    directory = Experiment(config.compose([*words, "watch=[]", "trials=2"], REGISTRY), REGISTRY).run().directory
    Dashboard(directory, 0, REGISTRY).close()
    assert mirrored(directory) == [0, 1]


def test_a_dashboard_of_a_space_that_cannot_be_had_shows_what_was_decided(monkeypatch):
    directory = run().directory
    registry = Registry()
    build = registry.build
    monkeypatch.setattr(registry, "build", lambda kind, *rest: build(kind, *rest) if kind != "space" else 1 / 0)
    Dashboard(directory, 0, registry).close()
    assert mirrored(directory) == list(range(6))


def test_what_an_agent_of_w_and_b_types_composes():
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    sweep = yaml.safe_load((ROOT / "scripts" / "wandb_sweep.yaml").read_text())
    typed = []
    for number in range(2):
        arguments = {name: {"value": given["values"][number]} for name, given in sweep["parameters"].items()}
        parts = create_sweep_command_args({"args": arguments})["args_no_hyphens"]
        whole = []
        for word in sweep["command"]:
            whole += parts if word == "${args_no_hyphens}" else [word]
        assert whole[:2] == ["${env}", "automl"]
        found = config.unresolved(config.compose(whole[2:], REGISTRY))
        typed.append((found["space"]["name"], found["strategy"]["name"], found["seed"], list(found["tracker"])))
    assert typed == [("nasnet", "random", 0, ["wandb"]), ("darts", "evolution", 1, ["wandb"])]


@pytest.mark.parametrize("own", [[], ["tracker=optuna"]], ids=["mirrored", "mirrors itself"])
def test_a_dashboard_shows_a_run_and_its_domains(own):
    study = run(*own)
    directory = study.directory
    dashboard = Dashboard(directory, 0, REGISTRY)
    dashboard.close()
    assert mirrored(directory) == list(range(6))
    there = optuna.load_study(study_name=directory.name, storage=f"sqlite:///{directory / 'optuna.db'}")
    for trial, frozen in zip(study.trials, there.trials, strict=True):  # what could be chosen, not what was
        domains = trial.architecture.domains
        assert frozen.distributions == {name: distribution_of(domain) for name, domain in domains.items()}
    dashboard.refresh()
    assert mirrored(directory) == list(range(6))


def test_a_dashboard_keeps_up_with_a_run_that_grows():
    directory = run().directory
    dashboard = Dashboard(directory, 0, REGISTRY)
    dashboard.close()
    experiment, _ = resuming(str(directory), ["trials=8"])
    experiment.run(directory)
    dashboard.refresh()
    assert mirrored(directory) == list(range(8))


def test_a_dashboard_that_cannot_be_shown_is_refused(capsys, monkeypatch):
    assert cli.main(["dashboard", "nowhere"]) == 2
    assert "nowhere is not a run folder" in capsys.readouterr().err
    directory = run().directory
    first = Dashboard(directory, 0, REGISTRY)
    port = int(first.address.rstrip("/").rpartition(":")[2])
    assert cli.main(["dashboard", str(directory), "--port", str(port)]) == 2
    assert "type another, --port 0 for any" in capsys.readouterr().err
    first.close()
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    assert cli.main(["dashboard", str(directory)]) == 2
    assert "pip install 'automl-lightweight[dashboard]'" in capsys.readouterr().err


@pytest.mark.slow
def test_the_dashboard_answers_a_browser():
    directory = run().directory
    process = subprocess.Popen(
        [sys.executable, "-m", "automl", "dashboard", str(directory), "--port", "0"],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "toys"), os.environ.get("PYTHONPATH", "")]),
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = process.stdout.readline().strip()
        page = urllib.request.urlopen(address, timeout=30).read().decode()
        assert "Optuna Dashboard" in page
        studies = json.load(urllib.request.urlopen(f"{address}api/studies", timeout=30))["study_summaries"]
        assert [study["study_name"] for study in studies] == [directory.name]
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        process.stdout.close()

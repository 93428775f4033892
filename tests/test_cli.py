"""The command line: what is refused, in which words, and that nothing is written then."""

import json
import os
import subprocess
import sys
import time
from math import log
from pathlib import Path

import pytest

from automl import LogCost, Objective, cli, runs

CHEAP = ["+space=toy", "evaluator=toy", "retrain=none", "task=synthetic", "watch=[]", "trials=3"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUTOML_RUNS", raising=False)
    return tmp_path


def refused(capsys, *words):
    """Run, and return the sentence of a refusal: exit code 2, one line, no traceback, nothing written."""
    code = cli.main(words)
    out, err = capsys.readouterr()
    assert code == 2, (out, err)
    assert err.startswith("automl: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not Path("runs").exists()
    return err.removeprefix("automl: ").strip()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["space=nasnet"], ["did you mean: automl +space=nasnet strategy=evolution"]),
        (["+space=nasnett"], ["no space is named 'nasnett' (did you mean 'nasnet'?)", " toy, "]),
        (["+space=toy", "strategy=evolutoin"], ["did you mean 'evolution'?", "random"]),
        (["+space=toy", "space.depht=3"], ["no key 'depht' (did you mean 'depth'?)", "width"]),
        (["+space=toy", "sede=3"], ["no key 'sede' (did you mean 'seed'?)"]),
        (["+space=toy", "space.depth=-1"], ["space.depth=-1 must be an integer, at least 1"]),
        (["+space=toy", "space.single=maybe"], ["space.single=maybe must be true or false"]),
        (["+space=toy", "task.batch_size=0"], ["task.batch_size=0 must be an integer, at least 2"]),
        (["+space=toy", "evaluator.learning_rate=fast"], ["evaluator.learning_rate=fast must be a number"]),
        (["+space=toy", "strategy.population=2"], ["strategy.tournament=3", "strategy.population=2", "at most 2"]),
        (
            ["+space=toy", "strategy=random,evolution"],
            ["automl -m +space=toy strategy=random,evolution", "for one run"],
        ),
        (["+space=toy", "seed=1,2"], ["for a sweep type automl -m +space=toy seed=1,2"]),
        (["+space=toy", "+strategy=evolution"], ["did you mean: automl +space=toy strategy=evolution"]),
        (["+space=toy", "+space=nasnet"], ["chosen twice", "automl +space=toy"]),
        (["space.depth=3"], ["choose a search space first", " toy, "]),
        (["+space=toy", "+seed=3"], ["type seed=3"]),
        (["+space=toy", "runs=1${{"], ["'runs=1${{' cannot be read", "put a backslash before ${"]),
        (["+space=toy", "hydra.run.dir=x"], ["Hydra's own"]),
        (["+space=toy", "bogus"], ["'bogus' is neither a command nor key=value"]),
        (["+space=toy", "objective.metric=f1"], ["no metric 'f1'", "accuracy, latency_ms, latency_torch_ms, loss"]),
        (["+space=toy", "objective.goal=up"], ["objective.goal=up must be one of max, min"]),
        (["+space=toy", "watch=[nope]"], ["no tracker is named 'nope'"]),
        (["+space=toy", "task=synthetic", "task.size=1"], ["task.size=1"]),
        (["resme"], ["no command 'resme' (did you mean 'resume'?)"]),
        (["--verbose", "+space=toy"], ["no option '--verbose'"]),
        (["resume", "."], ["is not a run folder"]),
        (["resume"], ["there is no run in"]),
        (["report", "."], ["is not a run folder"]),
        (["predict", ".", "x.png"], ["is not a run folder"]),
        (["explain", "space", "nasnett"], ["did you mean 'nasnet'"]),
        (["explain", "spce", "nasnet"], ["no kind 'spce' (did you mean 'space'?)"]),
        (["-m", "+space=toy", "seed=range(0)"], ["this sweep has no jobs"]),
        (["-m", "+space=toy", "seed=range(5,0)"], ["this sweep has no jobs"]),
        (["+space=toy", "task.root=${oc.env:HOME"], ["cannot be read", "quotes"]),
    ],
)
def test_it_refuses_in_one_sentence_with_the_way_out(capsys, words, parts):
    sentence = refused(capsys, *words)
    for part in parts:
        assert part in sentence


@pytest.mark.parametrize("value", ["abc", "3.7", "1e1", "true", "null", "-1", "0", "nan", "[3]", ""])
def test_it_takes_only_a_positive_integer_for_trials(capsys, value):
    assert "must be an integer, at least 1" in refused(capsys, "+space=toy", f"trials={value}")


@pytest.mark.parametrize("value", ["-1", "1.5", "010", "true"])
def test_it_takes_only_a_natural_number_or_null_for_the_seed(capsys, value):
    assert f"seed={value}" in refused(capsys, "+space=toy", f"seed={value}")


def test_it_runs_whatever_the_order_of_the_words(capsys, tmp_path):
    words = ["strategy.population=5", "strategy.tournament=2", *CHEAP, "strategy=evolution", "seed=1_000"]
    assert cli.main(words) == 0
    out = capsys.readouterr().out.splitlines()
    folder = tmp_path / out[-1]
    assert "seed: 1000" in (folder / "config.yaml").read_text()
    assert "strategy evolution" in out[0]
    assert "Ctrl-C" in out[1]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["schema"] == 1
    assert summary["trials"] == {
        "finished": 3,
        "failed": 0,
        "rejected": 0,
        "interrupted": 0,
        "duplicates": 0,
        "total": 3,
    }


def test_it_draws_a_seed_and_writes_it_down(capsys, tmp_path):
    assert cli.main([*CHEAP, "seed=null"]) == 0
    folder = tmp_path / capsys.readouterr().out.splitlines()[-1]
    summary = json.loads((folder / "summary.json").read_text())
    assert f"seed: {summary['seed']}" in (folder / "config.yaml").read_text()


def test_it_keeps_secrets_of_the_environment_out_of_the_run(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOML_RUNS", str(tmp_path / "secret-place"))
    assert cli.main(CHEAP) == 0
    folder = tmp_path / capsys.readouterr().out.splitlines()[-1]
    assert folder.is_relative_to(tmp_path / "secret-place")
    assert "${oc.env:AUTOML_RUNS,runs}" in (folder / "config.yaml").read_text()


LETTERS = ["café", "a(1)", "a=b", "a,b", "a b", "#1", "2024_01_02", "1e5", "[x]", "a'b", 'a"b', "{}"]


@pytest.mark.parametrize("name", LETTERS)
def test_it_takes_a_path_for_a_path_whatever_letters_it_has(capsys, tmp_path, name):
    assert cli.main([*CHEAP, f"runs={name}"]) == 0
    folder = capsys.readouterr().out.splitlines()[-1]
    assert (tmp_path / name).is_dir()
    assert (tmp_path / folder / "summary.json").exists()


def test_it_refuses_a_runs_folder_that_is_a_file(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    code = cli.main([*CHEAP, "runs=file"])
    err = capsys.readouterr().err
    assert code == 2
    assert "cannot write" in err
    assert "Traceback" not in err


def test_a_config_cannot_name_code(capsys, tmp_path):
    assert cli.main(CHEAP) == 0
    folder = tmp_path / capsys.readouterr().out.splitlines()[-1]
    text = (folder / "config.yaml").read_text()
    for evil in (
        "strategy:\n  _target_: os.system\n",
        "extra: !!python/object/apply:os.mkdir [PICKLE_RAN]\n",
        "a: &a [x]\nb: [*a, *a]\n",
    ):
        (folder / "config.yaml").write_text(text + evil)
        assert cli.main(["resume", str(folder), "trials=5"]) == 2
        assert "automl: " in capsys.readouterr().err
        assert not (tmp_path / "PICKLE_RAN").exists()
    (folder / "config.yaml").write_text(text.replace("  depth: 3", "  depht: 3"))
    assert cli.main(["resume", str(folder)]) == 2
    assert "no key 'depht' (did you mean 'depth'?)" in capsys.readouterr().err


def test_a_sweep_runs_every_job_and_ends_with_a_line_each(capsys):
    words = ["-m", *(word for word in CHEAP if not word.startswith("trials")), "trials=2", "task.batch_size=32,0,64"]
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert err.count("task.batch_size=0 must be") == 1
    lines = out.splitlines()[-5:-2]
    assert [line.split()[0] for line in lines] == ["done", "exit", "done"]


def test_two_equal_jobs_are_two_runs(capsys, tmp_path):
    assert cli.main([*CHEAP, "seed=0,0", "-m"]) == 0
    assert len(list((tmp_path / "runs").glob("*/*-sweep-*/*/summary.json"))) == 2


def test_the_runs_of_a_sweep_are_in_one_folder_that_says_how_they_ended(capsys, tmp_path):
    assert cli.main(["-m", *CHEAP, "strategy=random,evolution", "task.batch_size=32,0"]) == 2
    folder = Path(capsys.readouterr().out.splitlines()[-1])
    sweep = json.loads((folder / "sweep.json").read_text())
    assert sweep["command"].startswith("automl -m +space=toy")
    assert [job["exit"] for job in sweep["jobs"]] == [0, 2, 0, 2]
    assert [job["folder"] for job in sweep["jobs"]] == ["0-toy-random", None, "2-toy-evolution", None]
    assert sweep["jobs"][2]["command"].endswith("strategy=evolution task.batch_size=32")
    assert all((folder / job["folder"] / "summary.json").exists() for job in sweep["jobs"] if job["folder"])


def test_a_sweep_that_was_interrupted_goes_on_with_what_is_not_done(capsys, tmp_path, monkeypatch):
    from automl.experiment import Experiment

    class Stop(KeyboardInterrupt):
        exit_code = 130

    run = Experiment.run

    def interrupted(self, folder=None):
        if self.seed == 2:
            raise Stop
        return run(self, folder)

    monkeypatch.setattr(Experiment, "run", interrupted)
    assert cli.main(["-m", *CHEAP, "seed=0,1,2,3"]) == 130
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[-6:-2]] == ["done", "done", "not", "not"]
    folder = Path(out.splitlines()[-1])
    before = (folder / "0-toy-evolution" / "journal.jsonl").read_bytes()
    # the second was begun and cut short, and is to be gone on with in its own folder
    sweep = json.loads((folder / "sweep.json").read_text())
    sweep["jobs"][1]["exit"] = None
    (folder / "2-toy-evolution").mkdir()  # and the third was killed before anything was in its own
    sweep["jobs"][2]["folder"] = "2-toy-evolution"
    (folder / "sweep.json").write_text(json.dumps(sweep))
    (folder / "1-toy-evolution" / "summary.json").unlink()
    monkeypatch.setattr(Experiment, "run", run)
    assert cli.main(["resume", str(folder)]) == 0
    sweep = json.loads((folder / "sweep.json").read_text())
    assert [job["exit"] for job in sweep["jobs"]] == [0, 0, 0, 0]
    names = [f"{number}-toy-evolution" for number in range(4)]
    names[2] += "-again"
    assert [job["folder"] for job in sweep["jobs"]] == names
    assert (folder / "0-toy-evolution" / "journal.jsonl").read_bytes() == before
    capsys.readouterr()
    assert cli.main(["resume", str(folder), "trials=9"]) == 2
    assert "is a sweep, which goes on as it was" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", '{"schema": 1}', '{"schema": 1, "command": "x", "jobs": [3]}', '{"schema": 9}'])
def test_a_damaged_sweep_is_refused_by_its_file(capsys, tmp_path, text):
    (tmp_path / "sweep.json").write_text(text)
    assert cli.main(["resume", str(tmp_path)]) == 2
    assert "sweep.json" in capsys.readouterr().err


def test_it_stops_when_the_first_trials_all_fail_alike(capsys, tmp_path):
    assert cli.main([*CHEAP, "trials=20", "evaluator.wrong={all: raise}"]) == 1
    out, err = capsys.readouterr()
    assert "the first 5 trials all failed for one reason: ValueError: trial 0 würde scheitern" in err
    summary = json.loads((tmp_path / out.splitlines()[-1] / "summary.json").read_text())
    assert summary["trials"]["failed"] == 5
    assert summary["best"] is None


def test_it_counts_failures_aloud(capsys, tmp_path):
    assert cli.main([*CHEAP, "trials=6", "evaluator.wrong={1: fail, 3: fail, 4: 'nan'}", "space.depth=5"]) == 0
    out = capsys.readouterr().out
    assert "3 of 6 trials failed; the commonest reason, 2 times: it was told to fail" in out


def test_it_says_when_the_space_is_exhausted(capsys, tmp_path):
    assert cli.main([*CHEAP, "space.single=true", "trials=100", "strategy=random"]) == 0
    out = capsys.readouterr().out
    assert "The space is exhausted: all its 2 architectures are evaluated." in out
    summary = json.loads((tmp_path / out.splitlines()[-1] / "summary.json").read_text())
    assert summary["trials"]["finished"] == 2
    assert summary["trials"]["duplicates"] > 0


@pytest.mark.parametrize("command", sorted(cli.COMMANDS))
def test_every_command_has_help(capsys, command):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert command in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["--help"], ["+space=toy", "-h"]])
def test_help_lists_groups_and_commands_of_plugins_too(capsys, words):
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert " toy, " in out
    for command in cli.COMMANDS:
        assert command in out


def test_the_version_is_ours_and_names_what_it_stands_on(capsys):
    assert cli.main(["--version"]) == 0
    out = capsys.readouterr().out
    for part in ("automl 0.", "torch 2.", "hydra 1.3", "python 3."):
        assert part in out


def test_plugins_lists_each_component_on_a_line(capsys):
    assert cli.main(["plugins"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["space", "toy", "automl-toys", "1.0"] for line in lines)
    assert cli.main(["plugins", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    toy = {"kind": "space", "name": "toy", "package": "automl-toys", "version": "1.0", "plugin": "automl-toys:toys"}
    assert toy in rows


def test_explain_tells_settings_bounds_decisions_and_size(capsys):
    assert cli.main(["explain", "space", "toy"]) == 0
    out = capsys.readouterr().out
    assert "space.depth=3    an integer, at least 1" in out
    assert "Size: exactly 258 architectures" in out
    assert "depth = " in out
    assert cli.main(["explain", "strategy", "evolution"]) == 0
    assert "Real et al., 2019" in capsys.readouterr().out


def test_doctor_says_what_a_report_needs(capsys):
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    for part in ("automl 0.", "cores", "GPUs", "AUTOML_DEBUG", "automl-toys:toys"):
        assert part in out


def test_python_m_automl_is_the_command_and_help_imports_nothing_heavy():
    code = (
        "import sys, runpy; sys.argv = ['automl', '--help']\n"
        "try: runpy.run_module('automl', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'lightning', 'hydra', 'optuna', 'wandb', 'sklearn', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "automl +space=nasnet" in done.stdout


def test_help_is_not_slower_than_twice_importing_hydra():
    def seconds(*words):
        times = []
        for _ in range(5):
            start = time.process_time(), os.times().children_user
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
            times.append(os.times().children_user - start[1])
        return min(times)

    assert seconds("-m", "automl", "--help") <= 2 * seconds("-c", "import hydra")


def test_our_own_faults_exit_1_and_ask_for_a_report(capsys, monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "doctor", lambda words: 1 // 0)
    assert cli.main(["doctor"]) == 1
    err = capsys.readouterr().err
    assert "our fault: ZeroDivisionError" in err
    assert "Traceback" not in err
    monkeypatch.setenv("AUTOML_DEBUG", "1")
    assert cli.main(["doctor"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("name", LETTERS)
def test_it_takes_a_folder_of_images_whatever_letters_it_has(capsys, tmp_path, name):
    from PIL import Image

    for label, shade in (("dark", 0), ("light", 200)):
        (tmp_path / name / label).mkdir(parents=True)
        for number in range(4):
            Image.new("L", (8, 8), shade + number).save(tmp_path / name / label / f"{number}.png")
    words = [word for word in CHEAP if not word.startswith("task=")]
    assert cli.main([*words, "task=image_folder", f"task.root={name}"]) == 0
    folder = tmp_path / capsys.readouterr().out.splitlines()[-1]
    assert json.loads((folder / "data.json").read_text())["classes"] == ["dark", "light"]


def test_it_does_not_go_on_with_other_images(capsys, tmp_path):
    from PIL import Image

    for label, shade in (("dark", 0), ("light", 200)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(4):
            Image.new("L", (8, 8), shade + number).save(tmp_path / "photos" / label / f"{number}.png")
    words = [word for word in CHEAP if not word.startswith("task=")]
    assert cli.main([*words, "task=image_folder", "task.root=photos"]) == 0
    folder = capsys.readouterr().out.splitlines()[-1]
    Image.new("L", (8, 8), 50).save(tmp_path / "photos" / "dark" / "0.png")
    assert cli.main(["resume", folder, "trials=9"]) == 2
    assert "is of another study: its data" in capsys.readouterr().err


def test_a_job_that_fails_by_our_fault_does_not_end_a_sweep(capsys, monkeypatch):
    from automl.experiment import Experiment

    run = Experiment.run
    monkeypatch.setattr(Experiment, "run", lambda self, folder=None: 1 // 0 if self.seed == 1 else run(self, folder))
    assert cli.main(["-m", *CHEAP, "seed=0,1,2"]) == 1
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[-5:-2]] == ["done", "exit", "done"]
    assert "our fault: ZeroDivisionError" in err


def test_a_refusal_shows_its_traceback_where_that_is_asked_for(capsys, monkeypatch):
    monkeypatch.setenv("AUTOML_DEBUG", "1")
    assert cli.main(["+space=toy", "trials=0"]) == 2
    assert "Traceback" in capsys.readouterr().err


NASNET = ["+space=nasnet", "task=synthetic", "task.size=16", "evaluator.epochs=1", "retrain=none", "trials=3"]


def summed(capsys):
    return json.loads((Path(capsys.readouterr().out.splitlines()[-1]) / "summary.json").read_text())


def test_a_candidate_over_a_limit_is_rejected_before_it_is_trained(capsys):
    assert cli.main([*NASNET, "objective.limits.parameters=130e3", "strategy=random"]) == 0
    summary = summed(capsys)
    assert 0 < summary["trials"]["rejected"] < 3
    assert summary["best"]["metrics"]["parameters"] <= 130e3
    assert summary["evaluations"] == 3 - summary["trials"]["rejected"]


def test_a_limit_that_nothing_keeps_is_said_with_the_nearest_found(capsys):
    assert cli.main([*NASNET, "objective.limits.parameters=1000", "strategy=random"]) == 2
    out, err = capsys.readouterr()
    summary = json.loads((Path(out.splitlines()[-1]) / "summary.json").read_text())
    nearest = summary["best"]["metrics"]["parameters"]
    assert (
        f"no architecture kept objective.limits.parameters=1000: the nearest, trial {summary['best']['trial']}" in err
    )
    assert f"has {nearest:,.6g}" in err
    assert (Path(out.splitlines()[-1]) / "report.html").exists()
    assert "is ignored" not in err  # no tracker stumbled


def test_several_goals_end_with_a_front_its_volume_and_its_knee(capsys):
    assert cli.main([*NASNET, "objective=pareto", "objective.goals={accuracy: max, loss: min, parameters: min}"]) == 0
    summary = summed(capsys)
    assert summary["knee"] in summary["front"]
    assert len(summary["hypervolume"]["reference"]) == 3


def test_what_a_run_was_searched_for_is_read_back(capsys):
    assert cli.main([*NASNET, "objective=amc_parameters", "trials=2"]) == 0
    run = runs.Run(Path(capsys.readouterr().out.splitlines()[-1]))
    assert run.objectives == (Objective("accuracy", costs=(LogCost("parameters"),)),)
    expected = [(trial.metrics["accuracy"] - 1 - 1e-6) * log(trial.metrics["parameters"]) for trial in run.trials]
    assert [trial.score for trial in run.trials] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["objective.limits.flops=1"], ["reports no metric 'flops'", "multiply_adds"]),
        (["objective.limits.parameters=low"], ["objective.limits", "low"]),
        (["objective=mnasnet", "objective.target=0"], ["objective.target=0 must be a number, more than 0"]),
        (["objective=mnasnet", "objective.alpha=0.1"], ["objective.alpha=0.1 must be a number, at most 0"]),
        (["objective=amc_flops", "objective.log_cost=latency_ms"], ["must be one of multiply_adds, parameters"]),
        (["objective=amc_flops", "objective.metric=loss"], ["loss (max)", "give objective.metric=accuracy"]),
        (["objective=pareto", "objective.goals={}"], ["asks for nothing"]),
        (["objective=pareto", "objective.goals={accuracy: up}"], ["objective.goals"]),
        (["executor=simulated"], ["executor=simulated goes by the metric 'seconds'", "executor=local"]),
        (["executor.hours=0"], ["executor.hours=0 must be a number, more than 0"]),
        (["evaluator/inner=training"], ["evaluator/inner has no place"]),
    ],
)
def test_what_is_searched_for_is_checked_before_anything_is_written(capsys, tmp_path, words, parts):
    sentence = refused(capsys, *NASNET, *words)
    for part in parts:
        assert part in sentence
    assert not (tmp_path / "runs").exists()


def test_hours_end_a_search(capsys):
    assert cli.main([*CHEAP, "evaluator.sleep=0.2", "trials=1000", "executor.hours=0.0003"]) == 0
    out = capsys.readouterr().out
    assert "0.0003 hours are spent, after" in out
    summary = json.loads((Path(out.splitlines()[-1]) / "summary.json").read_text())
    assert 1 <= summary["trials"]["finished"] < 10

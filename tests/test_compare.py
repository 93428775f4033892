from __future__ import annotations

import csv
import importlib.util
import json
import math
import os
import statistics
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from automl.comparison import compare, figures, significance
from automl.comparison.markings import cell, markdown, tex
from automl.comparison.methods import Course, components, names, problems
from automl.comparison.references import bibliography
from automl.errors import BadInput
from automl.files import write_json
from automl.journal import Journal
from automl.study import Study
from automl.testing import NO_TASK, OBJECTIVES, Checksum, ToySpace
from automl_strategies.random import Random

for extra in ("matplotlib", "scikit_posthocs"):
    if importlib.util.find_spec(extra) is None:
        pytest.skip(f"{extra} is not installed: pip install 'automl-lightweight[compare]'", allow_module_level=True)

FILES = ["commands.txt", "curves.pdf", "curves.svg", "ranks.pdf", "ranks.svg"]
FILES += ["references.bib", "table.csv", "table.md", "table.tex"]
VALUES = {  # by strategy, what the best trial of each seed reached
    "random": [0.70, 0.72, 0.71, 0.69, 0.73, 0.705, 0.715, 0.695],
    "evolution": [0.80, 0.83, 0.81, 0.775, 0.85, 0.7, 0.835, 0.82],
    "tpe": [0.71, 0.70, 0.725, 0.70, 0.72, 0.71, 0.70, 0.712],
}


def heading(seed=0, strategy="random", **changes):
    return {
        "space": {"name": "toy"},
        "strategy": {"name": strategy},
        "evaluator": {"name": "tabular", "table": "made_up", "dataset": "one"},
        "task": {"name": "recorded"},
        "objectives": [{"metric": "accuracy", "goal": "max", "costs": []}],
        "seed": seed,
        **changes,
    }


def write_run(folder, trials, head, *, total=None, second=10.0, **summary):
    """Write a run folder: a trial is its metrics, or why it failed, or (metrics, fidelity)."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("space: toy\n")
    write_json(folder / "data.json", {"schema": 1, "command": f"automl +space=toy seed={head['seed']}"})
    journal = Journal(folder / "journal.jsonl", head)
    journal.open()
    for number, trial in enumerate(trials):
        metrics, fidelity = trial if isinstance(trial, tuple) else (trial, 1.0)
        clock = second * (number + 1)
        journal.append(
            {"event": "started", "trial": number, "ask": number, "decisions": {}, "fidelity": fidelity, "parent": None}
        )
        ended = {"trial": number, "seconds": second, "clock": clock}
        if isinstance(metrics, str):
            journal.append({"event": "failed", **ended, "reason": metrics, "traceback": ""})
            continue
        metrics = metrics if isinstance(metrics, dict) else {"accuracy": metrics}
        journal.append({"event": "reported", "trial": number, "fidelity": fidelity, "metrics": metrics})
        journal.append({"event": "finished", **ended})
    journal.close()
    if summary.pop("unfinished", False):
        return folder
    total = len(trials) if total is None else total
    write_json(folder / "summary.json", {"schema": 1, "trials": {"total": total}, "ending": None, **summary})
    return folder


def sweep(folder, exits=None, **methods):
    """Write a sweep with a run for each seed of each strategy, which ends with the value given."""
    jobs = []
    for strategy, values in methods.items():
        for seed, value in enumerate(values):
            name = f"{len(jobs)}-{strategy}"
            write_run(folder / name, [value / 2, value, value / 3], heading(seed, strategy))
            words = ["+space=toy", f"strategy={strategy}", f"seed={seed}"]
            jobs.append({"words": words, "folder": name, "exit": (exits or {}).get(len(jobs), 0)})
    write_json(folder / "sweep.json", {"schema": 1, "command": "automl -m +space=toy", "jobs": jobs})
    return folder


def table(out):
    with (out / "table.csv").open(newline="") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def said(sentences, word):
    found = [sentence for sentence in sentences if word in sentence]
    assert len(found) == 1, (word, sentences)
    return found[0]


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    sentences = compare([sweep(folder / "sweep", **VALUES)], folder / "out")
    return folder, sentences


def test_the_table_has_the_numbers_computed_by_hand(compared):
    rows = table(compared[0] / "out")
    for strategy, values in VALUES.items():
        row = rows[f"strategy={strategy}"]
        mean, deviation = statistics.fmean(values), statistics.stdev(values)
        half = 2.364624 * deviation / math.sqrt(8)  # Student's t with 7 degrees of freedom
        assert int(row["seeds"]) == 8
        assert float(row["mean"]) == pytest.approx(mean)
        assert float(row["deviation"]) == pytest.approx(deviation)
        assert float(row["median"]) == pytest.approx(statistics.median(values))
        assert float(row["low"]) == pytest.approx(mean - half, rel=1e-6)
        assert float(row["high"]) == pytest.approx(mean + half, rel=1e-6)
        assert (float(row["trials"]), float(row["evaluations"]), float(row["seconds"])) == (3, 3, 30)
    ranks = {name: float(row["mean_rank"]) for name, row in rows.items()}
    # seed 5: tpe 1, random 2, evolution 3; of the others evolution is first and tpe second in 0, 2, 3 and 7
    assert ranks == {"strategy=random": 20 / 8, "strategy=evolution": 10 / 8, "strategy=tpe": 18 / 8}


def test_the_test_against_random_is_wilcoxons_on_pairs_corrected_by_holm(compared):
    rows = table(compared[0] / "out")
    random = VALUES["random"]
    plain = {name: stats.wilcoxon(np.subtract(VALUES[name], random)).pvalue for name in ("evolution", "tpe")}
    assert plain["evolution"] < plain["tpe"]
    assert float(rows["strategy=evolution"]["p_against_random"]) == pytest.approx(2 * plain["evolution"])
    assert float(rows["strategy=tpe"]["p_against_random"]) == pytest.approx(plain["tpe"])
    assert rows["strategy=random"]["p_against_random"] == ""


def test_it_says_who_is_best_and_whether_random_search_is_beaten(compared):
    sentences = compared[1]
    assert "by strategy=evolution" in said(sentences, "the best mean accuracy is 0.8025")
    assert "strategy=evolution (corrected p = 0.031)" in said(sentences, "is beaten by")
    assert "strategy=tpe" in said(sentences, "is not beaten by")
    assert len(sentences) == 3


def test_every_file_is_there_and_can_be_read(compared):
    out = compared[0] / "out"
    assert sorted(path.name for path in out.iterdir()) == FILES
    for name in ("curves", "ranks"):
        assert (out / f"{name}.pdf").read_bytes().startswith(b"%PDF-")
        assert ElementTree.parse(out / f"{name}.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
    lines = (out / "table.tex").read_text().splitlines()
    assert lines[1] == r"\begin{tabular}{llrrrrrrrrr}"
    assert lines[-1] == r"\end{tabular}"
    assert [line.count(" & ") for line in lines if line.endswith(r"\\")] == [10] * 4
    assert sum(r"\textbf{0.8025}" in line for line in lines) == 1
    markdown_lines = (out / "table.md").read_text().splitlines()
    assert [line.count("|") for line in markdown_lines] == [12] * 5
    commands = (out / "commands.txt").read_text().splitlines()
    assert commands[:2] == ["# automl -m +space=toy", "automl +space=toy strategy=random seed=0"]
    assert len(commands) == 1 + 24
    bib = (out / "references.bib").read_text()
    assert "% strategy=evolution\n@misc{real2019," in bib
    assert "% space=toy: its recipe cites no paper" in bib


def test_figures_are_the_same_bytes_each_time(compared):
    folder, _ = compared
    code = "import sys; from pathlib import Path; from automl.comparison import compare\n"
    code += "compare([Path(sys.argv[1])], Path(sys.argv[2]))"
    command = [sys.executable, "-W", "error", "-c", code, str(folder / "sweep"), str(folder / "again")]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONHASHSEED": "7"}, timeout=120)
    for name in FILES:
        assert (folder / "again" / name).read_bytes() == (folder / "out" / name).read_bytes(), name


def test_without_scikit_posthocs_ranks_are_drawn_all_the_same(compared, tmp_path, monkeypatch):
    folder, _ = compared
    monkeypatch.setattr(figures, "has_bars", lambda: False)
    sentences = compare([folder / "sweep"], tmp_path)
    assert "automl-lightweight[compare]" in said(sentences, "without the bars")
    assert ElementTree.parse(tmp_path / "ranks.svg") is not None
    assert table(tmp_path) == table(folder / "out")


def test_without_matplotlib_it_says_what_to_install(compared, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    with pytest.raises(BadInput, match=r"pip install 'automl-lightweight\[compare\]'"):
        compare([compared[0] / "sweep"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_lower_is_better_where_the_objective_says_so(tmp_path):
    objectives = [{"metric": "loss", "goal": "min"}]
    for strategy, values in VALUES.items():
        for seed, value in enumerate(values):
            trials = [{"loss": 2.0}, {"loss": 1 - value}, {"loss": 1.5}]
            write_run(tmp_path / f"{strategy}{seed}", trials, heading(seed, strategy, objectives=objectives))
    sentences = compare([tmp_path], tmp_path / "out")
    rows = table(tmp_path / "out")
    assert float(rows["strategy=evolution"]["mean"]) == pytest.approx(1 - statistics.fmean(VALUES["evolution"]))
    assert float(rows["strategy=evolution"]["mean_rank"]) == 10 / 8
    assert rows["strategy=evolution"]["goal"] == "min"
    assert "by strategy=evolution" in said(sentences, "the best mean loss")
    assert "strategy=evolution" in said(sentences, "is beaten by")


def test_several_objectives_are_compared_by_the_volume_of_their_fronts(tmp_path):
    objectives = [{"metric": "accuracy", "goal": "max"}, {"metric": "parameters", "goal": "min"}]

    def run(strategy, *points):
        trials = [{"accuracy": accuracy, "parameters": parameters} for accuracy, parameters in points]
        write_run(tmp_path / strategy, trials, heading(0, strategy, objectives=objectives))

    run("random", (0.0, 100), (0.5, 50))
    run("nsga2", (0.5, 100), (1.0, 50), (0.5, 0))
    sentences = compare([tmp_path], tmp_path / "out")
    rows = table(tmp_path / "out")
    assert float(rows["strategy=random"]["mean"]) == 0.25  # of a box from (0, 100) to (1, 0)
    assert float(rows["strategy=nsga2"]["mean"]) == 0.75
    assert "hypervolume of accuracy and parameters" in said(sentences, "the best mean")


def test_trials_count_that_are_legal_and_of_the_highest_fidelity(tmp_path):
    limits = [{"metric": "parameters", "bound": 10.0, "goal": "min"}]
    trials = [
        ({"accuracy": 0.9, "parameters": 5}, 0.5),
        ({"accuracy": 0.6, "parameters": 5}, 1.0),
        ({"accuracy": 0.8, "parameters": 50}, 1.0),
        "out of memory",
        ({"accuracy": 0.7, "parameters": 5}, 1.0),
    ]
    write_run(tmp_path / "run", trials, heading(limits=limits))
    [problem] = problems([Course.read(tmp_path / "run")])
    assert problem.methods[0].values[0].tolist() == pytest.approx([np.nan, 0.6, 0.6, 0.6, 0.7], nan_ok=True)
    compare([tmp_path / "run"], tmp_path / "out")
    row = table(tmp_path / "out")["strategy=random"]
    assert (row["failed_trials"], float(row["evaluations"])) == ("1", 3.5)


def test_a_study_that_really_ran_is_compared_by_what_it_found(tmp_path):
    head = heading(3, "random")
    folder = write_run(tmp_path / "run", [], head)
    (folder / "journal.jsonl").unlink()
    study = Study(
        ToySpace(),
        Random(),
        Checksum(),
        NO_TASK,
        OBJECTIVES,
        trials=12,
        seed=3,
        journal=Journal(folder / "journal.jsonl", head),
    )
    study.run()
    write_json(folder / "summary.json", {"schema": 1, "trials": {"total": 12}, "test": {"accuracy": 0.5}})
    compare([folder], tmp_path / "out")
    row = table(tmp_path / "out")["strategy=random"]
    assert float(row["mean"]) == study.best.score
    assert float(row["test_mean"]) == 0.5


def test_the_test_uses_the_seeds_that_both_methods_have(tmp_path):
    for seed in range(7):
        write_run(tmp_path / f"random{seed}", [0.5 + seed / 100], heading(seed))
    for seed in range(1, 9):
        write_run(tmp_path / f"evolution{seed}", [0.6 + seed / 50], heading(seed, "evolution"))
    sentences = compare([tmp_path], tmp_path / "out")
    rows = table(tmp_path / "out")
    assert float(rows["strategy=evolution"]["p_against_random"]) == pytest.approx(2 / 2**6)
    assert said(sentences, "6 seeds in common")


def test_it_warns_of_few_seeds_and_of_too_few_to_find_anything(tmp_path):
    few = compare([sweep(tmp_path / "few", random=[0.1, 0.2], evolution=[0.3, 0.4])], tmp_path / "out")
    assert "strategy=random 2, strategy=evolution 2" in said(few, "fewer than 5 seeds")
    five = compare([sweep(tmp_path / "five", random=[0.1] * 5, evolution=[0.31, 0.32, 0.33, 0.34, 0.35])], tmp_path)
    assert "'seed=range(6)'" in said(five, "no difference could be significant")
    assert said(five, "is not beaten by strategy=evolution (corrected p = 0.062)")


def test_it_warns_where_random_search_is_absent(tmp_path):
    sentences = compare([sweep(tmp_path / "sweep", evolution=[0.1] * 5, tpe=[0.2] * 5)], tmp_path / "out")
    assert said(sentences, "random search is not among the methods")
    assert all(row["p_against_random"] == "" for row in table(tmp_path / "out").values())


def test_it_warns_of_different_budgets_and_fidelities(tmp_path):
    for seed in range(5):
        write_run(tmp_path / f"long{seed}", [0.5] * 8, heading(seed))
        write_run(tmp_path / f"short{seed}", [0.6] * 4, heading(seed, "evolution"))
    assert "strategy=random 8 trials, 8 evaluations, 80 seconds" in said(
        compare([tmp_path], tmp_path / "out"), "the budgets differ"
    )
    for seed in range(5):
        write_run(tmp_path / "same" / f"whole{seed}", [0.5] * 2, heading(seed))
        write_run(tmp_path / "same" / f"part{seed}", [(0.6, 0.5)] * 4, heading(seed, "evolution"))
    sentences = compare([tmp_path / "same"], tmp_path / "out")
    assert not [sentence for sentence in sentences if "budgets differ" in sentence]
    assert "strategy=evolution 0.5, strategy=random 1" in said(sentences, "highest fidelities differ")


def test_it_names_jobs_that_failed_and_leaves_out_what_is_unfinished_or_damaged(tmp_path):
    folder = sweep(tmp_path / "sweep", exits={1: 1, 2: None}, random=[0.5] * 8, evolution=[0.6] * 8)
    write_run(folder / "16-evolution", [0.99], heading(8, "evolution"), total=3)
    write_run(folder / "17-evolution", [0.99], heading(9, "evolution"), unfinished=True)
    found = json.loads((folder / "sweep.json").read_text())
    for name in ("16-evolution", "17-evolution"):
        found["jobs"].append({"words": ["strategy=evolution"], "folder": name, "exit": 130})
    found["jobs"].append({"words": ["strategy=tpe"], "folder": None, "exit": None})
    write_json(folder / "sweep.json", found)
    journal = folder / "0-random" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"accuracy"', b'"accuracx"', 1))
    sentences = compare([folder], tmp_path / "out")
    failed = said(sentences, "failed or are unfinished")
    assert "5 of 19 jobs" in failed
    assert "exit 1: automl +space=toy strategy=random seed=1" in failed
    assert "automl resume" in failed
    assert "17-evolution" in said(sentences, "2 runs are left out, unfinished")
    assert "0-random is left out" in said(sentences, "damaged at line 1")
    rows = table(tmp_path / "out")
    assert (rows["strategy=random"]["seeds"], rows["strategy=evolution"]["runs_left_out"]) == ("7", "2")
    assert float(rows["strategy=evolution"]["mean"]) == pytest.approx(0.6)
    assert "automl strategy=tpe    # not finished" in (tmp_path / "out" / "commands.txt").read_text()


def test_a_run_of_a_strange_hand_is_left_out(tmp_path):
    write_run(tmp_path / "one", [0.5], heading())
    write_run(tmp_path / "strange", [0.9], heading(1), test=[3])
    write_run(tmp_path / "stranger", [{"loss": 0.9}], heading(2))
    sentences = compare([tmp_path], tmp_path / "out")
    assert said(sentences, "strange is left out, for another version wrote it")
    assert said(sentences, "journal.jsonl tells of trials what cannot be (KeyError")
    assert table(tmp_path / "out")["strategy=random"]["mean"] == "0.5"


def test_of_equal_runs_one_counts(tmp_path):
    for name in "ab":
        write_run(tmp_path / name, [0.5, 0.6], heading())
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "a")
    assert said(compare([tmp_path, link], tmp_path / "out"), "an equal run of the same seed")
    row = table(tmp_path / "out")["strategy=random"]
    assert (row["seeds"], row["runs_left_out"]) == ("1", "1")


@pytest.mark.parametrize("trials", [[0.5], [0.5, 0.5], ["broken"] * 3, []], ids=["one", "two", "failed", "none"])
@pytest.mark.parametrize("strategies", [["random"], ["random", "evolution"]], ids=["alone", "two"])
def test_a_comparison_of_next_to_nothing_says_so(tmp_path, trials, strategies):
    for strategy in strategies:
        write_run(tmp_path / strategy, trials, heading(0, strategy))
    sentences = compare([tmp_path], tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    nothing = not trials or trials[0] == "broken"
    if nothing:
        assert said(sentences, "nothing is compared")
        assert said(sentences, "no trial counted")
    elif len(strategies) == 1:
        assert said(sentences, "nothing to rank or to test")
    assert said(sentences, "fewer than 5 seeds")
    assert all(row["seeds"] == str(0 if nothing else 1) for row in table(tmp_path / "out").values())


@pytest.mark.parametrize(
    "changes", [{"objectives": [{"metric": "loss", "goal": "min"}]}, {"limits": [{"metric": "loss", "bound": 1.0}]}]
)
def test_different_objectives_are_refused(tmp_path, changes):
    write_run(tmp_path / "one", [0.5], heading())
    write_run(tmp_path / "other", [{"accuracy": 0.5, "loss": 0.1}], heading(1, **changes))
    with pytest.raises(BadInput, match=r"different objectives \(accuracy max; .*loss"):
        compare([tmp_path / "one", tmp_path / "other"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(BadInput, match="neither a run folder nor a sweep's"):
        compare([tmp_path], tmp_path / "out")
    write_json(tmp_path / "sweep.json", {"schema": 1, "jobs": [{"words": ["a"], "folder": None, "exit": 1}]})
    with pytest.raises(BadInput, match=r"no run in .* can be compared; 1 of 1 jobs"):
        compare([tmp_path], tmp_path / "out")
    write_json(tmp_path / "sweep.json", {"schema": 1, "jobs": [3]})
    with pytest.raises(BadInput, match="no list of jobs"):
        compare([tmp_path], tmp_path / "out")


def test_a_sweep_names_no_folder_outside_of_it(tmp_path):
    write_run(tmp_path / "secret", [0.5], heading())
    (tmp_path / "sweep").mkdir()
    jobs = [{"words": ["a"], "folder": "../secret", "exit": 0}]
    write_json(tmp_path / "sweep" / "sweep.json", {"schema": 1, "jobs": jobs})
    with pytest.raises(BadInput, match="no run in"):
        compare([tmp_path / "sweep"], tmp_path / "out")


NASTY = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "{{7*7}} $x_1$ $ \\frac",
    "[/b] [red](http://example.org) @someone",
    '\x1b[31m\nred | \\input{a} %&#_^~"',
    "=HYPERLINK(1)",
    "Größe 模型",
]


def test_names_are_shown_and_never_markup(tmp_path):
    for number, name in enumerate(["random", *NASTY]):
        for seed in range(2):
            head = heading(seed, name, space={"name": " ".join(NASTY)})
            write_run(tmp_path / f"{number}-{seed}", [0.5, 0.6, 0.2 * seed], head)
    command = f"automl\n{' '.join(NASTY)}"
    (tmp_path / "0-0" / "data.json").write_text(json.dumps({"schema": 1, "command": command}))
    sentences = compare([tmp_path], tmp_path / "out")
    out = tmp_path / "out"
    for text in [*sentences, *(out / "commands.txt").read_text().splitlines()]:
        assert text.isprintable()
    for figure in ("curves.svg", "ranks.svg"):
        kinds = {element.tag.rpartition("}")[2] for element in ElementTree.parse(out / figure).iter()}
        assert kinds.isdisjoint({"script", "img", "a"})
    rows = [line for line in (out / "table.tex").read_text().splitlines() if line.endswith(r"\\")]
    assert [line.count(" & ") - line.count(r" \& ") for line in rows] == [10] * (2 + len(NASTY))
    lines = (out / "table.md").read_text().splitlines()
    assert [line.replace(r"\|", "").count("|") for line in lines] == [12] * (3 + len(NASTY))
    with (out / "table.csv").open(newline="") as file:
        cells = [value for row in csv.reader(file) for value in row]
    assert not [value for value in cells if value[:1] in ("=", "+", "-", "@")]
    assert "strategy=Größe 模型" in cells


def test_markings_escape_what_is_markup():
    assert tex("a_b & 50% \\x") == r"a\_b \& 50\% \textbackslash{}x"
    assert tex("ü\n") == r"ü\textbackslash{}n"
    assert markdown("<b> [x](http://y) | @me") == r"\<b\> \[x\](http\://y) \| \@me"
    assert [cell(text) for text in ("=1+1", " @x", "-2", "a=b")] == ["'=1+1", "' @x", "'-2", "a=b"]


def test_space_task_and_data_make_problems_and_the_rest_makes_methods(tmp_path):
    tabular = {"name": "tabular", "table": "made_up", "dataset": "one", "epochs": None}
    other = {**tabular, "dataset": "two"}
    evaluators = [
        tabular,
        {"name": "hyperband", "inner": tabular, "eta": 3},
        {"name": "hyperband", "inner": tabular, "eta": 4},
        other,
        {"name": "hyperband", "inner": other, "eta": 3},
    ]
    for number, evaluator in enumerate(evaluators):
        write_run(tmp_path / str(number), [0.5] * (number + 1), heading(evaluator=evaluator))
    found = problems([Course.read(tmp_path / str(number)) for number in range(5)])
    assert {problem.name: [method.name for method in problem.methods] for problem in found} == {
        "evaluator=tabular,dataset=one": [
            "evaluator=tabular",
            "evaluator=hyperband,eta=3",
            "evaluator=hyperband,eta=4",
        ],
        "evaluator=tabular,dataset=two": ["evaluator=tabular", "evaluator=hyperband"],
    }
    assert [problem.baseline.name for problem in found] == ["evaluator=tabular"] * 2


def test_compressors_are_methods_and_what_they_may_leave_are_problems(tmp_path):
    def compressed(name, budget, **settings):
        compressor = {"name": name, **settings, "budget": budget, "resource": "multiply_adds"}
        return {"name": "compressed", "space": {"name": "mobilenet_v2", "width": 1.0}, "compressor": compressor}

    def found(*spaces, **changes):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        paths = [write_run(folder / str(n), [0.5], heading(space=one, **changes)) for n, one in enumerate(spaces)]
        return problems([Course.read(path) for path in paths])

    amc = compressed("amc", 0.5)
    several = found(amc, compressed("pruning", 0.5, across="layers"), compressed("pruning", 0.5, across="uniform"))
    assert {problem.name: [method.name for method in problem.methods] for problem in several} == {
        "space=mobilenet_v2 compressor.budget=0.5": [
            "compressor=amc",
            "compressor=pruning,across=layers",
            "compressor=pruning,across=uniform",
        ]
    }
    halves = found(amc, compressed("amc", 0.25), {"name": "mobilenet_v2", "width": 1.0}, retrain={"name": "training"})
    assert [problem.name for problem in halves] == [f"compressor.budget={budget}" for budget in ("0.5", "0.25", "null")]
    assert [problem.methods[0].name for problem in halves] == ["compressor=amc strategy=random"] * 2 + [
        "strategy=random"
    ]
    (unlimited,) = found(compressed("amc", None), {"name": "mobilenet_v2", "width": 1.0})
    assert unlimited.name == "space=mobilenet_v2"
    assert [method.name for method in unlimited.methods] == ["compressor=amc", "compressor=null"]
    epochs = [{"name": "training", "epochs": number} for number in (10, 20)]
    once, twice = (found(amc, retrain=one)[0].methods[0].courses[0].folder for one in epochs)
    trained = problems([Course.read(once), Course.read(twice)])
    assert [problem.name for problem in trained] == ["retrain=training,epochs=10", "retrain=training,epochs=20"]
    kinds = list(components(heading(space=amc)))
    assert kinds[:2] == [("space", "mobilenet_v2"), ("compressor", "amc")]


def test_names_tell_what_differs():
    def name(*settings):
        return names([{"strategy": one} for one in settings], "strategy")

    assert name({"name": "random"}, {"name": "evolution", "population": 5}) == ["strategy=random", "strategy=evolution"]
    assert name(
        {"name": "evolution", "population": 5, "tournament": 2}, {"name": "evolution", "population": 9, "tournament": 2}
    ) == ["strategy=evolution,population=5", "strategy=evolution,population=9"]
    assert name({"name": "random"}) == ["strategy=random"]
    assert names([{"workers": None}, {}], "strategy") == ["strategy=?", "strategy=? (2)"]


def test_curves_begin_where_every_seed_has_a_value_and_keep_what_a_run_found(tmp_path):
    write_run(tmp_path / "a", ["broken", 0.2, 0.4, 0.1], heading(0))
    write_run(tmp_path / "b", [0.6, 0.8], heading(1))
    [problem] = problems([Course.read(tmp_path / name) for name in "ab"])
    grid, rows = figures._by_trials(problem.methods[0])
    assert grid.tolist() == [2, 3, 4]
    assert rows.mean(axis=0).tolist() == pytest.approx([0.5, 0.6, 0.6])
    grid, rows = figures._by_clock(problem.methods[0], 1.0)
    assert (grid[0], grid[-1]) == (20, 40)
    assert [rows[:, np.searchsorted(grid, time)].mean() for time in (20, 31, 40)] == pytest.approx([0.5, 0.6, 0.6])


def test_many_methods_are_told_apart_without_colour():
    class Named:
        def __init__(self, name):
            self.name = name

    class Panel:
        methods = [Named(str(number)) for number in range(35)]

    looks = figures._looks([Panel()])
    assert len({(str(look["linestyle"]), look["marker"]) for look in looks.values()}) == 35
    for one, other in pairwise(looks.values()):
        assert one["linestyle"] != other["linestyle"]
        assert one["marker"] != other["marker"]


def test_a_bibliography_has_an_entry_for_each_paper_and_a_comment_for_what_has_none():
    text = bibliography([("strategy", "random"), ("strategy", "../evil"), ("evaluator", "@x\n")])
    assert "author = {Bergstra and Bengio}" in text
    assert text.count("@") == 1
    assert "% strategy=../evil: its recipe cites no paper" in text


def test_holm_corrects_step_by_step():
    assert significance.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert significance.holm([0.5, 0.9]) == [1.0, 1.0]
    assert significance.holm([]) == []


def test_ranks_and_friedman_agree_with_scipy():
    values = np.array([[0.1, 0.2, 0.3], [0.2, 0.2, 0.4], [0.5, 0.1, 0.9], [0.3, 0.4, 0.2]])
    assert significance.ranks(values).tolist() == [(3 + 2.5 + 2 + 2) / 4, (2 + 2.5 + 3 + 1) / 4, (1 + 1 + 1 + 3) / 4]
    assert significance.friedman(values) == pytest.approx(stats.friedmanchisquare(*values.T).pvalue)
    assert significance.friedman(np.ones((4, 3))) == 1.0
    matrix = significance.pairwise(values)
    assert (matrix == matrix.T).all()
    assert significance.wilcoxon([1.0, 2.0], [1.0, 2.0]) == 1.0


def test_equal_differences_are_ties_whatever_the_last_bit_says():
    first, second = np.array([0.3, 0.4, 0.9, 0.2]), np.array([0.2, 0.3, 0.8, 0.3])
    assert len(set(np.abs(first - second))) > 1
    assert significance.wilcoxon(first, second) == stats.wilcoxon([1, 1, 1, -1]).pvalue


@pytest.mark.parametrize(("tests", "seeds"), [(1, 6), (4, 8), (10, 9)])
def test_seeds_needed_are_the_fewest_that_can_be_significant(tests, seeds):
    assert significance.seeds_needed(tests) == seeds
    for count, found in ((seeds, True), (seeds - 1, False)):
        smallest = stats.wilcoxon(np.arange(1, count + 1)).pvalue
        assert (smallest * tests < significance.LEVEL) == found

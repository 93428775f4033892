"""The report of a search by steps: how its choices came about, and nothing of a best trial."""

import math
import re
import time
from dataclasses import dataclass
from typing import ClassVar

import pytest
from test_report import HOSTILE, Letters, page, rows, study, summarise

from automl import Candidate, Evaluator, Report, Strategy, TrialFailed
from automl_strategies.random import Random
from automl_trackers.choices import choices
from automl_trackers.report import HTMLReport

OPTIONS = ("none", "skip", "sep3x3", "sep5x5", "dil3x3", "dil5x5", "avg3x3", "max3x3")


@dataclass
class Steps(Strategy):
    """Asks for what it holds to be the best by now, and says how sure it is."""

    look: int = 50
    decisions: int = 14
    options: tuple[str, ...] = OPTIONS

    def ask(self):
        self.asked = getattr(self, "asked", -1) + 1
        architecture = self.space.make(lambda name, domain: domain.options[2])
        share = 1 / len(self.options)
        notes = {"entropy": round(math.exp(-self.asked / 500), 4), "skips": 0.17}
        if self.look and self.asked % self.look == 0:
            gain = (1 - share) * (1 - notes["entropy"])
            shares = {
                option: round((1 - gain) * share + gain * (option == self.options[2]), 4) for option in self.options
            }
            notes["shares"] = {f"d.{place}": shares for place in range(self.decisions)}
        return Candidate(architecture, notes=notes)


@dataclass
class Mixture(Evaluator):
    """Judges batches, now and then the derived network; the trials of those numbers fail."""

    probe: int = 50
    failing: tuple[int, ...] = ()
    curvature: int = 0
    repeatable: ClassVar[bool] = False

    def evaluate(self, trial):
        if trial.number in self.failing:
            raise TrialFailed("no memory")
        metrics = {"accuracy": 0.5 + (trial.number * 37 % 100) / 200, "loss": 0.83, "parameters": 1_000.0}
        if self.probe and trial.number % self.probe == 0:
            metrics |= {"child_accuracy": 0.62, "random_accuracy": 0.48}
        if self.curvature and trial.number % self.curvature == 0:
            metrics["curvature"] = 0.1 + trial.number / 1_000
        yield Report(metrics)


def searched(folder, trials=120, options=OPTIONS, decisions=14, look=50, probe=50, **settings):
    space = Letters(options, decisions)
    return study(folder, trials, space, Mixture(probe, **settings), Steps(look, decisions, options))


def test_it_shows_how_the_choices_came_about(tmp_path):
    searched(tmp_path, 120)
    text = page(tmp_path)
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert headings == [
        "Is it good?",
        "How sure is this?",
        "How the choices came about",
        "The network",
        "Trials",
        "Go on",
    ]
    assert "After 120 steps: entropy 0.79, skips 17 %." in text
    assert "the network derived by now is that of trial 119" in text
    assert "the one derived at trial 100 had accuracy 0.62, one drawn at random 0.48" in text
    assert text.count('<svg class="panel"') == 14
    assert "looked at 3 times" in text


def test_no_step_is_called_the_best(tmp_path):
    searched(tmp_path, 120)
    assert "The best so far" not in page(tmp_path)
    summarise(tmp_path)
    text = page(tmp_path)
    assert "network found</text>" in text
    assert "best trial" not in text
    assert 'class="best"' not in text
    assert "Pareto" not in text
    assert "median trial" not in text


def test_a_search_without_steps_has_no_such_section(tmp_path):
    study(tmp_path, 20, strategy=Random())
    text = page(tmp_path)
    assert "How the choices came about" not in text
    assert '<svg class="panel"' not in text


def _line(picture, kind):
    shape = re.search(rf'<path class="{kind}" d="M([^"]*)"', picture)[1]
    return [tuple(map(float, point.split())) for point in shape.split("L")]


def test_the_course_falls_with_the_entropy_and_the_accuracies_are_smooth(tmp_path):
    found = choices(searched(tmp_path, 1_000).trials)
    entropy, skips = _line(found.course, "best-line"), _line(found.course, "second-line")
    assert [y for _, y in entropy] == sorted(y for _, y in entropy)  # pixels count downwards
    assert len(entropy) == len(skips) == 250  # the means of four
    assert len({y for _, y in skips}) == 1
    mixture = [y for _, y in _line(found.accuracies, "third-line")][20:]
    span = max(y for _, y in _line(found.accuracies, "second-line")) - min(
        y for _, y in _line(found.accuracies, "best-line")
    )
    assert max(mixture) - min(mixture) < span  # a single batch is anywhere from 0.5 to 1


def test_the_curvature_is_drawn_where_it_was_reported(tmp_path):
    found = choices(searched(tmp_path, 120, curvature=20).trials)
    heights = [y for _, y in _line(found.curvature, "best-line")]
    assert len(heights) == 6
    assert heights == sorted(heights, reverse=True)  # pixels count downwards
    text = page(tmp_path)
    assert "After 120 steps: entropy 0.79, skips 17 %, curvature 0.2 at trial 100." in text
    assert "The largest eigenvalue of the Hessian" in text
    (tmp_path / "none").mkdir()
    assert choices(searched(tmp_path / "none", 3).trials).curvature is None
    assert "eigenvalue" not in page(tmp_path / "none")


def test_a_decision_shows_every_option_its_share_and_what_is_derived(tmp_path):
    panel = choices(searched(tmp_path, 120, decisions=1).trials).shares[0]
    assert re.findall(r'<text class="tick end" [^>]*>(.*?)</text>', panel) == [
        one for one in OPTIONS if one != "sep3x3"
    ]
    assert re.findall(r'<text class="tick end strong" [^>]*>(.*?)</text>', panel) == ["sep3x3"]
    strong = re.search(r'<path class="share strong" d="M104 (\d+)L(.*?)V\d+z"', panel)
    heights = [float(strong[1]) - float(point.split()[1]) for point in strong[2].split("L")]
    assert len(heights) == 3
    assert heights == sorted(heights)
    assert heights == pytest.approx([14 * share / 0.2638 for share in (0.125, 0.1979, 0.2638)], abs=0.06)
    shares = [float(share) for share in re.findall(r'<text class="tick(?: strong)?" [^>]*>([\d.]+)</text>', panel)]
    assert sum(shares) == pytest.approx(1, abs=0.04)
    assert max(shares) == shares[2] == 0.26


def test_many_decisions_and_options_are_told_where_they_are_not_drawn(tmp_path):
    searched(tmp_path, 3, tuple(f"op{place}" for place in range(15)), decisions=44)
    text = page(tmp_path)
    assert text.count('<svg class="panel"') == 40
    assert "4 more decisions are not drawn" in text
    assert "d.43 = op" in text
    assert text.count("and 3 smaller ones") == 40


def test_a_decision_that_is_not_derived_says_so(tmp_path):
    found = searched(tmp_path, 1, decisions=2)
    del found.trials[0].architecture.values["d.1"]
    first, second = choices(found.trials).shares
    assert "not derived" not in first
    assert "not derived" in second


def test_steps_that_were_never_judged_nor_looked_at_are_shown_all_the_same(tmp_path):
    searched(tmp_path, 1, look=0, probe=0)
    text = page(tmp_path)
    assert "After 1 step: entropy 1.00, skips 17 %." in text
    assert '<svg class="panel"' not in text
    assert "derived network</text>" not in text
    assert rows(text) == ["0"]


def test_the_table_lists_the_steps_after_which_the_network_was_judged(tmp_path):
    searched(tmp_path, 120, failing=(60, 61))
    text = page(tmp_path)
    assert rows(text) == ["0", "50", "60", "100", "119"]
    assert "Each trial is one step, and 5 of 120 are listed" in text
    assert "1 failures, one a reason" in text
    assert '<th scope="col" data-name="child_accuracy"' in text


def test_the_graph_is_drawn_only_where_it_is_of_the_derived_network(tmp_path):
    found = searched(tmp_path, 3)
    best = {"trial": 2, "decisions": found.trials[-1].architecture.to_json()}
    summarise(tmp_path, best=best)
    assert "normal cell" in page(tmp_path)
    summarise(tmp_path, best={"trial": 0, "decisions": {**best["decisions"], "d.0": "none"}})
    assert "normal cell" not in page(tmp_path)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_names_of_decisions_and_options_are_shown_and_never_obeyed(tmp_path, hostile):
    @dataclass
    class Named(Steps):
        def ask(self):
            shares = {f"{hostile}{place}": {hostile: 0.4, "b": 0.6} for place in range(42)}
            return Candidate(super().ask().architecture, notes={"entropy": 0.5, "skips": 0.1, "shares": shares})

    study(tmp_path, 3, Letters((hostile, "b", "c"), 3), Mixture(), Named())
    text = page(tmp_path)
    assert "2 more decisions are not drawn" in text
    assert "<img" not in text
    assert "<script>alert" not in text
    assert text.count("</script>") == 2
    assert "\x1b" not in text


@pytest.mark.parametrize("shares", [7, [], {"d.0": 3}, {"d.0": {"a": "much", "b": None}}, {"d.0": {}}])
def test_notes_of_a_stranger_are_left_out(tmp_path, shares):
    @dataclass
    class Odd(Steps):
        def ask(self):
            return Candidate(super().ask().architecture, notes={"entropy": 0.5, "skips": "few", "shares": shares})

    study(tmp_path, 3, Letters(OPTIONS, 3), Mixture(), Odd())
    text = page(tmp_path)
    assert "After 3 steps: entropy 0.50." in text
    assert '<svg class="panel"' not in text


def test_a_thousand_steps_stay_under_500_kb(tmp_path):
    searched(tmp_path, 1_000, decisions=28, look=5, probe=5)
    assert HTMLReport().write(tmp_path).stat().st_size < 500_000


@pytest.mark.slow  # 20,000 trials are run and written down first
def test_twenty_thousand_steps_make_a_megabyte_in_less_time_than_they_took(tmp_path):
    began = time.process_time()
    searched(tmp_path, 20_000, decisions=28)
    searching = time.process_time() - began
    summarise(tmp_path)
    began = time.process_time()
    path = HTMLReport().write(tmp_path)
    assert time.process_time() - began < searching
    assert path.stat().st_size < 1_000_000
    assert "101 of 20,000 are listed" in path.read_text()

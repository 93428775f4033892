"""The report and the notebook view: true, complete, safe, small, and working in a browser."""

import json
import os
import random
import re
import select
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from automl import Evaluator, Report, Space, TrialFailed, notebook
from automl.drawing.graph import draw
from automl.journal import Journal
from automl.study import Study
from automl.trial import Objective
from automl_strategies.evolution import Evolution
from automl_strategies.random import Random
from automl_trackers.report import HTMLReport
from automl_trackers.sheet import wilson

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "{{7*7}}",
    "[/b]",
    "[red]",
    "\x1b[31m",
    "two\nlines",
)
CELL = [
    ["h[k-1]", "0", "sep5x5"],
    ["h[k-2]", "0", "sep3x3"],
    ["0", "1", "avg3x3"],
    ["h[k-1]", "1", "identity"],
    ["1", "output", ""],
    ["h[k-2]", "output", ""],
]


@dataclass
class Letters(Space):
    """As many decisions over the same options as wanted."""

    options: tuple[str, ...] = ("a", "b", "c", "d")
    decisions: int = 20

    def describe(self, choose):
        return [choose(f"d.{i}", self.options) for i in range(self.decisions)]

    def build(self, blueprint, task):
        raise NotImplementedError


@dataclass
class Free(Evaluator):
    """Draws its metrics; fails for a share of the trials, never the first."""

    failing: float = 0.0
    reason: str = "needs 812,333 parameters"

    def evaluate(self, trial):
        draw = random.Random(trial.seed)
        if trial.number and draw.random() < self.failing:
            raise TrialFailed(self.reason)
        yield Report({"accuracy": round(draw.uniform(0.5, 0.95), 4), "parameters": draw.randrange(10_000, 900_000)})


def study(folder, trials=100, space=None, evaluator=None, strategy=None, heading=None):
    folder.mkdir(exist_ok=True)
    heading = {"space": "letters", "strategy": "evolution", "objectives": [{"metric": "accuracy"}]} | (heading or {})
    made = Study(
        space or Letters(),
        strategy or Evolution(),
        evaluator or Free(),
        None,
        trials=trials,
        journal=Journal(folder / "journal.jsonl", heading),
        directory=folder,
    )
    made.run()
    return made


def summarise(folder, **values):
    summary = {
        "schema": 1,
        "command": "automl +space=letters strategy=evolution",
        "test": {"accuracy": 0.985, "loss": 0.07, "images": 270},
        "baseline": {"name": "logistic regression", "accuracy": 0.963},
        "model": {"parameters": 397_834, "multiply_adds": 14_200_000, "latency_ms": 0.61, "bytes": 1_600_000},
        "trials": {"total": 100},
        "seconds": {"search": 182.3, "retrain": 40.2},
        "seed": 0,
        "versions": {"python": "3.11.9"},
        "data": {"train": 1_257, "validation": 270, "test": 270, "classes": ["zero", "one"]},
        "retrain": {"curve": [{"epoch": 1, "accuracy": 0.5}, {"epoch": 2, "accuracy": 0.9}]},
        "graph": {"normal": CELL},
    } | values
    (folder / "summary.json").write_text(json.dumps(summary))


def page(folder):
    return HTMLReport().write(folder).read_text()


def rows(text):
    return re.findall(r'<th scope="row" data-key="(\d+)">', text)


def test_it_says_what_was_found_how_good_and_how_sure(tmp_path):
    found = study(tmp_path)
    summarise(tmp_path)
    text = page(tmp_path)
    assert "automl +space=letters strategy=evolution" in text
    assert "<dd>0.985</dd>" in text
    assert "<dd>398k</dd>" in text
    assert "2.2 points more accurate than logistic regression" in text
    assert "0.962 to 0.994" in text
    assert f"best: trial {found.best.number}," in text
    assert rows(text) == [str(number) for number in range(100)]


def test_it_reads_top_to_bottom_as_promised(tmp_path):
    study(tmp_path, evaluator=Free(failing=0.3))
    summarise(tmp_path)
    headings = re.findall(r"<h2>(.*?)</h2>", page(tmp_path))
    assert headings == [
        "Is it good?",
        "How sure is this?",
        "The search",
        "Accuracy against parameters",
        "The network",
        "What failed",
        "Trials",
        "Go on",
        "Versions",
    ]


def test_it_says_when_the_baseline_may_be_as_good(tmp_path):
    study(tmp_path, 5)
    summarise(tmp_path)
    assert "so it may be chance" in page(tmp_path)
    summarise(tmp_path, baseline={"name": "logistic regression", "accuracy": 0.9})
    assert "more than the 95 % interval allows for chance" in page(tmp_path)
    summarise(tmp_path, baseline={"name": "logistic regression", "accuracy": 0.99})
    assert "0.5 points less accurate" in page(tmp_path)


def test_the_interval_is_that_of_wilson():
    low, high = wilson(0.5, 10)  # by hand: (0.5 + 0.192) / 1.384 -+ 0.2634
    assert (round(low, 3), round(high, 3)) == (0.237, 0.763)
    assert wilson(1.0, 10) == pytest.approx((0.722, 1.0), abs=5e-4)
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.278), abs=5e-4)


def test_random_search_is_named_as_the_line_to_beat(tmp_path):
    study(tmp_path, strategy=Random(), heading={"strategy": {"name": "random"}})
    assert "the line that every other must beat" in page(tmp_path)


def test_a_folder_without_trials_says_so(tmp_path):
    Journal(tmp_path / "journal.jsonl", {"space": "letters", "objectives": [{"metric": "accuracy"}]}).open()
    text = page(tmp_path)
    assert "No trial has ended yet" in text
    assert "There are no trials yet" in text


def test_one_trial_is_enough(tmp_path):
    study(tmp_path, 1)
    assert "The best so far is trial 0" in page(tmp_path)


def test_an_unfinished_run_says_what_happened_and_how_to_go_on(tmp_path):
    class Stopped(Free):
        def evaluate(self, trial):
            if trial.number == 7:
                raise KeyboardInterrupt
            yield from super().evaluate(trial)

    with pytest.raises(KeyboardInterrupt):
        study(tmp_path, 20, evaluator=Stopped())
    text = page(tmp_path)
    assert "It was not trained to the end nor tested" in text
    assert "1 interrupted" in text
    assert f"automl resume {tmp_path}" in text
    assert 'class="interrupted"' in text
    assert "automl predict" not in text
    (tmp_path / "summary.json").write_text(json.dumps({"schema": 1, "trials": {"total": 20}}))
    assert "the search stopped after 7 of 20 trials" in page(tmp_path)


def test_failures_are_counted_and_grouped_with_one_traceback(tmp_path):
    class Seventy(Free):
        def evaluate(self, trial):
            if trial.number >= 27:
                raise ValueError(f"no kernel for {trial.number} channels")
            yield from super().evaluate(trial)

    study(tmp_path, evaluator=Seventy())
    text = page(tmp_path)
    assert "73 of 100 trials failed" in text
    assert '<strong class="count">73 \u00d7</strong>' in text
    assert "ValueError: no kernel for 27 channels" in text
    assert text.count("Traceback (most recent call last)") == 1


def test_a_run_whose_trials_all_failed_says_why(tmp_path):
    class Broken(Free):
        def evaluate(self, trial):
            raise TrialFailed(("no memory", "no kernel")[trial.number % 2])
            yield

    study(tmp_path, 10, evaluator=Broken())
    text = page(tmp_path)
    assert "all 10 trials failed" in text
    assert "no memory" in text


def test_an_objective_to_minimise_has_its_lowest_as_the_best(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    found = Study(
        Letters(),
        Evolution(),
        Free(),
        None,
        [Objective("parameters", "min")],
        trials=30,
        journal=Journal(folder / "journal.jsonl", {"objectives": [{"metric": "parameters", "goal": "min"}]}),
    )
    found.run()
    lowest = min(found.trials, key=lambda trial: trial.metrics["parameters"]).number
    text = page(folder)
    assert f"The best so far is trial {lowest}, with parameters" in text
    assert "parameters, lower is better" in text


def test_a_front_leaves_out_who_is_dominated(tmp_path):
    found = study(tmp_path, 60)
    listed = re.search(r'<table class="small front">.*?</table>', page(tmp_path), re.DOTALL)[0]
    numbers = [int(number) for number in re.findall(r"<tr><td>(\d+)</td>", listed)]
    pairs = {trial.number: (trial.metrics["accuracy"], -trial.metrics["parameters"]) for trial in found.trials}
    expected = [
        number
        for number, pair in pairs.items()
        if not any(other != pair and other[0] >= pair[0] and other[1] >= pair[1] for other in pairs.values())
    ]
    assert sorted(numbers) == sorted(expected)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_names_are_shown_and_never_obeyed(tmp_path, hostile):
    space = Letters((hostile, "b", "c"), 4)
    study(tmp_path, 30, space, Free(0.5, f"why: {hostile}"), heading={"space": hostile, "strategy": hostile})
    summarise(
        tmp_path,
        command=f"automl {hostile}",
        ending=hostile,
        warnings=[hostile],
        baseline={"name": hostile, "accuracy": 0.9},
        versions={hostile: hostile},
        data={"test": 270, "classes": [hostile]},
        graph={hostile: [["a", "b", hostile], [hostile, "b", ""]]},
    )
    text = page(tmp_path)
    assert "<img" not in text
    assert "<script>alert" not in text
    assert text.count("</script>") == 2
    assert "\x1b" not in text
    embedded = re.search(r'<script type="application/json" id="summary">(.*?)</script>', text)[1]
    assert json.loads(embedded)["warnings"] == [hostile]
    assert "{{" in text if "{{" in hostile else "49" not in re.findall(r"<h1>(.*?)</h1>", text)[0]
    if "\n" in hostile:
        assert r"why: two\nlines" in text
    if "\x1b" in hostile:
        assert r"why: \x1b[31m" in text
    fragment = notebook.html(study(tmp_path / "other", 30, space))
    assert "<img" not in fragment
    assert "<script" not in fragment


def test_the_page_asks_for_nothing(tmp_path):
    study(tmp_path, evaluator=Free(failing=0.1))
    summarise(tmp_path)
    text = page(tmp_path)
    assert "default-src &#39;none&#39;" in text
    assert "unsafe-inline" not in text
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)
    assert "http://" not in text
    assert "https://" not in text


def test_what_a_stranger_wrote_into_the_summary_is_left_out(tmp_path):
    study(tmp_path, 5)
    summarise(
        tmp_path,
        command=["no", "text"],
        test={"accuracy": "high", "images": None},
        baseline=3,
        model=[],
        trials="many",
        data={"train": True, "classes": {}},
        retrain={"curve": ["epoch", {"epoch": None}]},
        versions=7,
        graph={"normal": ["edge", ["a"]], "circle": [["a", "b", "x"], ["b", "a", "y"]], "none": None},
        warnings={},
        seconds=None,
    )
    text = page(tmp_path)
    assert "The best so far is trial" in text
    assert "a → b" in text  # a circle cannot be drawn in layers, so it is listed


def test_a_hundred_trials_of_fifty_decisions_stay_under_500_kb(tmp_path):
    study(tmp_path, 100, Letters(("separable_convolution_5x5", "dilated_convolution_3x3"), 50))
    summarise(tmp_path)
    assert HTMLReport().write(tmp_path).stat().st_size < 500_000


def test_a_long_table_keeps_best_front_and_failures_and_says_what_is_left_out(tmp_path):
    class Old(Free):
        def evaluate(self, trial):
            if trial.number == 3:
                raise TrialFailed("an old failure")
            yield Report({"accuracy": 0.99 if trial.number == 5 else 0.5 + trial.number / 1_000, "parameters": 1_000})

    study(tmp_path, 300, evaluator=Old())
    text = HTMLReport(rows=20).write(tmp_path).read_text()
    listed = rows(text)
    assert len(listed) == 20
    assert {"3", "5", "299"} <= set(listed)
    assert "20 of 300 trials are listed" in text
    assert "Left out are 280, of which 0 failed" in text
    assert "an old failure" in text


@pytest.mark.slow  # 50,000 trials are run and written down first
def test_fifty_thousand_trials_make_five_megabytes_in_less_time_than_they_took(tmp_path):
    began = time.process_time()
    found = study(tmp_path, 50_000, evaluator=Free(failing=0.05), strategy=Random())
    running = time.process_time() - began
    summarise(tmp_path)
    began = time.process_time()
    path = HTMLReport().write(tmp_path)
    assert time.process_time() - began < running
    assert path.stat().st_size < 5_000_000
    text = path.read_text()
    assert str(found.best.number) in rows(text)
    assert f"{len(found.failed):,} of 50,000 trials failed" in text
    assert "1,000 of 50,000 trials are listed" in text


def test_a_thousand_trials_are_all_listed(tmp_path):
    study(tmp_path, 1_000, strategy=Random())
    assert len(rows(page(tmp_path))) == 1_000


def test_writing_twice_gives_the_same_bytes(tmp_path):
    study(tmp_path, 40, evaluator=Free(failing=0.2))
    summarise(tmp_path)
    assert page(tmp_path) == page(tmp_path)


def test_it_is_written_when_the_study_ends(tmp_path):
    found = study(tmp_path, 3)
    HTMLReport().automl_study_finished(found)
    assert (tmp_path / "report.html").exists()
    found.directory = None
    (tmp_path / "report.html").unlink()
    HTMLReport().automl_study_finished(found)
    assert not (tmp_path / "report.html").exists()


def _boxes(picture):
    found = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', picture)
    return [tuple(map(float, box)) for box in found]


@pytest.mark.parametrize("seed", range(8))
def test_a_cell_is_drawn_with_every_label_and_no_overlap(seed):
    rng = random.Random(seed)
    states = ["h[k-2]", "h[k-1]"]
    edges = []
    for state in map(str, range(6)):
        edges += [(rng.choice(states), state, rng.choice(["sep3x3", "conv1x7_7x1", "identity"])) for _ in range(2)]
        states.append(state)
    edges += [(state, "output", "") for state in states[2:] if all(source != state for source, _, _ in edges)]
    picture = draw(edges, "normal")
    boxes = _boxes(picture)
    assert len(boxes) == 12 + len({name for edge in edges for name in edge[:2]})
    for index, (x, y, width, height) in enumerate(boxes):
        for other in boxes[:index]:
            apart = (
                x >= other[0] + other[2] or other[0] >= x + width or y >= other[1] + other[3] or other[1] >= y + height
            )
            assert apart
    size = re.search(r'viewBox="0 0 (\d+) (\d+)"', picture)
    assert max(x + width for x, _, width, _ in boxes) <= int(size[1]) + 1
    assert max(y + height for _, y, _, height in boxes) <= int(size[2]) + 1


def test_a_graph_that_cannot_be_drawn_is_none():
    assert draw([], "empty") is None
    assert draw([("a", "b", ""), ("b", "a", "")], "circle") is None
    assert draw([("a", str(index), "") for index in range(201)], "large") is None


def test_the_notebook_shows_the_curve_and_the_best_five(tmp_path):
    found = study(tmp_path, 40, evaluator=Free(failing=0.2))
    text = notebook.html(found)
    best = sorted((trial for trial in found.trials if trial.error is None), key=lambda trial: -trial.score)[:5]
    assert re.findall(r"<tr><td>(\d+)</td>", text) == [str(trial.number) for trial in best]
    assert "<svg" in text
    assert f"40 of 40 trials, {len(found.failed)} failed" in text


def test_the_notebook_shows_a_study_without_trials():
    assert "No trial has finished yet" in notebook.html(Study(Letters(), Evolution(), Free(), None, trials=3))


class Browser:
    """A headless Chromium, spoken to in its DevTools protocol over a pipe."""

    def __init__(self, send, receive):
        self._send, self._receive, self._session = send, receive, None
        self._count = 0
        self._rest = b""
        self.complaints = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._count:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, path, fragment=""):
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=path.as_uri() + fragment)
        while self.ask("document.readyState") != "complete" or self.ask("location.protocol") != "file:":
            time.sleep(0.05)

    def ask(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key, code):
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def picture(self, path, width=1200):
        import base64

        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _note(self, event):
        params = event.get("params", {})
        if event.get("method") == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        if event.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"]["text"])
        if event.get("method") == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(params["args"]))
        if event.get("method") == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("file:", "data:", "about:")):
                self.complaints.append(url)
        if event.get("method") == "Page.javascriptDialogOpening":
            self.complaints.append(params["message"])

    def _next(self):
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._receive], [], [], 60)
            assert ready, "Chromium does not answer"
            read = os.read(self._receive, 1 << 16)
            assert read, "Chromium has ended"
            self._rest += read
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


PIPES = """
import fcntl, os, sys
here, there = (fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3])
os.dup2(here, 3)
os.dup2(there, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""  # Chromium reads its orders from 3 and answers on 4


@contextmanager
def chromium(profile):
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("there is no Chromium here")
    here, out = os.pipe()
    inward, there = os.pipe()
    quiet = "--disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", PIPES, str(here), str(there)),
            *(program, "--headless", "--no-sandbox", "--disable-gpu", *quiet.split(), "--remote-debugging-pipe"),
            *(f"--user-data-dir={profile}", "about:blank"),
        ],
        pass_fds=(here, there),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(here)
    os.close(there)
    try:
        yield Browser(out, inward)
    finally:
        os.close(out)
        os.close(inward)
        process.terminate()
        process.wait(20)


SORTED = "[...document.querySelectorAll('table.trials tbody tr')].map(row => row.cells[{}].dataset.key)"


def test_a_browser_opens_it_without_a_complaint_and_sorts_by_keyboard(tmp_path):
    run = tmp_path / "run"
    found = study(run, 60, Letters(HOSTILE, 6), Free(0.2, " ".join(HOSTILE)), heading={"space": HOSTILE[1]})
    summarise(run, versions=dict.fromkeys(HOSTILE, "1"), warnings=list(HOSTILE))
    report = HTMLReport().write(run)
    pictures = Path(os.environ.get("AUTOML_SCREENSHOTS", tmp_path))
    with chromium(tmp_path / "profile") as browser:
        browser.open(report)
        browser.picture(pictures / "report.png")
        assert browser.ask(SORTED.format(0)) == [str(number) for number in range(60)]
        browser.ask("document.querySelector('th[data-name=accuracy] button').focus()")
        browser.press("Enter", 13)
        values = [float(value) for value in browser.ask(SORTED.format(2)) if value]
        assert values == sorted((trial.score for trial in found.trials if trial.error is None), reverse=True)
        assert browser.ask("document.querySelector('th[data-name=accuracy]').ariaSort") == "descending"
        assert browser.ask("document.querySelectorAll('[aria-sort]').length") == 1
        browser.press("Enter", 13)
        values = browser.ask(SORTED.format(2))
        assert [float(value) for value in values if value] == sorted(float(value) for value in values if value)
        assert values[-1] == ""  # what has no value stays last, either way
        browser.open(report, "#sort=-parameters")
        values = [float(value) for value in browser.ask(SORTED.format(3)) if value]
        assert values == sorted(values, reverse=True)
        assert browser.ask("document.images.length") == 0
        assert browser.ask("document.documentElement.scrollWidth <= window.innerWidth")
        browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        assert browser.ask("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 23)"
        browser.picture(pictures / "report-dark.png")
        browser.call("Page.printToPDF")
        assert browser.complaints == []


def test_the_browser_test_would_see_a_broken_page(tmp_path):
    (tmp_path / "bad.html").write_text(
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'\"><script>alert(1)</script>"
        "<img src='https://example.invalid/x.png'>"
    )
    with chromium(tmp_path / "profile") as browser:
        browser.open(tmp_path / "bad.html")
        assert len(browser.complaints) >= 2

"""The report of a network that was made smaller: before and after, and the share kept of each layer."""

import json
import re
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from test_report import HOSTILE, page, study, summarise
from torch import manual_seed, nn

from automl import BadInput, Report, Space, Trainer, cli, final, measure
from automl.compressor import Compressed, Compressor
from automl.device import Here
from automl.final import Final, settle
from automl.measure import Latency
from automl.plugins import Registry
from automl_trackers.sheet import Sheet
from automl_trackers.shrinking import LAYERS, shrinking

HEADING = {"space": {"name": "compressed", "space": {"name": "resnet_cifar"}, "compressor": {"name": "pruning"}}}
BEFORE = {
    "test": {"accuracy": 0.912, "loss": 0.3, "images": 270},
    "model": {
        "parameters": 272_474,
        "nonzero_parameters": 272_400,
        "multiply_adds": 40_813_184,
        "bytes": 1_110_000,
        "latency_ms": 2.0,
        "latency_p10_ms": 1.9,
        "latency_p90_ms": 2.4,
        "latency_torch_ms": 4.0,
        "latency_torch_p10_ms": 3.8,
        "latency_torch_p90_ms": 4.5,
    },
}
AFTER = {
    "test": {"accuracy": 0.9, "loss": 0.35, "images": 270},
    "model": {
        "parameters": 68_118,
        "nonzero_parameters": 68_118,
        "multiply_adds": 10_203_296,
        "bytes": 290_000,
        "latency_ms": 0.9,
        "latency_p10_ms": 0.85,
        "latency_p90_ms": 1.1,
        "latency_of": "onnxruntime 1.32, 1 thread, batch 1, 200 runs",
        "latency_torch_ms": 3.0,
        "latency_torch_p10_ms": 2.9,
        "latency_torch_p90_ms": 3.3,
        "latency_torch_of": "torch 2.13, 1 thread, batch 1, 30 runs",
    },
    "retrain": {
        "curve": [
            {"fidelity": 0.0, "accuracy": 0.411, "loss": 2.1},
            {"fidelity": 0.5, "accuracy": 0.8, "loss": 0.6},
            {"fidelity": 1.0, "accuracy": 0.903, "loss": 0.34},
        ]
    },
    "seconds": {"search": 182.3, "retrain": 12.34},
}
KEPT = {"stem": 1.0, "stages.0.first": 0.5, "stages.0.second": 0.25, "stages.1.first": 0.375}


def compressed(folder, **values):
    study(folder, 5, heading=HEADING)
    summarise(folder, **{**AFTER, "before": BEFORE, "compression": {"kept": KEPT}, **values})
    return page(folder)


def tables(text):
    """Return the tables of two networks by their captions: the columns, and the cells of each row by its name."""
    found = {}
    for caption, table in re.findall(
        r'<table class="small compared"><caption>(.*?)</caption>(.*?)</table>', text, re.S
    ):
        cells = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', table)
        rows = {name: re.findall(r"<td>(.*?)</td>", rest) for name, rest in cells}
        found[caption] = re.findall(r'<th scope="col">(.*?)</th>', table), rows
    return found


def test_every_figure_stands_before_and_after_with_its_ratio(tmp_path):
    columns, rows = tables(compressed(tmp_path))["Compression"]
    assert columns == ["before", "after", "ratio"]
    assert rows == {
        "test accuracy": ["0.912", "0.900", "\N{MINUS SIGN}1.2 points"],
        "parameters": ["272,474", "68,118", "0.25"],
        "of them not 0": ["272,400", "68,118", "0.25"],
        "multiply-adds an image": ["40,813,184", "10,203,296", "0.25"],
        "bytes of the file": ["1,110,000", "290,000", "0.261"],
        "bits of the file a parameter": ["32.6", "34.1", "1.05"],
        "latency in onnxruntime, ms": ["2 (1.9 to 2.4)", "0.9 (0.85 to 1.1)", "0.45"],
        "latency in PyTorch, ms": ["4 (3.8 to 4.5)", "3 (2.9 to 3.3)", "0.75"],
    }


def test_fine_tuning_stands_from_before_it_to_after_it(tmp_path):
    text = compressed(tmp_path)
    columns, rows = tables(text)["Fine-tuning"]
    assert columns == ["before it", "after it", "ratio"]
    assert rows == {
        "validation accuracy": ["0.411", "0.903", "+49.2 points"],
        "validation loss": ["2.100", "0.340", "0.162"],
    }
    assert "2 epochs, 12.3 s of retraining in all." in text
    assert '<figcaption class="head">Fine-tuned</figcaption>' in text
    assert "epoch 0: 0.411" in text


def test_what_is_not_fine_tuned_says_so(tmp_path):
    text = compressed(tmp_path, retrain={"curve": [{"fidelity": 0, "accuracy": 0.411}]})
    assert tables(text)["Fine-tuning"][1] == {"validation accuracy": ["0.411", "-", "-"]}
    assert "0 epochs, 12.3 s of retraining in all." in text


def test_it_says_what_the_network_was_made_of_and_by_what(tmp_path):
    text = compressed(tmp_path)
    assert "<h1>resnet_cifar · pruning · evolution</h1>" in text
    assert "Made smaller by <code>pruning</code> from a network of space <code>resnet_cifar</code>." in text
    assert "torch 2.13, 1 thread, batch 1, 30 runs." in text
    headings = re.findall(r"<h2>(.*?)</h2>", text)
    assert headings.index("Before and after") == headings.index("How sure is this?") + 1


def test_a_run_that_made_nothing_smaller_has_no_such_section(tmp_path):
    study(tmp_path, 5)
    summarise(tmp_path)
    text = page(tmp_path)
    assert "Before and after" not in text
    assert '<figcaption class="head">Trained from scratch</figcaption>' in text
    assert "<h1>letters · evolution</h1>" in text


def bars(text):
    """Return the bars of the picture of shares: whether it is told apart, its left, height and width, and its title."""
    shape = r'<path class="share( strong)?" d="M([\d.]+) (\d+)V([\d.]+)h([\d.]+)V\d+z"><title>(.*?)</title>'
    return [
        (bool(strong), float(left), int(foot) - float(top), float(width), title)
        for strong, left, foot, top, width, title in re.findall(shape, text)
    ]


def test_the_share_kept_of_each_layer_is_drawn_in_order(tmp_path):
    text = compressed(tmp_path)
    drawn = bars(text)
    assert [title for *_, title in drawn] == [f"{name}: {share:.3g}" for name, share in KEPT.items()]
    assert [strong for strong, *_ in drawn] == [share < 1 for share in KEPT.values()]
    heights = [height for _, _, height, _, _ in drawn]
    assert heights == pytest.approx([heights[0] * share for share in KEPT.values()], abs=0.1)
    lefts = [left for _, left, *_ in drawn]
    assert lefts == sorted(lefts)
    assert '<svg class="plot" role="img"' in text
    assert "<title>share kept of each of 4 layers, 0.25 to 1</title>" in text
    for name, share in KEPT.items():
        assert f'<tr><th scope="row">{name}</th><td>{share:.3g}</td></tr>' in text


def test_beside_it_stands_what_a_plan_keeps_that_treats_all_alike(tmp_path):
    alike = dict.fromkeys(KEPT, 0.6) | {"stranger": 0.5, list(KEPT)[-1]: 2.0}
    text = compressed(tmp_path, compression={"kept": KEPT, "alike": alike})
    known = list(KEPT)[:-1]
    lines = re.findall(r'<path class="alike" d="M[\d.]+ ([\d.]+)h[\d.]+"[^>]*><title>([^<]*)</title>', text)
    assert [title for _, title in lines] == [f"{name}: 0.6 where all are alike" for name in known]
    foot, top = map(float, re.search(r'<path class="share" d="M[\d.]+ (\d+)V([\d.]+)h', text).groups())  # of all
    assert [float(place) for place, _ in lines] == pytest.approx([foot - 0.6 * (foot - top)] * len(known), abs=0.1)
    assert "The lines are what each would keep in a network as costly whose layers are all treated alike." in text
    for name in known:
        assert f'<tr><th scope="row">{name}</th><td>{KEPT[name]:.3g}</td><td>0.6</td></tr>' in text
    assert "all treated alike" not in compressed(tmp_path, compression={"kept": KEPT, "alike": {"stranger": 0.5}})


@pytest.mark.parametrize("count", [1, 2, 24, 25, 200, 1_000])
def test_many_layers_are_thinned_and_no_name_lies_on_another(count):
    kept = {f"stages.{place}.block.convolution": (place % 8 + 1) / 8 for place in range(count)}
    found = shrinking(Sheet({"compression": {"kept": kept}}), Sheet({}))
    drawn = bars(found.kept)
    assert len(drawn) == len(found.layers) == min(count, LAYERS)
    assert found.count == count
    assert drawn[0][-1].startswith("stages.0.")
    assert drawn[-1][-1].startswith(f"stages.{count - 1}.")
    ends = [left + width for _, left, _, width, _ in drawn]
    assert all(left >= end for (_, left, *_), end in zip(drawn[1:], ends, strict=False))
    assert ends[-1] <= 920
    names = re.findall(r'<text class="tick middle" x="([\d.]+)" y="[\d.]+">(stages[^<]*)<', found.kept)
    assert names
    reach = [(float(middle) - 3 * len(name), float(middle) + 3 * len(name)) for middle, name in names]
    assert all(low >= end for (low, _), (_, end) in zip(reach[1:], reach, strict=False))
    assert reach[0][0] >= 0
    assert reach[-1][1] <= 920


def test_the_report_says_how_many_layers_are_drawn(tmp_path):
    kept = {f"layer.{place}": 0.125 if place == 2 else 0.5 for place in range(312)}
    text = compressed(tmp_path, compression={"kept": kept})
    assert "200 of 312 layers are drawn, evenly spaced" in text
    assert "share kept of each of 312 layers, 0.125 to 0.5" in text
    assert "layer.2: " not in text
    assert len(text) < 200_000


STRANGE = [
    {"before": 3},
    {"before": {"test": [], "model": "small"}},
    {"before": {"test": {"accuracy": "high"}, "model": {"parameters": None}}},
    {"before": BEFORE, "test": None, "model": None},
    {"before": BEFORE, "retrain": {"curve": [3, {"fidelity": 0}, {"fidelity": None}]}},
    {"before": BEFORE, "retrain": {"curve": {"fidelity": 0}}, "seconds": []},
    {"before": {"model": {"parameters": 0, "bytes": 10**400, "latency_ms": -1, "multiply_adds": 10**308}}},
    {"before": {"model": {"bytes": 10**308, "parameters": 1e-300}}, "model": {"bytes": 1e308, "parameters": 1}},
    {"before": {"test": {"accuracy": -(10**308)}}, "test": {"accuracy": 10**308}},
    {"compression": {"kept": ["stem"]}},
    {"compression": {"kept": {"a": 0, "b": 1.5, "c": "half", "d": True, "e": None, "f": 10**400}}},
    {"compression": {"alike": {"a": 0.5}}},
    {"compression": 7},
]


@pytest.mark.parametrize("values", STRANGE)
def test_what_a_stranger_wrote_is_left_out(values):
    found = shrinking(Sheet({**AFTER, **values}), Sheet({"space": 3}))
    if found is not None:
        assert found.kept is None
        assert found.tables
        assert all(table.rows for table in found.tables)
        assert not re.search("nan|inf|None", str(found.tables))


def test_a_page_of_strange_figures_is_written(tmp_path):
    study(tmp_path, 5, heading={"space": {"name": "compressed", "space": 3, "compressor": []}})
    strange = {"before": STRANGE[6]["before"], "compression": {"kept": {"a": -1, "b": 1}}}
    summarise(tmp_path, **AFTER | strange)
    text = page(tmp_path)
    assert tables(text)["Compression"][1]["parameters"] == ["0", "68,118", "-"]
    assert [title for *_, title in bars(text)] == ["b: 1"]
    assert "<h1>compressed · evolution</h1>" in text


@pytest.mark.parametrize("hostile", HOSTILE)
def test_names_are_shown_and_never_obeyed(tmp_path, hostile):
    heading = {"space": {"name": "compressed", "space": {"name": hostile}, "compressor": {"name": hostile}}}
    study(tmp_path, 5, heading=heading)
    kept = {hostile: 0.5, hostile * 1_000: 0.25}
    model = {**AFTER["model"], "latency_of": hostile, "latency_torch_of": hostile}
    summarise(tmp_path, **{**AFTER, "model": model}, before=BEFORE, compression={"kept": kept})
    text = page(tmp_path)
    assert "<img" not in text
    assert "<script>alert" not in text
    assert text.count("</script>") == 2
    assert "\x1b" not in text
    assert len(bars(text)) == 2


def test_writing_twice_gives_the_same_bytes(tmp_path):
    assert compressed(tmp_path) == page(tmp_path)


class Dense(Space):
    """A hidden layer of eight."""

    def describe(self, choose):
        return None

    def build(self, blueprint, task):
        pixels = task.input[0] * task.input[1] * task.input[2]
        return nn.Sequential(nn.Flatten(), nn.Linear(pixels, 8), nn.ReLU(), nn.Linear(8, task.outputs))


class Narrower(Compressor):
    """Keeps the first few units of the hidden layer."""

    tells = True

    def describe(self, studied, choose):
        return choose("width", (4, 2))

    def compress(self, network, studied, plan, training):
        smaller = self.rebuild(network, {"width": plan})
        for name, tensor in smaller.state_dict().items():
            tensor.copy_(network.state_dict()[name][tuple(slice(size) for size in tensor.shape)])
        form = {"width": plan, "kept": {"hidden": plan / 8, "output": 1.0}, "alike": {"hidden": 0.75}}
        return smaller, form if self.tells else {"width": plan}

    def rebuild(self, network, form):
        pixels, outputs = network[1].in_features, network[3].out_features
        return nn.Sequential(
            nn.Flatten(), nn.Linear(pixels, form["width"]), nn.ReLU(), nn.Linear(form["width"], outputs)
        )


@dataclass
class Once(Trainer):
    """Makes the network, and watches so many epochs go by."""

    epochs: int = 2

    def evaluate(self, trial):
        yield Report({"accuracy": 0.5})

    def fit(self, architecture, seed, *, checkpoint=None, watch=lambda _: None):
        for epoch in range(self.epochs + 1):
            watch(Report({"accuracy": 0.5 + epoch / 10}, epoch / max(self.epochs, 1)))
        network = self.before(architecture, seed)
        if network is None:
            return self.space.build(architecture.blueprint, self.task)
        return self.space.finish(network, architecture.blueprint, None)

    def before(self, architecture, seed):
        manual_seed(seed)
        origin = self.space.origin(architecture.blueprint)
        return None if origin is None else origin.space.build(origin.architecture.blueprint, self.task).eval()


def made(folder, space, trainer=None):
    task = Registry().build("task", {"name": "synthetic"})
    test = task.prepare(0)
    space.check(task)
    settings = {"space": {"name": "compressed", "space": {"name": "dense"}, "compressor": {"name": "narrower"}}}
    maker = Final(space, trainer or Once(), settings, task, "synthetic", test, 0, "automl +space=dense", Here())
    architecture = space.make(lambda _, domain: domain.options[0])
    return maker.make(architecture, folder, nullcontext(), lambda _: None, lambda _: [{"energy": 1.0}])


@pytest.fixture(scope="module", autouse=True)
def without_onnx():
    """Leave out the ONNX file, which takes seconds."""

    def export(*_):
        raise BadInput("not here")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(final, "export", export)
        yield


@pytest.fixture(scope="module")
def made_smaller(without_onnx, tmp_path_factory):
    folder = tmp_path_factory.mktemp("smaller")
    return folder, made(folder, Compressed(Dense(), Narrower()))


def test_both_networks_are_measured_alike(made_smaller):
    _, whole = made_smaller
    keys = {"parameters", "nonzero_parameters", "multiply_adds", "bytes", "energy"}
    for network in (whole, whole["before"]):
        model = network["model"]
        assert keys <= model.keys()
        assert 0 < model["latency_torch_p10_ms"] <= model["latency_torch_ms"] <= model["latency_torch_p90_ms"]
        assert re.fullmatch(
            r"torch 2.*, 1 thread, batch 1, \d+ runs, the quietest of 3 rounds", model["latency_torch_of"]
        )
        assert model["nonzero_parameters"] == model["parameters"]
    before, after = whole["before"]["model"], whole["model"]
    assert before.keys() == after.keys()
    assert (before["parameters"], after["parameters"]) == (64 * 8 + 8 + 8 * 3 + 3, 64 * 4 + 4 + 4 * 3 + 3)


def test_both_are_timed_in_turn_and_the_quietest_round_of_each_counts(tmp_path, monkeypatch):
    medians = {"here": [3.0, 1.0, 2.0], "there": [4.0, 6.0, 5.0]}
    timed = []

    def latency(model, image, *, seconds, runs=30):
        timed.append(model)
        median = medians[model][(len(timed) - 1) // 4]
        return Latency(median, median - 0.5, median + 0.5, 30, 1, 1, "a runtime")

    monkeypatch.setattr(measure, "torch_latency", lambda deployed, *given, **how: latency(deployed.name, *given, **how))
    monkeypatch.setattr(measure, "onnx_latency", lambda model, *given, **how: latency(model.decode(), *given, **how))
    places = {}
    for name in medians:
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.onnx").write_text(name)
        network = nn.Linear(2, 1)
        nn.init.constant_(network.bias, 0)
        places[tmp_path / name] = SimpleNamespace(network=network, name=name), {"latency_ms": 9.0}
    final._compare(places, SimpleNamespace(input=(1, 8, 8)), Here())
    assert timed == ["here", "here", "there", "there"] * 3
    for (_, known), best in zip(places.values(), (1.0, 4.0), strict=True):
        for kind in ("latency", "latency_torch"):
            assert [known[f"{kind}{part}_ms"] for part in ("_p10", "", "_p90")] == [best - 0.5, best, best + 0.5]
            assert known[f"{kind}_of"] == "a runtime, 1 thread, batch 1, 30 runs, the quietest of 3 rounds"
        assert known["nonzero_parameters"] == 2


def test_the_summary_has_the_shares_that_the_form_tells(made_smaller, tmp_path, monkeypatch):
    assert made_smaller[1]["compression"] == {"kept": {"hidden": 0.5, "output": 1.0}, "alike": {"hidden": 0.75}}
    monkeypatch.setattr(Narrower, "tells", False)
    assert "compression" not in made(tmp_path, Compressed(Dense(), Narrower()))


def test_what_is_known_of_a_folder_is_all_of_it(made_smaller):
    folder, whole = made_smaller
    (folder / "summary.json").write_text(json.dumps({"schema": 1, **whole}))
    settle(folder)
    assert made(folder, Compressed(Dense(), Narrower())) == whole


def test_the_card_says_what_the_network_was_made_of(made_smaller):
    card = (made_smaller[0] / "MODEL_CARD.md").read_text()
    assert (
        "Found by `automl +space=dense`: the network of space `dense` in `before/`, made smaller by compressor "
        "`narrower`, fine-tuned for 2 epochs (seed 0)."
    ) in card
    assert "| | this network | before, in `before/` |\n| --- | --- | --- |\n" in card
    assert "| parameters | 275 | 547 |" in card
    columns = {line.count("|") for line in card.splitlines() if line.startswith("|")}
    assert columns == {4}


def test_the_card_of_another_network_is_as_it_was(tmp_path):
    found = made(tmp_path, Dense())
    assert not {"before", "compression"} & found.keys()
    assert "latency_torch_ms" not in found["model"]
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert "Found by `automl +space=dense` and trained from scratch (seed 0)." in card
    assert "\n| | |\n| --- | --- |\n| test accuracy | " in card
    assert "| parameters | 547 |\n" in card


def test_the_closing_table_has_the_network_before(made_smaller, tmp_path, capsys):
    _, whole = made_smaller
    summary = {**whole, "model": {**whole["model"], "latency_ms": 0.25}}
    ended = SimpleNamespace(summary=summary, directory=tmp_path, failed=[], trials=[], ending=None, total=1)
    cli._close(SimpleNamespace(study=ended))
    lines = capsys.readouterr().out.splitlines()
    before = summary["before"]["test"]["accuracy"]
    assert lines[1].split() == ["before", f"{before:.3f}", "547", "-"]
    assert lines[2].split() == ["found", "network", f"{summary['test']['accuracy']:.3f}", "275", "0.25", "ms"]
    del summary["before"]
    cli._close(SimpleNamespace(study=ended))
    assert not any(line.startswith("before") for line in capsys.readouterr().out.splitlines())


def test_the_network_before_is_one_to_load(made_smaller):
    import torch

    registry = SimpleNamespace(build=lambda kind, settings: Dense())
    network = final.load(made_smaller[0] / "before", registry)
    assert sum(parameter.numel() for parameter in network.parameters()) == 547
    images = torch.rand(2, *network.input)
    assert network(images).shape == (2, 3)

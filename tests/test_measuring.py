"""The command that says what networks cost: what it prints, and what it refuses."""

import json
from types import SimpleNamespace

import pytest
import torch

from automl import cli, deploy
from automl.errors import BadInput
from automl.layers import profile
from automl.plugins import Registry

PUBLISHED = ["+space=nasnet", "space.genotype=nasnet_a", "space.channels=4", "space.reductions=1", "--image", "3x16x16"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUTOML_RUNS", raising=False)
    return tmp_path


def printed(capsys, *words):
    code = cli.main(["measure", *words])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out


def as_json(capsys, *words):
    (line,) = printed(capsys, *words, "--json").splitlines()
    return json.loads(line)


def refused(capsys, *words):
    code = cli.main(["measure", *words])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    return err.removeprefix("automl: ").strip()


@pytest.fixture
def run(tmp_path):
    """Return a run folder with a network of the toy space."""
    space = Registry().build("space", {"name": "toy", "depth": 1})
    architecture = space.read({"depth": 1, "layer.0.kernel": 3, "layer.0.activation": "tanh"})
    network = space.build(architecture.blueprint, SimpleNamespace(input=(1, 6, 6), outputs=3))
    shipped = {"mean": (0.5,), "std": (0.5,)}
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    deployed = deploy.Deployed(network.eval(), **shipped, classes=("a", "b", "c"), input=(1, 6, 6))
    deployed.save(folder, {"space": {"name": "toy", "depth": 1}, "decisions": architecture.to_json(), **shipped})
    for name in ("config.yaml", "journal.jsonl"):
        (folder / name).touch()
    (tmp_path / "runs" / "latest").symlink_to(folder)
    return folder


def test_it_prints_one_network_layer_by_layer(capsys):
    lines = printed(capsys, *PUBLISHED, "--classes", "1234", "--no-latency").splitlines()
    assert lines[:2] == ["Space nasnet, its only architecture", "Images of 3 x 16 x 16, 1,234 classes, batch 1"]
    assert max(map(len, lines)) <= 120
    (heading,) = (number for number, line in enumerate(lines) if line.startswith("layer "))
    (total,) = (number for number, line in enumerate(lines) if line.startswith("total "))
    assert {len(line) for line in lines[heading : total + 1]} == {len(lines[heading])}
    found = as_json(capsys, *PUBLISHED, "--classes", "1234", "--no-latency")
    (network,) = found["networks"]
    costs = network["profile"]
    assert total - heading - 1 == len(costs["layers"])
    keys = ("parameters", "multiply_adds", "memory_access", "kernels")
    assert lines[total].split() == ["total", *(f"{costs[key]:,}" for key in keys)]
    assert f"{costs['peak_activations']:,} bytes" in "\n".join(lines)
    assert f"{network['guidelines']['equal_widths']['ratio']:.2f} times" in "\n".join(lines)
    assert [line[2:4] for line in lines[-5:] if line[2] == "G"] == ["G1", "G2", "G3", "G4"]


def test_its_json_is_the_profile(capsys):
    words = ["+space=toy", "space.depth=1", "--image", "2x8x6", "--classes", "3", "--batch", "2", "--no-latency"]
    found = as_json(capsys, *words)
    assert (found["space"], found["image"], found["classes"], found["batch"]) == ("toy", [2, 8, 6], 3, 2)
    assert len(found["networks"]) == 6
    space = Registry().build("space", {"name": "toy", "depth": 1})
    for network, architecture in zip(found["networks"], space.enumerate(), strict=True):
        built = space.build(architecture.blueprint, SimpleNamespace(input=(2, 8, 6), outputs=3))
        costs = profile(built, (2, 8, 6), batch=2)
        assert network["decisions"] == architecture.to_json()
        assert network["profile"]["multiply_adds"] == costs.multiply_adds
        assert network["profile"]["memory_access"] == costs.memory_access
        assert [layer["name"] for layer in network["profile"]["layers"]] == [layer.name for layer in costs.layers]
        assert network["latency"] == {}


def test_it_prints_a_row_for_each_of_a_few_architectures(capsys):
    lines = printed(capsys, "+space=toy", "space.depth=1", "--image", "1x8x8", "--no-latency").splitlines()
    assert lines[0] == "Space toy, all of its 6 architectures"
    assert [line.split(",")[0] for line in lines[4:]] == ["depth=1"] * 6
    assert lines[3].split()[:2] == ["decisions", "parameters"]


def test_it_draws_one_of_many_architectures_by_the_seed(capsys):
    words = ["+space=toy", "--image", "1x8x8", "--no-latency"]
    first, again, other = (printed(capsys, *words, f"seed={seed}") for seed in (3, 3, 4))
    assert first.startswith("Space toy, one of more than 16 architectures, drawn by seed=3\n")
    assert "\nDecisions: depth=" in first
    assert first == again
    assert first.splitlines()[3:] != other.splitlines()[3:]


def test_it_builds_for_the_task_where_the_words_name_one(capsys):
    words = ["+space=toy", "space.single=true", "--no-latency"]
    task = ["task=synthetic", "task.size=10"]
    assert as_json(capsys, *words, *task)["image"][1:] == [10, 10]
    named = as_json(capsys, *words, *task, "--classes", "77")
    assert (named["image"][1:], named["classes"]) == ([10, 10], 77)
    customary = as_json(capsys, *words, "strategy=random")
    assert (customary["image"], customary["classes"]) == ([3, 224, 224], 1000)


def test_it_measures_the_network_of_a_run(capsys, run):
    for words in (["runs/one"], ["runs/latest"], []):
        found = as_json(capsys, *words, "--no-latency")
        assert (found["space"], found["image"], found["classes"]) == ("toy", [1, 6, 6], 3)
        (network,) = found["networks"]
        assert network["decisions"]["layer.0.activation"] == "tanh"
        assert network["profile"]["multiply_adds"] == 36 * 8 * 9 + 32 * 3
    assert printed(capsys, "runs/one", "--no-latency").startswith("Space toy, the network of one\n")


def test_it_measures_what_a_compressor_leaves(capsys):
    words = ["+space=toy", "space.depth=1", "--image", "1x8x8", "--classes", "3", "--no-latency", "seed=3"]
    whole = as_json(capsys, *words)
    halves = as_json(capsys, *words, "+compressor=pruning")
    assert (whole["compressor"], halves["compressor"]) == (None, "pruning")
    assert as_json(capsys, *words, "+compressor=null") == whole
    for network, half in zip(whole["networks"], halves["networks"], strict=True):
        assert half["decisions"] == network["decisions"]
        assert 0 < half["profile"]["multiply_adds"] <= network["profile"]["multiply_adds"] / 2
    ranked = ["+compressor=pruning", "compressor.across=global", "compressor.keep=[0.2,0.9]", "compressor.budget=null"]
    one = printed(capsys, *words, *ranked)
    assert one == printed(capsys, *words, *ranked)
    assert one.startswith("Space toy, compressor pruning, one of more than 16 architectures, drawn by seed=3\n")
    refusal = refused(capsys, *words, "+compressor=pruning", "compressor.budget=0.01")
    assert "compressor.budget=0.01 of the multiply-adds cannot be met" in refusal


def test_it_measures_the_network_of_a_run_that_compressed_and_the_one_before(capsys, run):
    space = Registry().build(
        "space", {"name": "compressed", "space": {"name": "toy", "depth": 1}, "compressor": {"name": "pruning"}}
    )
    task = SimpleNamespace(input=(1, 6, 6), outputs=3)
    space.check(task)
    architecture = space.read({"depth": 1, "layer.0.kernel": 3, "layer.0.activation": "tanh"})
    found = space.finish(space.space.build(architecture.blueprint.origin.blueprint, task), architecture.blueprint, None)
    description = json.loads((run / "architecture.json").read_text())
    before = run / "before"
    before.mkdir()
    for name in ("architecture.json", "model.safetensors"):
        (run / name).rename(before / name)
    settings = {"name": "compressed", "space": description["space"], "compressor": {"name": "pruning"}}
    shipped = {"mean": (0.5,), "std": (0.5,)}
    deployed = deploy.Deployed(found.eval(), **shipped, classes=("a", "b", "c"), input=(1, 6, 6))
    deployed.save(run, {**description, "space": settings, "form": found.automl_form})
    small, whole = as_json(capsys, "runs/one", "--no-latency"), as_json(capsys, "runs/one/before", "--no-latency")
    assert (small["space"], small["compressor"]) == ("toy", "pruning")
    assert (whole["space"], whole["compressor"]) == ("toy", None)
    costs = [one["networks"][0]["profile"]["multiply_adds"] for one in (small, whole)]
    assert costs[0] <= costs[1] / 2
    assert printed(capsys, "runs/one", "--no-latency").startswith("Space toy, compressor pruning, the network of one\n")


@pytest.mark.slow
def test_it_times_in_both_runtimes(capsys):
    words = ["+space=toy", "space.single=true", "--image", "1x8x8", "--batch", "3", "--threads", "2"]
    for network in as_json(capsys, *words)["networks"]:
        for runtime in ("torch", "onnxruntime"):
            latency = network["latency"][runtime]
            assert latency["runtime"].startswith(f"{runtime} ")
            assert (latency["batch"], latency["threads"]) == (3, 2)
            assert 0 < latency["p10_ms"] <= latency["median_ms"] <= latency["p90_ms"]


def test_what_cannot_be_exported_is_said_and_the_rest_printed(capsys, monkeypatch):
    def refuse(network, task, **how):
        raise BadInput("the network cannot be exported to ONNX (it is a toy)")

    monkeypatch.setattr(deploy, "latency", refuse)
    out = printed(capsys, *PUBLISHED)
    assert "onnxruntime: not measured, the network cannot be exported to ONNX (it is a toy)" in out
    assert f"\n  torch {torch.__version__}: " in out
    assert "1 thread, batch 1, " in out
    heading, *rows = printed(capsys, "+space=toy", "space.single=true", "--image", "1x8x8").splitlines()[3:]
    assert heading.endswith("torch ms  onnxruntime ms")
    assert [row.split()[-1] for row in rows] == ["none", "none"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["+space=toy", "--image", "3x224"], ["--image 3x224 is not channels x height x width", "3x224x224"]),
        (["+space=toy", "--image", "3x0x224"], ["--image 3x0x224 is not"]),
        (["+space=toy", "--image", "3x224x5000"], ["from 1 to 4,096"]),
        (["+space=toy", "--classes", "none"], ["--classes none must be an integer, at least 1"]),
        (["+space=toy", "--batch", "0"], ["--batch 0 must be an integer, at least 1"]),
        (["+space=toy", "--threads", "-1"], ["--threads -1 must be an integer, at least 1"]),
        (["+space=nasnet", "--image", "3x4x4"], ["needs images of at least", "--image gives the size"]),
        (
            ["+space=toy", "space.single=true", "--batch", "1000000000"],
            ["cannot take 1,000,000,000 images of 3 x 224 x 224", "--batch"],
        ),
        (["+space=toy", "space.width=0"], ["space.width=0 must be an integer, at least 1"]),
        (["+space=module"], ["space.target is missing: type space.target=VALUE", "automl explain space module"]),
        (["+space=run", "+compressor=amc"], ["space.run is missing: type space.run=VALUE"]),
        (["+space=toy", "+compressor=prunning"], ["no compressor is named 'prunning' (did you mean 'pruning'?)"]),
        (["+space=toyy"], ["no space is named 'toyy' (did you mean 'toy'?)"]),
        (["space=toy"], ["did you mean: automl +space=toy"]),
        (["runs/none"], ["runs/none is not a run folder"]),
        (["runs/none", "--image", "3x8x8"], ["leave out --image and --classes"]),
        (["runs/none", "runs/other"], ["leave out runs/other"]),
        ([], ["there is no run in"]),
    ],
)
def test_it_refuses_in_one_sentence(capsys, words, parts):
    sentence = refused(capsys, *words)
    for part in parts:
        assert part in sentence

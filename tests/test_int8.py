"""A network in eight bits: made of training images alone, compared with the float one, and refused in one sentence."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from automl import BadInput, exporting, int8
from automl.cli import main
from automl.exporting import Version, better
from automl.files import Lock
from automl.int8 import FORMS, quantise
from automl.journal import Journal
from automl.measure import Latency
from automl.runs import Run

SEARCH = ["+space=toy", "space.width=64", "task=digits", "strategy=random", "trials=1", "seed=2", "evaluator=toy"]


def floats(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def network(middle=(), weights=None, side=8):
    """Return a file of a convolution with batch normalisation, then what is asked for, pooling, and a linear layer."""
    weights = {
        "conv": floats(16, 1, 3, 3),
        "scale": 1 + floats(16) ** 2,
        "bias": floats(16, seed=1),
        "mean": floats(16, seed=2),
        "var": 1 + floats(16, seed=3) ** 2,
        "linear": floats(3, 16, seed=4),
        "out": floats(3),
        **(weights or {}),
    }
    nodes = [
        helper.make_node("Conv", ["images", "conv"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["maps", "scale", "bias", "mean", "var"], ["normal"]),
        helper.make_node("Relu", ["normal"], ["relu"]),
        *middle,
        helper.make_node("GlobalAveragePool", [middle[-1].output[0] if middle else "relu"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "linear", "out"], ["logits"], transB=1),
    ]
    return file(nodes, weights, side)


def file(nodes, weights, side=8):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, side, side])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {"classes": '["a", "b", "c"]', "run": "a run"})
    return model.SerializeToString()


def pixels(count=40, side=8):
    return np.random.default_rng(5).integers(0, 256, (count, 1, side, side), dtype=np.uint8)


def answers(model, images):
    from automl.measure import onnx_session

    return onnx_session(model).run(["logits"], {"images": images.astype(np.float32) / np.float32(255)})[0]


def parts(model):
    """Return the nodes of a file by their output, and its weights by name."""
    graph = onnx.load_from_string(model).graph
    nodes = {output: node for node in graph.node for output in node.output}
    return nodes, {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}


# one file of eight bits


@pytest.mark.parametrize("form", FORMS)
def test_it_answers_nearly_as_the_float_one_in_any_batch(form):
    model, images = network(), pixels()
    made = quantise(model, images, form)
    for batch in (1, 3, 17):
        exact = answers(model, images[:batch])
        assert np.abs(answers(made, images[:batch]) - exact).max() < 0.05 * np.ptp(answers(model, images))
        assert exact.shape == (batch, 3)
    assert not np.array_equal(answers(made, images), answers(model, images))


@pytest.mark.parametrize(("form", "kind"), [("u8s8", np.uint8), ("s8s8", np.int8)])
def test_weights_are_symmetric_by_channel_and_activations_of_the_form(form, kind):
    nodes, weights = parts(quantise(network(), pixels(), form))
    assert "BatchNormalization" not in {node.op_type for node in nodes.values()}
    layers = [node for node in nodes.values() if node.op_type in ("Conv", "Gemm")]
    assert len(layers) == 2
    for layer in layers:
        quantised, scale, zero = (weights[name] for name in nodes[layer.input[1]].input)
        assert quantised.dtype == np.int8
        assert scale.shape == zero.shape == (quantised.shape[0],)
        assert not zero.any()
        assert np.abs(quantised.astype(int)).reshape(len(quantised), -1).max(1).tolist() == [127] * len(quantised)
        assert weights[nodes[layer.input[2]].input[0]].dtype == np.int32
        given = nodes[layer.input[0]]
        assert given.op_type == "DequantizeLinear"
        assert weights[given.input[2]].dtype == kind
        assert weights[given.input[1]].shape == ()


def test_normalisation_is_folded_exactly():
    """The eight-bit weights times their scale are the convolution's times gamma / sqrt(var + epsilon)."""
    nodes, weights = parts(quantise(network(), pixels(), "u8s8"))
    layer = next(node for node in nodes.values() if node.op_type == "Conv")
    quantised, scale, _ = (weights[name] for name in nodes[layer.input[1]].input)
    factor = (1 + floats(16) ** 2) / np.sqrt(1 + floats(16, seed=3) ** 2 + 1e-5)
    folded = floats(16, 1, 3, 3) * factor[:, None, None, None]
    np.testing.assert_allclose(quantised * scale[:, None, None, None], folded, atol=float(scale.max()) * 0.501)


def test_the_range_of_activations_is_that_of_the_images():
    """A pixel is 0 to 1 whatever the images; their brightest sets the scale of what the network is given."""
    for brightest in (255, 100):
        images = np.minimum(pixels(), brightest)
        nodes, weights = parts(quantise(network(), images, "u8s8"))
        first = next(node for node in nodes.values() if node.op_type == "QuantizeLinear" and node.input[0] == "images")
        assert float(weights[first.input[1]]) == pytest.approx(brightest / 255 / 255, rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_range_of_no_width_has_a_scale_and_disturbs_nothing_else(form):
    """A channel of zeros, activations that are constant, and one image to calibrate on."""
    conv, bias = floats(16, 1, 3, 3), floats(16, seed=1)
    conv[3] = bias[3] = 0
    nothing_there = {"mean": np.zeros(16, np.float32)}
    whole, dead = (network(weights={**nothing_there, **more}) for more in ({}, {"conv": conv, "bias": bias}))
    for images in (pixels(1), np.zeros((4, 1, 8, 8), np.uint8), np.full((4, 1, 8, 8), 255, np.uint8)):
        (nodes, weights), (beside, others) = parts(quantise(dead, images, form)), parts(quantise(whole, images, form))
        scales = [weights[node.input[1]] for node in nodes.values() if node.op_type.endswith("uantizeLinear")]
        assert all(np.isfinite(scale).all() and (scale > 0).all() for scale in scales)
        layer, same = (next(node for node in ones.values() if node.op_type == "Conv") for ones in (nodes, beside))
        quantised, expected = (held[ones[node.input[1]].input[0]] for held, ones, node in
                               ((weights, nodes, layer), (others, beside, same)))  # fmt: skip
        assert not quantised[3].any()
        assert np.array_equal(np.delete(quantised, 3, 0), np.delete(expected, 3, 0))
        assert np.isfinite(answers(quantise(dead, images, form), pixels())).all()


def test_it_says_what_it_is():
    made = onnx.load_from_string(quantise(network(), pixels(40), "s8s8"))
    facts = {entry.key: entry.value for entry in made.metadata_props}
    assert facts.keys() == {"classes", "run", "int8"}
    assert facts["run"] == "a run"
    assert json.loads(facts["int8"]) == {
        "form": "s8s8",
        "weights": "by channel, symmetric",
        "calibration_images": 40,
    }


def test_equal_arguments_give_equal_bytes():
    first = [quantise(network(), pixels(), form) for form in FORMS]
    assert first == [quantise(network(), pixels(), form) for form in FORMS]
    assert first[0] != first[1]
    assert quantise(network(), pixels() // 2, "u8s8") != first[0]


@pytest.mark.slow  # a process of its own
def test_another_process_makes_the_same_bytes(tmp_path):
    """Whatever order its sets have; and what is printed by code below Python is seen there too."""
    (tmp_path / "model.onnx").write_bytes(network())
    np.save(tmp_path / "images.npy", pixels())
    program = (
        "import numpy; from pathlib import Path; from automl.int8 import quantise\n"
        "made = quantise(Path('model.onnx').read_bytes(), numpy.load('images.npy'), 'u8s8')\n"
        "Path('made.onnx').write_bytes(made)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "AUTOML_DEBUG"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**environment, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert (tmp_path / "made.onnx").read_bytes() == quantise(network(), pixels(), "u8s8")
    assert {path.name for path in tmp_path.iterdir()} == {"images.npy", "made.onnx", "model.onnx"}


def test_nothing_is_printed_or_left_behind(tmp_path, monkeypatch, capfd):
    (tmp_path / "cwd").mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    quantise(network(), pixels(), "u8s8")
    with pytest.raises(BadInput):
        quantise(*refused_network(), "u8s8")
    assert capfd.readouterr() == ("", "")
    assert {path.name for path in tmp_path.rglob("*")} == {"cwd", "tmp"}
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def refused_network():
    """Return a network with a normalisation over whole maps, which onnxruntime's quantiser raises at, and images."""
    norm = helper.make_node("LayerNormalization", ["relu", "gamma", "beta"], ["normed"], axis=1)
    return network([norm], {"gamma": 1 + floats(16, 8, 8) ** 2, "beta": floats(16, 8, 8)}), pixels()


def test_an_operator_that_cannot_be_quantised_is_named():
    model, images = refused_network()
    assert answers(model, images).shape == (40, 3)
    with pytest.raises(BadInput, match=r"^onnxruntime cannot quantise the operator LayerNormalization of this network"):
        quantise(model, images, "u8s8")


def test_a_network_without_weights_to_quantise_is_refused():
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Add", ["flat", "offset"], ["logits"]),
    ]
    with pytest.raises(BadInput, match="no weights to quantise in this network: of its operators, GlobalAveragePool, "):
        quantise(file(nodes, {"offset": floats(3)}), pixels(), "u8s8")


def test_a_missing_part_of_onnxruntime_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("onnxruntime.quantization")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("onnxruntime.quantization", raising=False)
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(BadInput, match=r"int8 needs an optional part of onnxruntime.*: type pip install ml_dtypes$"):
        int8.library()


def test_a_full_disk_is_said(monkeypatch):
    import errno
    import tempfile

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(int8.StorageError, match=r"temporary folder .* cannot be written \(No space left"):
        quantise(network(), pixels(), "u8s8")


# which form is kept


def version(accuracy, milliseconds):
    return Version(b"", accuracy, Latency(milliseconds, milliseconds, milliseconds, 9, 1, 1, "onnxruntime"))


@pytest.mark.parametrize(
    ("u8s8", "s8s8", "kept", "why"),
    [
        ((0.90, 1.0), (0.90, 0.8), "s8s8", "the faster"),
        ((0.90, 0.8), (0.91, 1.0), "u8s8", "the faster"),
        ((0.90, 1.0), (0.90, 0.95), "u8s8", "the default"),
        ((0.90, 1.0), (0.90, 1.05), "u8s8", "the default"),
        ((0.90, 0.5), (0.92, 1.0), "s8s8", "the more accurate"),
        ((0.92, 1.0), (0.90, 0.5), "u8s8", "the more accurate"),
    ],
)
def test_the_faster_is_kept_where_both_are_alike(u8s8, s8s8, kept, why):
    form, said = better({"u8s8": version(*u8s8), "s8s8": version(*s8s8)})
    assert form == kept
    assert said.startswith(why)
    assert f"u8s8 {u8s8[0]:.3f} in {u8s8[1]:.3f} ms" in said


# a run


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of digits with a small network: one trial that costs nothing, a real final training."""
    folder = tmp_path_factory.mktemp("trained")
    assert main([*SEARCH, f"runs={folder}", "watch=[]", "retrain.epochs=5"]) == 0
    return next(folder.glob("*/*/summary.json")).parent


@pytest.fixture(scope="module")
def shipped(trained, tmp_path_factory):
    """A copy of it, exported in eight bits from an empty folder; the images it was calibrated on; what was printed."""
    run, elsewhere = tmp_path_factory.mktemp("runs") / "run", tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(trained, run)
    seen, printed = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(elsewhere)
        patch.setattr(
            exporting, "quantise", lambda model, images, form: seen.append(images) or quantise(model, images, form)
        )
        patch.setattr("builtins.print", lambda *words, **_: printed.append(" ".join(map(str, words))))
        assert main(["export", "--int8", str(run)]) == 0
    assert list(elsewhere.iterdir()) == []
    return run, seen, printed


def prepared():
    from automl.plugins import Registry

    task = Registry().build("task", {"name": "digits"})
    return task, task.prepare(2)


@pytest.mark.slow  # trains for a moment, and the exporter takes seconds
def test_a_run_is_exported_in_eight_bits(trained, shipped):
    run, _, printed = shipped
    before, after = ({path.name for path in folder.iterdir()} for folder in (trained, run))
    assert after - before == {"model.int8.onnx"}
    assert before - after <= {".lock"}
    assert (run / "model.int8.onnx").stat().st_size < 0.6 * (run / "model.onnx").stat().st_size
    assert printed[-1] == str(run / "model.int8.onnx")
    assert printed[0].split() == ["test", "accuracy", "bytes", "latency"]
    assert printed[1].split()[0] == "float"
    assert printed[2].startswith("int8, ")


@pytest.mark.slow
def test_its_figures_are_true(trained, shipped):
    run, _, printed = shipped
    summary, before = (json.loads((folder / "summary.json").read_text()) for folder in (run, trained))
    found = summary.pop("int8")
    assert summary == before
    task, test = prepared()
    correct = {}
    for name, path in (("float", run / "model.onnx"), ("int8", run / "model.int8.onnx")):
        assert found["versions"][found["form"] if name == "int8" else name]["bytes"] == path.stat().st_size
        correct[name] = answers(path.read_bytes(), test.images).argmax(1) == test.labels
        assert found["test"][name]["accuracy"] == pytest.approx(correct[name].mean())
        assert found["test"][name]["images"] == len(test)
    assert found["test"]["float"]["accuracy"] == pytest.approx(summary["test"]["accuracy"])
    assert found["test"]["float"]["accuracy"] > 0.9
    assert abs(found["test"]["int8"]["accuracy"] - found["test"]["float"]["accuracy"]) <= 0.01
    kept = answers((run / "model.int8.onnx").read_bytes(), task.held_out.images).argmax(1) == task.held_out.labels
    assert found["versions"][found["form"]]["validation_accuracy"] == pytest.approx(kept.mean())
    for measured in found["versions"].values():
        assert 0 < measured["latency_p10_ms"] <= measured["latency_ms"] <= measured["latency_p90_ms"]
    assert "1 thread, batch 1" in found["latency_of"]
    assert f"Kept {found['form']}: {found['why']}." in printed


@pytest.mark.slow
def test_it_is_calibrated_on_training_images_alone(shipped):
    _, seen, _ = shipped
    task, test = prepared()
    train, others = (
        {image.tobytes() for split in splits for image in split.images}
        for splits in ((task.train,), (task.held_out, test))
    )
    assert [len(images) for images in seen] == [exporting.CALIBRATION] * 2
    for images in seen:
        drawn = {image.tobytes() for image in images}
        assert len(drawn) > 0.9 * len(images)
        assert drawn <= train
        assert not drawn & others


@pytest.mark.slow
def test_repeated_it_writes_the_same_bytes(shipped, tmp_path, monkeypatch):
    run, _, _ = shipped
    again = Path(shutil.copytree(run, tmp_path / "run"))
    (again / "model.int8.onnx").unlink()
    form = Run(run).summary["int8"]["form"]
    monkeypatch.setattr(exporting, "better", lambda forms: (form, "told"))  # speeds differ from time to time
    assert main(["export", str(again), "--int8"]) == 0
    for name in ("model.onnx", "model.int8.onnx"):
        assert (again / name).read_bytes() == (run / name).read_bytes(), name


@pytest.mark.slow
def test_the_report_shows_both(shipped):
    from automl_trackers.report import page

    run, _, _ = shipped
    text = page(Run(run))
    found = Run(run).summary["int8"]
    assert "In eight bits" in text
    for version in (found["versions"]["float"], found["versions"][found["form"]]):
        assert f"{version['bytes']:,}" in text


@pytest.mark.slow
def test_another_network_in_the_run_leaves_no_old_file(shipped, tmp_path):
    run = Path(shutil.copytree(shipped[0], tmp_path / "run"))
    assert main(["resume", str(run), "trials=2", "retrain.epochs=1"]) == 0
    assert not (run / "model.int8.onnx").exists()
    assert "int8" not in Run(run).summary


# refused, and the run as it was


def begun(folder, **changed):
    """Return a folder that looks like a run's of digits with a network, but for what is changed in its heading."""
    heading = {"task": {"name": "digits"}, "seed": 2, **changed}
    folder.mkdir()
    journal = Journal(folder / "journal.jsonl", {key: value for key, value in heading.items() if value is not None})
    journal.open()
    journal.close()
    (folder / ".lock").touch()
    (folder / "config.yaml").write_text("{}")
    (folder / "summary.json").write_text('{"schema": 1, "model": {}}')
    (folder / "model.onnx").write_bytes(b"as it was")
    return folder


def refused(folder, capsys, monkeypatch):
    """Export a run in eight bits; return the sentence it was refused with, after seeing that it is as it was."""
    monkeypatch.setattr("automl.final.load", lambda folder, target=None: None)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(["export", str(folder), "--int8"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    return err


def test_images_that_are_gone_are_said(tmp_path, capsys, monkeypatch):
    folder = begun(tmp_path / "run", task={"name": "image_folder", "root": str(tmp_path / "photos")})
    said = refused(folder, capsys, monkeypatch)
    assert "int8 needs the training images of task image_folder, which cannot be had: " in said
    assert str(tmp_path / "photos") in said


def test_a_task_that_is_not_installed_is_said(tmp_path, capsys, monkeypatch):
    said = refused(begun(tmp_path / "run", task={"name": "digitz"}), capsys, monkeypatch)
    assert "no task is named 'digitz' (did you mean 'digits'?)" in said


@pytest.mark.parametrize("changed", [{"task": None}, {"task": "digits"}, {"seed": None}])
def test_a_heading_without_task_or_seed_is_said(tmp_path, capsys, monkeypatch, changed):
    said = refused(begun(tmp_path / "run", **changed), capsys, monkeypatch)
    assert "does not say of which task and seed it is" in said


def test_other_images_than_those_of_the_run_are_refused(tmp_path, capsys, monkeypatch):
    said = refused(begun(tmp_path / "run", data="0123456789abcdef"), capsys, monkeypatch)
    assert "the images of task digits are not those that the network of" in said


def test_a_task_without_training_images_is_refused(tmp_path, capsys, monkeypatch):
    task = {"name": "recorded", "images": None}
    said = refused(begun(tmp_path / "run", task=task), capsys, monkeypatch)
    assert "task recorded" in said


def test_a_run_without_a_final_network_is_refused(tmp_path, capsys):
    assert main([*SEARCH, f"runs={tmp_path}", "watch=[]", "retrain=none"]) == 0
    folder = next(tmp_path.glob("*/*/summary.json")).parent
    capsys.readouterr()
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(["export", str(folder), "--int8"]) == 2
    assert "architecture.json cannot be read: No such file or directory; run automl resume" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_summary_without_a_model_is_refused(tmp_path, capsys, monkeypatch):
    folder = begun(tmp_path / "run")
    (folder / "summary.json").write_text('{"schema": 1}')
    assert "has no final network yet: run automl resume" in refused(folder, capsys, monkeypatch)


def test_a_network_that_cannot_be_quantised_leaves_the_run_as_it_was(tmp_path, capsys, monkeypatch):
    model, _ = refused_network()
    monkeypatch.setattr(exporting, "as_onnx", lambda *_: model)
    said = refused(begun(tmp_path / "run"), capsys, monkeypatch)
    assert "onnxruntime cannot quantise the operator LayerNormalization of this network" in said


def test_a_run_in_use_is_refused(tmp_path, capsys, monkeypatch):
    folder = begun(tmp_path / "run")
    lock = Lock(folder)
    try:
        assert f"in use by process {os.getpid()}" in refused(folder, capsys, monkeypatch)
    finally:
        lock.release()

"""What is shipped does what was trained, in PyTorch and in onnxruntime, or is not shipped."""

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from automl import BadInput
from automl.deploy import Deployed, _as_onnx, _lean, check_onnx, export_onnx, load_weights, save_weights
from automl.measure import at_rest

CLASSES = ("cat", "dog", "größe")


class Network(nn.Module):
    """All that exporters trip over: batch statistics far from 0 and 1, a halving by two paths, squeeze and
    excitation, a channel shuffle by reshape, pooling to a size that does not divide, and flatten."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.left = nn.Conv2d(8, 4, 1, stride=2)
        self.right = nn.Conv2d(8, 4, 1, stride=2)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.pool = nn.AdaptiveAvgPool2d(3)
        self.out = nn.Linear(72, len(CLASSES))
        norm = self.stem[1]
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            norm.running_mean.copy_(50 * torch.randn(8, generator=generator))
            norm.running_var.copy_(1e-3 + 100 * torch.rand(8, generator=generator))

    def forward(self, images):
        maps = self.stem(images)
        maps = torch.cat([self.left(maps), self.right(nn.functional.pad(maps, (0, 1, 0, 1))[:, :, 1:, 1:])], 1)
        maps = maps * self.squeeze(maps)
        batch, channels, height, width = maps.shape
        maps = maps.reshape(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(maps.shape)
        return self.out(self.pool(maps).flatten(1))


def deployed(network=None, size=8, channels=1):
    torch.manual_seed(0)
    network = Network(channels) if network is None else network
    mean, std = (0.3, 0.4, 0.5)[:channels], (0.2, 0.3, 0.1)[:channels]
    return Deployed(network, mean=mean, std=std, classes=CLASSES, input=(channels, size, size))


@pytest.fixture(autouse=True)
def _torch_draws_as_before():
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.fixture(scope="module")
def photos():
    return np.random.default_rng(1).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory, photos):
    """A network left in training mode, exported from an empty working directory, and what was printed meanwhile."""
    model = deployed().train()
    model.network.pool.eval()
    folder, elsewhere = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("elsewhere")
    before = Path.cwd()
    os.chdir(elsewhere)
    try:
        export_onnx(model, folder / "model.onnx", {"run": "a [run]"}, photos)
    finally:
        os.chdir(before)
    assert list(elsewhere.iterdir()) == []
    return model, folder


def edited(path: Path, change) -> bytes:
    """Return the file with its weights, a dictionary by name, changed."""
    import onnx

    proto = onnx.load_from_string(path.read_bytes())
    weights = {weight.name: onnx.numpy_helper.to_array(weight).copy() for weight in proto.graph.initializer}
    change(weights)
    for weight in proto.graph.initializer:
        weight.CopyFrom(onnx.numpy_helper.from_array(weights[weight.name], weight.name))
    return proto.SerializeToString()


def test_a_deployed_network_normalises_by_itself():
    model = Deployed(nn.Flatten(), mean=(0.5, 0.25), std=(0.5, 0.125), classes=CLASSES, input=(2, 1, 1))
    images = torch.tensor([1.0, 0.5]).view(1, 2, 1, 1)
    assert model(images).tolist() == [[1.0, 2.0]]


def test_weights_are_saved_and_read_back_bit_for_bit(tmp_path):
    model, other = (
        deployed(channels=3),
        Deployed(Network(3), mean=(0, 0, 0), std=(1, 1, 1), classes=CLASSES, input=(3, 8, 8)),
    )
    model.to(memory_format=torch.channels_last)
    model.save(tmp_path, {"decisions": {"layer": "größe"}})
    load_weights(other, tmp_path / "model.safetensors")
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(model.to(memory_format=torch.contiguous_format).eval()(images), other.eval()(images))
    described = json.loads((tmp_path / "architecture.json").read_text(encoding="utf-8"))
    assert described == {
        "schema": 1,
        "input": [3, 8, 8],
        "classes": list(CLASSES),
        "decisions": {"layer": "größe"},
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == ["architecture.json", "model.safetensors"]


def test_weights_that_are_shared_are_saved(tmp_path):
    def tied():
        network = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 4))
        network[2].weight = network[1].weight
        return network

    network, other = tied(), tied()
    save_weights(network, tmp_path / "model.safetensors")
    load_weights(other, tmp_path / "model.safetensors")
    assert torch.equal(network[2].weight, other[1].weight)


@pytest.mark.parametrize("name", ["evil.pt", "names_code.ckpt"])
def test_a_pickle_under_a_good_name_is_refused_and_not_run(tmp_path, monkeypatch, cases, name):
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("this", None)
    shutil.copy(cases / "security" / name, tmp_path / "model.safetensors")
    model = deployed()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(BadInput, match=r"model\.safetensors holds no weights .* only safetensors files are read"):
        load_weights(model, tmp_path / "model.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert "this" not in sys.modules
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_weights_of_another_network_are_refused_by_name(tmp_path):
    save_weights(nn.Linear(3, 2), tmp_path / "model.safetensors")
    with pytest.raises(BadInput, match=r"float32 \(2, 3\) for 'weight', where the network has float32 \(2, 4\)"):
        load_weights(nn.Linear(4, 2), tmp_path / "model.safetensors")
    with pytest.raises(BadInput, match=r"float32 \(2,\) for 'bias', where the network has nothing"):
        load_weights(nn.Linear(3, 2, bias=False), tmp_path / "model.safetensors")
    with pytest.raises(BadInput, match="has nothing for 'alpha'"):
        network = nn.Linear(3, 2)
        network.register_buffer("alpha", torch.zeros(1))
        load_weights(network, tmp_path / "model.safetensors")
    with pytest.raises(BadInput, match=r"float32 \(2,\) for 'bias', where the network has float64 \(2,\)"):
        load_weights(nn.Linear(3, 2).double(), tmp_path / "model.safetensors")
    with pytest.raises(BadInput, match="does not exist"):
        load_weights(nn.Linear(3, 2), tmp_path / "none.safetensors")


def test_weights_cut_short_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_weights(nn.Linear(3, 2), path)
    whole = path.read_bytes()
    for length in (0, 4, 20, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(BadInput, match="holds no weights"):
            load_weights(nn.Linear(3, 2), path)


@pytest.mark.slow
def test_one_file_is_one_file(shipped, tmp_path):
    """E1: alone in an empty folder, from another working directory, in a process without torch."""
    _, folder = shipped
    assert [path.name for path in folder.iterdir()] == ["model.onnx"]
    shutil.copy(folder / "model.onnx", tmp_path)
    program = (
        "import numpy, onnxruntime, sys\n"
        "session = onnxruntime.InferenceSession(sys.argv[1])\n"
        "(answer,) = session.run(None, {'images': numpy.zeros((1, 1, 8, 8), numpy.float32)})\n"
        "print(answer.shape)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "model.onnx")]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 3)"


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2, 5, 17])
def test_any_batch_gives_the_outputs_of_torch(shipped, batch):
    """E2 and E3: also where batch statistics are far from 0 and 1, and the model was in training mode."""
    import onnxruntime

    model, folder = shipped
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    images = np.random.default_rng(batch).random((batch, 1, 8, 8), dtype=np.float32)
    (found,) = session.run(["logits"], {"images": images})
    with at_rest(model), torch.no_grad():
        expected = model(torch.from_numpy(images)).numpy()
    assert np.abs(found - expected).max() < 1e-4
    assert np.ptp(expected) > 1e-2


@pytest.mark.slow
def test_the_model_is_put_back_as_it_was(shipped):
    model, _ = shipped
    assert model.training
    assert model.network.stem.training
    assert not model.network.pool.training


@pytest.mark.slow
def test_the_file_says_what_it_is_for(shipped):
    import onnxruntime

    _, folder = shipped
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == list(CLASSES)
    assert json.loads(facts["input"]) == [1, 8, 8]
    assert facts["run"] == "a [run]"
    (given,), (answer,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.shape) == ("images", ["batch", 1, 8, 8])
    assert (answer.name, answer.shape) == ("logits", ["batch", 3])


@pytest.mark.slow
def test_the_file_does_not_say_where_it_was_made(shipped):
    _, folder = shipped
    model = (folder / "model.onnx").read_bytes()
    assert b".py" not in model
    assert str(Path(__file__).parent.parent).encode() not in model


@pytest.mark.slow
def test_the_exporter_is_silent(tmp_path):
    """In a process of its own, for what is printed by code below Python is seen there too."""
    program = (
        "import sys, pathlib\nfrom torch import nn\nfrom automl.deploy import Deployed, export_onnx\n"
        "network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))\n"
        "model = Deployed(network, mean=(0.5,), std=(0.5,), classes=('a', 'b'), input=(1, 2, 2))\n"
        "export_onnx(model, pathlib.Path(sys.argv[1]), {})\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "model.onnx")]
    environment = {name: value for name, value in os.environ.items() if name != "AUTOML_DEBUG"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.slow
def test_the_check_passes_what_was_exported(shipped, photos):
    model, folder = shipped
    with at_rest(model):
        check_onnx((folder / "model.onnx").read_bytes(), model, photos)


def change_a_bias(weights):
    weights["network.out.bias"][1] += 0.01


def swap_two_rows(weights):
    weights["network.out.weight"][[0, 1]] = weights["network.out.weight"][[1, 0]]
    weights["network.out.bias"][[0, 1]] = weights["network.out.bias"][[1, 0]]


@pytest.mark.slow
@pytest.mark.parametrize("change", [change_a_bias, swap_two_rows])
def test_the_check_fails_for_changed_weights(shipped, photos, change):
    """E4."""
    model, folder = shipped
    wrong = edited(folder / "model.onnx", change)
    with at_rest(model), pytest.raises(BadInput, match="not do what the network does: on 1 random images the outputs"):
        check_onnx(wrong, model, photos)


@pytest.mark.slow
def test_the_check_does_not_look_at_zeros(tmp_path):
    """E4: both networks answer 0 to zeros, and so would pass."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False))
    model = Deployed(network, mean=(0.0,), std=(1.0,), classes=CLASSES, input=(1, 2, 2)).eval()
    export_onnx(model, tmp_path / "model.onnx", {})
    with torch.no_grad():
        network[1].weight[2, 1] += 0.1
    with pytest.raises(BadInput, match="the outputs differ"):
        check_onnx((tmp_path / "model.onnx").read_bytes(), model)


@pytest.mark.slow
def test_the_check_looks_at_real_images_too(tmp_path):
    """Random images are grey on average; this network sees only what is nearly black."""

    class Dark(nn.Module):
        def __init__(self):
            super().__init__()
            self.offset = nn.Parameter(torch.zeros(1))

        def forward(self, images):
            darkness = nn.functional.relu(0.1 - images.mean((1, 2, 3)))[:, None]
            return torch.cat([darkness * self.offset, darkness, darkness], 1)

    model = Deployed(Dark(), mean=(0.0,), std=(1.0,), classes=CLASSES, input=(1, 8, 8)).eval()
    export_onnx(model, tmp_path / "model.onnx", {})
    with torch.no_grad():
        model.network.offset += 1
    check_onnx((tmp_path / "model.onnx").read_bytes(), model)
    with pytest.raises(BadInput, match="on 1 real images the outputs differ"):
        check_onnx((tmp_path / "model.onnx").read_bytes(), model, np.zeros((4, 1, 8, 8), dtype=np.uint8))


@pytest.mark.slow
def test_a_dropout_that_is_always_on_is_caught(tmp_path):
    """E3: nothing wrong is left behind, and what was there is kept."""

    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(64, 3)

        def forward(self, images):
            return self.out(nn.functional.dropout(images.flatten(1), 0.5))

    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(BadInput, match="two answers for one image"):
        export_onnx(deployed(Noisy()), tmp_path / "model.onnx", {})
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


@pytest.mark.slow
def test_a_network_that_cannot_be_exported_is_refused_in_one_sentence(tmp_path):
    class Branching(nn.Module):
        def forward(self, images):
            flat = images.flatten(1)[:, :3]
            return flat + 1 if flat.sum() > 0 else flat

    with pytest.raises(BadInput, match=r"^the network cannot be exported to ONNX \(.*\): AUTOML_DEBUG=1 shows where$"):
        export_onnx(deployed(Branching()), tmp_path / "model.onnx", {})
    assert list(tmp_path.iterdir()) == []


def operators(model):
    import onnx

    return [node.op_type for node in onnx.load_from_string(model).graph.node]


def test_a_lean_network_does_what_it_did():
    """Normalisation goes into the weights of convolutions that are met once, and nowhere else."""
    shared = nn.Conv2d(8, 8, 1)
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU6(inplace=True)),
        nn.Sequential(shared, nn.BatchNorm2d(8), nn.ReLU(inplace=True)),
        nn.Sequential(shared, nn.BatchNorm2d(8)),
        nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8, track_running_stats=False)),
        nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.ReLU(inplace=True), nn.BatchNorm2d(8, affine=False)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, len(CLASSES)),
    )
    one = deployed(network).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    images = torch.rand(2, 1, 8, 8)
    before = one(images)
    made = _lean(copy.deepcopy(one))
    assert torch.allclose(made(images), before, atol=1e-6)
    kinds = [[type(part) for part in block] for block in made.network[:5]]
    assert kinds[0] == [nn.Conv2d, nn.Identity, nn.ReLU6]
    assert kinds[1:] == [[type(part) for part in block] for block in network[1:5]]
    assert not any(getattr(module, "inplace", False) for module in made.modules())
    assert network[0][2].inplace
    assert torch.equal(one(images), before)


@pytest.mark.slow
def test_a_lean_network_is_exported_as_it_was(shipped):
    network, folder = shipped
    with at_rest(network), torch.no_grad():
        assert operators((folder / "model.onnx").read_bytes()) == operators(_as_onnx(network, {}))


class InPlace(nn.Module):
    """Reads a map again that its activation has overwritten."""

    def __init__(self):
        super().__init__()
        self.first, self.activation = nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True)
        self.last = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, len(CLASSES)))

    def forward(self, images):
        maps = self.first(images)
        return self.last(self.activation(maps) + maps)


@pytest.mark.slow
def test_a_network_that_lives_by_changing_its_maps_is_exported_as_it_is(tmp_path):
    one, images = deployed(InPlace()), torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        assert not torch.allclose(_lean(copy.deepcopy(one))(images), one(images))
    export_onnx(one, tmp_path / "model.onnx", {})
    check_onnx((tmp_path / "model.onnx").read_bytes(), one.eval())


@pytest.mark.slow
@pytest.mark.parametrize(("pooled", "size"), [(3, 7), (1, 33)])
def test_pooling_to_a_size_that_does_not_divide(tmp_path, pooled, size):
    """E5; a size of 3 on 8 x 8 is in the network above."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(pooled), nn.Flatten(), nn.Linear(pooled * pooled, 3))
    export_onnx(deployed(network, size), tmp_path / "model.onnx", {})
    assert (tmp_path / "model.onnx").exists()

"""What a network costs, counted and timed."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from automl import deploy
from automl.deploy import Deployed, export_onnx
from automl.measure import at_rest, multiply_adds, onnx_latency, parameters, strip, torch_latency


class Head(nn.Linear):
    training_only = True


class Network(nn.Module):
    """A convolution, and an auxiliary head that only training needs."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
        self.head: Head | None = Head(4, 3)
        self.out = nn.Linear(4, 3)

    def forward(self, images):
        features = self.body(images).mean((2, 3))
        if self.training and self.head is not None:
            return self.out(features), self.head(features)
        return self.out(features)


def test_parameters_are_those_that_are_shipped_frozen_or_not():
    network = Network()
    assert parameters(network) == 4 * 9 + 4 + 8 + 15
    network.body[0].bias.requires_grad_(False)
    assert parameters(network) == 4 * 9 + 4 + 8 + 15


def test_parameters_that_are_shared_count_once():
    network = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    network[1].weight = network[0].weight
    assert parameters(network) == 9


def test_multiply_adds_are_those_of_convolutions_and_products():
    network = Network().train()
    assert multiply_adds(network, (1, 8, 8)) == 4 * 9 * 64 + 12
    assert network.training
    assert network.body[3].training


@pytest.mark.parametrize(
    ("layer", "size", "expected"),
    [
        (nn.Conv2d(4, 8, 3, groups=2, bias=False), 6, 8 * 2 * 9 * 16),
        (nn.Conv2d(4, 4, 3, groups=4, dilation=2, padding=2), 6, 4 * 9 * 36),
        (nn.Conv2d(4, 8, 3, stride=2, padding=1), 7, 8 * 4 * 9 * 16),
        (nn.Conv2d(4, 8, 1), 1, 32),
    ],
    ids=["grouped", "dilated depthwise", "strided", "pointwise"],
)
def test_multiply_adds_are_exact(layer, size, expected):
    assert multiply_adds(layer, (4, size, size)) == expected


def test_counting_leaves_batch_statistics_as_they_were():
    network = Network()
    before = network.body[1].running_mean.clone()
    multiply_adds(network, (1, 8, 8))
    assert torch.equal(network.body[1].running_mean, before)


def test_stripping_takes_out_the_parts_for_training_alone():
    network = Network().train()
    assert isinstance(network(torch.rand(2, 1, 8, 8)), tuple)
    stripped = strip(network)
    assert stripped is network
    assert network.head is None
    assert not any(module.training for module in network.modules())
    assert network(torch.rand(2, 1, 8, 8)).shape == (2, 3)
    assert not any("head" in name for name in network.state_dict())


def test_a_model_is_put_back_as_it_was_when_measuring_fails():
    network = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    with pytest.raises(ZeroDivisionError), at_rest(network):
        assert not network[0].training
        raise ZeroDivisionError
    assert network.training
    assert network[0].training
    assert not network[1].training


def test_latency_in_torch_is_of_one_thread_and_puts_the_threads_back():
    seen = []

    class Watched(Network):
        def forward(self, images):
            seen.append((torch.get_num_threads(), tuple(images.shape), self.training))
            return super().forward(images)

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        latency = torch_latency(Watched(), (1, 8, 8), runs=7)
        assert torch.get_num_threads() == 2
        with pytest.raises(RuntimeError):
            torch_latency(Watched(), (2, 8, 8))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert set(seen[:-1]) == {(1, (1, 1, 8, 8), False)}
    assert latency.runs == 7
    assert latency.threads == 1
    assert latency.runtime.startswith("torch ")
    assert 0 < latency.p10_ms <= latency.median_ms <= latency.p90_ms


def test_latency_in_torch_is_of_as_many_images_and_threads_as_asked():
    seen = []

    class Watched(Network):
        def forward(self, images):
            seen.append((torch.get_num_threads(), tuple(images.shape)))
            return super().forward(images)

    latency = torch_latency(Watched(), (1, 8, 8), runs=5, threads=2, batch=3, warm_up=1)
    assert seen == [(2, (3, 1, 8, 8))] * 6
    assert (latency.threads, latency.batch, latency.runs) == (2, 3, 5)


def test_latency_tells_a_slow_network_from_a_fast_one():
    fast, slow = nn.Conv2d(1, 1, 3), nn.Sequential(*(nn.Conv2d(32, 32, 3, padding=1) for _ in range(20)))
    assert torch_latency(slow, (32, 32, 32)).median_ms > 3 * torch_latency(fast, (1, 8, 8)).median_ms


@pytest.mark.slow
def test_an_untrained_network_is_timed_as_it_would_be_shipped():
    task = SimpleNamespace(input=(1, 8, 8), outputs=3, classes=("a", "b", "c"), mean=(0.5,), std=(0.5,))
    network = Network().train()
    latency = deploy.latency(network, task, threads=2, batch=3)
    assert (latency.threads, latency.batch) == (2, 3)
    assert network.training
    assert network.head is not None


@pytest.mark.slow
def test_latency_in_onnxruntime(tmp_path):
    deployed = Deployed(Network().eval(), mean=(0.5,), std=(0.5,), classes=("a", "b", "c"), input=(1, 8, 8))
    export_onnx(deployed, tmp_path / "model.onnx", {}, np.zeros((3, 1, 8, 8), dtype=np.uint8))
    latency = onnx_latency(tmp_path / "model.onnx", (1, 8, 8), runs=20)
    assert latency.runtime.startswith("onnxruntime ")
    assert (latency.runs, latency.threads, latency.batch) == (20, 1, 1)
    assert 0 < latency.p10_ms <= latency.median_ms <= latency.p90_ms


def test_nothing_is_told_to_anybody(tmp_path):
    """What else is installed writes an identifier of the machine into the home, to be sent with figures of use."""
    code = "import automl.deploy, onnxruntime, torch; from lightning.fabric import Fabric"
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": ""}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=120)
    written = [path for path in tmp_path.rglob("*") if path.is_file() and "matplotlib" not in path.parts]
    assert written == []

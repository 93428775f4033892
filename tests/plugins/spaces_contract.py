"""What every space of layers is tested for: samples, networks, mutation, and its recipe."""

from __future__ import annotations

import dataclasses
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch.nn import functional

from automl import Space
from automl.deploy import Deployed, export_onnx
from automl.measure import onnx_session

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass
class Images:
    """All that a space may use of a task."""

    input: tuple[int, int, int] = (1, 8, 8)
    outputs: int = 10


def samples(space: Space[Any], count: int = 10_000) -> list[Any]:
    """Return the blueprints of so many uniform samples, every one legal: no domain was ever empty."""
    rng = random.Random(0)
    drawn = [space.sample(rng) for _ in range(count)]
    for architecture in drawn[: count // 100]:
        assert all(architecture.domains[name].fit(value) == value for name, value in architecture.values.items())
        hash(space.canonical(architecture.blueprint))
    return [architecture.blueprint for architecture in drawn]


def check_training(space: Space[Any], image: tuple[int, int, int] = (1, 8, 8), count: int = 24) -> None:
    """Build so many networks, and run them forward and backward: every parameter has a finite gradient."""
    rng, task = random.Random(1), Images(image, 3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(count):
            architecture = space.sample(rng)
            network = space.build(architecture.blueprint, task)
            logits = network(torch.randn(3, *image))
            assert logits.shape == (3, 3)
            functional.cross_entropy(logits, torch.tensor([0, 1, 2])).backward()
            for name, parameter in network.named_parameters():
                assert parameter.grad is not None, (name, architecture)
                assert parameter.grad.isfinite().all(), (name, architecture)


def check_ergodic(space: Space[Any], tries: int = 60) -> None:
    """Reach every architecture by mutating, from any one, and none that is not of the space."""
    everything = set(space.enumerate())
    assert space.size() == len(everything)
    rng = random.Random(0)
    reached = {space.sample(rng)}
    waiting = list(reached)
    while waiting:
        one = waiting.pop()
        for _ in range(tries):
            mutant = space.mutate(one, rng)
            if mutant not in reached:
                reached.add(mutant)
                waiting.append(mutant)
    assert reached == everything


def printed(program: str) -> str:
    """Return what a Python program prints in a process of its own, the same under any seed of Python's hashes."""
    told = set()
    for seed in ("1", "2"):
        run, environment = [sys.executable, "-c", program], {**os.environ, "PYTHONHASHSEED": seed}
        told.add(subprocess.run(run, check=True, capture_output=True, text=True, env=environment).stdout)
    assert len(told) == 1
    return told.pop()


def check_export(deployed: Deployed, images: torch.Tensor, folder: Path) -> None:
    """Export a network, and compare what its file answers with what it does."""
    export_onnx(deployed, folder / "model.onnx", {})
    found = onnx_session((folder / "model.onnx").read_bytes()).run(None, {"images": images.numpy()})[0]
    with torch.inference_mode():
        expected = deployed(images).numpy()
    assert np.abs(found - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())


def check_recipe(space: Any, name: str) -> None:
    """Compare the defaults with what the space's YAML file says."""
    recipe = yaml.safe_load((ROOT / "conf" / "space" / f"{name}.yaml").read_text())
    recipe.pop("final", None)
    fields = {field.name: _listed(getattr(space, field.name)) for field in dataclasses.fields(space)}
    assert list(recipe.items()) == [("name", name), *fields.items()]


def _listed(value: Any) -> Any:
    return [_listed(one) for one in value] if isinstance(value, tuple) else value

"""Every space with every strategy with every evaluator: each goes through the same door, or is refused with a word."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

import automl_networks
from automl import BadInput, config
from automl.experiment import Experiment
from automl.final import load
from automl.measure import onnx_session
from automl.plugins import Registry

REGISTRY = Registry()
SMALL = {
    "chain": ["space.stages=2", "space.depth=2", "space.channels=4"],
    "nasnet": ["space.blocks=1", "space.channels=4", "space.reductions=1"],
    "darts": ["space.cells=1", "space.channels=4"],
    "nasbench201": ["space.cells=1", "space.channels=4"],
    "mobilenet_v2": ["space.width=[0.2,0.25,0.3]"],
    "squeezenet": ["space.width=0.1"],
}
HAND_DESIGNED = sorted(automl_networks.automl_spaces())
NARROW = {"vgg": 0.06, "alexnet": 0.06, "gcn": 0.06, "espnet_v2": 0.5, "shufflenet_v2": 0.5, "thundernet": 0.5}
WRAPPERS = {"hyperband", "successive_halving", "asha", "curve"}
REFUSED = {  # the pairs that cannot work, and the word that says why; docs/methods.md lists them
    ("chain", "tabular"): "table nasbench201 holds cells of six edges",
    ("nasnet", "tabular"): "table nasbench201 holds cells of six edges",
    ("darts", "tabular"): "table nasbench201 holds cells of six edges",
    ("toy", "tabular"): "table nasbench201 holds cells of six edges",
    ("mobilenet_v2", "tabular"): "table nasbench201 holds cells of six edges",
    ("squeezenet", "tabular"): "table nasbench201 holds cells of six edges",
    ("spikenas", "training"): "evaluator=tabular",
    ("spikenas", "supernet"): "evaluator=tabular",
}
SPACES, STRATEGIES, EVALUATORS = (REGISTRY.names(kind) for kind in ("space", "strategy", "evaluator"))
CLIMBING = {name for name in STRATEGIES if REGISTRY.load("strategy", name).gradients}
# of the hand-designed networks, which are one kind of space: one with a decision, and one with none
TOGETHER = [space for space in SPACES if space not in HAND_DESIGNED or space in SMALL]


def words(space, strategy, evaluator):
    chosen = [f"+space={space}", f"strategy={strategy}", f"evaluator={evaluator}", "trials=3", "watch=[]"]
    chosen += SMALL.get(space, [])
    if strategy == "ddpg":  # so that it learns from the first of them
        chosen += ["strategy.warmup=0", "strategy.hidden=16"]
    inner = "evaluator"
    if evaluator in WRAPPERS:
        inner = "evaluator.inner"
        chosen.append(f"evaluator/inner={'tabular' if space == 'spikenas' else 'training'}")
    if evaluator == "curve":  # few samples: what matters here is that it runs
        chosen += ["evaluator.samples=40", "evaluator.burn_in=20", "evaluator.first=2"]
    if evaluator == "curve" and space == "spikenas":
        chosen.append("evaluator.every=50")
    if space == "spikenas" and (evaluator in WRAPPERS or evaluator == "tabular"):
        chosen.append(f"{inner}.table=spikenas")
    elif evaluator == "training" or evaluator in WRAPPERS:
        chosen += [f"{inner}.epochs=2", f"{inner}.learning_rate=0.05"]
    if "tabular" not in "".join(chosen):
        chosen += ["retrain=none", "task=synthetic", "task.count=40", "task.size=8"]
    return chosen


def run(chosen):
    experiment = Experiment(config.compose(chosen, REGISTRY), REGISTRY)
    return experiment.run()


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("space", "evaluator"), [*product(TOGETHER, EVALUATORS)])
def test_every_strategy_runs_on_every_space_with_every_evaluator(space, evaluator, request, monkeypatch):
    if evaluator == "tabular" or (space == "spikenas" and evaluator in WRAPPERS):
        monkeypatch.setenv("AUTOML_DATA", str(request.getfixturevalue("data")))
    for strategy in STRATEGIES:
        chosen = words(space, strategy, evaluator)
        refusal = REFUSED.get((space, evaluator))
        if strategy in CLIMBING and evaluator != "supernet":
            refusal = f"{refusal}|{strategy} learns from gradients, and evaluator {evaluator} reports none"
        if refusal is not None:
            with pytest.raises(BadInput, match=refusal.removeprefix("None|")):
                run(chosen)
            assert (space, evaluator) not in REFUSED or not Path("runs").exists()
            continue
        study = run(chosen)
        assert len(study.trials) == 3 or (space == "squeezenet" and study.trials)
        assert study.failed == [], (strategy, study.failed[0].error)
        assert json.loads((study.directory / "summary.json").read_text())["best"] is not None
        assert not any("edge" in reason for reason in study.summary["warnings"])


@pytest.mark.slow
@pytest.mark.parametrize("space", HAND_DESIGNED)
def test_every_hand_designed_network_is_trained_tested_measured_and_exported(space):
    chosen = [f"+space={space}", f"space.width={NARROW.get(space, 0.25)}", "strategy=grid", "watch=[]"]
    chosen += ["task=synthetic", "task.count=40", "evaluator.epochs=1", "retrain.epochs=1"]
    study = run(chosen)
    assert [trial.error for trial in study.trials] == [None]
    summary = json.loads((study.directory / "summary.json").read_text())
    assert 0 <= summary["test"]["accuracy"] <= 1
    assert summary["model"]["latency_ms"] > 0
    assert summary["model"]["parameters"] == study.trials[0].metrics["parameters"]
    images = np.random.default_rng(0).random((17, 1, 8, 8), dtype=np.float32)
    with torch.inference_mode():
        expected = load(study.directory)(torch.from_numpy(images)).numpy()
    session = onnx_session((study.directory / "model.onnx").read_bytes())
    found = session.run(None, {"images": images})[0]
    assert np.abs(found - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())


def test_what_cannot_work_is_listed_in_the_docs():
    listed = (Path(__file__).parents[1] / "docs" / "methods.md").read_text()
    for space, evaluator in REFUSED:
        if space in HAND_DESIGNED:
            assert f"| hand-designed networks | `{evaluator}` |" in listed
        elif space != "toy":
            assert f"| `{space}` | `{evaluator}` |" in listed
    assert set(REFUSED) <= set(product(TOGETHER, EVALUATORS))


def test_the_loop_knows_no_kind_of_component():
    text = (Path(__file__).parents[1] / "automl" / "study.py").read_text()
    kinds = [kind.capitalize() for kind in ("space", "strategy", "evaluator", "executor")]
    assert not any(f"isinstance({word}" in text for word in ("self.space", "self.strategy", "self.evaluator"))
    assert not any(f", {kind})" in text for kind in kinds)
    for name in {*STRATEGIES, *EVALUATORS, *SPACES} - {"toy", "random"}:
        assert f'"{name}"' not in text

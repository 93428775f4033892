"""Every space with every strategy, evaluator and compressor: each goes through the same door, or is refused."""

from __future__ import annotations

import json
import random
from itertools import cycle, product
from pathlib import Path

import numpy as np
import pytest
import torch

import automl_networks
from automl import BadInput, Objective, config, final
from automl.compressor import Compressed
from automl.experiment import Experiment
from automl.final import load
from automl.joining import Parts
from automl.measure import multiply_adds, onnx_session
from automl.plugins import Registry
from automl.study import Study
from given import Given, plain

REGISTRY = Registry()
SMALL = {
    "chain": ["space.stages=2", "space.depth=2", "space.channels=4"],
    "nasnet": ["space.blocks=1", "space.channels=4", "space.reductions=1"],
    "darts": ["space.cells=1", "space.channels=4"],
    "nasbench201": ["space.cells=1", "space.channels=4"],
    "metaqnn": ["space.resolution=8", "space.limit=3", "space.filters=[2,4]", "space.widths=[8,4]"],
    "nasrl": ["space.layers=2", "space.filters=[2,4]"],
    "genetic_cnn": ["space.nodes=[2,3]", "space.filters=[2,4]", "space.hidden=8"],
    "multi_branch": ["space.depth=2", "space.kernels=[1,3]", "space.filters=[2,4]"],
    "enas_macro": ["space.layers=3", "space.channels=4"],
    "auto_net": ["space.layers=2", "space.units=[4,8]"],
    "smash": ["space.blocks=1", "space.layers=1", "space.banks=2", "space.kernels=[1,3]", "space.dilation=1"],
    "unstructured": ["space.vertices=2", "space.kernel=3", "space.filters=4"],
    "nasbot": ["space.most=3", "space.units=[2,4]"],
    "amoebanet": ["space.blocks=1", "space.channels=4", "space.reductions=1"],
    "enas_micro": ["space.blocks=1", "space.channels=4", "space.reductions=1"],
    "nao": ["space.blocks=1", "space.channels=4", "space.reductions=1"],
    "pnas": ["space.blocks=2", "space.channels=4", "space.reductions=1"],
    "hierarchical": ["space.channels=4", "space.nodes=[3,3]", "space.motifs=[2]"],
    "nasbench101": ["space.channels=4"],
    "nasbench_macro": ["space.channels=4"],
    "dpp_net": ["space.channels=4", "space.growth=4", "space.layers=2"],
    "mnasnet_search": ["space.width=0.1"],
    "blockqnn": ["space.layers=4", "space.channels=4"],
    "cgp": ["space.columns=5", "space.widths=[4,8]"],
    "tree_cell": ["space.channels=8"],
    "choice_blocks": ["space.blocks=2", "space.channels=4"],
    "morphisms": ["space.steps=2", "space.filters=[4,4]"],
    "ofa": ["space.width=0.05", "space.depths=[1,2]", "space.kernels=[3,5]"],
    "mobilenet_v2": ["space.width=[0.2,0.25,0.3]"],
    "squeezenet": ["space.width=0.1"],
}
# what differs from other spaces in its decisions alone goes with one strategy in five, each evaluator with others
BY_TURNS = (
    "amoebanet",
    "enas_micro",
    "nao",
    "pnas",
    "hierarchical",
    "nasbench101",
    "nasbench_macro",
    "dpp_net",
    "mnasnet_search",
    "blockqnn",
    "cgp",
    "tree_cell",
    "choice_blocks",
    "morphisms",
    "ofa",
)
OFTEN = ("chain", "darts", "enas_macro", "mobilenet_v2", "nasnet", "squeezenet")  # so do these, but with every gradient
HAND_DESIGNED = sorted(automl_networks.automl_spaces())
NARROW = {"vgg": 0.06, "alexnet": 0.06, "gcn": 0.06, "espnet_v2": 0.5, "shufflenet_v2": 0.5, "thundernet": 0.5}
WRAPPERS = {"hyperband", "successive_halving", "asha", "curve"}  # of work that can be gone on with
AROUND = {*WRAPPERS, "morphism"}
REFUSED = {  # the pairs that cannot work, and the word that says why; docs/methods.md lists them
    ("chain", "tabular"): "table nasbench201 holds cells of six edges",
    ("nasnet", "tabular"): "table nasbench201 holds cells of six edges",
    ("darts", "tabular"): "table nasbench201 holds cells of six edges",
    ("metaqnn", "tabular"): "table nasbench201 holds cells of six edges",
    ("nasrl", "tabular"): "table nasbench201 holds cells of six edges",
    ("genetic_cnn", "tabular"): "table nasbench201 holds cells of six edges",
    ("multi_branch", "tabular"): "table nasbench201 holds cells of six edges",
    ("enas_macro", "tabular"): "table nasbench201 holds cells of six edges",
    ("auto_net", "tabular"): "table nasbench201 holds cells of six edges",
    ("smash", "tabular"): "table nasbench201 holds cells of six edges",
    ("unstructured", "tabular"): "table nasbench201 holds cells of six edges",
    ("nasbot", "tabular"): "table nasbench201 holds cells of six edges",
    ("toy", "tabular"): "table nasbench201 holds cells of six edges",
    ("mobilenet_v2", "tabular"): "table nasbench201 holds cells of six edges",
    ("squeezenet", "tabular"): "table nasbench201 holds cells of six edges",
    **{(space, "tabular"): "table nasbench201 holds cells of six edges" for space in BY_TURNS},
    ("spikenas", "training"): "evaluator=tabular",
    ("spikenas", "supernet"): "evaluator=tabular",
    ("spikenas", "morphism"): "evaluator=tabular",
}
COMPRESSORS = {  # by settings that leave a decision a layer, or one in all
    "layers": {"name": "pruning", "across": "layers", "keep": [0.3, 1.0]},
    "alike": {"name": "pruning", "keep": [0.3, 0.9], "budget": None},
    "amc": {"name": "amc"},
}
PICTURES = ["task=synthetic", "task.count=60", "task.channels=3", "task.labels=4", "task.size=8", "task.batch_size=16"]
OWN = ["+space=module", "space.target=given:plain", *PICTURES, "retrain=none", "watch=[]"]
SPACES, STRATEGIES, EVALUATORS = (REGISTRY.names(kind) for kind in ("space", "strategy", "evaluator"))
CLIMBING = {name for name in STRATEGIES if REGISTRY.load("strategy", name).gradients}
# of the hand-designed networks, which are one kind of space: one with a decision, and one with none
ELSEWHERE = {
    "compressed",
    "hyperparameters",
    "module",
    "run",
}  # their networks are another space's, the user's, or a run's
PLAIN = {"metaqnn", "nasrl", "genetic_cnn", "multi_branch", "auto_net", "smash", "unstructured", "nasbot"}
TOGETHER = [space for space in SPACES if space not in {*HAND_DESIGNED, *ELSEWHERE} or space in SMALL]
PAIRS = [  # evaluators see no decisions, so spaces that have no operations to mix meet those that differ by space
    pair for pair in product(TOGETHER, EVALUATORS) if pair[0] not in PLAIN or pair[1] in ("training", "tabular")
]


def words(space, strategy, evaluator):
    chosen = [f"+space={space}", f"strategy={strategy}", f"evaluator={evaluator}", "trials=3", "watch=[]"]
    chosen += SMALL.get(space, [])
    if strategy == "ddpg":  # so that it learns from the first of them
        chosen += ["strategy.warmup=0", "strategy.hidden=16"]
    inner = "evaluator"
    if evaluator in AROUND:
        inner = "evaluator.inner"
        looked_up = space == "spikenas" and evaluator in WRAPPERS
        chosen.append(f"evaluator/inner={'tabular' if looked_up else 'training'}")
    if evaluator == "curve":  # few samples: what matters here is that it runs
        chosen += ["evaluator.samples=40", "evaluator.burn_in=20", "evaluator.first=2"]
    if evaluator == "curve" and space == "spikenas":
        chosen.append("evaluator.every=50")
    if space == "spikenas" and (evaluator in WRAPPERS or evaluator == "tabular"):
        chosen.append(f"{inner}.table=spikenas")
    elif evaluator == "training" or evaluator in AROUND:
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
    monkeypatch.setattr(final, "_ROUNDS", 1)  # of timing


def _whose_turn_it_is(space, evaluator):
    if space not in (*OFTEN, *BY_TURNS):
        return STRATEGIES
    turn = (*OFTEN, *BY_TURNS).index(space) + EVALUATORS.index(evaluator)
    always = CLIMBING if space in OFTEN and evaluator == "supernet" else ()
    return sorted({*STRATEGIES[turn % 5 :: 5], *always})


@pytest.mark.slow
@pytest.mark.parametrize(("space", "evaluator"), PAIRS)
def test_every_strategy_runs_on_every_space_with_every_evaluator(space, evaluator, request, monkeypatch):
    if evaluator == "tabular" or (space == "spikenas" and evaluator in WRAPPERS):
        monkeypatch.setenv("AUTOML_DATA", str(request.getfixturevalue("data")))
    strategies = _whose_turn_it_is(space, evaluator)
    if (space, evaluator) in REFUSED:  # whatever the strategy
        strategies = ["darts", "random"]
    for strategy in strategies:
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
        few = space == "squeezenet" or (space, strategy) == ("hierarchical", "grid")  # its first 20,000 are one network
        assert len(study.trials) == 3 or (few and study.trials)
        assert study.failed == [], (strategy, study.failed[0].error)
        assert json.loads((study.directory / "summary.json").read_text())["best"] is not None
        assert not any("edge" in reason for reason in study.summary["warnings"])


@pytest.mark.slow
@pytest.mark.parametrize("space", [*HAND_DESIGNED, *BY_TURNS])
def test_a_network_of_every_space_is_trained_tested_measured_and_exported(space):
    scale = SMALL[space] if space in BY_TURNS else [f"space.width={NARROW.get(space, 0.25)}"]
    chosen = [
        f"+space={space}",
        *scale,
        f"strategy={'random' if space in BY_TURNS else 'grid'}",
        "trials=1",
        "watch=[]",
    ]
    chosen += ["task=synthetic", "task.count=40", "evaluator.epochs=1", "retrain.epochs=1"]
    study = run(chosen)
    assert [trial.error for trial in study.trials] == [None]
    summary = json.loads((study.directory / "summary.json").read_text())
    assert 0 <= summary["test"]["accuracy"] <= 1
    assert summary["model"]["latency_ms"] > 0
    searched = study.trials[0].metrics["parameters"]  # at the scale of the search; spaces of cells end wider
    assert summary["model"]["parameters"] == searched or (
        space in BY_TURNS and summary["model"]["parameters"] > searched
    )
    images = np.random.default_rng(0).random((17, 1, 8, 8), dtype=np.float32)
    with torch.inference_mode():
        expected = load(study.directory)(torch.from_numpy(images)).numpy()
    session = onnx_session((study.directory / "model.onnx").read_bytes())
    found = session.run(None, {"images": images})[0]
    assert np.abs(found - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name not in CLIMBING])
@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_every_strategy_makes_the_decisions_of_every_compressor(compressor, strategy):
    settings = {"ddpg": {"warmup": 1, "hidden": 16}, "nsga2": {"population": 3}, "grid": {"points": 2}}
    task = REGISTRY.build("task", {"name": "synthetic", "count": 60, "channels": 3, "labels": 4, "batch_size": 16})
    task.prepare(0)
    space = Compressed(Given(plain()), REGISTRY.build("compressor", COMPRESSORS[compressor]))
    space.check(task)
    chooser = REGISTRY.build("strategy", {"name": strategy, **settings.get(strategy, {})})
    goals = [Objective("accuracy"), Objective("parameters", "min")][: 1 + (strategy == "nsga2")]
    study = Study(space, chooser, REGISTRY.build("evaluator", {"name": "training"}), task, goals, trials=7)
    study.run()
    assert [trial.error for trial in study.trials] == [None] * (2 if (strategy, compressor) == ("grid", "alike") else 7)
    named = ["keep"] if compressor == "alike" else ["keep.0", "keep.3", "keep.6"]
    for trial in study.trials:
        architecture = trial.architecture
        assert list(architecture.values) == named
        assert all(architecture.domains[name].fit(value) == value for name, value in architecture.values.items())
        assert (set(architecture.contexts) == set(named)) == (compressor == "amc")
        if compressor != "alike":
            assert trial.metrics["multiply_adds"] <= 0.5 * multiply_adds(plain(), task.input)
    assert len({trial.metrics["multiply_adds"] for trial in study.trials}) > 1
    assert study.front
    assert set(chooser.recommend(study.trials).values) == set(named)


def test_what_makes_no_network_to_compress_is_refused():
    for strategy, evaluator in zip(sorted(CLIMBING), cycle(("supernet", "training"))):
        with pytest.raises(BadInput, match=f"{strategy} asks for all operations at once, of which no compressor"):
            run([*OWN, "+compressor=amc", f"strategy={strategy}", f"evaluator={evaluator}"])
    around = {name: ["evaluator/inner=tabular", "evaluator.inner.table=spikenas"] for name in WRAPPERS}
    for evaluator in ("supernet", "tabular", *WRAPPERS):
        with pytest.raises(BadInput, match=f"evaluator {evaluator} trains no network that a compressor could make"):
            run([*OWN, "+compressor=amc", f"evaluator={evaluator}", *around.get(evaluator, ())])
    for evaluator in sorted(WRAPPERS):
        with pytest.raises(BadInput, match=f"evaluator={evaluator} .* of fine-tuning.*: type evaluator.inner.tuning="):
            run([*OWN, "+compressor=amc", f"evaluator={evaluator}"])
    with pytest.raises(BadInput, match="weights of the network that they are made of: type evaluator=training"):
        run([*OWN, "+compressor=amc", "evaluator=morphism"])
    assert not Path("runs").exists()


@pytest.mark.parametrize("evaluator", sorted(WRAPPERS))
def test_fine_tuning_is_cut_short_or_gone_on_with_as_any_training(evaluator):
    chosen = [*OWN, "+compressor=amc", "strategy=random", f"evaluator={evaluator}", "trials=6"]
    chosen += ["evaluator.inner.epochs=1", "evaluator.inner.tuning=3"]
    if evaluator == "curve":
        chosen += ["evaluator.samples=40", "evaluator.burn_in=20", "evaluator.first=2"]
    study = run(chosen)
    assert [trial.error for trial in study.trials] == [None] * 6
    promoted = [trial for trial in study.trials if trial.candidate.parent is not None]
    assert bool(promoted) == (evaluator != "curve")
    assert all(trial.fidelity > study.trials[trial.candidate.parent].fidelity for trial in promoted)
    assert len(list((study.directory / "origins").glob("*.safetensors"))) == 1


BESIDE = {
    "hyperband": words("nasbench201", "random", "hyperband"),
    "compressed": [*OWN, "+compressor=amc", "strategy=ddpg", "evaluator.epochs=1", "evaluator.tuning=1", "trials=4"],
    "inherited": [*words("morphisms", "evolution", "morphism"), "strategy.population=2", "strategy.tournament=2"],
    "joined": [*words("nasbench201", "random", "training"), "space.with_hyperparameters=true"],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", BESIDE)
def test_what_works_here_works_the_same_with_several_workers(kind, monkeypatch):
    """Bit for bit, on as many threads; what several trials are made of is made once."""
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    several = ["executor=processes", "executor.workers=2", "executor.ordered=true", "executor.ahead=2"]
    here, there = ({trial.number: trial for trial in run([*BESIDE[kind], *more]).trials} for more in ([], several))
    assert here.keys() == there.keys()
    assert not any(trial.error for trial in there.values())
    alike = [number for number in here if here[number].architecture == there[number].architecture]
    assert 0 in alike
    for number in alike:
        if here[number].candidate.parent == there[number].candidate.parent is None:
            assert here[number].metrics == there[number].metrics
    made = [len(list(folder.glob("origins/*.safetensors"))) for folder in Path("runs").glob("20*/*")]
    assert made == [kind == "compressed"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("space", ["nasbench201", "mobilenet_v2", "chain", "nasnet"])
def test_decisions_on_the_network_and_on_its_compression_are_searched_together(space):
    """Also of inverted residuals of searched width, and of searched depth, to the network that is shipped."""
    is_shipped = space in ("nasbench201", "mobilenet_v2", "chain")
    goals = "objective.goals={accuracy: max, parameters: min}"
    chosen = [f"+space={space}", *SMALL.get(space, []), "+compressor=pruning", "compressor.keep=[0.3,1.0]"]
    chosen += ["compressor.budget=null", "objective=pareto", goals, "strategy=nsga2", "trials=4", *PICTURES]
    chosen += ["retrain.epochs=1", "retrain.tuning=1"] if is_shipped else ["retrain=none"]
    study = run([*chosen, "evaluator.epochs=1", "watch=[]"])
    assert [trial.error for trial in study.trials] == [None] * 4
    assert all(list(trial.architecture.values)[-1] == "keep" for trial in study.trials)
    assert len({str(trial.architecture.to_json()) for trial in study.trials}) == 4
    summary = study.summary
    assert summary["front"]
    assert all("parameters" in study.trials[number].metrics for number in summary["front"])
    if is_shipped:
        assert summary["model"]["parameters"] < summary["before"]["model"]["parameters"]
        network, before = load(study.directory), load(study.directory / "before")
        assert sum(tensor.numel() for tensor in network.parameters()) == summary["model"]["parameters"]
        images = torch.rand(2, 3, 8, 8)
        assert network(images).shape == before(images).shape == (2, 4)


@pytest.mark.parametrize("space", TOGETHER)
def test_every_space_is_joined_by_the_settings_of_its_training(space):
    values = {key: json.loads(value) for key, value in (word[6:].split("=") for word in SMALL.get(space, []))}
    alone = REGISTRY.build("space", {"name": space, **values})
    joined = REGISTRY.build_space(Parts({"name": space, **values}, None, {}))
    rng = random.Random(0)
    for _ in range(10):
        architecture = joined.sample(rng)
        assert joined.mutate(architecture, rng) != architecture
        assert joined.read(json.loads(json.dumps(architecture.to_json()))) == architecture
        own = {name: value for name, value in architecture.to_json().items() if not name.startswith("training.")}
        assert alone.read(own).to_json() == own
        assert {"optimizer", "learning_rate", "batch_size"} <= joined.recipe(architecture.blueprint).keys()
    assert (joined.relaxes, joined.finishes, joined.given) == (alone.relaxes, alone.finishes, alone.given)


def test_every_strategy_meets_every_space_and_every_evaluator():
    met = {
        (space, strategy)
        for space, evaluator in PAIRS
        if evaluator != "tabular" or "spikenas" in space
        for strategy in _whose_turn_it_is(space, evaluator)
        if strategy not in CLIMBING
    }
    assert met == {*product(TOGETHER, {*STRATEGIES} - CLIMBING)}
    assert {evaluator for _, evaluator in PAIRS} == {*EVALUATORS}


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

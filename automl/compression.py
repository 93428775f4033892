"""Compression from Python: a network and a task in, a smaller network out."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from automl.compressor import Compressed, Compressor
from automl.decisions import Choose
from automl.errors import BadInput, SearchFailed
from automl.evaluator import Trainer
from automl.plugins import Registry
from automl.space import Space
from automl.strategy import Strategy
from automl.study import Study
from automl.task import Task
from automl.trial import by_reason

if TYPE_CHECKING:
    from torch.nn import Module


@dataclass
class Compression:
    """What came of a compression: ``network`` is plain torch, at rest on the CPU, of normalised images.

    ``before`` and ``after`` have test accuracy and loss, parameters, multiply_adds and bytes (of the weights, as a
    file); ``untuned`` is the validation accuracy before fine-tuning.
    """

    network: Module
    decisions: Mapping[str, Any]
    before: Mapping[str, float]
    after: Mapping[str, float]
    untuned: float | None
    study: Study


@dataclass
class Given(Space[None]):
    """One network, with the weights that it has."""

    network: Module

    given = True

    def describe(self, choose: Choose) -> None:
        return None

    def build(self, blueprint: None, task: Task) -> Module:
        return copy.deepcopy(self.network)


@contextmanager
def _gradients() -> Iterator[None]:
    """Have gradients, whatever the caller has turned off."""
    import torch

    with torch.inference_mode(False), torch.enable_grad():
        yield


@_gradients()
def compress(
    model: Module,
    task: Task | str,
    compressor: Compressor[Any] | str = "amc",
    limit: str | float | None = "0.5x",
    *,
    strategy: Strategy | str = "evolution",
    trials: int = 20,
    tuning: int = 5,
    seed: int = 0,
    **settings: Any,
) -> Compression:
    """Make a trained network smaller and return it with what it was and is worth.

    ``model`` takes normalised images, N x channels x height x width, and returns logits; it is left as it is. ``limit``
    is the share of multiply-adds, or of the compressor's ``resource``, that may be left, as "0.5x"; None where it needs
    none. ``settings`` are the compressor's. The strategy makes its decisions in so many ``trials``, judged by
    validation images without fine-tuning; the best is then fine-tuned for ``tuning`` epochs on the training images and
    tested once.

    Raises BadInput for what does not fit, SearchFailed where nothing was found.
    """
    if tuning and not any(parameter.requires_grad for parameter in model.parameters()):
        raise BadInput(
            "all parameters of the model are frozen, so fine-tuning changes nothing: call model.requires_grad_() "
            "first, or give tuning=0"
        )
    registry = Registry()
    used_task: Task = registry.build("task", {"name": task}) if isinstance(task, str) else task
    test = used_task.prepare(seed)
    made = compressor
    if isinstance(made, str):
        budget = {} if limit is None else {"budget": share(limit)}
        made = registry.build("compressor", {"name": made, **budget, **settings})
    elif settings:
        raise BadInput(f"{min(settings)} is a setting of a compressor that is named: give it to the compressor itself")
    assert isinstance(made, Compressor)
    space = Compressed(Given(model), made)
    evaluator: Trainer = registry.build("evaluator", {"name": "training", "tuning": 0})
    chooser = registry.build("strategy", {"name": strategy}) if isinstance(strategy, str) else strategy
    study = Study(space, chooser, evaluator, used_task, trials=trials, seed=seed)
    space.check(used_task)
    study.run()
    if study.best is None:
        reason = by_reason(study.failed)[0][0] if study.failed else "no trial was asked for"
        raise SearchFailed(f"none of the {len(study.trials)} trials finished; the commonest reason: {reason}")
    architecture = study.strategy.recommend(study.trials)
    trainer: Trainer = registry.build("evaluator", {"name": "training", "tuning": tuning})
    trainer.start(space, used_task)
    reports: list[Any] = []
    network = trainer.fit(architecture, seed, watch=reports.append)
    before = trainer.before(architecture, seed)
    assert before is not None, "a compressed network has one that it is made of"
    return Compression(
        network,
        architecture.to_json(),
        _worth(before, used_task, test),
        _worth(network, used_task, test),
        next((report.metrics["accuracy"] for report in reports if report.fidelity == 0), None),
        study,
    )


def share(limit: str | float) -> float:
    """Return the share that a limit leaves: 0.5 of "0.5x"; raises BadInput for what is none."""
    text = str(limit)
    found = re.fullmatch(r"(0?\.\d+|1(\.0*)?|0?\.\d+e-\d+)x?", text)
    if found is None or not 0 < float(found[1]) <= 1:
        raise BadInput(f'limit={text!r} is no share of the multiply-adds: give it as limit="0.5x"')
    return float(found[1])


def _worth(network: Module, task: Task, test: Any) -> dict[str, float]:
    from automl import measure
    from automl.deploy import Deployed
    from automl.final import score

    deployed = Deployed.of(copy.deepcopy(network), task)
    return {
        **{name: value for name, value in score(deployed, test, task).items() if name != "images"},
        "parameters": measure.parameters(network),
        "multiply_adds": measure.multiply_adds(network, task.input),
        "bytes": sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values()),
    }

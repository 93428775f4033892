"""One-shot evaluation: candidates are trained and judged with one set of weights that all networks of a space share."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt

from automl import Architecture, BadInput, Evaluator, Report, Space, Task, Trial
from automl.errors import printable
from automl_evaluators.hardware import Accelerator, Hardware, Precision
from automl_evaluators.paths import everything, fair, halves, kept

if TYPE_CHECKING:
    from torch.nn import Module

    from automl.checkpoint import Checkpoint
    from automl_evaluators.latencies import Latencies
    from automl_evaluators.one_shot import OneShot

COSTS = frozenset({"parameters", "multiply_adds"})
TIMES = frozenset({"latency_ms", "latency_torch_ms"})  # exported, in onnxruntime; in PyTorch
_log = logging.getLogger("automl")


@dataclass
class Supernet(Evaluator):
    """Share one tensor for each place, operation, parameter and shape among all networks of any space.

    A trial trains the shared weights on so many ``batches`` along the candidate's own path, then judges it on the
    validation images, batch normalisation measured anew on ``recalibrate`` batches (0: that of the batch judged). With
    strategy=reinforce this is ENAS (Pham et al., 2018). With ``epochs`` the weights are trained
    before the first trial on ``paths`` drawn uniformly (single-path one-shot; Guo et al., 2020) or fairly: each step
    takes every option of each decision once (FairNAS; Chu et al., 2021); batches=0 then leaves them as they are. With
    paths=dropout all options are there, and each of a decision's k is dropped with probability dropped^(1/k), rising
    linearly from 0, so that all are with probability ``dropped``; a batch is cut into ``ghosts`` parts with drops and
    batch statistics of their own (Bender et al., 2018).

    The weights are trained on the ``share`` of the training images, the others are for the choices. A candidate with
    soft ones, as of strategy=darts, is a network of all options at once: after its steps a trial reports the gradients
    of the choices, of the order that the strategy asks for, on a batch of these others. Every ``probe`` trials the
    network that would be derived and one drawn at random are judged with the shared weights: child_accuracy and
    random_accuracy.

    With ``elastic`` the shape is left out, and so are, in the names of a decision's operations, the numbers of a kernel
    and one before it: mbconv3_3x3 and mbconv6_5x5 are one. What differs in size only is then a window of the largest
    there was so far: the middle of its kernel (Once-for-All; Cai et al., 2020, without the matrices that transform
    kernels), its leading channels (slimmable networks; Yu et al., 2019; BigNAS; Yu et al., 2020). So small networks
    learn from large ones. Gradients reach the window, momentum and decay the whole tensor.

    The figures rank networks of one search; they are no accuracies of networks trained by themselves. Their batch
    normalisation learns no scale and shift unless ``affine``. The learning rate falls by half a cosine over ``decay``
    steps and stays. With ``resource`` a term is added to the loss of the choices, ``strength`` times the logarithm of
    the expected cost over ``target``, as long as it is above it (Wu et al., 2019; Xie et al., 2019). Latencies are of
    a table of operations at the shapes of their places: each measured once, on this machine, and written to
    latencies.json in the run's folder, or all given by such a file, ``latencies``; one that ``automl latency build``
    wrote predicts them by their kernels, and latency_ms of a candidate of its own.

    Every ``curvature`` trials of soft choices the largest eigenvalue of the Hessian of the loss by their logits is
    reported, by which strategies tell that a search collapses (R-DARTS; Zela et al., 2020).
    """

    batches: Annotated[int, Ge(0)] = 1
    epochs: Annotated[int, Ge(0)] = 0
    paths: Literal["uniform", "fair", "dropout"] = "uniform"
    dropped: Annotated[float, Ge(0), Lt(1)] = 0.1
    ghosts: Annotated[int, Ge(1)] = 1
    share: Annotated[float, Gt(0), Lt(1)] = 0.5
    images: Annotated[int, Ge(4)] | None = None  # at most so many training images, stratified
    scored: Annotated[int, Ge(1)] | None = None  # validation images that judge a candidate; null: all of them
    recalibrate: Annotated[int, Ge(0)] = 4
    probe: Annotated[int, Ge(0)] = 50  # 0: never
    curvature: Annotated[int, Ge(0)] = 0  # 0: never
    learning_rate: Annotated[float, Gt(0)] = 0.025
    least_rate: Annotated[float, Ge(0)] = 0.001
    decay: Annotated[int, Ge(1)] = 1000
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    weight_decay: Annotated[float, Ge(0)] = 3e-4
    clip: Annotated[float, Gt(0)] | None = 5.0
    affine: bool = False
    elastic: bool = False
    resource: Literal["parameters", "multiply_adds", "latency_ms", "latency_torch_ms"] | None = None
    target: Annotated[float, Gt(0)] | None = None
    strength: Annotated[float, Ge(0)] = 0.2
    latencies: str | None = None
    precision: Precision = "auto"
    channels_last: bool | Literal["auto"] = "auto"
    accelerator: Accelerator = "auto"
    threads: Annotated[int, Ge(1)] | None = None

    repeatable = False
    differentiable = True
    stateful = True

    def __post_init__(self) -> None:
        if (self.resource is None) != (self.target is None):
            raise BadInput(
                f"evaluator.resource={self.resource} and evaluator.target={self.target} belong together: "
                "give both, as evaluator.resource=parameters evaluator.target=1e6, or none"
            )
        if self.latencies is not None and self.resource not in TIMES and self.resource is not None:
            raise BadInput(
                f"evaluator.latencies={printable(self.latencies)} is of no use to evaluator.resource={self.resource}: "
                "type evaluator.resource=latency_ms, or leave the table out"
            )

    @property
    def hardware(self) -> Hardware:
        return Hardware(self.accelerator, self.precision, self.channels_last)

    def start(self, space: Space[Any], task: Task) -> None:
        super().start(space, task)
        self.hardware.check()
        self._engine: OneShot | None = None
        self._costs: dict[object, Any] = {}
        self._tables = self._latency_tables()
        self._warned = False
        if self.images is not None and self.images < 2 * task.outputs:
            raise BadInput(
                f"evaluator.images={self.images} is too few for {task.outputs} classes in two parts: "
                f"give at least {2 * task.outputs}"
            )

    def metrics(self) -> frozenset[str]:
        ours = {"train_loss", "child_accuracy", "random_accuracy", "curvature", *COSTS, *TIMES}
        return frozenset({*self.task.metrics(), *ours})

    def estimate(self, architecture: Architecture) -> None:
        """Build the network once, so that a space of which none can be built is refused at once; it says no time."""
        self._on_meta(architecture)

    def evaluate(self, trial: Trial) -> Iterator[Report]:
        engine = self._started(trial.seed - trial.number)
        architecture = trial.architecture
        if architecture.weights:
            yield self._relaxed(engine, trial)
            return
        costs = self._costs_of(architecture)
        if any(limit.metric in costs for limit in self.limits):
            yield Report(costs, 0.0)
        network = engine.network(architecture)
        losses = [engine.train_on([network]) for _ in range(self.batches)]
        metrics = engine.score(network, None, self.recalibrate, self.scored, trial.number)
        yield Report({**metrics, **_mean("train_loss", losses), **costs})

    def _relaxed(self, engine: OneShot, trial: Trial) -> Report:
        """Train the weights with all options at once, and report the gradients of the choices."""
        architecture, order = trial.architecture, trial.candidate.notes.get("order", "first")
        network, leaves = engine.network(architecture), engine.leaves(architecture)
        metrics: dict[str, float] = {}
        if order == "joint":
            for _ in range(max(1, self.batches)):
                loss, gradients, right = engine.joint(network, leaves)
            metrics |= {"accuracy": float(right), "loss": loss, "train_loss": loss}
        else:
            fixed = {name: leaf.detach() for name, leaf in leaves.items()}
            losses = [engine.train_on([network], fixed) for _ in range(self.batches)]
            found, gradients = engine.gradients(network, leaves, order)
            metrics |= {**found, **_mean("train_loss", losses)}
        if self.curvature and trial.number % self.curvature == 0:
            metrics |= self._curved(engine, network, architecture)
        told = {name: gradient.tolist() for name, gradient in gradients.items()}
        expected, slopes = self._expected(engine, architecture)
        metrics |= expected
        if self.resource is not None and self.target is not None and expected[self.resource] > self.target:
            scale = self.strength / expected[self.resource]  # the slope of strength x log(cost / target)
            for name, slope in slopes.items():
                told[name] = [one + scale * other for one, other in zip(told[name], slope, strict=True)]
        if self.probe and trial.number % self.probe == 0:
            metrics |= self._probed(engine, trial)
        return Report(metrics, gradients=told)

    def _curved(self, engine: OneShot, network: Module, architecture: Architecture) -> dict[str, float]:
        """Return how curved the loss is by the choices, where each option has a weight."""
        if all(weight > 0 for weights in architecture.weights.values() for weight in weights):
            return {"curvature": engine.curvature(network, architecture.weights)}
        if not self._warned:
            self._warned = True
            _log.warning(
                "evaluator.curvature=%d is of choices that weigh all options, and here some have none: "
                "no curvature is reported",
                self.curvature,
            )
        return {}

    def _probed(self, engine: OneShot, trial: Trial) -> dict[str, float]:
        """Judge the network that would be derived by now, and a random one, with the shared weights."""
        rng = random.Random(trial.seed)
        found = {}
        child = self.space.read(trial.architecture.to_json())
        for name, architecture in (("child", child), ("random", self.space.sample(rng))):
            network = engine.network(architecture)
            metrics = engine.score(network, None, self.recalibrate, self.scored, trial.number)
            found[f"{name}_accuracy"] = metrics["accuracy"]
        return found

    def _expected(self, engine: OneShot, architecture: Architecture) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Return the expected costs of a network of soft choices, and the slope of the resource by each weight."""
        from automl_evaluators.expected_cost import option_costs
        from automl_evaluators.one_shot import form

        key = form(architecture)
        if key not in self._costs:
            fixed, options = option_costs(engine.network(architecture), engine.leaves(architecture), self.task.input)
            for kind, table in self._tables.items():
                fixed[kind], taken = table.options(self._alone(architecture), architecture.weights, self.task)
                for name, costs in options.items():
                    costs[kind] = taken[name]
            self._write_latencies()
            self._costs[key] = fixed, options
        fixed, options = self._costs[key]
        expected = {
            resource: fixed[resource]
            + sum(
                weight * cost
                for name, costs in options.items()
                for weight, cost in zip(architecture.weights[name], costs[resource], strict=True)
            )
            for resource in fixed
        }
        slopes = {} if self.resource is None else {name: costs[self.resource] for name, costs in options.items()}
        return expected, slopes

    def _costs_of(self, architecture: Architecture) -> dict[str, float]:
        """Return what the architecture's own network costs, where that is of interest."""
        if not self.wanted & (COSTS | TIMES):
            return {}
        if architecture not in self._costs:
            from automl import measure

            network = self._on_meta(architecture)
            self._costs[architecture] = {
                "parameters": measure.parameters(network),
                "multiply_adds": measure.multiply_adds(network, self.task.input),
                **self._latencies_of(architecture),
            }
        costs: dict[str, float] = self._costs[architecture]
        return costs

    def _latencies_of(self, architecture: Architecture) -> dict[str, float]:
        """Return the latencies that are of interest of the architecture's own network: measured whole, or predicted."""
        from automl_evaluators.latencies import milliseconds

        found = {}
        for kind in sorted(self.wanted & TIMES):
            prediction, network = self._tables[kind].prediction, self._alone(architecture)
            if prediction is not None:
                found[kind] = prediction.milliseconds(network, self.task)
            else:
                found[kind] = milliseconds(kind, network, self.task, self.device)
        return found

    def _latency_tables(self) -> dict[str, Latencies]:
        """Return a table for each kind of latency of interest; raises BadInput where the one that is given is bad."""
        timed = sorted(TIMES & {*self.wanted, self.resource})
        kind = self.resource or "latency_ms"
        if self.latencies is not None and kind not in timed:
            raise BadInput(
                f"evaluator.latencies={printable(self.latencies)} is of no use where no latency is asked for: type "
                "evaluator.resource=latency_ms evaluator.target=N, or objective.limits.latency_ms=N, or leave it out"
            )
        if not timed:
            return {}
        from automl_evaluators.latencies import Latencies

        tables = {kind: Latencies.new(kind, self.device, self.task.input) for kind in timed}
        if self.latencies is not None:
            tables[kind] = Latencies.read(kind, Path(self.latencies).expanduser(), self.device, self.task.input)
        return tables

    def provenance(self) -> Mapping[str, str]:
        found = {}
        for kind, table in self._tables.items():
            if table.prediction is not None:
                found[kind] = table.prediction.describe()
            elif table.source is not None:
                of = printable(table.table.describe())
                found[kind] = f"of operations by {printable(table.source.name)}, of {of}"
            elif kind == "latency_ms" and self.device is not None:
                found[kind] = f"measured on {self.device.describe()}"
        return found

    def _write_latencies(self) -> None:
        if self.folder is not None and self.resource in self._tables:
            self._tables[self.resource].table.write(self.folder / "latencies.json")

    def _alone(self, architecture: Architecture) -> Module:
        """Build the architecture's network by itself, on the CPU."""
        import torch

        from automl_evaluators.learner import drawing

        with drawing(torch.device("cpu")):
            return self.space.build(architecture.blueprint, self.task)

    def _on_meta(self, architecture: Architecture) -> Module:
        import torch

        with torch.device("meta"):
            return self.space.build(architecture.blueprint, self.task)

    def _started(self, seed: int) -> OneShot:
        """Return the engine, made and its weights trained at the first trial."""
        if self._engine is None:
            self._engine = self._made(seed)
            for epoch_step in range(self.epochs * self._engine.epoch_length):
                self._train_on_drawn_paths(self._engine, epoch_step)
        return self._engine

    def _made(self, seed: int) -> OneShot:
        from automl_evaluators.batches import Batches, first
        from automl_evaluators.one_shot import OneShot, Schedule

        task = self.task
        fabric = self.hardware.fabric()
        data = first(task.train, self.images)
        of_weights, of_choices = halves(data, self.share)
        schedule = Schedule(
            self.learning_rate, self.least_rate, self.decay, self.momentum, self.weight_decay, self.clip
        )
        train, choices, held_out = (
            Batches(part, task.mean, task.std, fabric.device) for part in (of_weights, of_choices, task.held_out)
        )
        return OneShot(
            self.space,
            task,
            train,
            choices,
            held_out,
            schedule,
            seed=seed,
            fabric=fabric,
            channels_last=self.hardware.lays_channels_last,
            affine=self.affine,
            threads=self.threads or 1,
            elastic=self.elastic,
        )

    def _train_on_drawn_paths(self, engine: OneShot, step: int) -> None:
        """Take a step on one network drawn uniformly, or on as many as hold every option of each decision once."""
        rng = random.Random(f"{engine.seed}/paths/{step}")
        if self.paths == "dropout":
            whole = everything(self.space, rng)
            share = (step + 1) / (self.epochs * engine.epoch_length)
            masks = [kept(whole.weights, self.dropped * share, rng) for _ in range(self.ghosts)]
            engine.train_parts(engine.network(whole), [engine.as_weights(mask) for mask in masks])
            return
        drawn = [self.space.sample(rng)] if self.paths == "uniform" else fair(self.space, rng)
        engine.train_on([engine.network(architecture) for architecture in drawn])

    def state(self) -> Checkpoint:
        from automl.checkpoint import Checkpoint

        if self._engine is None:
            return Checkpoint({}, {})
        state = self._engine.state()
        latencies = {kind: table.known for kind, table in self._tables.items()}
        return Checkpoint(state.tensors, {**state.facts, "seed": self._engine.seed, "latencies": latencies})

    def restore(self, state: Checkpoint) -> None:
        if "seed" in state.facts:
            self._engine = self._made(int(state.facts["seed"]))
            self._engine.restore(state)
            for kind, known in state.facts.get("latencies", {}).items():
                self._tables[kind].known.update(known)


def _mean(name: str, values: Sequence[float]) -> dict[str, float]:
    return {name: math.fsum(values) / len(values)} if values else {}

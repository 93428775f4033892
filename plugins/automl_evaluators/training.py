"""Real training: each candidate from scratch, on the training images, judged on the validation images."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from automl import Architecture, BadInput, Report, Space, Task, Trainer, Trial, TrialFailed
from automl.errors import printable
from automl_evaluators.hardware import Accelerator, Hardware, Precision
from automl_evaluators.mishaps import free_memory, is_out_of_memory, strides_single_pixels

if TYPE_CHECKING:
    import torch
    from torch.nn import Module

    from automl.checkpoint import Checkpoint
    from automl.prediction import Prediction
    from automl_evaluators.batches import Batches
    from automl_evaluators.learner import Learner
    from automl_evaluators.origins import Origins

log = logging.getLogger("automl")
_OF_RECIPE = (
    "optimizer",
    "learning_rate",
    "momentum",
    "weight_decay",
    "warmup",
    "smoothing",
    "clip",
    "auxiliary",
)
_OF_TASK = ("batch_size", "crop", "flip", "cutout")


@dataclass
class Training(Trainer):
    """Train from scratch with a cosine schedule, by SGD with Nesterov momentum or AdamW; validate after each epoch.

    A candidate's ``fidelity`` is the share of the schedule that is trained, in whole epochs and at least one. The
    learning rate follows the *full* schedule: half of 8 epochs are the first 4 of 8, so that going on from there is
    the same as never having stopped. With a ``parent`` of the same architecture, training goes on from where the
    parent ended, with the parent's seed; where its checkpoint is not there, it begins again from nothing.

    Metrics: the task's on the validation images (accuracy and loss), train_loss (with label smoothing and the
    auxiliary head's share), parameters and multiply_adds of the network without its training-only parts, and, where
    an objective or a limit names them, latency_torch_ms and latency_ms: the median time for one image on one thread
    of the CPU in PyTorch and, exported, on the device (this CPU in onnxruntime, unless another is chosen), where
    ``latencies`` is given predicted by that file. A candidate that breaks a limit by one of these costs is
    rejected before it is trained.

    With a compressor the schedule is of ``tuning`` epochs on the network made smaller, at ``tuning_rate`` of the
    learning rate; with none, it is judged as the compressor left it. The network that it is made of is trained once:
    where its space has no decisions, as the final network would be (retrain), else as a candidate is.
    untuned_accuracy is what it was before the tuning.

    An architecture may bring settings of its own training, as of space.with_hyperparameters=true: those of the
    optimiser and its schedule here, and of batches and augmentation the task's. It is then trained by these.
    """

    epochs: Annotated[int, Ge(1)] = 5
    images: Annotated[int, Ge(2)] | None = None  # at most so many training images, the same for all, stratified
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Annotated[float, Gt(0)] | Literal["auto"] = "auto"  # 0.1; no batch norm: 0.01; of adamw 0.002
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9  # of sgd
    weight_decay: Annotated[float, Ge(0)] = 5e-4
    warmup: Annotated[float, Ge(0), Lt(1)] = 0.1  # share of the schedule
    smoothing: Annotated[float, Ge(0), Lt(1)] = 0.1  # of the labels
    clip: Annotated[float, Gt(0)] | None = 5.0  # longest gradient
    auxiliary: Annotated[float, Ge(0), Le(1)] = 0.4  # weight of the auxiliary head's loss, where there is one
    tuning: Annotated[int, Ge(0)] = 0  # epochs of fine-tuning what a compressor made
    tuning_rate: Annotated[float, Gt(0), Le(1)] = 0.1  # share of the learning rate
    precision: Precision = "auto"
    channels_last: bool | Literal["auto"] = "auto"
    accelerator: Accelerator = "auto"
    seconds: Annotated[float, Gt(0)] | None = None  # time limit of a candidate's training, looked at between batches
    threads: Annotated[int, Ge(1)] | None = None  # of the CPU; null: one for small networks, else all
    latencies: str | None = None  # a file of automl latency build, by which latency_ms is predicted; null: measured

    finishes = True
    takes = frozenset({*_OF_RECIPE, *_OF_TASK})
    _finishes = False  # that the networks of the space are made of others

    @property
    def hardware(self) -> Hardware:
        return Hardware(self.accelerator, self.precision, self.channels_last)

    def start(self, space: Space[Any], task: Task) -> None:
        super().start(space, task)
        self._data: tuple[Batches, Batches] | None = None
        self._origins: tuple[int, Origins] | None = None
        self._finishes = space.finishes
        self._noise: float | None = None  # of what is handed down; None: nothing is
        self._warned = False
        self.hardware.check()
        self._prediction = self._predicts()
        images = min(len(task.train), self.images or len(task.train))
        if self.images is not None and self.images < task.outputs:
            raise BadInput(
                f"evaluator.images={self.images} is too few for {task.outputs} classes: give at least {task.outputs}"
            )
        if 2 <= images < task.batch_size:
            log.warning("batches are of %d images, for there are no more to train on", images)

    def hand_down(self, noise: float) -> None:
        """Have trials begin with the weights of their parents: see evaluator=morphism."""
        self._noise = noise

    def _predicts(self) -> Prediction | None:
        """Return what predicts latencies, where a table is given; raises BadInput for a bad one, or one of no use."""
        if self.latencies is None:
            return None
        from automl.device import Here
        from automl.prediction import Prediction

        what = f"evaluator.latencies={printable(self.latencies)}"
        if "latency_ms" not in self.wanted:
            raise BadInput(
                f"{what} is of no use where neither the objective nor a limit names latency_ms: type "
                "objective.limits.latency_ms=N, or leave the table out"
            )
        return Prediction.read(self.latencies, self.device or Here(), self.task.input, what)

    def provenance(self) -> Mapping[str, str]:
        if "latency_ms" not in self.wanted:
            return {}
        if self._prediction is not None:
            return {"latency_ms": self._prediction.describe()}
        return {} if self.device is None else {"latency_ms": f"measured on {self.device.describe()}"}

    def metrics(self) -> frozenset[str]:
        costs = {"parameters", "multiply_adds", "latency_ms", "latency_torch_ms"}
        tuned = {"untuned_accuracy"} if self._finishes and self.tuning else set()
        return frozenset({*self.task.metrics(), "train_loss", *costs, *tuned})

    def rests_on(self) -> frozenset[str]:
        from automl_evaluators.origins import is_one, settings

        origin = self.space.origin(self.space.sample(Random(0)).blueprint) if self._finishes else None
        if origin is None or self.trainer is None or origin.space.given or not is_one(origin):
            return frozenset()
        return frozenset(settings(self.trainer))

    @property
    def schedule_length(self) -> int:
        """How many epochs a candidate is trained for at most."""
        return self.tuning if self._finishes else self.epochs

    def steps(self) -> int | None:
        return self.schedule_length or None

    def epochs_at(self, fidelity: float) -> int:
        """Return how many epochs that share of the schedule is: rounded, halves up, and at least one of any."""
        return min(self.schedule_length, max(1, int(fidelity * self.schedule_length + 0.5)))

    def evaluate(self, trial: Trial) -> Iterator[Report]:
        try:
            yield from self._in_a_layout_that_works(trial)
            return
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        # outside of the handler: an exception raised in it would keep the other's frames, and their tensors, alive
        free_memory()
        raise TrialFailed("out of memory")

    def _in_a_layout_that_works(self, trial: Trial) -> Iterator[Report]:
        reached = -1.0
        try:
            for report in self._evaluate(trial, self.hardware.lays_channels_last):
                reached = report.fidelity
                yield report
            return
        except RuntimeError as error:
            if reached > 0 or not self._is_about_layout(error):
                raise
        for report in self._evaluate(trial, channels_last=False):
            if report.fidelity > reached:
                yield report

    def _evaluate(self, trial: Trial, channels_last: bool) -> Iterator[Report]:
        architecture = trial.architecture
        until = self.epochs_at(trial.candidate.fidelity)
        ended = self._ended(trial.candidate.parent)
        saved = ended if ended is not None and ended.facts.get("decisions") == architecture.to_json() else None
        learner, costs = self._learner(architecture, trial.seed, channels_last, saved, trial.study_seed)
        handed: dict[str, float] = {}
        if self._noise is not None:
            from automl_evaluators.heritage import hand_down

            handed = (
                hand_down(self.space, trial, ended, learner, self._noise) if saved is None else saved.facts["handed"]
            )
            costs |= handed
        if any(limit.metric in costs for limit in self.limits):
            yield Report(costs, 0.0)
        started = time.monotonic()

        def look_at_the_clock() -> None:
            if self.seconds is not None and time.monotonic() - started > self.seconds:
                at = min(learner.epoch + 1, until)
                raise TrialFailed(f"over its time limit of {self.seconds:g} s (epoch {at} of {until})")

        untuned: dict[str, float] = {}
        if self._finishes and self.tuning:
            untuned = {"untuned_accuracy": learner.validate()["accuracy"]} if saved is None else saved.facts["untuned"]
        costs |= untuned
        if learner.epoch >= until:  # a parent that was trained as far, or nothing to train
            yield Report({**learner.validate(), **costs}, until / self.schedule_length if until else 1.0)
            return
        while learner.epoch < until:
            train_loss = learner.finish_epoch(look_at_the_clock)
            measured = learner.validate(look_at_the_clock)
            if learner.epoch == until:
                self._keep_end(trial, learner, {"untuned": untuned, "handed": handed})
            yield Report({**measured, "train_loss": train_loss, **costs}, learner.epoch / self.schedule_length)

    def fit(
        self,
        architecture: Architecture,
        seed: int,
        *,
        checkpoint: Path | None = None,
        watch: Callable[[Report], None] = lambda _: None,
    ) -> Module:
        try:
            try:
                return self._fit(architecture, seed, checkpoint, watch, self.hardware.lays_channels_last)
            except RuntimeError as error:
                if not self._is_about_layout(error):
                    raise
            return self._fit(architecture, seed, checkpoint, watch, channels_last=False)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        free_memory()
        raise TrialFailed("out of memory")

    def _fit(
        self,
        architecture: Architecture,
        seed: int,
        checkpoint: Path | None,
        watch: Callable[[Report], None],
        channels_last: bool,
    ) -> Module:
        import torch

        from automl.checkpoint import Checkpoint
        from automl.measure import strip

        path = None if checkpoint is None else checkpoint / "training.safetensors"
        saved = Checkpoint.load(path) if path is not None and path.exists() else None
        decisions = architecture.to_json()
        if saved is not None and (saved.facts.get("decisions") != decisions or saved.facts.get("seed") != seed):
            raise BadInput(f"{path} is of another architecture or seed: delete it to train from scratch")
        learner, costs = self._learner(architecture, seed, channels_last, saved, seed, checkpoint)
        if saved is None and self._finishes:
            watch(Report({**learner.validate(), **costs}, 0.0))
        last = time.monotonic()

        def save(every: float = _SECONDS_BETWEEN_SAVES) -> None:
            nonlocal last
            if path is not None and time.monotonic() - last >= every:
                learner.checkpoint(decisions).save(path)
                last = time.monotonic()

        while learner.epoch < self.schedule_length:
            train_loss = learner.finish_epoch(save)
            measured = learner.validate()
            watch(Report({**measured, "train_loss": train_loss, **costs}, learner.epoch / self.schedule_length))
            save(
                0 if learner.epoch == self.schedule_length else _SECONDS_BETWEEN_SAVES
            )  # so that no report is ever left out
        return strip(learner.network).to(device="cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload, no-any-return]

    def estimate(self, architecture: Architecture) -> float | None:
        """Return about how many seconds the full schedule takes here, from three steps and one validation batch.

        None for an architecture that cannot be trained.
        """
        if self._finishes:
            return None  # the network that the others are made of is trained first
        self._batches(self.hardware.fabric().device)  # what is done once, imports included, is not counted
        began = time.monotonic()
        try:
            learner, _ = self._learner(architecture, 0, self.hardware.lays_channels_last)
            built = time.monotonic() - began
            step, batch = learner.timed(steps=3)
        except (TrialFailed, MemoryError, RuntimeError):
            return None
        batches = -(-len(learner.held_out) // (2 * learner.task.batch_size))
        return (
            built + self.schedule_length * len(learner.bounds) * step + max(1, self.schedule_length) * batches * batch
        )

    def _ended(self, parent: int | None) -> Checkpoint | None:
        """Return where the parent ended, if that was kept."""
        from automl.checkpoint import Checkpoint

        if parent is None or self.folder is None or not self._path(parent).exists():
            return None
        return Checkpoint.load(self._path(parent))

    def _keep_end(self, trial: Trial, learner: Learner, told: Mapping[str, Any]) -> None:
        """Keep where a trial ended if it may be gone on with, and the weights alone of one that hands them down."""
        is_whole = trial.candidate.fidelity == 1
        if self.folder is None or (is_whole and self._noise is None):
            return
        reached = learner.checkpoint(trial.architecture.to_json())
        tensors = learner.network.state_dict() if is_whole else reached.tensors
        replace(reached, tensors=tensors, facts={**reached.facts, **told}).save(self._path(trial.number))

    def _path(self, number: int) -> Path:
        """Return where a trial's end is kept."""
        assert self.folder is not None
        return self.folder / str(number) / "training.safetensors"

    def _learner(
        self,
        architecture: Architecture,
        seed: int,
        channels_last: bool,
        saved: Checkpoint | None = None,
        study_seed: int = 0,
        folder: Path | None = None,
    ) -> tuple[Learner, dict[str, float]]:
        """Return what trains that architecture, gone on from a checkpoint where there is one, and what it costs."""
        if saved is not None:
            seed, channels_last = int(saved.facts["seed"]), bool(saved.facts["channels_last"])
        network = self._network(architecture, seed, channels_last, study_seed, folder)
        costs = self._costs(network)
        share = self.tuning_rate if self._finishes else 1.0
        learner = self._learner_of(
            network,
            self.schedule_length,
            share,
            seed,
            channels_last,
            costs["multiply_adds"],
            self.space.recipe(architecture.blueprint),
        )
        if saved is not None:
            learner.restore(saved, "its parent")
        return learner, costs

    def _network(
        self, architecture: Architecture, seed: int, channels_last: bool, study_seed: int, folder: Path | None
    ) -> Module:
        """Return the network to train: untrained, or made of one that was trained before."""
        import torch

        from automl_evaluators.batches import seed_of
        from automl_evaluators.learner import drawing, on_threads, seed_all
        from automl_evaluators.lent import Lent

        blueprint = architecture.blueprint
        origin = self.space.origin(blueprint)
        if origin is None:
            with drawing(torch.device("cpu")):
                seed_all(torch.device("cpu"), seed_of(seed, "weights"))
                return self.space.build(blueprint, self.task)
        device = self.hardware.fabric().device
        origins = self._origin_networks(study_seed)
        network, multiply_adds = origins.network(origin), origins.multiply_adds(origin)
        train, _ = self._batches(device)

        def learner(network: Module, epochs: int, rate: float, seed: int, **how: Any) -> Learner:
            brought = self.space.recipe(blueprint)
            return self._learner_of(network, epochs, rate, seed, channels_last, multiply_adds, brought, **how)

        lent = Lent(self.task, train, study_seed, learner, None if folder is None else folder / "lent")
        work = multiply_adds * self.task.batch_size
        threads = self.threads or _threads(network, work) or torch.get_num_threads()
        with drawing(device), on_threads(threads):
            seed_all(device, seed_of(study_seed, "finish"))
            return self.space.finish(network.to(device), blueprint, lent)

    def _origin_networks(self, study_seed: int) -> Origins:
        from automl_evaluators.origins import Origins

        if self._origins is None or self._origins[0] != study_seed:
            self._origins = study_seed, Origins(self.task, self, self.trainer, self.folder, study_seed)
        return self._origins[1]

    def before(self, architecture: Architecture, seed: int) -> Module | None:
        origin = self.space.origin(architecture.blueprint)
        return None if origin is None else self._origin_networks(seed).network(origin)

    def _costs(self, network: Module) -> dict[str, float]:
        from automl import measure
        from automl.device import candidate_latency

        image = self.task.input
        costs: dict[str, float] = {
            "parameters": measure.parameters(network),
            "multiply_adds": measure.multiply_adds(network, image),
        }
        if "latency_torch_ms" in self.wanted:
            costs["latency_torch_ms"] = measure.torch_latency(network, image).median_ms
        if self._prediction is not None:
            costs["latency_ms"] = self._prediction.milliseconds(network, self.task)
        elif "latency_ms" in self.wanted:
            costs["latency_ms"] = candidate_latency(self.device, network, self.task)
        return costs

    def _learner_of(
        self,
        network: Module,
        epochs: int,
        rate: float,
        seed: int,
        channels_last: bool,
        multiply_adds: float,
        brought: Mapping[str, Any],
        **how: Any,
    ) -> Learner:
        """Return what trains a network for so many epochs at that share of the learning rate.

        The settings brought take the place of those here and of the task's.
        """
        from automl_evaluators.learner import Learner, Recipe

        fabric = self.hardware.fabric()
        own = {name: brought.get(name, getattr(self, name)) for name in _OF_RECIPE}
        own["learning_rate"] = rate * _rate(network, own["learning_rate"], own["optimizer"])
        recipe = Recipe(epochs, **own)
        task = copy(self.task)
        for name in _OF_TASK:
            if name in brought:
                setattr(task, name, brought[name])
        data = self._batches(fabric.device)
        threads = self.threads or _threads(network, multiply_adds * task.batch_size)
        if channels_last and threads != 1 and not self.hardware.is_gpu and strides_single_pixels(network):
            channels_last = False
        return Learner(
            network,
            task,
            data,
            recipe,
            seed=seed,
            fabric=fabric,
            channels_last=channels_last,
            threads=threads,
            **how,
        )

    def _batches(self, device: torch.device) -> tuple[Batches, Batches]:
        """Return the training and the validation images on the device, moved there once."""
        from automl_evaluators.batches import Batches, first

        if self._data is None:
            task = self.task
            self._data = (
                Batches(first(task.train, self.images), task.mean, task.std, device),
                Batches(task.held_out, task.mean, task.std, device),
            )
        return self._data

    def _is_about_layout(self, error: RuntimeError) -> bool:
        """Return whether a network failed only for being laid out channels-last, and say so once."""
        if "view size is not compatible" not in str(error) or not self.hardware.lays_channels_last:
            return False
        if not self._warned:
            self._warned = True
            log.warning(
                "a network uses view on tensors that are laid out channels-last, so it is trained in the default "
                "layout, which is slower: use reshape or flatten instead, or set evaluator.channels_last=false"
            )
        return True


def _rate(network: Module, given: float | Literal["auto"], optimizer: str) -> float:
    """Return the highest learning rate; at 0.1 networks without batch normalisation lose their ReLUs for good."""
    if given != "auto":
        return given
    from torch.nn.modules.batchnorm import _BatchNorm

    if optimizer == "adamw":
        return 0.002
    return 0.1 if any(isinstance(module, _BatchNorm) for module in network.modules()) else 0.01


def _threads(network: Module, work: float) -> int | None:
    """Return 1 where a batch has so little work an operation that sharing it out costs more; None for all threads.

    On a machine that others use too, a second thread may wait for a processor at each of hundreds of calls: the
    steps of a cell network on 8 x 8 images then take ten times as long. A rule is repeatable, a race is not.
    """
    operations = sum(1 for module in network.modules() if not any(module.children()))
    return 1 if work < _LITTLE_WORK * operations else None


_SECONDS_BETWEEN_SAVES = 20.0
_LITTLE_WORK = 4_000_000  # multiply-adds a batch and operation

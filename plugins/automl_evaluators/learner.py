"""One network on its way through a training schedule: where it is, the next step, and how good it is by now."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from automl import BadInput, Task, TrialFailed
from automl.checkpoint import Checkpoint
from automl_evaluators.batches import Batches, cut, seed_of

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from torch import Tensor
    from torch.nn import Module

Optimizer = Literal["sgd", "adamw"]
_STATE: Mapping[Optimizer, Sequence[str]] = {  # what each keeps of a parameter
    "sgd": ("momentum_buffer",),
    "adamw": ("exp_avg", "exp_avg_sq", "step"),
}

FROZEN = "all parameters of the network are frozen, so training changes nothing: call its requires_grad_() first"


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, whatever the network."""

    epochs: int
    learning_rate: float
    momentum: float
    weight_decay: float
    warmup: float
    smoothing: float
    clip: float | None
    auxiliary: float
    optimizer: Optimizer = "sgd"

    def rate(self, step: int, total: int) -> float:
        """Return the learning rate of a step of so many: a linear rise, then half a cosine down to 0."""
        rise = self.warmup * total
        if step < rise:
            return self.learning_rate * (step + 1) / (rise + 1)
        return self.learning_rate * (1 + math.cos(math.pi * (step - rise) / (total - rise))) / 2

    def optimize(self, parameters: Sequence[nn.Parameter], fused: bool) -> torch.optim.Optimizer:
        """Return what moves the parameters; fused, by one call for all of them, of which small networks have hundreds.

        SGD has Nesterov momentum (Sutskever et al., 2013). AdamW decouples the decay (Loshchilov & Hutter, 2019).
        """
        if self.optimizer == "adamw":
            return torch.optim.AdamW(parameters, self.learning_rate, weight_decay=self.weight_decay, fused=fused)
        return torch.optim.SGD(
            parameters,
            lr=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.momentum > 0,
            fused=fused,
        )


class Learner:
    """Trains one network, a batch at a time.

    All that is drawn is drawn by (seed, epoch) and (seed, step): the order of the images, their augmentation, and
    whatever the network itself draws (dropout, dropped paths). So the state between two batches is the weights,
    the momentum and a few numbers, and from it the training goes on, bit for bit on the CPU, as if it had not
    stopped. The learning rate depends on the full schedule, however little of it is trained.
    """

    def __init__(
        self,
        network: Module,
        task: Task,
        data: tuple[Batches, Batches],
        recipe: Recipe,
        *,
        seed: int,
        fabric: Fabric,
        channels_last: bool = False,
        threads: int | None = None,
        loss: Callable[[Module, Tensor, Tensor], Tensor] | None = None,
        before_step: Callable[[Module], None] | None = None,
    ) -> None:
        self.loss_of, self.before_step = loss, before_step
        self.threads = threads or torch.get_num_threads()
        self.task, self.recipe, self.seed, self.fabric = task, recipe, seed, fabric
        self.channels_last = channels_last
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        network.to(memory_format=self._layout)  # type: ignore[call-overload]
        self.train, self.held_out = data
        self.bounds = cut(len(self.train), task.batch_size)
        self.total = recipe.epochs * len(self.bounds)  # steps of the full schedule
        self.epoch = 0  # epochs done
        self.batch = 0  # batches done of the epoch under way
        self.loss = 0.0  # summed over the images of this epoch
        self.stepped = 0  # batches of this epoch whose gradients were finite
        self.network = network  # trained in place; a part that has on_progress(share) is told how far it is
        self.informed: list[Any] = [module for module in network.modules() if hasattr(module, "on_progress")]
        self.norms = [(module, module.momentum) for module in network.modules() if isinstance(module, _BatchNorm)]
        self._parameters = list(network.parameters())
        self._scaled = fabric.strategy.precision.state_dict() != {}  # float16: gradients are scaled
        self.optimizer = recipe.optimize(self._parameters, fused=not self._scaled)
        self.model, self._stepper = fabric.setup(network, self.optimizer)
        self._generator = torch.Generator(device=fabric.device)
        self._order: Tensor | None = None

    @property
    def step(self) -> int:
        """The number of steps done."""
        return self.epoch * len(self.bounds) + self.batch

    def finish_epoch(self, between: Callable[[], None] = lambda: None) -> float:
        """Train to the end of the epoch and return its mean loss; ``between`` is called after each batch.

        Raises TrialFailed as soon as the loss is not finite, and for a network of which nothing can be trained.
        """
        if not any(parameter.requires_grad for parameter in self._parameters):
            raise TrialFailed(FROZEN)
        with drawing(self.fabric.device), on_threads(self.threads):
            self.model.train()
            while self.batch < len(self.bounds):
                self._take_step()
                between()
        if not self.stepped:
            raise TrialFailed(f"diverged: no gradient was finite at epoch {self.epoch + 1}")
        loss = self.loss / len(self.train)
        self.epoch, self.batch, self.loss, self.stepped, self._order = self.epoch + 1, 0, 0.0, 0, None
        return loss

    def _take_step(self) -> None:
        recipe, step = self.recipe, self.step
        if self._order is None:
            self._order = self.train.order(self.seed, self.epoch)
        start, stop = self.bounds[self.batch]
        images, labels = self.train.take(self._order[start:stop])
        images = self.task.augment(images, self._generator.manual_seed(seed_of(self.seed, "augment", step)))
        images = self.train.normalise(images).contiguous(memory_format=self._layout)
        seed_all(self.fabric.device, seed_of(self.seed, "network", step))
        for module in self.informed:
            module.on_progress(step / self.total)
        for norm, momentum in self.norms:
            if momentum is not None:
                # a plain mean at first: an average that moves by a tenth would still hold its start after twenty steps
                norm.momentum = max(momentum, 1 / (step + 1))
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate(step, self.total)

        if self.loss_of is None:
            loss = self._loss(self.model(images), labels)
        else:
            loss = self.loss_of(self.model, images, labels)
        self._stepper.zero_grad()
        self.fabric.backward(loss)
        self.fabric.strategy.precision.unscale_gradients(self.optimizer)
        if self.before_step is not None:
            self.before_step(self.network)
        parameters = [parameter for parameter in self._parameters if parameter.grad is not None]
        total = nn.utils.get_total_norm(cast("list[Tensor]", [parameter.grad for parameter in parameters]))
        value, length = torch.stack((loss.detach(), total)).tolist()  # one wait for the device, not two
        if not math.isfinite(value):
            raise TrialFailed(f"diverged: loss was {value} at epoch {self.epoch + 1}")
        if recipe.clip is not None and length > recipe.clip:
            nn.utils.clip_grads_with_norm_(parameters, recipe.clip, total)
        if math.isfinite(length) or self._scaled:  # with a scale, the scaler leaves the step out and lowers the scale
            self._stepper.step()
        self.stepped += math.isfinite(length)
        self.loss += value * (stop - start)
        self.batch += 1

    def _loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """Return the loss; a network with an auxiliary head returns a pair while it is trained."""
        smoothing = self.recipe.smoothing
        if isinstance(outputs, tuple):
            outputs, auxiliary = outputs
            if auxiliary is not None:
                side = self.task.loss(auxiliary, labels, smoothing)
                return self.task.loss(outputs, labels, smoothing) + self.recipe.auxiliary * side
        return self.task.loss(outputs, labels, smoothing)

    def validate(self, between: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Return the task's metrics over every validation image; raises TrialFailed if one is not finite."""
        sums: dict[str, Tensor] = {}
        self.model.eval()
        with torch.inference_mode(), drawing(self.fabric.device), on_threads(self.threads):
            seed_all(self.fabric.device, seed_of(self.seed, "validation"))  # for a network that draws at rest too
            for images, labels in self.held_out.in_turn(2 * self.task.batch_size):
                outputs = self.model(images.contiguous(memory_format=self._layout))
                for name, value in self.task.score(outputs, labels).items():
                    sums[name] = sums[name] + value if name in sums else value
                between()
        metrics = {name: value.item() / len(self.held_out) for name, value in sums.items()}
        for name, number in metrics.items():
            if not math.isfinite(number):
                raise TrialFailed(f"diverged: {name} was {number} on the validation images at epoch {self.epoch}")
        return metrics

    def checkpoint(self, decisions: Mapping[str, Any]) -> Checkpoint:
        """Return the state between two batches, and of which architecture it is."""
        tensors = dict(self.network.state_dict())
        for name, parameter in self.network.named_parameters():
            for key in _STATE[self.recipe.optimizer]:
                value = self.optimizer.state.get(parameter, {}).get(key)
                if value is not None:
                    tensors[f"optimizer/{key}/{name}"] = value
        place = {"epoch": self.epoch, "batch": self.batch, "loss": self.loss, "stepped": self.stepped}
        scaler = self.fabric.strategy.precision.state_dict()
        return Checkpoint(
            tensors,
            {
                "decisions": decisions,
                "channels_last": self.channels_last,
                **self._course(),
                **place,
                "scaler": scaler,
            },
        )

    def restore(self, checkpoint: Checkpoint, what: str) -> None:
        """Go on from that state; raises BadInput if it is of another network or another schedule."""
        course = {key: checkpoint.facts.get(key) for key in self._course()}
        if course != self._course():
            raise BadInput(f"the checkpoint of {what} is of the schedule {course}, not of {self._course()}")
        targets = dict(self.network.state_dict())
        for name, parameter in self.network.named_parameters():
            for key in _STATE[self.recipe.optimizer]:
                if (saved := checkpoint.tensors.get(f"optimizer/{key}/{name}")) is not None:
                    # laid out as the parameter, but for a count of steps
                    value = torch.empty_like(parameter).detach() if saved.dim() else saved.to(parameter.device)
                    targets[f"optimizer/{key}/{name}"] = self.optimizer.state[parameter][key] = value
        checkpoint.copy_into(targets, what)
        facts = checkpoint.facts
        self.epoch, self.batch = int(facts["epoch"]), int(facts["batch"])
        self.loss, self.stepped = float(facts["loss"]), int(facts["stepped"])
        if self._scaled:
            self.fabric.strategy.precision.load_state_dict(dict(facts["scaler"]))

    def _course(self) -> dict[str, Any]:
        return {"seed": self.seed, "epochs": self.recipe.epochs, "images": len(self.train), "steps": self.total}

    def timed(self, steps: int) -> tuple[float, float]:
        """Return the seconds that a training step and a validation batch take here; the network is spoilt by it."""
        step: list[float] = []
        with drawing(self.fabric.device), on_threads(self.threads):
            self.model.train()
            for _ in range(min(steps, len(self.bounds))):
                began = time.perf_counter()
                self._take_step()
                step.append(time.perf_counter() - began)
            self.model.eval()
            images, _ = next(self.held_out.in_turn(2 * self.task.batch_size))
            began = time.perf_counter()
            with torch.inference_mode():
                self.model(images.contiguous(memory_format=self._layout)).sum().item()
            batch = time.perf_counter() - began
        return min(step), batch


@contextmanager
def drawing(device: torch.device) -> Iterator[None]:
    """Let what is inside draw from torch's default generators, and put them back as they were."""
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


@contextmanager
def on_threads(count: int) -> Iterator[None]:
    """Let torch use so many threads of the CPU inside, and as many as before after it."""
    before = torch.get_num_threads()
    if count != before:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if count != before:
            torch.set_num_threads(before)


def seed_all(device: torch.device, seed: int) -> None:
    """Seed the generators that a network on the device draws from; torch.manual_seed takes 0.2 ms for the same."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(seed)

"""One set of weights that every network of a space is trained and judged with."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from automl import Architecture, Space, Task, TrialFailed
from automl.checkpoint import Checkpoint
from automl.mixture import Mixture
from automl.sharing import ElasticWeights, SharedWeights, window
from automl_evaluators.batches import Batches, cut, seed_of
from automl_evaluators.curvature import largest_eigenvalue
from automl_evaluators.learner import drawing, on_threads, seed_all

if TYPE_CHECKING:
    from lightning.fabric import Fabric

KEPT = 64  # built networks, the latest used
Weights = Mapping[str, Tensor]
Order = Literal["first", "second", "joint"]


@dataclass(frozen=True)
class Schedule:
    """How the shared weights are trained."""

    learning_rate: float
    least_rate: float
    decay: int  # steps over which the rate falls by half a cosine, and then stays
    momentum: float
    weight_decay: float
    clip: float | None

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        share = min(step, self.decay) / self.decay
        return self.least_rate + (self.learning_rate - self.least_rate) * (1 + math.cos(math.pi * share)) / 2


class OneShot:
    """The shared weights, their optimiser, and the place in the data.

    Everything drawn is drawn by the seed and the number of the step, so that the weights, the momentum and that number
    are all that it goes on from, bit for bit on the CPU.
    """

    def __init__(
        self,
        space: Space[Any],
        task: Task,
        train: Batches,
        choices: Batches,
        held_out: Batches,
        schedule: Schedule,
        *,
        seed: int,
        fabric: Fabric,
        channels_last: bool,
        affine: bool,
        threads: int | None,
        elastic: bool = False,
    ) -> None:
        self.space, self.task, self.schedule, self.seed, self.fabric = space, task, schedule, seed, fabric
        self.train, self.choices, self.held_out = train, choices, held_out
        self.affine, self.threads = affine, threads or torch.get_num_threads()
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self.shared = ElasticWeights(self._layout) if elastic else SharedWeights()
        self.step = 0  # steps done
        self.looks = 0  # batches of the images for the choices that were looked at
        self.optimizer = torch.optim.SGD(
            [torch.zeros(0, device=fabric.device, requires_grad=True)],  # it wants one to begin with
            lr=schedule.learning_rate,
            momentum=schedule.momentum,
            weight_decay=schedule.weight_decay,
        )
        self._networks: OrderedDict[Any, nn.Module] = OrderedDict()
        self._generator = torch.Generator(device=fabric.device)

    @property
    def epoch_length(self) -> int:
        """How many batches an epoch of training has."""
        return len(cut(len(self.train), self.task.batch_size))

    # networks

    def network(self, architecture: Architecture) -> nn.Module:
        """Return the architecture's network with the shared weights in it; those that are new are drawn.

        Where choices are soft, all of them are in it, and their weights are set as they are used.
        """
        key = form(architecture)
        if key in self._networks:
            self._networks.move_to_end(key)
            self.shared.refresh(self._networks[key])
            return self._networks[key]
        with drawing(torch.device("cpu")):
            seed_all(torch.device("cpu"), seed_of(self.seed, "weights", self.shared.drawn))
            network = self.space.build(architecture.blueprint, self.task)
        if not self.affine:
            for module in _norms(network):
                if module.affine:
                    module.weight = module.bias = None  # type: ignore[assignment]
        network.to(self.fabric.device, memory_format=self._layout)  # type: ignore[call-overload]
        self._adopt(network)
        self._networks[key] = network
        if len(self._networks) > KEPT:
            self._networks.popitem(last=False)
        return network

    def _adopt(self, network: nn.Module) -> None:
        """Put the shared weights into a network; the momentum of those that grow for it grows with zeros."""
        before = dict(self.shared.tensors)
        generator = torch.Generator().manual_seed(seed_of(self.seed, "growth", self.shared.drawn))
        self.shared.adopt(network, generator)
        for key, small in before.items():
            large = self.shared.tensors[key]
            if large is small:
                continue
            past = self.optimizer.state.pop(small, {}).get("momentum_buffer")
            if past is not None:
                buffer = torch.zeros_like(large)
                window(buffer, small.shape).copy_(past)
                self.optimizer.state[large] = {"momentum_buffer": buffer}
        self.optimizer.param_groups[0]["params"][1:] = self.shared.tensors.values()

    def leaves(self, architecture: Architecture) -> dict[str, Tensor]:
        """Return the weights of the soft choices as tensors that gradients are taken of."""
        return {name: tensor.requires_grad_() for name, tensor in self.as_weights(architecture.weights).items()}

    def as_weights(self, numbers: Mapping[str, Sequence[float]]) -> dict[str, Tensor]:
        """Return numbers by decision as tensors."""
        return {name: torch.tensor(list(some), device=self.fabric.device) for name, some in numbers.items()}

    # training

    def train_on(self, networks: Sequence[nn.Module], weights: Weights | None = None) -> float:
        """Take one step on the next batch and return its loss, the mean over the networks, whose gradients add up.

        Raises TrialFailed where the loss is not finite; the weights are then as they were.
        """
        with self._running(networks, weights, "train", self.step):
            images, labels = self._batch(self.train, self.step)
            total = 0.0
            for network in networks:
                loss = self._loss(network, images, labels) / len(networks)
                self.fabric.backward(loss)
                total += loss.item()
            self._descend(total)
        return total

    def train_parts(self, network: nn.Module, masks: Sequence[Weights]) -> float:
        """Take one step on the next batch, cut into as many parts as there are masks, each the weights of one part.

        Batch normalisation sees each part by itself (ghost batches; Bender et al., 2018). Returns the mean loss.
        """
        images, labels = self._batch(self.train, self.step)
        total = 0.0
        for mask, given, wanted in zip(
            masks, images.tensor_split(len(masks)), labels.tensor_split(len(masks)), strict=True
        ):
            with self._running([network], mask, "train", self.step):
                loss = self._loss(network, given, wanted) * (len(wanted) / len(labels))
                self.fabric.backward(loss)
                total += loss.item()
        self._descend(total)
        return total

    def joint(self, network: nn.Module, leaves: Mapping[str, Tensor]) -> tuple[float, dict[str, Tensor], Tensor]:
        """Take one step of the weights, and return the loss, the choices' gradients of it, and the outputs' score.

        Both come of one batch and one pass (SNAS; Xie et al., 2019).
        """
        with self._running([network], leaves, "train", self.step):
            images, labels = self._batch(self.train, self.step)
            outputs = self._outputs(network, images)
            loss = self.task.loss(outputs, labels)
            right = self.task.score(outputs.detach(), labels)["accuracy"] / len(labels)
            self.fabric.backward(loss)
            gradients = {name: _or_zeros(leaf.grad, leaf) for name, leaf in leaves.items()}
            value = loss.item()
            self._descend(value)
        return value, gradients, right

    def gradients(
        self, network: nn.Module, leaves: Mapping[str, Tensor], order: Order
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Return loss and accuracy on the next batch for the choices, and the gradients of the choices.

        Of the second order, the weights are thought one step of training further (Liu et al., 2019, equation 7), and
        are then as they were.
        """
        images, labels = self._batch(self.choices, self.looks, "choices")
        self.looks += 1
        if order == "second":
            return self._unrolled(network, leaves, images, labels)
        with self._running([network], leaves, "look", self.looks), self.shared.frozen(network):
            outputs = self._outputs(network, images)
            loss = self.task.loss(outputs, labels)
            found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        metrics = self._metrics(outputs, labels, loss)
        return metrics, {name: _or_zeros(gradient, leaves[name]) for name, gradient in zip(leaves, found, strict=True)}

    def _unrolled(
        self, network: nn.Module, leaves: Mapping[str, Tensor], images: Tensor, labels: Tensor
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        parameters = [parameter for parameter in self.shared.parameters_of(network) if parameter.requires_grad]
        held = [parameter.detach().clone() for parameter in parameters]
        rate = self.schedule.rate(self.step)
        trained_on = self._batch(self.train, self.step)
        choices = list(leaves.values())
        with self._running([network], leaves, "unroll", self.looks), _frozen_statistics(_norms(network)):
            loss = self._loss(network, *trained_on)
            slopes = torch.autograd.grad(loss, parameters, allow_unused=True)
            with torch.no_grad():
                for parameter, slope in zip(parameters, slopes, strict=True):
                    if slope is not None:
                        moved = slope + self.schedule.weight_decay * parameter
                        past = self.optimizer.state.get(parameter, {}).get("momentum_buffer")
                        if past is not None:
                            moved = moved + self.schedule.momentum * past
                        parameter.sub_(rate * moved)
            outputs = self._outputs(network, images)
            loss = self.task.loss(outputs, labels)
            found = torch.autograd.grad(loss, [*choices, *parameters], allow_unused=True)
            direct, direction = found[: len(choices)], found[len(choices) :]
            length = math.sqrt(sum(float(part.square().sum()) for part in direction if part is not None))
            epsilon = 0.01 / max(length, 1e-12)
            sides: list[Sequence[Tensor]] = []
            for sign in (1, -1):
                with torch.no_grad():
                    for parameter, before, part in zip(parameters, held, direction, strict=True):
                        parameter.copy_(before if part is None else before + sign * epsilon * part)
                with self.shared.frozen(network):
                    sides.append(torch.autograd.grad(self._loss(network, *trained_on), choices, allow_unused=True))
            with torch.no_grad():
                for parameter, before in zip(parameters, held, strict=True):
                    parameter.copy_(before)
        gradients = {}
        for (name, leaf), first, above, below in zip(leaves.items(), direct, *sides, strict=True):
            curvature = (_or_zeros(above, leaf) - _or_zeros(below, leaf)) / (2 * epsilon)
            gradients[name] = _or_zeros(first, leaf) - rate * curvature
        return self._metrics(outputs, labels, loss), gradients

    def curvature(self, network: nn.Module, weights: Mapping[str, Sequence[float]]) -> float:
        """Return the largest eigenvalue of the Hessian of the loss by the choices' logits (Zela et al., 2020).

        The weights, all above 0, are a softmax of the logits times their sum, as all that weigh options by a softmax
        have them. The loss is that of one batch of the images for the choices, always the same one, not augmented.
        Nothing that is trained or drawn is changed by it.
        """
        logits = [tensor.log().requires_grad_() for tensor in self.as_weights(weights).values()]
        soft = {name: sum(weights[name]) * logit.softmax(0) for name, logit in zip(weights, logits, strict=True)}
        images, labels = self._batch(self.choices, 0, "curvature", augment=False)
        place = torch.Generator().manual_seed(seed_of(self.seed, "curvature"))
        start = torch.randn(sum(map(len, logits)), generator=place, dtype=logits[0].dtype).to(self.fabric.device)
        with (
            self._running([network], soft, "curvature", 0),
            self.shared.frozen(network),
            _frozen_statistics(_norms(network)),
        ):
            loss = self._loss(network, images, labels)
            slopes = torch.cat(torch.autograd.grad(loss, logits, create_graph=True, materialize_grads=True))

            def product(vector: Tensor) -> Tensor:
                parts = torch.autograd.grad(slopes, logits, vector, retain_graph=True, materialize_grads=True)
                return torch.cat(parts).detach()

            return largest_eigenvalue(product, start)

    def _metrics(self, outputs: Tensor, labels: Tensor, loss: Tensor) -> dict[str, float]:
        found = {name: value.item() / len(labels) for name, value in self.task.score(outputs.detach(), labels).items()}
        if not math.isfinite(loss.item()):
            raise TrialFailed(f"diverged: loss was {loss.item()} on the images for the choices at step {self.step}")
        return found

    def _descend(self, loss: float) -> None:
        parameters = [parameter for parameter in self.optimizer.param_groups[0]["params"] if parameter.grad is not None]
        if not math.isfinite(loss):
            self.optimizer.zero_grad()
            raise TrialFailed(f"diverged: loss was {loss} at step {self.step} of the shared weights")
        if self.schedule.clip is not None:
            nn.utils.clip_grad_norm_(parameters, self.schedule.clip)
        self.optimizer.param_groups[0]["lr"] = self.schedule.rate(self.step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1

    # judging

    def score(
        self, network: nn.Module, weights: Weights | None, batches: int, images: int | None, number: int
    ) -> dict[str, float]:
        """Return the task's metrics on the validation images, or on so many of them, drawn by the number.

        Batch normalisation is first measured on so many batches of training images; with 0 it takes those of the
        batch that is judged.
        """
        norms = _norms(network)
        size = 2 * self.task.batch_size
        sums: dict[str, Tensor] = {}
        count = 0
        with torch.no_grad(), self._running([network], weights, "score", number):
            if batches and norms:
                momenta = [norm.momentum for norm in norms]
                for norm in norms:
                    norm.reset_running_stats()
                    norm.momentum = None  # a plain mean
                for place in range(batches):
                    self._outputs(network, self._batch(self.train, place, "recalibrate", augment=False)[0])
                for norm, momentum in zip(norms, momenta, strict=True):
                    norm.momentum = momentum
            if batches:
                network.eval()
            for given, labels in self._judged(images, size, number):
                outputs = self._outputs(network, given)
                for name, value in self.task.score(outputs, labels).items():
                    sums[name] = sums[name] + value if name in sums else value
                count += len(labels)
        return {name: value.item() / count for name, value in sums.items()}

    def _judged(self, images: int | None, size: int, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        held_out = self.held_out
        if images is None or images >= len(held_out):
            yield from held_out.in_turn(size)
            return
        which = held_out.order(self.seed, number)[:images]
        for start in range(0, images, size):
            given, labels = held_out.take(which[start : start + size])
            yield held_out.normalise(given), labels

    # going on

    def state(self) -> Checkpoint:
        """Return the weights, the momentum, and the place in the data."""
        tensors: dict[str, Tensor] = {}
        for key, parameter in self.shared.tensors.items():
            tensors[f"weights{key}"] = parameter
            buffer = self.optimizer.state.get(parameter, {}).get("momentum_buffer")
            if buffer is not None:
                tensors[f"momentum{key}"] = buffer
        return Checkpoint(tensors, {"step": self.step, "looks": self.looks, "order": list(self.shared.tensors)})

    def restore(self, state: Checkpoint) -> None:
        """Go on from there; networks that were built are forgotten."""
        self._networks.clear()
        self.shared.tensors.clear()
        self.optimizer.state.clear()
        parameters = self.optimizer.param_groups[0]["params"]
        del parameters[1:]
        for key in state.facts["order"]:
            parameter = nn.Parameter(self._laid_out(state.tensors[f"weights{key}"]))
            self.shared.tensors[key] = parameter
            parameters.append(parameter)
            buffer = state.tensors.get(f"momentum{key}")
            if buffer is not None:
                self.optimizer.state[parameter] = {"momentum_buffer": self._laid_out(buffer)}
        self.step, self.looks = int(state.facts["step"]), int(state.facts["looks"])

    def _laid_out(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.fabric.device, memory_format=self._layout if tensor.dim() == 4 else torch.preserve_format)

    # what all of these need

    @contextmanager
    def _running(
        self, networks: Sequence[nn.Module], weights: Weights | None, purpose: str, place: int
    ) -> Iterator[None]:
        """Put the networks into training mode with these weights of their mixtures, and draw by seed and place."""
        for network in networks:
            if not network.training:  # of thousands of modules it takes a while
                network.train()
            self.shared.refresh(network)
            for module in network.modules():
                if isinstance(module, Mixture):
                    module.weights = None if weights is None else weights[module.decision]
        with drawing(self.fabric.device), on_threads(self.threads):
            seed_all(self.fabric.device, seed_of(self.seed, purpose, place))
            yield

    def _batch(self, data: Batches, place: int, purpose: str = "train", augment: bool = True) -> tuple[Tensor, Tensor]:
        bounds = cut(len(data), self.task.batch_size)
        epoch, number = divmod(place, len(bounds))
        start, stop = bounds[number]
        images, labels = data.take(data.order(seed_of(self.seed, purpose), epoch)[start:stop])
        if augment:
            images = self.task.augment(images, self._generator.manual_seed(seed_of(self.seed, purpose, place)))
        return data.normalise(images), labels

    def _outputs(self, network: nn.Module, images: Tensor) -> Tensor:
        with self.fabric.autocast():
            outputs = network(images.contiguous(memory_format=self._layout))
        result: Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
        return result

    def _loss(self, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return self.task.loss(self._outputs(network, images), labels)


@contextmanager
def _frozen_statistics(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Leave running statistics alone inside: what is only thought of moves nothing."""
    tracked = [norm.track_running_stats for norm in norms]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, before in zip(norms, tracked, strict=True):
            norm.track_running_stats = before


def form(architecture: Architecture) -> tuple[object, ...]:
    """Return what two architectures have in common whose networks are one: what was decided, but for soft weights."""
    soft, domains = architecture.weights, architecture.domains
    decided = (
        (name, value)
        for name, value in architecture.values.items()
        if not soft or (name not in soft and getattr(domains[name], "together", None) is None)
    )
    return (tuple(soft), *decided)


def _norms(network: nn.Module) -> list[_BatchNorm]:
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def _or_zeros(gradient: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if gradient is None else gradient

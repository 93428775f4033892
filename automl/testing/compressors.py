"""The contract of compressors, and a training to lend them."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from automl.compressor import Compressor
from automl.decisions import Choose
from automl.space import Space
from automl.task import Task
from automl.testing.spaces import check_architecture
from automl.testing.toys import ToyNetworks, ToyTask

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


class Lending:
    """A training by plain gradient descent on the task's training images; see ``automl.Training``."""

    def __init__(self, task: Task, seed: int = 0) -> None:
        self.task, self.seed = task, seed

    def train(
        self,
        network: Module,
        epochs: int,
        *,
        rate: float = 1.0,
        loss: Callable[[Module, Tensor, Tensor], Tensor] | None = None,
        before_step: Callable[[Module], None] | None = None,
    ) -> None:
        """Train in place."""
        import torch

        optimiser = torch.optim.SGD(network.parameters(), 0.05 * rate)
        network.train()
        for _ in range(epochs):
            for images, labels in self.batches(-(-len(self.task.train) // self.task.batch_size)):
                optimiser.zero_grad()
                (loss or self.loss)(network, images, labels).backward()  # type: ignore[no-untyped-call]
                if before_step is not None:
                    before_step(network)
                optimiser.step()
        network.eval()

    def recalibrate(self, network: Module, batches: int = 8) -> None:
        """Measure the statistics of batch normalisation anew."""
        import torch

        network.train()
        with torch.no_grad():
            for images, _ in self.batches(batches):
                network(images)
        network.eval()

    def batches(self, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield so many batches, the same each time."""
        import torch

        train, size = self.task.train, self.task.batch_size
        for number in range(count):
            first = number * size % len(train)
            images = torch.from_numpy(train.images[first : first + size]).float() / 255 - 0.5
            yield images, torch.from_numpy(train.labels[first : first + size]).long()

    def loss(self, network: Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the task's mean loss."""
        return self.task.loss(network(images), labels)


def check_compressor(
    factory: Callable[[], Compressor[Any]],
    networks: Sequence[Module] | None = None,
    task: Task | None = None,
    *,
    samples: int = 5,
) -> None:
    """Raise AssertionError, in a sentence, where the compressors that the factory makes break their contract.

    Of each network, trained ones for the task: the decisions are those of a space; equal weights and plan give equal
    networks, no larger, that answer as before in shape; without a training they have the same shapes; and the form,
    which is JSON, rebuilds them.
    """
    task = task or ToyTask()
    task.prepare(0)
    rng = random.Random(0)
    if networks is None:
        toys = ToyNetworks()
        networks = [toys.build(toys.sample(rng).blueprint, task) for _ in range(2)]
    for network in networks:
        network = network.eval()
        compressor = factory()
        studied = compressor.study(copy.deepcopy(network).to("meta"), task)
        space = _Plans(compressor, studied)
        for _ in range(samples):
            one = space.sample(rng)
            check_architecture(space, one)
            _check_compressed(compressor, network, studied, one.blueprint, task)


class _Plans(Space[Any]):
    """The decisions of a compressor about one network."""

    def __init__(self, compressor: Compressor[Any], studied: Any) -> None:
        self._compressor, self._studied = compressor, studied

    def describe(self, choose: Choose) -> Any:
        return self._compressor.describe(self._studied, choose)

    def build(self, blueprint: Any, task: Task) -> Module:
        raise NotImplementedError("plans alone")


def _check_compressed(compressor: Compressor[Any], network: Module, studied: Any, plan: Any, task: Task) -> None:
    import torch

    name, made = type(compressor).__name__, []
    hash(plan)
    images, _ = next(Lending(task).batches(1))
    for training in (Lending(task), Lending(task), None):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made.append(compressor.compress(copy.deepcopy(network), studied, plan, training))
    (first, form), (second, _), (bare, _) = made
    with torch.no_grad():
        answers = first.eval()(images)
        assert answers.shape == (len(images), task.outputs), f"{name} makes a network that answers {answers.shape}"
        assert torch.equal(second.eval()(images), answers), f"{name} makes two networks of equal weights, plan and seed"
    before, after = (sum(weight.numel() for weight in one.parameters()) for one in (network, first))
    assert after <= before, f"{name} makes {after:,} parameters of {before:,}"
    assert _shapes(bare) == _shapes(first), f"{name} makes another shape where no training is lent"
    form = json.loads(json.dumps(form, allow_nan=False))
    for layer, share in form.get("kept", {}).items():
        assert 0 < share <= 1, f"{name} says that the share {share} of {layer} is kept"
    rebuilt = compressor.rebuild(copy.deepcopy(network), form)
    assert _shapes(rebuilt) == _shapes(first), f"{name}.rebuild makes another shape than compress"
    rebuilt.load_state_dict(first.state_dict())
    with torch.no_grad():
        assert torch.equal(rebuilt.eval()(images), answers), f"{name}.rebuild makes a network that answers otherwise"


def _shapes(network: Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}

"""How fast the evaluator trains, beside the bare PyTorch loop, the usual DataLoader loop and Lightning's Trainer.

    python benchmarks/training.py [--json]

The same networks on the same images, one epoch of each way in turn, again and again, in one process; each round gives
a ratio to the bare loop. Times are CPU time of this process on one thread, so that what else the machine does matters
less. "evaluator" and "bare" take the same
steps: batches out of memory without augmentation, SGD with Nesterov momentum, clipped gradients, channels-last. The
usual loop draws from a DataLoader and shifts and mirrors each image by itself ("evaluator, augmented" does so by the
batch); Lightning's Trainer draws whole batches from memory as the bare loop does.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from automl_evaluators.batches import Batches, cut
from automl_evaluators.learner import Learner, Recipe
from automl_evaluators.training import Training
from automl_spaces.nasnet import NASNet
from automl_tasks.synthetic import Synthetic

CLIP = 5.0
RATE = 0.01
MOMENTUM = 0.9
DECAY = 5e-4
CROP = 2


def chain(task: Synthetic) -> nn.Module:
    """Return four convolutions, so small that a step is mostly calls."""
    layers: list[nn.Module] = []
    for before, after, stride in ((task.input[0], 16, 1), (16, 16, 2), (16, 32, 2), (32, 32, 1)):
        layers += [nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, task.outputs))


def cells(task: Synthetic) -> nn.Module:
    """Return a network of the NASNet space, as wide as a search has them by default."""
    space = NASNet()
    return space.build(space.sample(random.Random(0)).blueprint, task)


def sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        network.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY, nesterov=True, fused=True
    )


def evaluator(network: nn.Module, task: Synthetic) -> Callable[[], Any]:
    """Return an epoch of the evaluator's own loop."""
    data = tuple(Batches(split, task.mean, task.std, torch.device("cpu")) for split in (task.train, task.held_out))
    recipe = Recipe(1000, RATE, MOMENTUM, DECAY, 0.0, 0.1, CLIP, 0.4)
    fabric = Training(accelerator="cpu").hardware.fabric()
    learner = Learner(network, task, data, recipe, seed=0, fabric=fabric, channels_last=True)  # type: ignore[arg-type]
    return learner.finish_epoch


def bare(network: nn.Module, task: Synthetic) -> Callable[[], Any]:
    """Return an epoch in plain PyTorch: the same steps, and nothing around them."""
    images, labels, bounds = *normalised(task), cut(len(task.train), task.batch_size)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = sgd(network)

    def epoch() -> None:
        network.train()
        order = torch.randperm(len(labels))
        for start, stop in bounds:
            which = order[start:stop]
            batch = images[which].contiguous(memory_format=torch.channels_last)
            step(network, optimizer, batch, labels[which])

    return epoch


def dataloader(network: nn.Module, task: Synthetic) -> Callable[[], Any]:
    """Return an epoch of the usual loop: images one by one, each shifted and mirrored, collated into batches."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = sgd(network)
    loader = DataLoader(OneByOne(task), batch_size=task.batch_size, shuffle=True)

    def epoch() -> None:
        network.train()
        for batch, targets in loader:
            step(network, optimizer, batch.contiguous(memory_format=torch.channels_last), targets)

    return epoch


class OneByOne(Dataset[tuple[Tensor, int]]):
    """Images that are shifted, mirrored and normalised one at a time."""

    def __init__(self, task: Synthetic) -> None:
        self.images, self.labels = torch.from_numpy(task.train.images), task.train.labels.tolist()
        self.mean, self.std = (torch.tensor(values).view(-1, 1, 1) for values in (task.mean, task.std))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        height, width = image.shape[1:]
        top, left = (int(torch.randint(2 * CROP + 1, ())) for _ in range(2))
        image = nn.functional.pad(image, [CROP] * 4)[:, top : top + height, left : left + width]
        if torch.rand(()) < 0.5:
            image = image.flip(-1)
        return (image.float() / 255 - self.mean) / self.std, self.labels[index]


def lightning(network: nn.Module, task: Synthetic) -> Callable[[], Any]:
    """Return an epoch of Lightning's Trainer, with nothing switched on that can be off."""
    from lightning.pytorch import LightningModule, Trainer

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
            images, targets = batch
            return loss_of(self.network(images.contiguous(memory_format=torch.channels_last)), targets)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return sgd(self.network)

    images, labels = normalised(task)
    sampler = [list(range(start, stop)) for start, stop in cut(len(labels), task.batch_size)]
    loader = DataLoader(torch.utils.data.TensorDataset(images, labels), sampler=sampler, batch_size=None)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    module = Module()

    def epoch() -> None:
        Trainer(
            accelerator="cpu",
            max_epochs=1,
            logger=False,
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            gradient_clip_val=CLIP,
        ).fit(module, loader)

    return epoch


def normalised(task: Synthetic) -> tuple[Tensor, Tensor]:
    """Return the training images, normalised once, and their labels."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (task.mean, task.std))
    return (torch.from_numpy(task.train.images) / 255 - mean) / std, torch.from_numpy(task.train.labels)


def step(network: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    optimizer.zero_grad()
    loss_of(network(images), labels).backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), CLIP)
    optimizer.step()


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)


def compare(make: Callable[[Synthetic], nn.Module], arguments: argparse.Namespace) -> dict[str, Any]:
    """Return images a second of each way, and its speed as a share of the bare loop's: median, least and most."""
    count = round(arguments.images / 0.7) + 1
    task = Synthetic(count=count, size=arguments.size, channels=3, batch_size=arguments.batch_size)
    augmented = Synthetic(
        count=count, size=arguments.size, channels=3, batch_size=arguments.batch_size, crop=CROP, flip=True
    )
    for one in (task, augmented):
        one.prepare(0)

    def network() -> nn.Module:
        torch.manual_seed(0)
        return make(task)

    ways = {
        "bare": bare(network(), task),
        "evaluator": evaluator(network(), task),
        "evaluator, augmented": evaluator(network(), augmented),
        "DataLoader, augmented": dataloader(network(), task),
        "Lightning Trainer": lightning(network(), task),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(arguments.rounds + 1):
        for name, epoch in ways.items():
            started = time.process_time()
            epoch()
            if number:  # the first warms up
                seconds[name].append(time.process_time() - started)
    table = {}
    for name, times in seconds.items():
        ratios = [one / other for one, other in zip(seconds["bare"], times, strict=True)]
        table[name] = {
            "images_per_second": round(len(task.train) / statistics.median(times), 1),
            "speed_to_bare": round(statistics.median(ratios), 3),
            "least": round(min(ratios), 3),
            "most": round(max(ratios), 3),
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, default=384, help="training images an epoch")
    parser.add_argument("--size", type=int, default=16, help="height and width of an image")
    parser.add_argument("--batch-size", type=int, default=64)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)  # Lightning's
    results: dict[str, Any] = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "setting": {key: vars(arguments)[key] for key in ("rounds", "images", "size", "batch_size")},
        "networks": {make.__name__: compare(make, arguments) for make in (chain, cells)},
    }
    if arguments.json:
        print(json.dumps(results, indent=1))
        return
    print(
        f"torch {results['torch']}, {results['threads']} threads; images a CPU second, and speed beside the bare loop"
    )
    for network, table in results["networks"].items():
        print(f"\n{network:24}    images   median  (least to most of {arguments.rounds} rounds)")
        for way, row in table.items():
            spread = f"({row['least']:.2f} to {row['most']:.2f})"
            print(f"  {way:22} {row['images_per_second']:9,.0f}   {row['speed_to_bare']:6.2f}  {spread}")


if __name__ == "__main__":
    main()

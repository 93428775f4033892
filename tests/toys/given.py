"""Small networks in plain torch, a space of one of them, and a training that is lent without training anything."""

from __future__ import annotations

import copy
import random

import torch
from torch import nn
from torch.nn import functional

from automl import Space, measure
from automl.plugins import Registry

FAMILIES = {
    "plain": {"name": "vgg_cifar", "width": 0.125},
    "residual": {"name": "resnet_cifar", "width": 0.5},
    "dense": {"name": "densenet_cifar", "depth": 40},
    "depthwise": {"name": "mobilenet_v2", "width": 0.35},
    "grouped": {"name": "resnext"},
    "shuffled, one": {"name": "shufflenet_v1", "width": 0.5},
    "shuffled, two": {"name": "shufflenet_v2", "width": 0.5},
    "interleaved": {"name": "igcv3", "width": 0.5},
}


def of_family(family, task):
    """Return an untrained network at rest of one of the families."""
    space = Registry().build("space", FAMILIES[family])
    torch.manual_seed(0)
    return measure.strip(space.build(space.sample(random.Random(0)).blueprint, task))


class Given(Space):
    """One network, with the weights that it has."""

    given = True

    def __init__(self, network):
        self.network = network

    def describe(self, choose):
        return None

    def build(self, blueprint, task):
        return copy.deepcopy(self.network)


class Lending:
    """The training images of a task; nothing is trained, and normalisation is measured."""

    def __init__(self, task, loss=functional.cross_entropy):
        self.task, self.seed, self._loss = task, 0, loss
        self.recalibrated = 0

    def train(self, network, epochs, *, rate=1.0, loss=None, before_step=None):
        pass

    def recalibrate(self, network, batches=8):
        self.recalibrated += batches

    def batches(self, count):
        size = self.task.batch_size
        for number in range(count):
            part = slice(number * size % len(self.task.train), number * size % len(self.task.train) + size)
            images = torch.from_numpy(self.task.train.images[part]).float() / 255 - 0.5
            yield images, torch.from_numpy(self.task.train.labels[part]).long()

    def loss(self, network, images, labels):
        return self._loss(network(images), labels)


def plain(widths=(8, 12, 16), classes=4):
    torch.manual_seed(0)
    layers, inputs = [], 3
    for width in widths:
        layers += [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


def without_norm():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 4)
    )


class Block(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.one, self.norm = nn.Conv2d(width, inner, 3, padding=1), nn.BatchNorm2d(inner)
        self.two = nn.Conv2d(inner, width, 3, padding=1)

    def forward(self, x):
        return torch.relu(x + self.two(torch.relu(self.norm(self.one(x)))))


def residual():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), Block(8, 6), Block(8, 10), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )

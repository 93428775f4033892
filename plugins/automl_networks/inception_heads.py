"""The heads that Inception networks have in their middle while they are trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from automl_networks.classifier import Classifier


class MeanWindows(nn.Module):
    """The means of count x count windows: of 5 x 5 with stride 3 on the published maps, as even as can be on others."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        sides = x.shape[-2:]
        strides = [(side - 2) // self.count for side in sides]
        if min(strides) < 1:
            return functional.adaptive_avg_pool2d(x, self.count)
        kernel = [side - (self.count - 1) * stride for side, stride in zip(sides, strides, strict=True)]
        return functional.avg_pool2d(x, kernel, strides)


def head_v1(
    inputs: int, outputs: int, layer: Callable[..., nn.Module], narrow: int = 128, hidden: int = 1024
) -> nn.Sequential:
    """Return GoogLeNet's head: 4 x 4 means, 1 x 1 to ``narrow``, two linear layers (Szegedy et al., 2015)."""
    return nn.Sequential(
        MeanWindows(4),
        layer(inputs, narrow),
        nn.Flatten(),
        nn.Linear(16 * narrow, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(0.7),
        nn.Linear(hidden, outputs),
    )


def head_v3(
    inputs: int, outputs: int, layer: Callable[..., nn.Module], narrow: int = 128, hidden: int = 768
) -> nn.Sequential:
    """Return Inception-v3's head: 5 x 5 means, 1 x 1 to ``narrow``, a 5 x 5 over all of it (Szegedy et al., 2016)."""
    return nn.Sequential(
        MeanWindows(5),
        layer(inputs, narrow),
        layer(narrow, hidden, 5, padding=0),
        nn.Flatten(),
        nn.Linear(hidden, outputs),
    )


class InceptionHeads(nn.ModuleList):
    """One answer of several heads: each image is answered by one of them, in turn along the batch.

    In a random order of images the loss of this answer is the mean of the heads' losses, in expectation; the weight
    of n heads of weight w each is therefore n w.
    """

    training_only = True

    def forward(self, maps: list[Tensor]) -> Tensor:
        answers = torch.stack([head(x) for head, x in zip(self, maps, strict=True)])
        images = torch.arange(answers.shape[1], device=answers.device)
        return answers[images % len(self), images]


class HeadedClassifier(nn.Module):
    """Images to logits, N x outputs; to (logits, auxiliary logits) in training, the latter of heads after some stages.

    The heads may be taken away: ``auxiliary_heads`` set to None.
    """

    def __init__(self, classifier: Classifier, heads: Mapping[int, nn.Module]) -> None:
        super().__init__()
        self.classifier = classifier
        self.after = tuple(heads)
        self.auxiliary_heads: InceptionHeads | None = InceptionHeads(heads.values())

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if not self.training or self.auxiliary_heads is None:
            logits: Tensor = self.classifier(images)
            return logits
        x = self.classifier.stem(images)
        maps = []
        for place, stage in enumerate(self.classifier.stages):
            x = stage(x)
            if place in self.after:
                maps.append(x)
        return self.classifier.head(x), self.auxiliary_heads(maps)

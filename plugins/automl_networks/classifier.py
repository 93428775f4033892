"""What classifying networks have in common: a stem, stages, a head."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn


class Classifier(nn.Module):
    """Images to logits, N x outputs: a stem, stages one after the other, a head."""

    def __init__(self, stem: nn.Module, stages: Iterable[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.stages(self.stem(images)))
        return logits


def pooled_linear(features: int, outputs: int, dropout: float = 0.0, bias: bool = True) -> nn.Sequential:
    """Return the head of most networks: the mean over the map, dropout, one linear layer."""
    layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if dropout:
        layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Linear(features, outputs, bias=bias))

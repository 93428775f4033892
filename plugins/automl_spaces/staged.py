"""Networks of one cell: a stem, stages of cells with a module between them that halves the size, a head."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from automl_networks.classifier import Classifier, pooled_linear
from automl_networks.conv_norm import conv_norm


def staged(
    cell: Callable[[int], nn.Module],
    between: Callable[[int, int], nn.Module],
    stages: int,
    cells: int,
    channels: int,
    colours: int,
    outputs: int,
) -> Classifier:
    """Return images to logits, N x outputs, the width doubling from stage to stage.

    ``cell`` makes a cell of a width, which it keeps; ``between`` what takes a width to another at half the size.
    """
    stem = conv_norm(colours, channels, 3, activation=None)
    rows = []
    for stage in range(stages):
        row = [between(channels, 2 * channels)] if stage else []
        channels *= 2 if stage else 1
        rows.append(nn.Sequential(*row, *(cell(channels) for _ in range(cells))))
    head = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True), *pooled_linear(channels, outputs))
    return Classifier(stem, rows, head)

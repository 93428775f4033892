"""Networks of the hierarchical space."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from automl_networks.classifier import Classifier
from automl_networks.convolutions import convolution
from automl_networks.separable import separable
from automl_spaces.hierarchical import State
from automl_spaces.staged import staged


def network(states: Sequence[State], cells: int, channels: int, colours: int, outputs: int) -> Classifier:
    """Return images to logits, N x outputs: three stages of one cell, between them strided separable convolutions."""
    between = partial(separable, kernel=3, stride=2, repeats=1)
    return staged(partial(MotifCell, states), between, 3, cells, channels, colours, outputs)


class MotifCell(nn.Module):
    """A cell whose motifs are written out: operations on states, and states joined by a 1 x 1 convolution."""

    def __init__(self, states: Sequence[State], channels: int) -> None:
        super().__init__()
        self.reads = [state.reads for state in states[1:]]
        self.steps = nn.ModuleList(
            convolution(channels * len(state.reads), channels, 1)
            if state.op is None
            else state.op(channels, channels, 1)
            for state in states[1:]
        )

    def forward(self, x: Tensor) -> Tensor:
        states = [x]
        for reads, step in zip(self.reads, self.steps, strict=True):
            read = states[reads[0]] if len(reads) == 1 else torch.cat([states[place] for place in reads], dim=1)
            states.append(step(read))
        return states[-1]

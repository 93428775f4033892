"""A cell that is written out, as a module."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from automl_networks.convolutions import convolution
from automl_spaces.states import ADDED, JOINED, State


class StateCell(nn.Module):
    """From a map to one of as many channels and the same size: operations on states, and states joined or added."""

    def __init__(self, states: Sequence[State], channels: int) -> None:
        super().__init__()
        self.reads = [state.reads for state in states[1:]]
        self.joins = [state.label == JOINED for state in states[1:]]
        self.steps = nn.ModuleList(_step(state, channels) for state in states[1:])

    def forward(self, x: Tensor) -> Tensor:
        states = [x]
        for reads, joins, step in zip(self.reads, self.joins, self.steps, strict=True):
            read = [states[place] for place in reads]
            states.append(step(torch.cat(read, dim=1) if joins else sum(read[1:], read[0])))
        return states[-1]


def _step(state: State, channels: int) -> nn.Module:
    if state.label == JOINED:
        return convolution(len(state.reads) * channels, channels, 1)
    if state.label == ADDED:
        return nn.Identity()
    assert state.op is not None, f"state {state.label} has no operation"
    return state.op(channels, channels, 1)

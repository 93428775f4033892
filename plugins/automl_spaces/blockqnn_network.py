"""Networks of BlockQNN: stages of one block, between them a maximum over 2 x 2 and a 1 x 1 convolution."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn

from automl_networks.classifier import Classifier
from automl_networks.convolutions import convolution
from automl_networks.pooling import Pool
from automl_spaces.staged import staged
from automl_spaces.state_cell import StateCell
from automl_spaces.states import State


def network(states: Sequence[State], stages: int, blocks: int, channels: int, colours: int, outputs: int) -> Classifier:
    """Return images to logits, N x outputs: so many blocks a stage, of a width that doubles from stage to stage."""
    return staged(partial(StateCell, states), _between, stages, blocks, channels, colours, outputs)


def _between(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(Pool("maximum", 2, 2), convolution(inputs, outputs, 1))

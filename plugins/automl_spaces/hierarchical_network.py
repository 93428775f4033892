"""Networks of the hierarchical space."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from automl_networks.classifier import Classifier
from automl_networks.separable import separable
from automl_spaces.staged import staged
from automl_spaces.state_cell import StateCell
from automl_spaces.states import State


def network(states: Sequence[State], cells: int, channels: int, colours: int, outputs: int) -> Classifier:
    """Return images to logits, N x outputs: three stages of one cell, between them strided separable convolutions."""
    between = partial(separable, kernel=3, stride=2, repeats=1)
    return staged(partial(StateCell, states), between, 3, cells, channels, colours, outputs)

"""Adam on lists of numbers, for the few that a strategy learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class Adam:
    """Adam (Kingma & Ba, 2015) with an L2 penalty; every parameter counts its own steps."""

    def __init__(self, rate: float, betas: tuple[float, float], weight_decay: float, eps: float = 1e-8) -> None:
        self.rate, self.betas, self.weight_decay, self.eps = rate, betas, weight_decay, eps
        self._moments: dict[str, tuple[list[float], list[float], int]] = {}

    def step(self, parameters: Mapping[str, list[float]], gradients: Mapping[str, Sequence[float]]) -> None:
        """Move the parameters of those names, in place, against their gradients."""
        fast, slow = self.betas
        for name, gradient in gradients.items():
            values = parameters[name]
            first, second, count = self._moments.get(name, ([0.0] * len(values), [0.0] * len(values), 0))
            count += 1
            for place, slope in enumerate(gradient):
                slope += self.weight_decay * values[place]
                first[place] = fast * first[place] + (1 - fast) * slope
                second[place] = slow * second[place] + (1 - slow) * slope * slope
                mean = first[place] / (1 - fast**count)
                spread = (second[place] / (1 - slow**count)) ** 0.5
                values[place] -= self.rate * mean / (spread + self.eps)
            self._moments[name] = (first, second, count)

    def state(self) -> dict[str, Any]:
        """Return what it goes on from, as JSON values."""
        return {name: [list(first), list(second), count] for name, (first, second, count) in self._moments.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state."""
        self._moments = {
            name: (list(first), list(second), int(count)) for name, (first, second, count) in state.items()
        }

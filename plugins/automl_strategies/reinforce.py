"""REINFORCE: what did better than the average of late is made more probable, what did worse less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from automl_strategies.policy_gradient import PolicyGradient, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from automl_strategies.controller import Controller


@dataclass
class Reinforce(PolicyGradient):
    """REINFORCE (Williams, 1992) with an LSTM controller (Zoph & Le, 2017).

    The gradient is the mean over a batch of the sum of grad log p(a_t | a_<t) times the advantage, with a bonus for
    the entropy. ``hidden=0`` has logits for each decision alone, as in NAS-Bench-201 (Dong & Yang, 2020).
    """

    def learn(self, controller: Controller, samples: Sequence[Sample]) -> None:
        controller.descend(self.loss(controller, samples))

    def loss(self, controller: Controller, samples: Sequence[Sample]) -> Tensor:
        """Return what the optimiser makes small."""
        import torch

        log_probs, entropies = controller.judge([sample.steps for sample in samples])
        advantages = torch.tensor([sample.advantage for sample in samples], dtype=log_probs.dtype)
        return -(log_probs.sum(1) * advantages).mean() - self.entropy * entropies.sum(1).mean()

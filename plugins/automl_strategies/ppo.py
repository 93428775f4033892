"""Proximal policy optimisation: several steps for each batch, cut off where they lead too far from what drew it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Ge, Gt, Lt

from automl_strategies.policy_gradient import PolicyGradient, Sample

if TYPE_CHECKING:
    from torch import Tensor

    from automl_strategies.controller import Controller

STALE = 2.0  # a sample whose log-probability changed by more since it was drawn is not learnt from
log = logging.getLogger("automl")


@dataclass
class PPO(PolicyGradient):
    """PPO (Schulman et al., 2017) with an LSTM controller, as of NASNet (Zoph et al., 2018).

    For each decision the ratio of its probability now to that when it was drawn is clipped to 1 +- ``clip``. Samples
    told late can be drawn by an older controller: they are left out where the ratio of a whole sequence is beyond
    exp(+-2). ``divergence`` is KL(drawn by || after the last batch), estimated by its samples.
    """

    epochs: Annotated[int, Ge(1)] = 3
    clip: Annotated[float, Gt(0), Lt(1)] = 0.2

    divergence = 0.0

    def learn(self, controller: Controller, samples: Sequence[Sample]) -> None:
        import torch

        with torch.no_grad():
            log_ratios = self.log_ratios(controller.judge([sample.steps for sample in samples])[0], samples)
        fresh = [
            sample for sample, change in zip(samples, log_ratios.sum(1).tolist(), strict=True) if abs(change) <= STALE
        ]
        if not fresh:
            return
        for _ in range(self.epochs):
            controller.descend(self.loss(controller, fresh))
        with torch.no_grad():
            log_ratios = self.log_ratios(controller.judge([sample.steps for sample in fresh])[0], fresh)
        self.divergence = -float(log_ratios.sum(1).mean())
        log.debug("ppo: %d of %d samples, divergence %.4g", len(fresh), len(samples), self.divergence)

    def loss(self, controller: Controller, samples: Sequence[Sample]) -> Tensor:
        """Return what the optimiser makes small."""
        import torch

        log_probs, entropies = controller.judge([sample.steps for sample in samples])
        advantages = torch.tensor([[sample.advantage] for sample in samples], dtype=log_probs.dtype)
        gain = clipped(self.log_ratios(log_probs, samples).exp(), advantages, self.clip)
        return -gain.sum(1).mean() - self.entropy * entropies.sum(1).mean()

    def log_ratios(self, log_probs: Tensor, samples: Sequence[Sample]) -> Tensor:
        """Return by how much the log-probability of each decision changed since it was drawn."""
        length = log_probs.shape[1]
        drawn = [[*sample.log_probs, *[0.0] * (length - len(sample.log_probs))] for sample in samples]
        return log_probs - log_probs.new_tensor(drawn)


def clipped(ratios: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """Return min(ratio A, clip(ratio, 1 - clip, 1 + clip) A): no gain from going further than that."""
    return (ratios * advantages).minimum(ratios.clamp(1 - clip, 1 + clip) * advantages)

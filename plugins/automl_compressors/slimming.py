"""Network slimming's training: the scales of batch normalisation pay for their size (Liu et al., 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from automl import BadInput

if TYPE_CHECKING:
    from torch.nn import Module

    from automl import Training


def train_sparse(network: Module, training: Training, penalty: float, epochs: int) -> None:
    """Train for so many epochs, adding ``penalty`` x sign(scale) to the gradient of every scale."""
    scales = [module.weight for module in network.modules() if isinstance(module, _BatchNorm) and module.affine]
    if not scales:
        raise BadInput(
            "the network has no batch normalisation with scales, which network slimming trains: "
            "give compressor.penalty=0 and compressor.criterion=l1"
        )

    def pay(_: Module) -> None:
        with torch.no_grad():
            for scale in scales:
                if scale.grad is not None:
                    scale.grad.add_(scale.sign(), alpha=penalty)

    training.train(network, epochs, before_step=pay)

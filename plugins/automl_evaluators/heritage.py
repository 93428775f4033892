"""What a network begins with of one that was trained before: its function where it can, else all that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from automl import Trial
from automl.checkpoint import Checkpoint
from automl.sharing import tensors
from automl_evaluators.batches import seed_of
from automl_evaluators.learner import Learner, drawing, on_threads

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from automl_evaluators.training import Training

_IMAGES = 64


class Heritage:
    """Hands the weights that trials of a training ended with down to those whose parents they are."""

    def __init__(self, training: Training, noise: float) -> None:
        self._training = training
        self._noise = noise

    def pass_on(self, trial: Trial, learner: Learner) -> dict[str, float]:
        """Have an untrained network begin with the weights of the trial's parent; return what came of it, as metrics.

        A trial begins with its own without a parent, and where the parent's are not there any more, or of no use: that
        of a network which can be described in two ways may be kin to one of these alone.
        """
        parent, training = trial.parent, self._training
        if parent is None or training.folder is None or not training.path(parent.number).exists():
            return {"inherited": 0.0}
        if training.space.kinship(trial.architecture, parent.architecture) is None:
            return {"inherited": 0.0}
        device, seed = learner.fabric.device, seed_of(trial.seed, "inherit")
        with drawing(device), on_threads(learner.threads):
            network = training.space.build(parent.architecture.blueprint, training.task)
            saved = Checkpoint.load(training.path(parent.number)).tensors
            network.load_state_dict({name: saved[name] for name in network.state_dict()})
            images = learner.train.normalise(learner.train.images[:_IMAGES])
            return inherit(learner.network, network.to(device), images, self._noise, seed)


@torch.no_grad()
def inherit(child: Module, parent: Module, images: Tensor, noise: float = 0.0, seed: int = 0) -> dict[str, float]:
    """Have a network begin with what it can take over of another's weights; return what that was, as metrics.

    A network with a method ``inherit`` (as those of the space `morphisms`) takes them over so that it computes what
    the parent does; ``morphism_error`` is by how much an output for one of the images differs. ``images`` and ``noise``
    are handed to it. Any other takes the tensors that have the name (decision, operation, place) and the shape that
    they had in the parent, bit for bit (Real et al., 2017). ``inherited`` is the share of its parameters so come by.
    """
    if hasattr(child, "inherit"):
        network: Any = child
        network.inherit(parent, images=images, noise=noise, generator=torch.Generator().manual_seed(seed))
        error = (child.eval()(images) - parent.eval()(images)).abs().max()
        share = min(1.0, _count(parent.parameters()) / _count(child.parameters()))
        return {"inherited": share, "morphism_error": float(error)}
    theirs = tensors(parent)
    kept = {name: tensor for name, tensor in tensors(child).items() if name in theirs}
    for name, tensor in kept.items():
        tensor.copy_(theirs[name])
    own = [tensor for tensor in kept.values() if isinstance(tensor, torch.nn.Parameter)]
    return {"inherited": _count(own) / max(1, _count(child.parameters()))}


def _count(parameters: Any) -> int:
    return sum(parameter.numel() for parameter in parameters)

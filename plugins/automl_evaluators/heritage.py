"""What a network begins with of one that was trained before: its function where it can, else all that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from automl import Space, Trial
from automl.sharing import tensors
from automl_evaluators.batches import seed_of
from automl_evaluators.learner import drawing, on_threads

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from automl.checkpoint import Checkpoint
    from automl_evaluators.learner import Learner

_IMAGES = 64


def hand_down(
    space: Space[Any], trial: Trial, ended: Checkpoint | None, learner: Learner, noise: float
) -> dict[str, float]:
    """Have an untrained network begin with the weights that its trial's parent ended with; return the metrics of that.

    A trial begins with its own without a parent, and where the parent's are not there any more, or of no use: that of a
    network which can be described in two ways may be kin to one of these alone.
    """
    parent = trial.parent
    if parent is None or ended is None or space.kinship(trial.architecture, parent.architecture) is None:
        return {"inherited": 0.0}
    device, seed = learner.fabric.device, seed_of(trial.seed, "inherit")
    with drawing(device), on_threads(learner.threads):
        network = space.build(parent.architecture.blueprint, learner.task)
        network.load_state_dict({name: ended.tensors[name] for name in network.state_dict()})
        images = learner.train.normalise(learner.train.images[:_IMAGES])
        return inherit(learner.network, network.to(device), images, noise, seed)


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

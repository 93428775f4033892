"""Networks of Auto-Net: fully connected layers, each with its activation, dropout and first weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from automl_networks.resize import Resize
from automl_spaces.auto_net import Layer, Layers


class ScaledTanh(nn.Module):
    """The hyperbolic tangent of x times ``inside``, times ``outside`` (LeCun et al., 1998)."""

    def __init__(self, inside: float, outside: float) -> None:
        super().__init__()
        self.inside = inside
        self.outside = outside

    def forward(self, x: Tensor) -> Tensor:
        return self.outside * torch.tanh(self.inside * x)

    def extra_repr(self) -> str:
        return f"inside={self.inside}, outside={self.outside}"


_ACTIVATIONS: Mapping[str, Callable[..., nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "scaled_tanh": ScaledTanh,
    "elu": nn.ELU,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "linear": nn.Identity,
}
_SPARSE = 0.9  # of the inputs of a unit, the share that begins at zero


def network(layers: Layers, resolution: int | None, image: tuple[int, int, int], outputs: int) -> nn.Sequential:
    """Return images to logits, N x outputs."""
    channels, height, width = image
    made: list[nn.Module] = []
    if resolution is not None:
        made.append(Resize(resolution))
        height = width = resolution
    made.append(nn.Flatten())
    features = channels * height * width
    for layer in layers:
        linear = nn.Linear(features, layer.units)
        _begin(linear, layer)
        made += [linear, _ACTIVATIONS[layer.activation](*layer.numbers)]
        if layer.dropout:
            made.append(nn.Dropout(layer.dropout))
        features = layer.units
    return nn.Sequential(*made, nn.Linear(features, outputs))


def _begin(linear: nn.Linear, layer: Layer) -> None:
    """Draw the first weights; biases are zero."""
    weight = linear.weight
    if layer.init == "normal":
        nn.init.normal_(weight, std=layer.deviation)
    elif layer.init == "uniform":
        nn.init.uniform_(weight, -0.05, 0.05)
    elif layer.init == "glorot_uniform":
        nn.init.xavier_uniform_(weight)
    elif layer.init == "glorot_normal":
        nn.init.xavier_normal_(weight)
    elif layer.init == "he_uniform":
        nn.init.kaiming_uniform_(weight, nonlinearity="relu")
    elif layer.init == "he_normal":
        nn.init.kaiming_normal_(weight, nonlinearity="relu")
    elif layer.init == "orthogonal":
        nn.init.orthogonal_(weight)
    else:
        nn.init.sparse_(weight.t(), _SPARSE, std=1 / weight.shape[1] ** 0.5)  # columns are a unit's inputs
    nn.init.zeros_(linear.bias)

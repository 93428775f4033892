"""Networks of MetaQNN's chains: convolutions with ReLU, pools and linear layers, and dropout that grows with depth."""

from __future__ import annotations

from torch import nn

from automl_networks.resize import Resize
from automl_spaces.metaqnn_rules import Chain


def network(chain: Chain, side: int, channels: int, outputs: int) -> nn.Sequential:
    """Return images to logits, N x outputs, through maps of side x side pixels at first."""
    drops = [layer[0] == "fc" or (layer[0] != "gap" and place % 2 == 1) for place, layer in enumerate(chain)]
    layers: list[nn.Module] = [Resize(side)]
    features = 0  # of a vector, once there is no map any more
    dropped = 0
    for layer, drop in zip(chain, drops, strict=True):
        if layer[0] == "conv":
            layers += [nn.Conv2d(channels, layer[1], layer[2], padding=layer[2] // 2), nn.ReLU(inplace=True)]
            channels = layer[1]
        elif layer[0] == "pool":
            layers.append(nn.MaxPool2d(layer[1], layer[2]))
            side = (side - layer[1]) // layer[2] + 1
        elif layer[0] == "gap":
            layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
            features = channels
        else:
            if not features:
                layers.append(nn.Flatten())
                features = channels * side**2
            layers += [nn.Linear(features, layer[1]), nn.ReLU(inplace=True)]
            features = layer[1]
        if drop:
            dropped += 1
            layers.append(nn.Dropout(dropped / (2 * sum(drops))))
    if not features:
        layers.append(nn.Flatten())
        features = channels * side**2
    made = nn.Sequential(*layers, nn.Linear(features, outputs))
    for module in made.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):  # without normalisation, deep chains need it (He et al., 2015)
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    return made

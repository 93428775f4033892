"""Networks of MnasNet's space: a stem, a fixed first block, searched blocks, a wide 1 x 1, a linear layer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from automl_networks.classifier import Classifier, pooled_linear
from automl_networks.conv_norm import conv_norm
from automl_networks.hand_designed import SMALL, Image, shortened
from automl_networks.inverted_residual import InvertedResidual
from automl_networks.pooling import Pool
from automl_networks.squeeze_excite import SqueezeExcite
from automl_networks.widths import make_divisible
from automl_spaces.mnasnet_search import Block

_EXPANSIONS = {"separable": 1, "mbconv3": 3, "mbconv6": 6}


def network(blocks: Sequence[Block], width: float, dropout: float, image: Image, outputs: int) -> Classifier:
    """Return images to logits, N x outputs."""
    side = min(image[1:])
    published = [2, *(block.stride for block in blocks)]
    first, *strides = shortened(published, side) if side < SMALL else published
    stem, head = make_divisible(32 * width), make_divisible(1280 * width)
    rows: list[nn.Module] = [InvertedResidual(stem, blocks[0].inputs, 1, 1, skip=False)]
    for block, stride in zip(blocks, strides, strict=True):
        layers = [_layer(block, block.inputs, stride)]
        layers += [_layer(block, block.outputs, 1) for _ in range(block.layers - 1)]
        rows.append(nn.Sequential(*layers))
    rows.append(conv_norm(blocks[-1].outputs, head, activation=nn.ReLU6))
    start = conv_norm(image[0], stem, 3, first, activation=nn.ReLU6)
    return Classifier(start, rows, pooled_linear(head, outputs, dropout))


def _layer(block: Block, inputs: int, stride: int) -> nn.Module:
    layer: nn.Module
    if block.conv == "conv":
        conv = conv_norm(inputs, block.outputs, block.kernel, stride, activation=nn.ReLU6)
        weighs = [SqueezeExcite(block.outputs, max(1, int(inputs * block.squeeze)))] if block.squeeze else []
        layer = nn.Sequential(conv, *weighs)
    else:
        expansion = _EXPANSIONS[block.conv]
        layer = InvertedResidual(inputs, block.outputs, stride, expansion, block.kernel, block.squeeze, skip=False)
    if inputs != block.outputs or block.skip == "none" or (block.skip == "identity" and stride > 1):
        return layer
    return Skipped(layer, Pool("average", 3, stride) if block.skip == "pool" else nn.Identity())


class Skipped(nn.Module):
    """What a layer makes and, added, its input, pooled or as it is."""

    def __init__(self, layer: nn.Module, skip: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layer(x) + self.skip(x)
        return made

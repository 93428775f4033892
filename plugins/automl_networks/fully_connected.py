"""The head of the first deep networks: linear layers over all of a small map."""

from __future__ import annotations

from torch import Tensor, nn


class FullyConnected(nn.Module):
    """Average to side x side, two hidden linear layers with ReLU and dropout, one linear layer to the outputs.

    Its parameters are the same for maps of any size (Krizhevsky et al., 2012; Simonyan & Zisserman, 2015).
    """

    def __init__(self, channels: int, side: int, hidden: int, outputs: int, dropout: float = 0.5) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(side), nn.Flatten()]
        inputs = channels * side**2
        for _ in range(2):
            layers += [nn.Linear(inputs, hidden), nn.ReLU(inplace=True), nn.Dropout(dropout)]
            inputs = hidden
        self.hidden = nn.Sequential(*layers)
        self.last = nn.Linear(hidden, outputs)

    def initialise(self) -> None:
        """Draw the hidden layers by Kaiming's rule, for with a deviation of 0.01 narrow ones let nothing through."""
        for layer in self.hidden:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.hidden(x))
        return logits

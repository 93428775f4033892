"""ESPNetV2: efficient spatial pyramids of depthwise separable convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from automl import BadInput
from automl_networks.classifier import pooled_linear
from automl_networks.conv_norm import conv_norm
from automl_networks.esp import EESP, StridedEESP, halved
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image

_BRANCHES = 4
# units that keep the size, limit of the kernels of the strided unit and of theirs (Mehta et al., 2019, table 1)
_LEVELS = ((0, 13, 13), (3, 11, 9), (7, 9, 7), (3, 7, 5))


@dataclass
class ESPNetV2(HandDesigned):
    """ESPNetV2 (Mehta et al., 2019): 1,666,942 parameters, 86,744,404 multiply-adds at 224 x 224.

    The release has 1,670,072: it also makes a reinforcement of the input for the last level (2,650) and an activation
    at the end of every strided pyramid (480 slopes), and never uses them. This one does not make them, and computes
    the same.

    ``width`` multiplies the 64 channels of the first level, doubled at each of the next, to multiples of 16. The
    paper's are 0.5, 1.0, 1.25, 1.5 and 2.0; the stem and the last layer, which the paper gives in a table, lie on
    lines through it at others (ours): 32 channels and less below 1, 1,024 and more above 1.5. The least is 0.5.
    On small images the stem's stride, then the first levels', is left out.
    """

    width: Annotated[float, Gt(0), DECIDABLE] = 1.0
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.2

    def check_design(self) -> None:
        if self.width < 0.5:
            raise BadInput(
                f"space.width={self.width:g} leaves too few channels for {_BRANCHES} branches: give space.width=0.5"
            )

    def network(self, image: Image, outputs: int) -> nn.Module:
        first = 16 * round(4 * self.width)
        widths = [min(32, 16 * round(2 * self.width)), first, 2 * first, 4 * first, 8 * first]
        last = 4 * round(max(1024.0, 1024 + 512 * (self.width - 1.5)) / 4)
        return _Network(image[0], widths, self.steps(image), last, pooled_linear(last, outputs, self.dropout))


class _Network(nn.Module):
    """Images to logits: a stem, levels that see the image too, a widening layer, a head."""

    def __init__(self, colours: int, widths: Sequence[int], steps: Sequence[int], last: int, head: nn.Module) -> None:
        super().__init__()
        self.stem = conv_norm(colours, widths[0], 3, steps[0], activation=partial(nn.PReLU, widths[0]))
        # of the image, for the stem's size and those of all levels but the last, which does not see it
        self.pools = nn.ModuleList(halved(step) for step in steps[:-1])
        self.down = nn.ModuleList()
        self.same = nn.ModuleList()
        for place, (repeats, limit, limit_of_same) in enumerate(_LEVELS):
            inputs, outputs = widths[place : place + 2]
            fed = 0 if place == len(_LEVELS) - 1 else colours
            self.down.append(StridedEESP(inputs, outputs, steps[place + 1], _BRANCHES, limit, fed))
            units = (EESP(outputs, outputs, branches=_BRANCHES, limit=limit_of_same) for _ in range(repeats))
            self.same.append(nn.Sequential(*units))
        self.widen = nn.Sequential(
            conv_norm(outputs, outputs, 3, groups=outputs, activation=partial(nn.PReLU, outputs)),
            conv_norm(outputs, last, groups=_BRANCHES, activation=partial(nn.PReLU, last)),
        )
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        x, image = self.stem(images), self.pools[0](images)
        for pool, down, same in zip(self.pools[1:], self.down[:-1], self.same[:-1], strict=True):
            image = pool(image)
            x = same(down(x, image))
        logits: Tensor = self.head(self.widen(self.same[-1](self.down[-1](x))))
        return logits

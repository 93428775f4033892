"""GCN, the global convolutional network: every stage of a residual network scores classes through large kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt
from torch import Tensor, nn

from automl import BadInput
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image
from automl_networks.large_kernel import BoundaryRefinement, Enlarged, GlobalConvolution
from automl_networks.zoo.resnet import residual_body


@dataclass
class GCN(HandDesigned):
    """GCN (Peng et al., 2017), on a residual network of a ``depth``, for images or for each of their pixels.

    A large ``kernel`` and a refinement make a map of scores, one channel a class, of each of the four stages; from
    the deepest on, the sum is refined and enlarged to the next, last to the image's size. ``output`` "classes" is
    the mean over that map, N x outputs; "map" is the map, N x outputs x height x width of the images that the
    network sees. ``width`` multiplies the residual network's channels. On small images its strides are left out as in
    ``resnet``.
    """

    depth: Annotated[Literal[18, 34, 50, 101, 152], DECIDABLE] = 152
    kernel: Annotated[int, Ge(1), DECIDABLE] = 15
    output: Literal["classes", "map"] = "classes"
    width: Annotated[float, Gt(0), DECIDABLE] = 1.0

    def check_design(self) -> None:
        if self.kernel % 2 == 0:
            raise BadInput(
                f"space gcn has kernel={self.kernel}, which is even, so that it has no middle pixel: "
                f"give space.kernel={self.kernel - 1} or {self.kernel + 1}"
            )

    def network(self, image: Image, outputs: int) -> GlobalConvolutionalNetwork:
        strides = self.steps(image)
        stem, stages, widths = residual_body(image[0], self.depth, self.width, strides)
        return GlobalConvolutionalNetwork(stem, stages, widths, strides, outputs, self.kernel, self.output == "classes")


class GlobalConvolutionalNetwork(nn.Module):
    """Images to scores: the stages of a network from the deepest on, each scored, added and enlarged.

    The stem is a convolution and a pool; there is a stride for each of the two, and for each stage but the first.
    """

    def __init__(
        self,
        stem: nn.Sequential,
        stages: list[nn.Sequential],
        widths: list[int],
        strides: list[int],
        outputs: int,
        kernel: int,
        mean: bool,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.scores = nn.ModuleList(
            nn.Sequential(GlobalConvolution(width, outputs, kernel), BoundaryRefinement(outputs)) for width in widths
        )
        self.enlarge = nn.ModuleList(Enlarged(outputs, stride) for stride in strides)
        self.refine = nn.ModuleList(BoundaryRefinement(outputs) for _ in strides)
        self.mean = mean

    def forward(self, images: Tensor) -> Tensor:
        convolution, pool = self.stem
        maps = [images, convolution(images)]  # with one more for each stage
        x = pool(maps[-1])
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        total: Tensor = self.scores[-1](maps.pop())
        for place in reversed(range(len(maps))):
            total = self.enlarge[place](total, maps[place].shape[-2:])
            if place > 1:
                total = total + self.scores[place - 2](maps[place])
            total = self.refine[place](total)
        return total.mean((2, 3)) if self.mean else total

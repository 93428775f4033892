"""Interleaved group convolutions: grouped convolutions that permutations join into dense ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import log, prod

from torch import Tensor, nn

from automl import BadInput
from automl_networks.conv_norm import conv_norm
from automl_networks.shuffle import ChannelShuffle


def interleaved(
    inputs: int,
    partitions: int,
    channels: int,
    kernel: int = 3,
    stride: int = 1,
    activation: Callable[[], nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """Return the block of IGCV1, with partitions x channels outputs (Zhang et al., 2017).

    A kernel x kernel convolution in so many partitions, then a 1 x 1 one whose groups have one channel of each of
    them, with nothing between; batch normalisation, the activation (None: without one). There is exactly one path
    from every input to every output. ``partitions`` divides the inputs.
    """
    outputs = partitions * channels
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=partitions, bias=False),
        ChannelShuffle(partitions),
        nn.Conv2d(outputs, outputs, 1, groups=channels, bias=False),
        ChannelShuffle(channels),
        nn.BatchNorm2d(outputs),
        *([] if activation is None else [activation()]),
    )


def sparse_pointwise(channels: int, partitions: Sequence[int] | None = None, layers: int = 2) -> nn.Sequential:
    """Return a dense 1 x 1 convolution as the product of grouped ones: the pointwise part of IGCV2.

    ``partitions`` are the channels that a group of each layer mixes, and their product is the number of channels:
    written with a digit for each layer, in that mixed radix, the number of a channel has one digit that a layer mixes.
    So exactly one path leads from every input to every output (the complementary condition of Xie et al., 2018; the
    rule is ours). By default they are balanced over ``layers``. Raises BadInput for others, naming the nearest.
    """
    partitions = balanced(channels, layers) if partitions is None else partitions
    check_complementary(channels, partitions)
    chain = nn.Sequential()
    for partition in partitions:
        # makes the first digit the last, that of neighbours; after all layers they are in their order again
        chain.append(ChannelShuffle(partition) if partition < channels else nn.Identity())
        chain.append(nn.Conv2d(channels, channels, 1, groups=channels // partition, bias=False))
    return chain


def structured_sparse(inputs: int, outputs: int, stride: int = 1, layers: int = 2) -> nn.Sequential:
    """Return the block of IGCV2 (Xie et al., 2018): depthwise 3 x 3, balanced sparse pointwise layers, ReLU.

    Batch normalisation follows both parts. Where the outputs are several times the inputs, a grouped 1 x 1
    convolution widens each channel first. With one layer it is the depthwise separable unit.
    """
    if outputs % inputs:
        nearest = max(1, round(outputs / inputs)) * inputs
        raise BadInput(
            f"outputs={outputs} is no multiple of inputs={inputs}, and each channel is widened alike: "
            f"give outputs={nearest}"
        )
    depthwise: list[nn.Module] = [nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)]
    if outputs != inputs:
        depthwise.append(nn.Conv2d(inputs, outputs, 1, groups=inputs, bias=False))
    return nn.Sequential(
        *depthwise,
        nn.BatchNorm2d(outputs),
        sparse_pointwise(outputs, layers=layers),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def balanced(channels: int, layers: int) -> tuple[int, ...]:
    """Return the partition sizes, smallest first, of so many pointwise layers that need the fewest weights.

    They are as near to channels^(1 / layers) as whole numbers with the exact product can be (Xie et al., 2018; the
    paper's L is one more, the depthwise layer). Of channels with too few factors there are fewer layers.
    """
    while layers > 1:
        found = min(_factorisations(channels, layers), key=lambda sizes: (sum(sizes), sizes), default=None)
        if found is not None:
            return found
        layers -= 1
    return (channels,)


def check_complementary(channels: int, partitions: Sequence[int]) -> None:
    """Raise BadInput where the product is not the number of channels, naming the nearest partitions that make it."""
    found = tuple(partitions)
    if found and min(found) >= 1 and prod(found) == channels:
        return
    valid = list(_factorisations(channels, len(found))) or [balanced(channels, len(found))]

    def distance(sizes: tuple[int, ...]) -> float:
        return sum(abs(log(size / max(other, 1))) for size, other in zip(sizes, found, strict=False))

    nearest = " or ".join(str(sizes) for sizes in sorted(valid, key=distance)[:2])
    raise BadInput(
        f"the partitions {found} multiply to {prod(found)}, and there are {channels} channels: give {nearest}"
    )


def _factorisations(number: int, factors: int) -> Iterator[tuple[int, ...]]:
    """Yield every way to write the number as a product of so many factors of 2 or more, in every order."""
    if factors == 1 and number > 1:
        yield (number,)
    if factors < 2:
        return
    for first in range(2, number // 2 + 1):
        if number % first == 0:
            yield from ((first, *others) for others in _factorisations(number // first, factors - 1))


class InterleavedResidual(nn.Module):
    """The unit of IGCV3: an inverted residual of grouped 1 x 1 convolutions with a shuffle between (Sun et al., 2018).

    Expand in groups, linear; shuffle; depthwise 3 x 3; project in groups, linear. The input is added where stride is
    1 and the channels are equal. The groups of the two are complementary but loosely: several paths may join them.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, expansion: int = 6, groups: int = 2) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.branch = nn.Sequential(
            conv_norm(inputs, hidden, groups=groups, activation=None),
            ChannelShuffle(groups),
            conv_norm(hidden, hidden, 3, stride, groups=hidden, activation=nn.ReLU6),
            conv_norm(hidden, outputs, groups=groups, activation=None),
        )
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.branch(x)
        return x + branch if self.adds else branch


def blocks_of_stage(depth: int) -> int:
    """Return how many blocks each of three stages has in a network of that depth: a stem, the stages, a classifier.

    Raises BadInput for a depth that is not 3 n + 2, naming the nearest that is.
    """
    blocks = max(1, round((depth - 2) / 3))
    if depth != 3 * blocks + 2:
        raise BadInput(
            f"space.depth={depth} is no stem, three equal stages and a classifier: give space.depth={3 * blocks + 2}"
        )
    return blocks

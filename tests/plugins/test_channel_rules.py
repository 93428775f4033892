"""What of networks in plain PyTorch is followed, what stays, and what is refused; never is a wrong network returned."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from automl import BadInput, measure
from automl_compressors.channels import Channels
from automl_compressors.units import matched

IMAGE = (3, 8, 8)


class Network(nn.Module):
    """A function of the network and an image, its parts, and a linear layer of the mean of the map that it makes."""

    def __init__(self, function, channels=8, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)
        self.head = nn.Linear(channels, 4)

    def forward(self, images):
        made = self.function(self, images)
        return self.head(made.mean((2, 3)) if made.dim() == 4 else made)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def conv(inputs, outputs, kernel=3, **settings):
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **settings)


def weight(*shape):
    return nn.Parameter(torch.randn(shape))


NETWORKS = {}  # by name: what makes the network, and its groups with the units of each and the channels of a unit


def network(**groups):
    def keep(make):
        NETWORKS[make.__name__] = (make, groups)
        return make

    return keep


@network(a=(8, 1))
def called_twice():
    return Network(lambda net, x: net.b(functional.relu(net.b(net.a(x)))), a=conv(3, 8), b=conv(8, 8))


@network(a=(8, 1), c=(6, 1))
def tied_weights():
    made = Network(
        lambda net, x: net.c(net.a(x)) + net.d(net.b(x)), 6, a=conv(3, 8), b=conv(3, 8), c=conv(8, 6), d=conv(8, 6)
    )
    made.d.weight = made.c.weight
    return made


@network(b=(8, 1))
def tied_to_its_transpose():
    def forward(net, x):
        pooled = net.a(x).mean((2, 3))
        return net.c(net.b(x)).mean((2, 3)) + functional.linear(functional.linear(pooled, net.code), net.code.t())

    return Network(forward, 6, a=conv(3, 6), b=conv(3, 8), c=conv(8, 6), code=weight(5, 6))


@network()
def tied_to_its_transposed_convolution():
    made = Network(
        lambda net, x: net.up(net.down(net.a(x))), a=conv(3, 8), down=conv(8, 6, 3), up=nn.ConvTranspose2d(6, 8, 3)
    )
    made.up.weight = made.down.weight
    return made


@network(a=(8, 1), b=(6, 1))
def frozen():
    made = Network(lambda net, x: net.b(net.n(net.a(x)).relu()), 6, a=conv(3, 8), n=nn.BatchNorm2d(8), b=conv(8, 6))
    return made.requires_grad_(False)


@network(a=(8, 1))
def flattened():
    return Network(lambda net, x: net.a(x).flatten(1), 8 * 64, a=conv(3, 8))


@network(a=(8, 1))
def flattened_channels_last():
    made = Network(lambda net, x: net.a(x).permute(0, 2, 3, 1).reshape(len(x), -1), 8 * 64, a=conv(3, 8))
    return made.to(memory_format=torch.channels_last)


@network(b=(8, 1))
def viewed_by_constants():
    def forward(net, x):
        return net.b(net.a(x).view(-1, 2, 4, 8, 8).transpose(1, 2).reshape(-1, 8, 8, 8))

    return Network(forward, a=conv(3, 8), b=conv(8, 8))


@network()
def flattened_by_a_constant():
    return Network(lambda net, x: net.a(x).view(-1, 8 * 64), 8 * 64, a=conv(3, 8))


@network(a=(4, 2), b=(8, 1))
def shuffled_in_two_groups():
    def forward(net, x):
        made = net.a(x)
        batch, channels, height, width = made.shape
        split = made.view(batch, 2, channels // 2, height, width)
        return net.b(split.transpose(1, 2).reshape(batch, -1, height, width))

    return Network(forward, a=conv(3, 8), b=conv(8, 8))


@network(a=(4, 2), b=(8, 1))
def shuffled_in_groups_of_two():
    def forward(net, x):
        made = net.a(x)
        batch, channels, height, width = made.size()
        split = made.view(batch, channels // 2, 2, height, width)
        return net.b(split.transpose(1, 2).contiguous().view(batch, channels, height, width))

    return Network(forward, a=conv(3, 8), b=conv(8, 8))


@network(b=(8, 1))
def permuted_by_a_buffer():
    made = Network(lambda net, x: net.b(net.a(x)[:, net.order]), a=conv(3, 8), b=conv(8, 8))
    made.register_buffer("order", torch.randperm(8))
    return made


@network(kernel=(8, 1))
def functional_with_own_parameters():
    def forward(net, x):
        made = functional.conv2d(x, net.kernel, net.shift, padding=1)
        return made * net.scale.view(1, -1, 1, 1) + net.offset

    return Network(forward, kernel=weight(8, 3, 3, 3), shift=weight(8), scale=weight(8), offset=weight(8, 1, 1))


@network(a=(8, 1))
def functional_depthwise():
    return Network(
        lambda net, x: functional.conv2d(net.a(x), net.each, groups=net.a(x).shape[1]),
        a=conv(3, 8),
        each=weight(8, 1, 3, 3),
    )


@network()
def functional_depthwise_of_a_constant():
    return Network(
        lambda net, x: functional.conv2d(net.a(x), net.each, groups=8), a=conv(3, 8), each=weight(8, 1, 3, 3)
    )


@network(a=(8, 1), b=(6, 1), c=(5, 1), d=(7, 1))
def joined_and_split_by_sizes():
    def forward(net, x):
        first, second = net.a(x), net.b(x)
        both = torch.cat([first, second], 1).relu().split([first.shape[1], second.shape[1]], 1)
        return torch.cat([net.c(both[0]), net.d(both[1])], 1)

    return Network(forward, 12, a=conv(3, 8), b=conv(3, 6), c=conv(8, 5), d=conv(6, 7))


@network(c=(5, 1), d=(7, 1))
def joined_and_split_by_constants():
    def forward(net, x):
        both = torch.cat([net.a(x), net.b(x)], 1).relu().split([8, 6], 1)
        return torch.cat([net.c(both[0]), net.d(both[1])], 1)

    return Network(forward, 12, a=conv(3, 8), b=conv(3, 6), c=conv(8, 5), d=conv(6, 7))


@network(a=(8, 1))
def residual_with_broadcast():
    def forward(net, x):
        made = net.a(x)
        return made + made * net.gate(made.mean((2, 3), keepdim=True)).sigmoid() + net.mask(made) * made

    return Network(forward, a=conv(3, 8), gate=conv(8, 8, 1), mask=conv(8, 1))


@network(b=(8, 1))
def recurrent():
    def forward(net, x):
        steps, _ = net.steps(net.a(x).flatten(2).transpose(1, 2))
        return net.c(net.b(x)).mean((2, 3)) + steps[:, -1]

    return Network(forward, a=conv(3, 6), b=conv(3, 8), c=conv(8, 8), steps=nn.LSTM(6, 8, batch_first=True))


@network(**{"transform.linear1": (16, 1)})
def attending():
    def forward(net, x):
        return net.transform(net.a(x).flatten(2).transpose(1, 2)).mean(1)

    return Network(forward, a=conv(3, 8), transform=nn.TransformerEncoderLayer(8, 2, 16, batch_first=True))


@network(a=(8, 1), b=(8, 1))
def choosing_by_numbers():
    def forward(net, x):
        made = net.a(x)
        return net.b(made) if float(x.abs().sum()) < 1 else net.b(net.c(made).relu())

    return Network(forward, a=conv(3, 8), b=conv(8, 8), c=conv(8, 8))


@network(a=(4, 2))
def group_normalised():
    return Network(lambda net, x: net.norm(net.a(x)).relu(), a=conv(3, 8), norm=nn.GroupNorm(4, 8))


@network(c=(8, 1))
def normalised_over_channels():
    return Network(
        lambda net, x: net.c(net.layer(net.a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2) + net.b(x).softmax(1)),
        a=conv(3, 8),
        b=conv(3, 8),
        layer=nn.LayerNorm(8),
        c=conv(8, 8),
    )


@network(a=(4, 4), b=(5, 1))
def pixel_shuffled():
    return Network(lambda net, x: net.b(functional.pixel_shuffle(net.a(x), 2)), 5, a=conv(3, 16), b=conv(4, 5))


@network(a=(5, 1), b=(6, 1))
def pixel_unshuffled():
    return Network(lambda net, x: net.b(functional.pixel_unshuffle(net.a(x), 2)), 6, a=conv(3, 5), b=conv(20, 6))


@network(a=(4, 2), b=(6, 1))
def transposed_convolutions():
    return Network(
        lambda net, x: net.c(net.b(net.a(x))),
        12,
        a=conv(3, 8),
        b=nn.ConvTranspose2d(8, 12, 2, 2, groups=2),
        c=nn.ConvTranspose2d(12, 12, 2, 2, groups=12),
    )


@network(a=(2, 6), b=(4, 3))
def grouped_with_a_channel_shuffle():
    # the shuffle keeps 0 and 6 together, 1 and 7, ...: of these six pairs two are in each group of 4
    return Network(
        lambda net, x: net.b(torch.channel_shuffle(net.a(x), 2)), 12, a=conv(3, 12), b=conv(12, 12, groups=3)
    )


@network(a=(4, 2), b=(4, 1))
def half_computed():
    def forward(net, x):
        made = net.a(x)
        half = made.shape[1] // 2
        return torch.cat([net.b(made[:, :half]), made[:, half:]], 1)

    return Network(forward, a=conv(3, 8), b=conv(4, 4))


@network(a=(3, 1), b=(4, 1))
def first_five_computed():
    return Network(lambda net, x: net.b(net.a(x)[:, :5]), 4, a=conv(3, 8), b=conv(5, 4))


@network(a=(4, 2), b=(4, 1))
def gated():
    return Network(lambda net, x: net.b(functional.glu(net.a(x), 1)), 4, a=conv(3, 8), b=conv(4, 4))


@network(a=(8, 1))
def attending_to_branches():
    def forward(net, x):
        both = torch.stack([net.a(x), net.b(x)], 1)
        weights = net.weigh(both.sum(1).mean((2, 3))).unflatten(1, (2, -1)).softmax(1)
        return (both * weights[..., None, None]).sum(1)

    return Network(forward, a=conv(3, 8), b=conv(3, 8), weigh=nn.Linear(8, 16))


@network(a=(8, 1))
def padded_to_more_channels():
    def forward(net, x):
        few = net.a(x)
        many = net.b(few)
        return functional.pad(few, (0, 0, 0, 0, 0, many.shape[1] - few.shape[1])) + many

    return Network(forward, 12, a=conv(3, 8), b=conv(8, 12))


@network(b=(8, 1))
def scripted():
    with pytest.warns(DeprecationWarning):
        inside = torch.jit.script(nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU()))
    return Network(lambda net, x: net.b(net.inside(net.a(x))), a=conv(3, 8), inside=inside, b=conv(8, 8))


@network(a=(8, 1))
def of_an_autograd_function():
    class Swish(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * x.sigmoid()

    return Network(lambda net, x: Swish.apply(net.a(x)), a=conv(3, 8))


@network(b=(8, 1))
def that_counts_its_channels():
    return Network(lambda net, x: net.b(net.a(x) / net.a(x).shape[1]), a=conv(3, 8), b=conv(8, 8))


@network(b=(8, 1))
def that_asserts_its_channels():
    def forward(net, x):
        made = net.a(x)
        assert made.shape[1] == 8
        return net.b(made)

    return Network(forward, a=conv(3, 8), b=conv(8, 8))


@network(b=(8, 1))
def with_parametrised_weights():
    return Network(lambda net, x: net.b(net.a(x)), a=nn.utils.parametrizations.weight_norm(conv(3, 8)), b=conv(8, 8))


@network(b=(8, 1))
def written_into():
    def forward(net, x):
        made = net.a(x)
        other = torch.zeros_like(made)
        other[:, :4] = made[:, 4:]
        return net.b(other)

    return Network(forward, a=conv(3, 8), b=conv(8, 8))


@network(b=(8, 1))
def through_numpy():
    return Network(lambda net, x: net.b(torch.from_numpy(net.a(x).detach().numpy())), a=conv(3, 8), b=conv(8, 8))


@network(a=(8, 1), b=(6, 1), c=(5, 1))
def in_the_words_of_numpy():
    def forward(net, x):
        both = torch.cat([net.a(x), net.b(x)], axis=1)
        return net.c(both * both.mean(axis=(2, 3), keepdims=True))

    return Network(forward, 5, a=conv(3, 8), b=conv(3, 6), c=conv(14, 5))


@network(a=(8, 1), b=(8, 1))
def seen_by_arithmetic():
    def forward(net, x):
        made = net.a(x)
        made = 2 - made
        made *= 0.5 ** made.abs()
        made = torch.where(made > 0, 1 / (1 + made), -made).clamp(min=-1.0)
        return net.b(made / 0.5 + torch.maximum(made, made.new_zeros(made.shape)) % 1)

    return Network(forward, a=conv(3, 8), b=conv(8, 8))


@network(c=(6, 1))
def mixed_along_pixels():
    return Network(
        lambda net, x: net.c(net.pixels(net.a(x).flatten(2)).transpose(1, 2)).mean(1),
        6,
        a=conv(3, 8),
        pixels=nn.Linear(64, 10),
        c=nn.Linear(8, 6),
    )


@network(a=(8, 1), b=(6, 1))
def in_bfloat16():
    return Network(lambda net, x: net.b(net.a(x.to(net.a.weight.dtype))), 6, a=conv(3, 8), b=conv(8, 6)).bfloat16()


def sampled(channels, seed=0):
    rng = random.Random(seed)
    return {
        name: sorted(rng.sample(range(group.units), rng.randint(1, group.units - 1)))
        for name, group in channels.groups.items()
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_what_can_be_followed_is_pruned_exactly_and_the_rest_stays(name):
    make, groups = NETWORKS[name]
    made = make().eval()
    channels = Channels.of(made, IMAGE)
    assert {group: (found.units, found.size) for group, found in channels.groups.items()} == groups
    kept = sampled(channels)
    widths = {group: len(units) for group, units in kept.items()}
    small = channels.check(made, kept)
    assert channels.cost(widths, "parameters") == measure.parameters(small)
    assert channels.cost(widths, "multiply_adds") == measure.multiply_adds(small, IMAGE)
    sizes = [sum(each.numel() for each in network.parameters()) for network in (small, made)]
    assert sizes[0] < sizes[1] if groups else sizes[0] == sizes[1]


def test_inputs_of_a_group_that_are_not_at_one_place_of_all_can_go():
    made = NETWORKS["grouped_with_a_channel_shuffle"][0]().eval()
    (reads,) = [slot for slot in Channels.of(made, IMAGE).groups["a"].slots if slot.role == "reads"]
    assert (reads.parameter, reads.dim, reads.groups) == ("b.weight", 1, 3)
    assert reads.places.tolist() == [[0, 1, 4, 5, 8, 9], [2, 3, 6, 7, 10, 11]]


@pytest.mark.parametrize(
    ("rows", "units"),
    [
        ([[0, 1, 2], [3, 4, 5]], [[0, 3], [1, 4], [2, 5]]),  # each on its own: what stands in one column
        ([[0, 0, 1], [2, 3, 3]], [[0, 3], [1, 2]]),  # as often
        ([[0, 0, 1, 2], [1, 1, 2, 0]], [[0, 1], [2]]),  # one makes up for another, one is even
        ([[0, 0, 0], [1, 2, 2]], [[0, 1, 2]]),  # only all together
        ([[9, 0, 0], [1, 2, 2]], [[0, 2], [1, 9]]),  # one has to stay, for 9 does
    ],
)
def test_units_are_matched_so_that_rows_lose_equally(rows, units):
    table = np.array(rows)
    parts = {unit: {unit} for unit in table.flatten().tolist()}
    for one, other in zip(*matched(table, stays=9), strict=True):
        joined = parts[one] | parts[other]
        parts.update(dict.fromkeys(joined, joined))
    assert sorted({tuple(sorted(part)) for part in parts.values()}) == sorted(map(tuple, units))


class Broken(nn.Module):
    def forward(self, x):
        raise ValueError("no such thing")


def test_a_network_that_does_not_run_is_refused_by_the_module_that_raises():
    made = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.ReLU(), Broken()))
    message = r"cannot be run on an image of 3 x 8 x 8: its part '1\.1' raises ValueError: no such thing; give the size"
    with pytest.raises(BadInput, match=message):
        Channels.of(made, IMAGE)


def test_a_network_that_cannot_be_copied_is_refused():
    made = nn.Sequential(nn.Conv2d(3, 8, 3))
    made.rows = (row for row in range(3))
    with pytest.raises(BadInput, match=r"the network cannot be copied .*generator"):
        Channels.of(made, IMAGE)


def test_a_lazy_layer_is_refused_until_it_knows_its_shape():
    made = nn.Sequential(nn.LazyConv2d(8, 3), nn.Conv2d(8, 4, 3))
    with pytest.raises(BadInput, match=r"'0.weight' has no shape yet: run the network once"):
        Channels.of(made, IMAGE)
    made(torch.zeros(1, *IMAGE))
    assert list(Channels.of(made, IMAGE).groups) == ["0"]


def test_a_network_that_would_be_wrong_is_refused_by_the_layer():
    # the product of a float and a size is a plain float before anything can see it
    made = Network(lambda net, x: net.b(0.5 * net.a(x).shape[1] * net.a(x)), a=conv(3, 8), b=conv(8, 8))
    channels = Channels.of(made, IMAGE)
    with pytest.raises(BadInput, match=r"does not compute what it should, from its layer 'b' on: .*; keep that part's"):
        channels.check(made, {"a": [0, 1]})
    assert measure.parameters(channels.check(made, {"b": [0, 1]})) < measure.parameters(made)


def test_a_network_that_would_not_run_is_refused_by_the_module():
    class Strict(nn.Module):
        def forward(self, x):
            if 0.5 * x.shape[1] != 4:
                raise ValueError("I want eight")
            return x

    made = Network(lambda net, x: net.b(net.strict(net.a(x))), a=conv(3, 8), strict=Strict(), b=conv(8, 8))
    with pytest.raises(
        BadInput, match=r"fewer channels the network cannot be run: its part 'strict' raises ValueError"
    ):
        Channels.of(made, IMAGE).check(made, {"a": [0, 1]})


def test_outputs_that_hardly_follow_the_images_hide_nothing():
    made = Network(lambda net, x: net.b(0.5 * net.a(x).shape[1] * net.a(x)), a=conv(3, 8), b=conv(8, 8))
    nn.init.constant_(made.head.weight, 1e-12)
    with pytest.raises(BadInput, match="from its layer 'b' on"):
        Channels.of(made, IMAGE).check(made, {"a": [0, 1]})


def test_on_the_meta_device_shapes_are_compared():
    with torch.device("meta"):
        made = NETWORKS["frozen"][0]()
        channels = Channels.of(made, IMAGE)
        small = channels.check(made, {"a": [0, 1]})
    assert small.a.weight.shape == (2, 3, 3, 3)
    assert small.a.weight.is_meta

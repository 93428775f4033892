"""The global convolutional network and its blocks, against the figures of its paper."""

import pytest
import torch
from golden import REGISTRY, build, counts
from torch import nn

from automl import BadInput
from automl_networks.initialisation import initialise
from automl_networks.large_kernel import BoundaryRefinement, Enlarged, GlobalConvolution


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("inputs", "kernel", "expected"),
    [
        (2048, 3, 260_778),
        (2048, 5, 434_574),
        (2048, 7, 608_370),
        (2048, 9, 782_166),
        (2048, 11, 955_962),
        (2048, 13, 1_129_758),
        (2048, 15, 1_303_554),
        (256, 15, 174_594),
        (512, 15, 335_874),
        (1024, 15, 658_434),
    ],
)
def test_a_global_convolution_has_the_published_size(inputs, kernel, expected):
    weights = 2 * kernel * (inputs * 21 + 21**2)
    with torch.device("meta"):
        block = GlobalConvolution(inputs, 21, kernel)
    assert counts(block, (inputs, 16, 12)) == (expected, 16 * 12 * weights)
    assert expected == weights + 4 * 21


def test_a_boundary_refinement_has_the_published_size():
    assert parameters(BoundaryRefinement(21)) == 7_980


@pytest.mark.parametrize("kernel", [1, 3, 7, 15])
def test_a_global_convolution_sees_the_full_square_with_either_branch(kernel):
    block = GlobalConvolution(1, 1, kernel)
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    impulse = torch.zeros(1, 1, 19, 19)
    impulse[..., 9, 9] = 1
    square = torch.zeros_like(impulse)
    reach = kernel // 2
    square[..., 9 - reach : 10 + reach, 9 - reach : 10 + reach] = 1
    for branch in block.branches:
        assert torch.equal(branch(impulse), square)
    assert torch.equal(block(impulse), 2 * square)


def test_a_global_convolution_keeps_the_size_even_where_its_kernel_is_larger():
    for size in ((1, 1), (4, 5), (20, 17)):
        assert GlobalConvolution(3, 2, 15)(torch.rand(2, 3, *size)).shape == (2, 2, *size)


def test_a_global_convolution_is_linear():
    block = GlobalConvolution(3, 2, 5).double()
    x, y = torch.randn(2, 1, 3, 8, 8, dtype=torch.float64)
    zero = block(torch.zeros_like(x))
    torch.testing.assert_close(block(x + y) - zero, block(x) - zero + block(y) - zero)


def test_an_even_kernel_is_refused():
    with pytest.raises(BadInput) as refusal:
        GlobalConvolution(3, 2, 4)
    assert str(refusal.value) == (
        "kernel=4 of a global convolution is even, so that it has no middle pixel: give kernel=3 or 5"
    )
    with pytest.raises(BadInput) as refusal:
        REGISTRY.build("space", {"name": "gcn", "kernel": [3, 14]})
    assert str(refusal.value) == (
        "space gcn has kernel=14, which is even, so that it has no middle pixel: give space.kernel=13 or 15"
    )


def test_its_scores_begin_with_the_size_of_what_they_are_made_of():
    block = GlobalConvolution(64, 10, 15)
    initialise(block)
    assert 0.5 < block(torch.randn(1, 64, 60, 60))[..., 15:-15, 15:-15].var() < 4
    refinement = BoundaryRefinement(10)
    initialise(refinement)
    x = torch.randn(1, 10, 8, 8)
    assert (refinement(x) - x).std() < 0.3


def test_what_it_enlarges_begins_as_interpolation():
    block = Enlarged(64)
    initialise(block)
    weight = block.enlarge.weight.detach()
    own = torch.eye(64, dtype=torch.bool)
    assert weight[~own].abs().max() < 0.1
    kernel = weight[own].mean(0)[None, None]
    ramp = torch.arange(8.0).expand(1, 1, 6, 8)
    expected = nn.functional.interpolate(ramp, scale_factor=2, mode="bilinear")
    found = nn.functional.conv_transpose2d(ramp, kernel, stride=2, padding=1)
    assert (found - expected)[..., 1:-1, 1:-1].abs().max() < 0.1


def test_what_it_enlarges_is_cut_to_the_size_asked_for():
    x = torch.rand(1, 3, 6, 8)
    for size in ((12, 16), (11, 15)):
        assert Enlarged(3)(x, size).shape == (1, 3, *size)
    assert Enlarged(3, 1)(x, (6, 8)).shape == x.shape


@pytest.mark.parametrize(("depth", "expected"), [(152, 60_723_469), (50, 26_087_693)])
def test_it_is_the_residual_network_and_its_blocks(depth, expected):
    with torch.device("meta"):
        body = parameters(build("resnet", outputs=21, depth=depth)) - 2049 * 21
        found = parameters(build("gcn", outputs=21, depth=depth))
    blocks = 174_594 + 335_874 + 658_434 + 1_303_554 + (4 + 5) * 7_980 + 5 * (16 * 21**2 + 21)
    assert found == body + blocks == expected


@pytest.mark.parametrize("image", [(3, 128, 96), (3, 33, 28), (1, 28, 28), (1, 8, 8)])
def test_its_map_has_the_size_of_the_images_and_its_mean_are_the_classes(image):
    settings = {"depth": 18, "width": 0.125}
    scores = build("gcn", image, 5, output="map", **settings).eval()
    classes = build("gcn", image, 5, **settings).eval()
    classes.load_state_dict(scores.state_dict())
    images = torch.rand(2, *image)
    made = scores(images)
    assert made.shape == (2, 5, *image[1:])
    torch.testing.assert_close(classes(images), made.mean((2, 3)))
    assert made.abs().max() < 100


def test_its_scores_are_of_the_four_stages():
    network = build("gcn", (3, 128, 128), 3, depth=18, width=0.125).eval()
    seen = []
    for block in network.scores:
        block.register_forward_hook(lambda module, given, made: seen.append(made.shape[-1]))
    network(torch.rand(1, 3, 128, 128))
    assert seen == [4, 8, 16, 32]

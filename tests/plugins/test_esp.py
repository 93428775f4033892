"""Efficient spatial pyramids and their networks, against the figures of their papers and releases."""

from types import SimpleNamespace

import pytest
import torch
from golden import REGISTRY, build, counted
from torch import nn

from automl import BadInput
from automl.deploy import Deployed, export_onnx
from automl_networks.dilated_depthwise import DilatedDepthwise
from automl_networks.esp import EESP, ESP, StridedEESP, dilations

CITY = (3, 512, 1024)
CIFAR = (3, 32, 32)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def weights(module):
    return sum(layer.weight.numel() for layer in module.modules() if isinstance(layer, nn.Conv2d))


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def response(module, side=129):
    """Return where each output channel sees a single pixel in the middle, channels x side x side."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.ones_(layer.weight)
    image = torch.zeros(1, 1, side, side)
    image[..., side // 2, side // 2] = 1
    with torch.no_grad():
        return module.eval()(image)[0] != 0


def around(found, reach):
    """Return the square that reaches so far from the middle."""
    middle = found.shape[-1] // 2
    return found[..., middle - reach : middle + reach + 1, middle - reach : middle + reach + 1]


# modules


@pytest.mark.parametrize(
    ("inputs", "outputs", "branches", "expected"),
    [(100, 100, 5, 20_000), (128, 128, 4, 40_960), (60, 100, 5, 19_200), (64, 64, 5, 12 * 64 + 12 * 9 * (16 + 4 * 12))],
)
def test_esp_has_the_weights_of_the_formula(inputs, outputs, branches, expected):
    module = ESP(inputs, outputs, branches=branches)
    assert weights(module) == expected
    if outputs % branches == 0:
        assert expected == (inputs * outputs + 9 * outputs**2) // branches
    assert parameters(module) == expected + 3 * outputs


def test_esp_sees_33_pixels_and_every_scale_below():
    found = response(ESP(1, 5))
    seen = found.any(0)
    assert around(seen, 16)[0, 0]
    assert seen.sum() == around(seen, 16).sum() == 1 + 8 * 5
    # of each channel: the dilations that it sums
    reaches = [(1,), (2,), (2, 4), (2, 4, 8), (2, 4, 8, 16)]
    for channel, dilated in enumerate(reaches):
        assert found[channel].sum() == 1 + 8 * len(dilated)
        assert all(around(found[channel], reach)[0, 0] for reach in dilated)


def test_fusion_fills_the_grid_that_a_dilated_convolution_leaves():
    # one dilation reaches only every 16th pixel, however often it is applied; the module as a whole every one near
    alone = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=16, dilation=16, bias=False) for _ in range(3)))
    assert around(response(alone)[0], 12).sum() == 1
    assert around(response(nn.Sequential(ESP(1, 5), ESP(5, 5), ESP(5, 5))).any(0), 12).all()


def test_the_smaller_channels_of_esp_go_to_its_wider_dilations():
    module = ESP(64, 64)
    assert [branch.out_channels for branch in module.branches] == [16, 12, 12, 12, 12]
    assert [branch.dilation[0] for branch in module.branches] == [1, 2, 4, 8, 16]


def test_esp_adds_its_input_where_shapes_are_equal():
    x = torch.randn(2, 10, 6, 6)
    adding, not_adding = ESP(10, 10).eval(), ESP(10, 10, add=False).eval()
    not_adding.load_state_dict(adding.state_dict())
    adding.activate = not_adding.activate = nn.Identity()
    torch.testing.assert_close(adding(x), x + not_adding(x))
    assert not ESP(10, 10, stride=2).adds
    assert not ESP(10, 15).adds


@pytest.mark.parametrize("side", [7, 8])
def test_strided_modules_halve_the_map_rounding_up(side):
    x, half = torch.randn(2, 16, side, side), -(-side // 2)
    assert ESP(16, 20, 2)(x).shape == (2, 20, half, half)
    assert EESP(16, 32, 2)(x).shape == (2, 32, half, half)
    assert StridedEESP(16, 32)(x).shape == (2, 32, half, half)
    image = torch.randn(2, 3, half, half)
    assert StridedEESP(16, 32, colours=3)(x, image).shape == (2, 32, half, half)
    assert StridedEESP(16, 32, stride=1)(x).shape == (2, 32, side, side)


def test_eesp_has_the_published_size_a_sixth_of_esp():
    unit = EESP(128, 128)
    assert (weights(unit), parameters(unit)) == (6_272, 7_136)
    assert weights(ESP(128, 128, branches=4)) / weights(unit) == pytest.approx(6.53, abs=0.005)


@pytest.mark.parametrize(("inputs", "outputs", "branches"), [(64, 128, 4), (32, 32, 4), (8, 16, 2)])
def test_eesp_has_the_weights_of_the_formula(inputs, outputs, branches):
    expected = inputs * outputs // branches**2 + 9 * outputs + outputs**2 // branches
    assert weights(EESP(inputs, outputs, branches=branches)) == expected


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(13, [1, 2, 3, 4]), (11, [1, 2, 3, 4]), (9, [1, 2, 3, 4]), (7, [1, 1, 2, 3]), (5, [1, 1, 1, 2])],
)
def test_dilations_beyond_the_limit_are_1(limit, expected):
    assert dilations(4, limit) == expected
    assert [branch.dilation[0] for branch in EESP(16, 16, limit=limit).pyramid.branches] == expected


def test_eesp_adds_to_each_view_those_of_all_smaller_dilations():
    unit = EESP(16, 16).eval().pyramid
    x, (first, second, third, fourth) = torch.randn(1, 16, 9, 9), unit.branches
    reduced = unit.reduce(x)
    unit.activate = unit.expand = nn.Identity()
    views = torch.cat([first(reduced), second(reduced), third(reduced), fourth(reduced)]).cumsum(0)
    torch.testing.assert_close(unit(x), views.flatten(0, 1)[None])


def test_eesp_adds_its_input_and_its_strided_unit_pools_it():
    x = torch.randn(1, 16, 8, 8)
    unit = EESP(16, 16).eval()
    torch.testing.assert_close(unit(x), unit.activate(x + unit.pyramid(x)))
    strided = StridedEESP(16, 32).eval()
    strided.activate = nn.Identity()
    torch.testing.assert_close(strided(x)[:, :16], strided.pool(x))
    torch.testing.assert_close(strided(x)[:, 16:], strided.pyramid(x))


def test_modules_refuse_channels_that_their_branches_do_not_divide():
    with pytest.raises(BadInput, match=r"branches=5 of an ESP module share its outputs=3, .*: give branches=3"):
        ESP(8, 3)
    with pytest.raises(
        BadInput, match=r"outputs=40 of an EESP unit of 4 branches is no multiple of 16: give outputs=32"
    ):
        EESP(16, 40)
    with pytest.raises(BadInput, match=r"inputs=6 of an EESP unit of 4 branches is no multiple of 4: give inputs=8"):
        EESP(6, 16)


def test_a_dilated_depthwise_convolution_has_its_gradient_in_bfloat16_and_channels_last():
    x = torch.randn(2, 4, 33, 33).bfloat16().to(memory_format=torch.channels_last)
    layer = DilatedDepthwise(4, 3, dilation=2).to(memory_format=torch.channels_last)
    layer(x.float()).square().sum().backward()
    expected, layer.weight.grad = layer.weight.grad, None
    with torch.autocast("cpu", torch.bfloat16):
        layer(x).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, expected)


# ESPNet


@pytest.mark.parametrize(
    ("alpha3", "decoder", "parameters", "multiply_adds"),
    [
        (3, False, 187_529, 2_159_435_776),
        (3, True, 203_189, 3_469_500_416),
        (5, False, 252_297, None),
        (5, True, 267_957, None),
        (8, False, 349_449, 3_470_155_776),
        (8, True, 365_109, 4_780_220_416),
    ],
)
def test_espnet_has_the_published_sizes(alpha3, decoder, parameters, multiply_adds):
    found = counted("espnet", CITY, 20, alpha3=alpha3, decoder=decoder, output="map")
    assert found[0] == parameters
    assert multiply_adds in (None, found[1])


def test_espnet_has_the_published_maps():
    network = build("espnet", (3, 96, 192), 20, alpha3=1, output="map").eval()
    one, two, three = network.encoder(torch.rand(1, 3, 96, 192))
    assert one.shape == (1, 19, 48, 96)
    assert two.shape == (1, 131, 24, 48)
    assert three.shape == (1, 20, 12, 24)
    assert network.encoder.joins[2][0].num_features == 256


@pytest.mark.parametrize("decoder", [False, True])
def test_espnet_averages_its_map_over_all_pixels(decoder):
    settings = {"width": 0.25, "alpha3": 1, "decoder": decoder}
    image = torch.rand(2, 3, 96, 104)
    averaging = build("espnet", (3, 96, 104), 7, **settings).eval()
    mapping = build("espnet", (3, 96, 104), 7, output="map", **settings).eval()
    mapping.load_state_dict(averaging.state_dict())
    classes = mapping(image)
    assert classes.shape == ((2, 7, 96, 104) if decoder else (2, 7, 12, 13))
    torch.testing.assert_close(averaging(image), classes.mean((2, 3)))


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (32, 32), (33, 40), (90, 95)], ids=str)
@pytest.mark.parametrize("outputs", [2, 10])
def test_the_decoder_gives_small_images_of_any_size_a_map_of_theirs(size, outputs):
    settings = {"width": 0.25, "alpha3": 1, "decoder": True, "output": "map"}
    network = build("espnet", (1, *size), outputs, **settings).eval()
    assert network(torch.rand(2, 1, *size)).shape == (2, outputs, *size)
    assert parameters(network) == parameters(build("espnet", (1, 96, 96), outputs, **settings))


def test_the_decoder_trains_every_parameter_and_answers_alike_in_both_layouts():
    network = build("espnet", CIFAR, 10, width=0.5, alpha3=1, decoder=True)
    images = torch.rand(4, *CIFAR)
    network.train()(images).square().sum().backward()
    assert all(parameter.grad.any() for parameter in network.parameters())
    network.eval()
    there = network(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(network(images), there, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_the_decoder_exports_for_any_batch(tmp_path):
    network = build("espnet", (1, 28, 28), 10, width=0.25, alpha3=1, decoder=True)
    task = SimpleNamespace(mean=(0.3,), std=(0.4,), classes=list("abcdefghij"), input=(1, 28, 28))
    export_onnx(Deployed.of(network, task), tmp_path / "model.onnx", {})
    assert (tmp_path / "model.onnx").stat().st_size > 0


def test_espnet_refuses_sides_that_are_not_divisible_by_8():
    task = SimpleNamespace(input=(3, 100, 128), outputs=10)
    space = REGISTRY.build("space", {"name": "espnet"})
    told = r"sides divisible by 8, and these are 100 x 128: give space.resolution=96 or space.strides=small$"
    with pytest.raises(BadInput, match=told):
        space.check(task)
    for settings in ({"resolution": 96}, {"strides": "small"}, {"resolution": [96, 104]}):
        REGISTRY.build("space", {"name": "espnet", **settings}).check(task)
    with pytest.raises(BadInput, match=r"these are 100 x 100"):
        REGISTRY.build("space", {"name": "espnet", "resolution": [96, 100]}).check(task)
    published = REGISTRY.build("space", {"name": "espnet", "strides": "published"})
    with pytest.raises(BadInput, match=r"these are 33 x 33: give space.resolution=32 or"):
        published.check(SimpleNamespace(input=(3, 33, 33), outputs=10))


# ESPNetV2


@pytest.mark.parametrize(
    ("width", "released", "without_branch", "multiply_adds", "readme"),
    [
        (0.5, 1_241_332, 1_239_962, 29_399_508, 28.38),
        (1.0, 1_670_072, 1_667_422, 86_744_404, 85.72),
        (1.25, 1_965_440, 1_962_150, 124_423_444, 123.40),
        (1.5, 2_314_856, 2_310_926, 169_628_884, 168.6),
        (2.0, 3_498_136, 3_492_926, 286_086_228, 284.8),
    ],
)
def test_espnet_v2_has_the_published_sizes_but_for_what_the_release_never_uses(
    width, released, without_branch, multiply_adds, readme
):
    found = counted("espnet_v2", width=width)
    with torch.device("meta"):
        network = build("espnet_v2", width=width)
    strided = [module for module in network.modules() if isinstance(module, StridedEESP)]
    slopes = sum(unit.pyramid.expand[0].out_channels for unit in strided)  # of activations in the strided pyramids
    last = strided[-1].activate.num_parameters
    branch = 81 + 2 * 3 + 3 + 3 * last + 2 * last  # 3 x 3, BN, PReLU, 1 x 1, BN: the reinforcement of the last level
    assert found[0] + slopes == without_branch
    assert found[0] + slopes + branch == released
    # what is never used does not run either: the published multiply-adds are without it
    assert found[1] == multiply_adds
    classifier = network.head[-1].weight.numel()
    assert (found[1] - classifier) / 1e6 == pytest.approx(readme, abs=0.06)


def test_espnet_v2_has_ten_classes_with_the_published_parameters():
    assert counted("espnet_v2", outputs=10)[0] + 480 + 2_650 == 655_322


def test_espnet_v2_has_the_published_maps():
    network, sides = build("espnet_v2", width=0.5).eval(), []
    for module in (network.stem, *network.same, network.widen):
        module.register_forward_hook(lambda module, given, made: sides.append(made.shape[1:3]))
    network(torch.rand(1, 3, 224, 224))
    assert sides == [(16, 112), (32, 56), (64, 28), (128, 14), (256, 7), (1024, 7)]
    assert [len(units) for units in network.same] == [0, 3, 7, 3]


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (0.6, (16, 32, 64, 128, 256, 1024)),
        (0.75, (32, 48, 96, 192, 384, 1024)),
        (1.1, (32, 64, 128, 256, 512, 1024)),
        (1.75, (32, 112, 224, 448, 896, 1152)),
        (3.0, (32, 192, 384, 768, 1536, 1792)),
    ],
)
def test_the_widths_of_espnet_v2_lie_between_the_published_ones(width, expected):
    with torch.device("meta"):
        network = build("espnet_v2", width=width)
    units = [unit.activate.num_parameters for unit in network.down]
    assert (network.stem[0].out_channels, *units, network.head[-1].in_features) == expected


def test_espnet_v2_refuses_widths_below_the_least():
    with pytest.raises(
        BadInput, match=r"space.width=0.25 leaves too few channels for 4 branches: give space.width=0.5"
    ):
        REGISTRY.build("space", {"name": "espnet_v2", "width": [0.25, 1.0]})

"""What every hand-designed network must do, whatever its blocks."""

from __future__ import annotations

import dataclasses
import json
import random
from types import SimpleNamespace

import pytest
import torch
from golden import REGISTRY, build, by_hooks, counts
from sklearn.datasets import load_digits
from torch import nn

import automl_networks
from automl import BadInput, Options
from automl.testing import check_space
from automl_networks.hand_designed import LEAST_MAP, HandDesigned
from automl_networks.initialisation import initialise
from automl_networks.resize import Resize

NAMES = sorted(automl_networks.automl_spaces())
WIDE = {"vgg": 0.06, "alexnet": 0.06, "gcn": 0.06, "inception_v3": 0.12, "thundernet": 0.5}  # others a quarter
SMALL = {name: {"width": WIDE.get(name, 0.25)} for name in NAMES}
SMALL["gcn"]["depth"] = 50
LIMITED = {"espnet_v2": (0.5, 1.0, 2.0), "shufflenet_v2": (0.5, 1.0, 2.0)}  # widths that are published as tables
SMALL |= {name: {"width": widths[0]} for name, widths in LIMITED.items()}
GREY, COLOUR = (1, 28, 28), (3, 32, 32)
networks = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def small(name, image=COLOUR, outputs=10):
    return build(name, image, outputs, **SMALL[name])


def shaken(network):
    """Give batch normalisation statistics and scales that are far from 0 and 1."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    return network


@networks
def test_it_answers_images_of_any_size_and_colour(name):
    for image, outputs in (((1, 8, 8), 3), (GREY, 10), (COLOUR, 100), ((3, 64, 64), 10), ((2, 33, 40), 10)):
        network = small(name, image, outputs).eval()
        for batch in (1, 2):
            images = torch.rand(batch, *image)
            with torch.inference_mode():
                answer = network(images)
                assert answer.shape == (batch, outputs)
                assert answer.isfinite().all()
                assert torch.equal(answer, network(images))


@networks
def test_it_keeps_the_contract_of_spaces(name):
    space = REGISTRY.build("space", {"name": name, **SMALL[name], "resolution": [8, 16]})
    check_space(space, SimpleNamespace(input=COLOUR, outputs=10), samples=2)
    assert space.size() == 2


@networks
def test_it_keeps_its_parameters_on_small_images_but_for_the_colours(name):
    with torch.device("meta"):
        sizes = [counts(small(name, (3, side, side)), (3, side, side)) for side in (8, 28, 33, 224)]
    assert len({parameters for parameters, _ in sizes}) == 1
    assert len({multiply_adds for _, multiply_adds in sizes}) == len(sizes)


@networks
def test_its_last_map_has_four_by_four_or_more_on_small_images(name):
    maps = []
    network = small(name, COLOUR).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, given, made: maps.append(min(made.shape[-2:])))
    network(torch.rand(1, *COLOUR))
    assert min(side for side in maps if side > 1) >= LEAST_MAP - 2  # windows without padding lose a pixel or two


@networks
def test_it_trains_every_parameter(name):
    network = small(name, GREY).train()
    outputs = network(torch.rand(4, *GREY))
    outputs.square().sum().backward()
    dead = [
        key
        for key, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.any().item()
    ]
    assert dead == []


@networks
def test_it_answers_alike_in_both_layouts(name):
    network = shaken(small(name).eval())
    answers, slopes = [], []
    for layout in (torch.contiguous_format, torch.channels_last):
        images = torch.rand(2, *COLOUR, generator=torch.Generator().manual_seed(1))
        images = images.to(memory_format=layout).requires_grad_()
        answers.append(network.to(memory_format=layout)(images))
        slopes.append(torch.autograd.grad(answers[-1].square().sum(), images)[0])
    torch.testing.assert_close(*answers, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(*slopes, atol=1e-3 * float(slopes[0].abs().max()), rtol=1e-3)


@networks
def test_it_trains_in_bfloat16_and_channels_last(name):
    network = small(name).train().to(memory_format=torch.channels_last)
    images = torch.rand(4, *COLOUR).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        loss = nn.functional.cross_entropy(network(images).float(), torch.arange(4))
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@networks
def test_it_is_a_function_of_its_settings_and_the_seed(name):
    made = []
    for _ in range(2):
        torch.manual_seed(3)
        made.append(small(name).state_dict())
    assert made[0].keys() == made[1].keys()
    assert all(torch.equal(made[0][key], made[1][key]) for key in made[0])


@networks
def test_it_grows_with_its_width(name):
    widths = LIMITED.get(name, (0.5, 1.0, 2.0))
    with torch.device("meta"):
        made = [build(name, COLOUR, 10, **{**SMALL[name], "width": width}) for width in widths]
        sizes = [by_hooks(network, COLOUR) for network in made]
    assert sizes[0] < sizes[1] < sizes[2]
    assert sizes[0][1] < sizes[1][1] < sizes[2][1]


@networks
def test_batch_normalisation_folds_into_the_convolution_before_it(name):
    network = shaken(small(name).eval())
    images = torch.rand(2, *COLOUR)
    with torch.inference_mode():
        before = network(images)
    pairs = 0
    for module in network.modules():
        if not isinstance(module, nn.Sequential):
            continue
        for place in range(len(module) - 1):
            convolution, norm = module[place], module[place + 1]
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                module[place] = torch.nn.utils.fusion.fuse_conv_bn_eval(convolution, norm)
                module[place + 1] = nn.Identity()
                pairs += 1
    with torch.inference_mode():
        after = network(images)
    torch.testing.assert_close(after, before, atol=1e-4 * float(before.abs().max().clamp(min=1)), rtol=1e-4)
    assert pairs or name in ("alexnet", "vgg", "squeezenet", "googlenet")


@pytest.mark.slow
@networks
def test_it_learns_24_digits_by_heart(name):
    digits = load_digits()
    images = torch.tensor(digits.images[:24], dtype=torch.float32)[:, None] / 8 - 1
    labels = torch.tensor(digits.target[:24])
    network = small(name, (1, 8, 8)).train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3)
    right = 0
    for _ in range(150):
        logits = network(images)
        right = int((logits.argmax(1) == labels).sum())
        if right > 0.95 * 24:
            break
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
    assert right > 0.95 * 24


# settings


@networks
def test_its_settings_are_checked_when_it_is_made(name):
    for settings in ({"width": 0}, {"width": -1.0}, {"width": "wide"}, {"width": []}, {"width": [0.5, 0.5]}):
        with pytest.raises(BadInput, match="width"):
            REGISTRY.build("space", {"name": name, **settings})
    with pytest.raises(BadInput, match=r"space\.strides=none must be one of auto, published, small"):
        REGISTRY.build("space", {"name": name, "strides": "none"})


@networks
def test_it_refuses_images_too_small_for_the_published_strides(name):
    space = REGISTRY.build("space", {"name": name, **SMALL[name], "strides": "published"})
    with pytest.raises(BadInput, match=rf"space {name} needs images of .* 4 x 4: give space.resolution=\d+"):
        space.check(SimpleNamespace(input=(1, 4, 4), outputs=10))
    space = REGISTRY.build("space", {"name": name, **SMALL[name]})
    with pytest.raises(BadInput, match=rf"space {name} needs images of at least \d+ x \d+ pixels, and these are 2 x 9"):
        space.check(SimpleNamespace(input=(1, 2, 9), outputs=10))


@networks
def test_what_its_refusal_tells_to_type_works(name):
    task = SimpleNamespace(input=(3, 4, 4), outputs=10)
    settings = {"name": name, **SMALL[name], "strides": "published"}
    with pytest.raises(BadInput) as refusal:
        REGISTRY.build("space", settings).check(task)
    side = int(str(refusal.value).partition("space.resolution=")[2].split()[0].rstrip(".,:;"))
    space = REGISTRY.build("space", {**settings, "resolution": side})
    (architecture,) = space.enumerate()
    assert space.build(architecture.blueprint, task).eval()(torch.rand(2, 3, 4, 4)).shape == (2, 10)


def test_a_list_makes_a_setting_a_decision():
    space = REGISTRY.build("space", {"name": "mobilenet_v2", "width": [0.25, 0.5], "resolution": [16, 24, 32]})
    assert space.size() == 6
    architecture = space.sample(random.Random(0))
    assert list(architecture.values) == ["resolution", "width"]
    design = architecture.blueprint
    assert (design.resolution, design.width) == tuple(architecture.values.values())
    assert isinstance(space.width, Options)
    assert json.dumps(architecture.to_json())
    network = space.build(design, SimpleNamespace(input=COLOUR, outputs=10))
    assert isinstance(network[0], Resize)


def test_a_resolution_is_part_of_the_network():
    for side in (16, 32, 48):
        network = build("mobilenet_v2", COLOUR, 10, width=0.25, resolution=side).eval()
        seen = []
        network[1].register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0].shape[-2:]))
        assert network(torch.rand(2, *COLOUR)).shape == (2, 10)
        assert seen == [(side, side)]


def test_strides_are_left_out_from_the_front_until_the_last_map_is_large_enough():
    space = REGISTRY.build("space", {"name": "mobilenet_v2"})
    assert {side: space.steps((3, side, side)) for side in (4, 8, 28, 32, 64, 96)} == {
        4: [1, 1, 1, 1, 1],
        8: [1, 1, 1, 1, 2],
        28: [1, 1, 2, 2, 2],
        32: [1, 1, 2, 2, 2],
        64: [1, 2, 2, 2, 2],
        96: [2, 2, 2, 2, 2],
    }
    assert dataclasses.replace(space, strides="small").steps((3, 96, 96)) == [1, 2, 2, 2, 2]
    assert dataclasses.replace(space, strides="published").steps((3, 32, 32)) == [2, 2, 2, 2, 2]


def test_weights_begin_by_the_rule_and_a_module_may_draw_its_own():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def initialise(self):
            nn.init.ones_(self.weight)

    network = nn.Sequential(nn.Conv2d(64, 128, 3), nn.Linear(400, 300), Own())
    initialise(network)
    assert network[0].weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.05)
    assert network[1].weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not network[0].bias.any()
    assert not network[1].bias.any()
    assert network[2].weight.item() == 1


def test_a_hand_designed_network_is_its_own_blueprint():
    space = REGISTRY.build("space", {"name": "mobilenet_v2"})
    assert isinstance(space, HandDesigned)
    assert space.sample(random.Random(0)).blueprint is space

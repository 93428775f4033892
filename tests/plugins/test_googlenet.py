"""GoogLeNet, against the figures of its paper and a release."""

import pytest
import torch
from golden import REGISTRY, build, counted, counts
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from automl import BadInput
from automl.measure import parameters, strip
from automl_networks.inception import Inception, biased, inception_v1
from automl_networks.inception_heads import HeadedClassifier, InceptionHeads, MeanWindows


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize(
    ("form", "published", "multiply_adds", "with_heads"),
    [
        ("paper", 6_998_552, 1_582_671_872, 13_378_280),
        ("batch_norm", 7_005_832, 1_582_671_872, None),
        ("batch_norm_3x3", 6_624_904, 1_498_376_192, 13_004_888),
    ],
)
def test_it_has_the_published_size(form, published, multiply_adds, with_heads):
    assert counted("googlenet", form=form) == (published, multiply_adds)
    with torch.device("meta"):
        network = build("googlenet", form=form, auxiliary=True)
    assert parameters(network) == published
    if with_heads is not None:
        assert sum(parameter.numel() for parameter in network.parameters()) == with_heads


@pytest.mark.parametrize("form", ["paper", "batch_norm", "batch_norm_3x3"])
def test_its_maps_have_the_published_shapes(form):
    network = build("googlenet", form=form).eval()
    with torch.inference_mode():
        x = network.stem(torch.rand(1, 3, 224, 224))
        shapes = [tuple(x.shape[1:3])]
        for stage in network.stages:
            x = stage(x)
            shapes.append(tuple(x.shape[1:3]))
    assert shapes == [
        (192, 28),
        (256, 28),
        (480, 28),
        *[(512, 14)] * 3,
        (528, 14),
        (832, 14),
        (832, 7),
        (1024, 7),
    ]


@pytest.mark.parametrize("form", ["paper", "batch_norm", "batch_norm_3x3"])
def test_its_published_strides_need_31_pixels(form):
    settings = {"form": form, "strides": "published", "width": 0.1}
    network = build("googlenet", (3, 31, 31), 10, **settings).eval()
    sides = []
    network.head.register_forward_pre_hook(lambda _, given: sides.append(given[0].shape[-2:]))
    assert network(torch.rand(1, 3, 31, 31)).shape == (1, 10)
    assert sides == [(1, 1)]
    space = REGISTRY.build("space", {"name": "googlenet", **settings})
    with pytest.raises(BadInput, match="at least 31 x 31 pixels"):
        space.check_image((3, 30, 30))


def test_the_paper_form_has_biases_and_no_batch_normalisation():
    kinds = {type(module) for module in build("googlenet", form="paper", width=0.1).modules()}
    assert nn.LocalResponseNorm in kinds
    assert nn.BatchNorm2d not in kinds
    modules = list(build("googlenet", width=0.1).modules())
    assert not any(isinstance(module, nn.LocalResponseNorm) for module in modules)
    assert all(module.bias is None for module in modules if isinstance(module, nn.Conv2d))


# the block


widths = st.integers(1, 6).map(lambda eighth: 8 * eighth)


@given(inputs=widths, table=st.tuples(*[widths] * 6), kernel=st.sampled_from((3, 5)))
def test_a_block_costs_what_its_table_says(inputs, table, kernel):
    one, reduce3, three, reduce5, five, pooled = table
    with torch.device("meta"):
        block = Inception(inputs, *inception_v1(*table, kernel=kernel), layer=biased)
        found = counts(block, (inputs, 6, 5))
    weights = inputs * (one + reduce3 + reduce5 + pooled) + 9 * reduce3 * three + kernel**2 * reduce5 * five
    assert found == (weights + sum(table), 30 * weights)
    assert block.outputs == one + three + five + pooled


def test_a_block_puts_its_branches_one_after_the_other():
    block = Inception(8, *inception_v1(8, 8, 16, 8, 24, 32)).eval()
    x = torch.randn(2, 8, 6, 6)
    with torch.no_grad():
        parts = [branch(x) for branch in block]
        assert [part.shape[1] for part in parts] == [8, 16, 24, 32]
        assert torch.equal(block(x), torch.cat(parts, dim=1))


# the heads


def test_its_heads_answer_in_training_only():
    network = build("googlenet", (3, 32, 32), 10, auxiliary=True, width=0.1)
    images = torch.rand(4, 3, 32, 32)
    logits, auxiliary = network.train()(images)
    assert logits.shape == auxiliary.shape == (4, 10)
    answer = network.eval()(images)
    assert torch.equal(answer, strip(network)(images))
    assert network.auxiliary_heads is None
    assert network.train()(images).shape == (4, 10)


@pytest.mark.parametrize("form", ["paper", "batch_norm"])
def test_its_heads_train_every_parameter(form):
    network = build("googlenet", (1, 28, 28), 10, auxiliary=True, width=0.1, form=form).train()
    assert isinstance(network, HeadedClassifier)
    logits, auxiliary = network(torch.rand(8, 1, 28, 28))
    (logits.square().sum() + auxiliary.square().sum()).backward()
    assert [name for name, parameter in network.named_parameters() if not parameter.grad.any()] == []


def test_images_are_answered_by_the_heads_in_turn():
    heads = InceptionHeads([nn.Linear(3, 2), nn.Linear(5, 2)])
    early, late = torch.randn(5, 3), torch.randn(5, 5)
    answers = heads([early, late])
    assert torch.equal(answers[::2], heads[0](early)[::2])
    assert torch.equal(answers[1::2], heads[1](late)[1::2])


@pytest.mark.parametrize(("count", "side"), [(4, 14), (5, 17)])
def test_the_heads_average_the_published_windows(count, side):
    x = torch.randn(2, 3, side, side)
    assert torch.equal(MeanWindows(count)(x), nn.functional.avg_pool2d(x, 5, 3))


@given(count=st.integers(4, 5), height=st.integers(1, 20), width=st.integers(1, 20))
def test_the_heads_windows_cover_any_map(count, height, width):
    x = torch.zeros(1, 1, height, width, requires_grad=True)
    means = MeanWindows(count)(x)
    assert means.shape == (1, 1, count, count)
    means.sum().backward()
    assert (x.grad > 0).all()

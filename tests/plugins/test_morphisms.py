import json
import random
from math import prod

import pytest
import torch
from spaces_contract import Images, check_ergodic, check_recipe, check_training, samples
from torch import nn

from automl import BadInput, measure
from automl.testing import check_space
from automl_spaces.morphism_graphs import CONVOLUTIONS, IMAGE, MERGES
from automl_spaces.morphism_weights import separated
from automl_spaces.morphisms import Morphisms
from automl_spaces.morphisms_network import Network

FAMILIES = ("nash", "lemonade", "lemonade_cells", "eas", "wistuba")
SMALL = {"filters": (2, 4), "most": 8, "widths": (2, 3, 4, 6, 8), "units": (4, 8)}
TINY = {"filters": (1,), "most": 2, "widths": (1, 2), "units": (1, 2)}
IMAGE_SIZE = (3, 9, 6)


def told(*moves, stop=True):
    """Return the decisions of steps given as (op, where) or (op, where, arg)."""
    values = {}
    for place, move in enumerate(moves):
        values.update(zip([f"step{place}.{part}" for part in ("op", "where", "arg")], move, strict=False))
    return {**values, **({f"step{len(moves)}.op": "stop"} if stop else {})}


def until(values, steps):
    """Return the decisions of the first so many steps."""
    first = {name: value for name, value in values.items() if int(name.partition(".")[0].removeprefix("step")) < steps}
    return {**first, f"step{steps}.op": "stop"}


def rough(network):
    """Set all that training moves to what it could be after it."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            nn.init.normal_(module.weight, 1.0, 0.5)
            nn.init.normal_(module.bias)
    for name, parameter in network.named_parameters():
        if name.endswith("share"):
            nn.init.uniform_(parameter, -0.5, 1.5)
    return network.eval()


def built(space, values, dtype=torch.float64):
    blueprint = space.read(values).blueprint
    return rough(space.build(blueprint, Images(IMAGE_SIZE, 4)).to(dtype))


def error(child, parent, dtype=torch.float64):
    """Return the largest difference of the outputs, and how large they are."""
    with torch.no_grad():
        x = torch.randn(4, *IMAGE_SIZE, dtype=dtype)
        expected, found = parent(x), child(x)
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1.0))


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("family", FAMILIES)
def test_the_contract_of_spaces_holds(family):
    check_space(Morphisms(family, **SMALL), Images(), samples=4)
    check_space(Morphisms(family, steps=1, **TINY), Images((3, 1, 2)), samples=2)
    check_space(Morphisms(family, steps=0), samples=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_prefix_of_every_sample_is_legal(family):
    space, rng = Morphisms(family), random.Random(0)
    blueprints = samples(space, 10_000 if family == "lemonade" else 2_000)
    for morphed in blueprints:
        assert len(morphed.graphs) == len(morphed.moves) + 1 <= 5
        for graph in morphed.graphs:
            seen = {IMAGE}
            for layer in graph.layers.values():
                assert seen.issuperset(layer.reads)
                assert len(set(layer.reads)) == len(layer.reads) == 1 + (layer.kind in MERGES)
                assert layer.kind not in CONVOLUTIONS or 1 <= layer.width <= 64
                seen.add(layer.name)
    for _ in range(30):
        architecture = space.sample(rng)
        for steps in range(len(architecture.blueprint.moves)):
            shorter = space.read(until(architecture.values, steps))
            assert shorter.blueprint == architecture.blueprint.until(steps)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_size_is_counted_and_enumerated(family):
    small = Morphisms(family, steps=2, **SMALL)
    assert small.size() == len(set(small.enumerate()))
    assert small.exceeds(small.size() - 1)
    assert not small.exceeds(small.size())
    tiny = Morphisms(family, steps=3, **TINY)
    assert tiny.size() == sum(1 for _ in tiny.enumerate())


def test_the_steps_of_the_start_are_counted_by_hand():
    """Five layers: two kernels after each; five ways to widen; one, two, two and four skips; to stop."""
    nash = 5 * 2 + 5 + 2 * (2 + 2 + 4) + 1
    assert Morphisms(steps=1).size() == nash == 32
    assert Morphisms("lemonade", steps=1).size() == nash + 2 + 3 * 2 + 3
    assert Morphisms("eas", steps=1).size() == 5 * 3 + 1 + 4 + 1
    assert Morphisms("wistuba", steps=1).size() == 2 + 1 + 1 + 2 + 1 + 1
    assert [Morphisms(steps=steps).size() for steps in (0, 2, 3)] == [1, 1_254, 62_279]
    assert Morphisms(steps=20).exceeds(prod(range(5, 25)) - 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_mutation_reaches_every_list(family):
    check_ergodic(Morphisms(family, steps=1, **SMALL), tries=150)


@pytest.mark.parametrize("family", FAMILIES)
def test_networks_train(family):
    check_training(Morphisms(family, steps=5, **SMALL), (2, 9, 6), count=8)


def test_two_lists_that_lead_to_one_graph_have_one_key():
    space = Morphisms("lemonade")

    def key(*moves):
        return space.canonical(space.read(told(*moves, stop=len(moves) < 4)).blueprint)

    wide, deep = ("widen", "conv1", 2), ("deepen", "conv2", 5)
    assert key(wide, deep) == key(deep, wide) != key(deep)
    assert key(deep, ("remove", "step0")) == key() == key(wide, ("prune", "conv1", 0.5))
    assert key(("widen", "conv1", 4)) == key(wide, wide)
    assert key(("deepen", "conv2", 3)) != key(deep)
    assert key(("add", "conv3", "conv2")) != key(("concat", "conv3", "conv2")) != key(("concat", "conv3", "conv1"))
    # the order of what is concatenated has no say, nor has what was concatenated first
    one = key(("concat", "conv3", "conv2"), ("concat", "step0", "conv1"))
    assert one == key(("concat", "conv3", "conv1"), ("concat", "step0", "conv2"))
    assert one == key(("concat", "conv3", "conv1"), ("concat", "conv3", "conv2"))
    # a sum goes through a ReLU, so that sums of sums are not one
    assert key(("add", "conv3", "conv2"), ("add", "step0", "conv1")) != key(
        ("add", "conv3", "conv1"), ("add", "step0", "conv2")
    )


@pytest.mark.parametrize("family", ["lemonade", "wistuba"])
def test_networks_of_one_key_have_as_many_parameters(family):
    space, rng, found = Morphisms(family, **SMALL), random.Random(0), {}
    different = {space.sample(rng) for _ in range(200)}
    for architecture in different:
        with torch.device("meta"):
            network = space.build(architecture.blueprint, Images())
        found.setdefault(space.canonical(architecture.blueprint), set()).add(measure.parameters(network))
    assert 20 < len(found) < len(different)
    assert all(len(counts) == 1 for counts in found.values())


def test_a_network_has_the_parameters_of_its_graph():
    space = Morphisms(filters=(4, 6))
    start = (3 * 4 * 9 + 8) + (4 * 6 * 9 + 12)
    assert measure.parameters(built(space, told())) == start + 6 * 4 + 4
    deep = built(space, told(("deepen", "pool1", 5)))
    assert measure.parameters(deep) == start + (4 * 4 * 25 + 8) + 6 * 4 + 4
    added = built(space, told(("add", "conv2", "conv1")))  # of fewer channels, and at twice the size
    assert measure.parameters(added) == start + (4 * 6 + 12) + 1 + 6 * 4 + 4
    joined = built(space, told(("concat", "conv2", "conv1")))
    assert measure.parameters(joined) == start + (6 + 4) * 4 + 4
    cells = Morphisms("wistuba", filters=(4, 8), cells=2)
    layers = [(3, 4), (4, 4), (4, 8), (8, 8)]
    assert measure.parameters(built(cells, told())) == sum(i * o * 9 + 2 * o for i, o in layers) + 8 * 4 + 4


def test_a_sum_is_the_relu_of_both_parts():
    network = built(Morphisms(filters=(4,)), told(("deepen", "conv1", 3), ("add", "step0", "conv1")))
    x = torch.randn(2, *IMAGE_SIZE, dtype=torch.float64)
    first = network.layers["conv1"](x)
    second, share = network.layers["step0"](first), network.layers["step1"].share
    mixed = torch.relu(share * second + (1 - share) * first)
    torch.testing.assert_close(network(x), network.linear(mixed.mean((2, 3))))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_child_computes_what_its_parent_does(family, dtype, tolerance):
    """For random lists of steps, inherited from any point on; shrinking steps before it do not matter."""
    space = Morphisms(family, steps=8, **{**SMALL, "filters": (4, 8), "most": 24})
    rng, tried = random.Random(1), 0
    while tried < 12:
        values = space.sample(rng).values
        begun = rng.randrange(len({name.partition(".")[0] for name in values}))
        parent = built(space, until(values, begun), dtype)
        child = built(space, json.loads(json.dumps(values)), dtype)
        is_exact = child.inherit(parent)
        assert is_exact or family not in ("nash", "eas")
        if is_exact and child.morphed.moves != parent.morphed.moves:
            assert error(child, parent, dtype) < tolerance, values
            assert measure.parameters(child) >= measure.parameters(parent)
            tried += 1


def test_a_list_leads_to_the_same_shapes_each_time():
    space, rng = Morphisms("lemonade"), random.Random(0)
    for _ in range(10):
        architecture = space.sample(rng)
        shapes = [
            [(name, tensor.shape) for name, tensor in network.state_dict().items()]
            for network in (
                space.build(one.blueprint, Images()) for one in (architecture, space.read(architecture.to_json()))
            )
        ]
        assert shapes[0] == shapes[1]


STEPS = {
    "deepen after a convolution": ("nash", (("deepen", "conv2", 5),)),
    "deepen after a pool": ("nash", (("deepen", "pool1", 3),)),
    "deepen after a sum": ("nash", (("add", "conv2", "conv1"), ("deepen", "step0", 3))),
    "widen": ("nash", (("widen", "conv1", 4),)),
    "widen what skips to a sum as it is": ("nash", (("add", "conv2", "pool1"), ("widen", "conv1", 2))),
    "widen what is concatenated": ("nash", (("concat", "conv2", "pool1"), ("widen", "conv2", 2))),
    "fully connected": ("eas", (("deepen", "dense1"), ("widen", "step0"), ("widen", "dense1"))),
    "branch": ("wistuba", (("branch", "conv1"), ("widen", "conv1", 2), ("kernel", "step0branch", 7))),
    "branch what skips to a sum": ("wistuba", (("deepen", "conv1", 3), ("add", "step0", "conv1"), ("branch", "conv1"))),
    "widen what was separated": ("lemonade", (("separate", "conv2"), ("widen", "conv1", 2), ("widen", "conv2", 2))),
}


@pytest.mark.parametrize("kind", STEPS)
def test_each_step_preserves_the_function(kind):
    family, moves = STEPS[kind]
    space = Morphisms(family, filters=(4, 4), most=64, units=(4, 6, 8), cells=2)
    for count in range(len(moves)):
        parent = built(space, told(*moves[:count]))
        child = built(space, told(*moves[: count + 1], stop=count < 3))
        assert child.inherit(parent) == (moves[count][0] != "separate")
        if moves[count][0] != "separate":
            assert error(child, parent) < 1e-12


def test_what_is_not_touched_is_inherited_bit_for_bit():
    space = Morphisms()
    parent = built(space, told())
    child = built(space, told(("deepen", "conv3", 3)))
    child.inherit(parent)
    weights = child.state_dict()
    for name, tensor in parent.state_dict().items():
        assert torch.equal(weights[name], tensor)
        assert weights[name].data_ptr() != tensor.data_ptr()


def test_deepening_after_another_activation_than_a_relu_does_not_preserve():
    """The negative control: tanh of tanh is something else; to widen is exact all the same."""
    space = Morphisms()
    for moves, is_same in (([("deepen", "conv2", 3)], False), ([("widen", "conv2", 2)], True)):
        networks = [
            rough(Network(space.read(told(*some)).blueprint, 3, 4, activation=nn.Tanh).double()) for some in ([], moves)
        ]
        networks[1].inherit(networks[0])
        assert (error(networks[1], networks[0]) < 1e-10) == is_same


def test_wider_layers_are_copies_whose_readers_share_the_weight():
    space = Morphisms(filters=(3, 2))
    parent, child = built(space, told()), built(space, told(("widen", "conv1", 4)))
    child.inherit(parent, generator=torch.Generator().manual_seed(5))
    old, new = parent.layers["conv1"][0].weight, child.layers["conv1"][0].weight
    assert torch.equal(new[:3], old)
    of = [int((old == filters).flatten(1).all(1).nonzero()) for filters in new]
    for channel in range(3):
        copies = [place for place, one in enumerate(of) if one == channel]
        read = child.layers["conv2"][0].weight[:, copies]
        torch.testing.assert_close(read.sum(1), parent.layers["conv2"][0].weight[:, channel])
        assert torch.equal(read, read[:, :1].expand_as(read))
    again = built(space, told(("widen", "conv1", 4)))
    again.inherit(parent, generator=torch.Generator().manual_seed(5))
    assert torch.equal(again.layers["conv1"][0].weight, new)


def test_noise_tells_copies_apart():
    space = Morphisms(filters=(3, 2))
    parent, child = built(space, told()), built(space, told(("widen", "conv1", 2)))
    assert not child.inherit(parent, noise=0.01)
    assert torch.equal(child.layers["conv1"][0].weight[:3], parent.layers["conv1"][0].weight)
    assert 1e-6 < error(child, parent) < 0.2


def test_images_set_new_layers_so_that_training_begins_without_a_jump():
    space = Morphisms()
    images = torch.randn(16, *IMAGE_SIZE, dtype=torch.float64)
    parent = built(space, told(("deepen", "conv2", 5)))
    moves = (("deepen", "conv2", 5), ("deepen", "conv1", 3), ("widen", "step1", 2))
    plain, calibrated = (built(space, told(*moves)) for _ in range(2))
    plain.inherit(parent)
    calibrated.inherit(parent, images=images)
    assert error(calibrated, parent) < 1e-10
    assert not calibrated.training
    statistics = {name: buffer.clone() for name, buffer in parent.named_buffers()}
    assert all(torch.equal(calibrated.get_buffer(name), buffer) for name, buffer in statistics.items())
    with torch.no_grad():
        expected, jump, smooth = (network.train()(images) for network in (parent, plain, calibrated))
    assert (smooth - expected).abs().max() < 1e-10
    assert (jump - expected).abs().max() > 1e-3


def test_pruning_keeps_the_filters_of_the_largest_norm():
    space = Morphisms("lemonade")
    parent, child = built(space, told()), built(space, told(("prune", "conv1", 0.25)))
    assert not child.inherit(parent)
    weight = parent.layers["conv1"][0].weight
    kept = sorted(weight.flatten(1).norm(dim=1).topk(6).indices.tolist())
    assert torch.equal(child.layers["conv1"][0].weight, weight[kept])
    assert torch.equal(child.layers["conv2"][0].weight, parent.layers["conv2"][0].weight[:, kept])


def test_a_separable_convolution_is_the_nearest_one():
    weight = torch.randn(5, 3, 3, 3, dtype=torch.float64)
    depthwise, pointwise = separated(weight)
    rest = (weight - pointwise * depthwise.transpose(0, 1)).norm()
    expected = sum(torch.linalg.svdvals(weight[:, one].flatten(1))[1:].square().sum() for one in range(3)) ** 0.5
    torch.testing.assert_close(rest, expected)
    exact = torch.randn(5, 3, 1, 1) * torch.randn(1, 3, 3, 3)
    depthwise, pointwise = separated(exact)
    torch.testing.assert_close(pointwise * depthwise.transpose(0, 1), exact)


def test_cells_change_alike():
    space = Morphisms("wistuba", filters=(4, 8), cells=2)
    network = built(space, told(("kernel", "conv1", 5), ("branch", "conv1")))
    kernels = [module.weight.shape for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert kernels == [
        torch.Size([o, i, 5, 5]) for i, o in ((3, 2), (3, 2), (4, 2), (4, 2), (4, 4), (4, 4), (8, 4), (8, 4))
    ]


def test_what_is_no_parent_is_refused():
    space = Morphisms()
    parent = built(space, told(("deepen", "conv1", 3)))
    for child in (
        built(space, told()),
        built(space, told(("deepen", "conv1", 5))),
        built(Morphisms(filters=(8, 16, 64)), told(("deepen", "conv1", 3))),
        built(Morphisms(width=2), told(("deepen", "conv1", 3))),
    ):
        with pytest.raises(ValueError, match="the steps of the child have to begin with all of its steps"):
            child.inherit(parent)


def test_images_too_small_are_refused():
    with pytest.raises(BadInput, match=r"with 3 stages needs images of at least 4 x 4 .* give task\.size=4"):
        Morphisms().check(Images((1, 3, 9)))
    for family in FAMILIES:
        network = (
            Morphisms(family).build(Morphisms(family).sample(random.Random(3)).blueprint, Images((1, 4, 4))).eval()
        )
        assert network(torch.randn(1, 1, 4, 4)).shape == (1, 10)


def test_bad_fields_are_refused():
    with pytest.raises(BadInput, match=r"space\.filters has 128, more than the space\.most=64 .* space\.most=128"):
        Morphisms(filters=(128,))
    with pytest.raises(BadInput, match=r"space\.filters has none"):
        Morphisms(filters=())
    with pytest.raises(BadInput, match=r"space\.units is \[64, 32\], but each has to be more .*: give \[32, 64\]"):
        Morphisms(units=(64, 32))
    with pytest.raises(BadInput, match=r"space\.widths are all more than space\.most=64: give space\.most=96"):
        Morphisms("eas", widths=(96,))
    with pytest.raises(BadInput, match=r"space\.filters has 12, no multiple of the first, 8, .*: give 8"):
        Morphisms("wistuba", filters=(8, 12))


def test_the_graph_has_the_edges():
    space = Morphisms("lemonade", filters=(4, 8))
    assert space.graph(space.read(told(("separate", "conv2"), ("add", "conv2", "conv1"))).blueprint) == {
        "network": [
            ("input", "1", "conv3x3 4"),
            ("1", "2", "pool"),
            ("2", "3", "separable3x3 8"),
            ("2", "4", "project 8"),
            ("3", "5", "add"),
            ("4", "5", "add"),
            ("5", "output", "output"),
        ]
    }


def test_the_recipe_lists_every_field_with_its_default():
    check_recipe(Morphisms(), "morphisms")

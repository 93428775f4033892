"""The space of Once-for-all: published networks, elastic sharing, and images that are resized inside."""

import csv
import gzip
import random

import pytest
import torch
from spaces_contract import Images, check_ergodic, check_export, check_recipe, check_training, samples
from torch.utils.flop_counter import FlopCounterMode

from automl import BadInput
from automl.deploy import Deployed
from automl.sharing import ElasticWeights
from automl.testing import check_space
from automl_evaluators.supernet import Supernet
from automl_spaces.ofa import OFA, Elastic, Layer
from automl_tasks.synthetic import Synthetic

TINY = {"width": 0.05, "depths": (1, 2), "kernels": (3, 5), "expansions": (2, 3)}
MULTIPLY_ADDS = {"flops-389M": 389, "flops-482M": 482, "flops-595M": 595}  # millions, as the networks are named


@pytest.fixture(scope="module")
def published(data):
    with gzip.open(data / "ofa_predictor" / "specialized_nets.csv.gz", "rt") as file:
        return {row["target"]: row for row in csv.DictReader(file) if row["target"] in MULTIPLY_ADDS}


def from_row(space, row):
    return space.from_lists(*([int(one) for one in row[key].split("-")] for key in ("ks", "e", "d")))


def counted(space, architecture, task):
    with torch.device("meta"):
        network = space.build(architecture.blueprint, task).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, *task.input))
    return sum(tensor.numel() for tensor in network.parameters()), counter.get_total_flops() / 2


@pytest.mark.parametrize(("target", "millions"), MULTIPLY_ADDS.items())
def test_published_networks_have_the_multiply_adds_that_they_are_named_by(published, target, millions):
    row = published[target]
    side = int(row["r"])
    parameters, multiply_adds = counted(OFA(width=1.2), from_row(OFA(), row), Images((3, side, side), 1000))
    assert int(multiply_adds / 1e6) == millions
    if target == "flops-595M":
        assert parameters == 9_135_928


def test_its_size_is_the_papers():
    assert OFA().size() == (9**2 + 9**3 + 9**4) ** 5
    assert f"{OFA().size():.1e}" == "2.2e+19"
    sides = tuple(side / 224 for side in range(128, 225, 4))
    assert OFA(scales=sides).size() == 25 * OFA().size()
    assert OFA(scales=(0.5, 1.0), **TINY).size() == 2 * (4 + 16) ** 5
    assert OFA().exceeds(10**19)


def test_ten_thousand_samples_are_legal_and_networks_train():
    drawn = samples(OFA())
    assert len({OFA().canonical(one) for one in drawn}) == len(drawn)
    check_training(OFA(scales=(0.75, 1.0), **TINY), count=8)
    check_training(OFA(width=0.05), (3, 10, 8), count=2)


def test_it_keeps_the_contract_of_spaces():
    check_space(OFA(scales=(0.5, 1.0), **TINY), Images(), samples=10)
    check_ergodic(OFA(depths=(1, 2), kernels=(3,), expansions=(2,), scales=(0.5, 1.0)))
    check_recipe(OFA(), "ofa")


def test_layers_beyond_the_depth_are_not_decided():
    space = OFA()
    for seed in range(20):
        architecture = space.sample(random.Random(seed))
        for unit, layers in enumerate(architecture.blueprint.units):
            assert architecture.values[f"unit{unit}.depth"] == len(layers)
            named = [name for name in architecture.values if name.startswith(f"unit{unit}.layer")]
            assert len(named) == 2 * len(layers)


def test_a_network_sees_images_at_its_own_size():
    space, task = OFA(scales=(0.5, 0.75, 1.0), **TINY), Images((3, 16, 12), 4)
    space.check(task)
    for scale, size in ((0.5, (8, 6)), (0.75, (12, 9)), (1.0, (16, 12))):
        network = space.build(read(space, 3, 2, 1, scale).blueprint, task).eval()
        seen = []
        network[1].register_forward_pre_hook(lambda _, given, seen=seen: seen.append(tuple(given[0].shape[-2:])))
        images = torch.rand(3, *task.input, requires_grad=True)
        network(images).sum().backward()
        assert seen == [size]
        assert images.grad.abs().sum() > 0


@pytest.mark.slow  # an export takes seconds
def test_a_network_is_exported_with_its_own_size(tmp_path):
    space = OFA(scales=(0.5, 1.0), **TINY)
    task = Synthetic(count=40, channels=3, labels=4, size=16)
    task.prepare(0)
    deployed = Deployed.of(space.build(read(space, 3, 2, 1, 0.5).blueprint, task).eval(), task).eval()
    check_export(deployed, torch.rand(3, 3, 16, 16), tmp_path)


def read(space, kernel, expansion, depth, scale=1.0):
    units = tuple((Layer(kernel, expansion),) * depth for _ in range(5))
    values = {"scale": scale} if len(space.scales) > 1 else {}
    for unit in range(5):
        values[f"unit{unit}.depth"] = depth
        for layer in range(depth):
            values |= {f"unit{unit}.layer{layer}.kernel": kernel, f"unit{unit}.layer{layer}.expansion": expansion}
    architecture = space.read(values)
    assert architecture.blueprint == Elastic(scale, units)
    return architecture


def test_all_networks_are_windows_of_the_largest():
    space, task, shared = OFA(scales=(0.5, 1.0), **TINY), Images(), ElasticWeights()
    largest = space.build(read(space, 5, 3, 2).blueprint, task)
    shared.adopt(largest)
    whole = {key: tuple(tensor.shape) for key, tensor in shared.tensors.items()}
    rng = random.Random(0)
    for architecture in (read(space, 3, 2, 1, 0.5), *(space.sample(rng) for _ in range(8))):
        assert shared.adopt(space.build(architecture.blueprint, task)) == []  # nothing of their own
    assert {key: tuple(tensor.shape) for key, tensor in shared.tensors.items()} == whole
    small = space.build(read(space, 3, 2, 1).blueprint, task)
    shared.adopt(small)
    depthwise = small[1].stages[1][0].branch[1][0].weight
    middle = largest[1].stages[1][0].branch[1][0].weight[: len(depthwise), :, 1:4, 1:4]
    assert depthwise.shape[-1] == 3
    assert depthwise.data_ptr() == middle.data_ptr()


def test_an_elastic_supernet_trains_and_judges_it():
    from automl import Candidate, Trial

    space, task = OFA(**TINY), Synthetic(count=80, batch_size=8)
    task.prepare(0)
    evaluator = Supernet(accelerator="cpu", elastic=True, affine=True, scored=8, recalibrate=1)
    evaluator.start(space, task)
    reports = list(evaluator.evaluate(Trial(0, Candidate(space.sample(random.Random(0))), 0)))
    count = len(evaluator._engine.shared.tensors)
    reports += list(evaluator.evaluate(Trial(1, Candidate(read(space, 3, 2, 1)), 1)))
    assert len(evaluator._engine.shared.tensors) == count  # a shallower network has none of its own
    assert all(0 <= report.metrics["accuracy"] <= 1 for report in reports)


def test_what_cannot_be_built_is_refused():
    with pytest.raises(BadInput, match=r"space\.kernels has 4, and only odd kernels have a middle"):
        OFA(kernels=(3, 4))
    with pytest.raises(BadInput, match=r"at least 7 x 7 pixels, and these are 6 x 9: give task.size=7 or larger"):
        OFA(scales=(0.5, 1.0)).check(Images((1, 6, 9)))
    with pytest.raises(BadInput, match=r"at least 4 x 4 pixels, and these are 3 x 8: give task\.size=4$"):
        OFA().check(Images((1, 3, 8)))
    with pytest.raises(BadInput, match=r"space\.scales has 0\.95 and 1\.0, which both make 8 x 8 of images of 8 x 8"):
        OFA(scales=(0.95, 1.0)).check(Images())
    with pytest.raises(BadInput, match="a network of Once-for-all has 20 kernels, as many expansions and 5 depths"):
        OFA().from_lists([3] * 19, [3] * 20, [2] * 5)
    with pytest.raises(BadInput, match=r"'unit0\.layer0\.kernel' is 9"):
        OFA().from_lists([9] * 20, [3] * 20, [2] * 5)

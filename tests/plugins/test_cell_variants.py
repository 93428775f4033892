import random

import pytest
import torch

from automl import BadInput
from automl_spaces.amoebanet import AmoebaNet
from automl_spaces.cells import Block, Cells
from automl_spaces.enas_micro import ENASMicro
from automl_spaces.genotypes import GENOTYPES
from automl_spaces.nao import NAO
from automl_spaces.nasnet import NASNet
from automl_spaces.operations import OPERATIONS
from automl_spaces.pnas import PNAS


class Cifar:
    input = (3, 32, 32)
    outputs = 10


def test_the_sizes_are_the_papers_ordered_encodings():
    assert AmoebaNet(reductions=0).size() == 556_627_761_561_600
    assert f"{AmoebaNet().size():.1e}" == "3.1e+29"
    assert ENASMicro(reductions=0).size() == 10**2 * 15**2 * 20**2 * 25**2 * 30**2 == 5_062_500_000_000
    assert f"{ENASMicro().size():.2e}" == "2.56e+25"
    assert NAO(blocks=1, reductions=0).size() == 4 * 19**2
    levels = [PNAS(blocks=level, least=level).size() for level in range(1, 6)]
    grown = [later // earlier for earlier, later in zip([1, *levels], levels, strict=False)]
    assert grown == [256, 576, 1024, 1600, 2304]
    assert levels[-1] == AmoebaNet(reductions=0).size()
    assert PNAS().size() == sum(levels)


def test_a_first_block_has_136_different_cells():
    space = PNAS(blocks=1)
    everything = list(space.enumerate())
    assert len(everything) == 256
    assert len({space.canonical(architecture.blueprint) for architecture in everything}) == 136


def test_the_one_cell_of_pnas_is_its_reduction_cell_too():
    space = PNAS()
    blueprint = space.sample(random.Random(0)).blueprint
    assert blueprint.normal is blueprint.reduce
    assert PNAS(reductions=0).sample(random.Random(0)).blueprint.reduce is None
    assert set(space.graph(blueprint)) == {"cell"}


def test_a_cell_of_pnas_is_expanded_by_a_block():
    space = PNAS(blocks=3, operations=("sep3x3", "identity"))
    first = {"cell.b0.in0": 0, "cell.b0.in1": 1, "cell.b0.op0": "sep3x3", "cell.b0.op1": "identity"}
    parent = space.read({"cell.blocks": 1, **first})
    children = list(space.enumerate({**parent.values, "cell.blocks": 2}))
    assert len(children) == 3**2 * 2**2
    assert {child.blueprint.normal[0] for child in children} == {parent.blueprint.normal[0]}
    assert {len(child.blueprint.normal) for child in children} == {2}


def test_fewest_blocks_above_the_most_are_refused():
    with pytest.raises(BadInput, match=r"space\.least=4 is more than the space\.blocks=3 .*: give at most 3"):
        PNAS(blocks=3, least=4)


@pytest.mark.parametrize(
    ("space", "name"),
    [
        (AmoebaNet(), "amoebanet_a"),
        (AmoebaNet(), "amoebanet_c"),
        (ENASMicro(), "enas"),
        (ENASMicro(), "naonet_ws"),
        (NAO(), "naonet"),
        (PNAS(), "pnasnet_5"),
    ],
)
def test_published_cells_are_architectures_of_the_space_they_were_found_in(space, name):
    architecture = space.published(name)
    assert space.read(architecture.to_json()) == architecture
    cells = GENOTYPES[name].cells()
    assert space.canonical(architecture.blueprint) == space.canonical(cells)


@pytest.mark.parametrize(
    ("space", "name", "count"),
    [(ENASMicro, "naonet_ws", 2_466_252), (ENASMicro, "enas", 3_894_372), (NAO, "naonet", None)],
)
def test_what_the_releases_build_is_built_of_the_decisions(space, name, count):
    made = space(cells=5, channels=36)
    with torch.device("meta"):
        network = made.build(made.published(name).blueprint, Cifar())
        other = NASNet(genotype=name, cells=5, channels=36)
        given = other.build(other.sample(random.Random(0)).blueprint, Cifar())
    shapes = [(key, tensor.shape) for key, tensor in network.named_parameters()]
    assert shapes == [(key, tensor.shape) for key, tensor in given.named_parameters()]
    assert count is None or sum(shape.numel() for _, shape in shapes) == count


def test_published_cells_of_another_space_are_refused():
    with pytest.raises(BadInput, match=r"decision 'normal.b0.op0' is 'conv1x1'"):
        AmoebaNet().published("amoebanet_b")
    with pytest.raises(BadInput, match="genotype enas has two cells"):
        PNAS().published("enas")
    with pytest.raises(BadInput, match=r"give space\.blocks=5"):
        ENASMicro(blocks=3).published("enas")


def test_the_key_knows_swapped_inputs_and_other_orders_of_blocks():
    a, b = OPERATIONS["sep3x3"], OPERATIONS["max3x3"]
    space = AmoebaNet()
    told = [
        (Block(0, 1, a, b), Block(1, 1, a, a), Block(2, 3, b, a)),
        (Block(1, 0, b, a), Block(1, 1, a, a), Block(3, 2, a, b)),
        (Block(1, 1, a, a), Block(0, 1, a, b), Block(3, 2, b, a)),
    ]
    other = (Block(0, 1, a, b), Block(1, 1, a, a), Block(2, 3, a, b))
    assert len({space.canonical(Cells(cell, other)) for cell in told}) == 1
    assert space.canonical(Cells(told[0], other)) != space.canonical(Cells(other, told[0]))


def test_minimum_pooling_is_the_least_of_each_window():
    pool = OPERATIONS["min2x2"](1, 1, 2)
    images = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert pool(images).flatten().tolist() == [0, 2, 8, 10]
    odd = torch.arange(9.0).reshape(1, 1, 3, 3)
    assert pool(odd).flatten().tolist() == [0, 2, 6, 8]

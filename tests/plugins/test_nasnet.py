import dataclasses
import json
import random
from itertools import permutations
from pathlib import Path

import pytest
import torch
import yaml
from spaces_contract import printed

from automl import BadInput
from automl.testing import check_space
from automl_networks.drop_path import ScheduledDropPath
from automl_spaces.cells import Block, canonical
from automl_spaces.nasnet import NASNet
from automl_spaces.operations import NASNET_OPERATIONS, OPERATIONS

ROOT = Path(__file__).parents[2]
A, B, C = (OPERATIONS[name] for name in ("sep3x3", "max3x3", "identity"))


@dataclasses.dataclass
class Images:
    """All that a space may use of a task."""

    input: tuple[int, int, int] = (1, 8, 8)
    outputs: int = 10


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def network(space, task=None, seed=0):
    return space.build(space.sample(random.Random(seed)).blueprint, task or Images())


# decisions


def test_the_contract_of_spaces_holds():
    check_space(NASNet(), Images(), samples=10)
    check_space(NASNet(blocks=2, reductions=1), Images(), samples=20)


def test_the_decisions_are_those_of_the_paper_in_its_order():
    names = list(NASNet().sample(random.Random(0)).values)
    assert names == [
        f"{cell}.b{block}.{part}"
        for cell in ("normal", "reduce")
        for block in range(5)
        for part in ("in0", "in1", "op0", "op1", "combine")
    ]


def test_no_reduction_cell_is_decided_where_there_is_none():
    names = NASNet(reductions=0).sample(random.Random(0)).values
    assert not [name for name in names if name.startswith("reduce")]
    assert network(NASNet(reductions=0))(torch.randn(2, 1, 8, 8)).shape == (2, 10)


def test_ten_thousand_samples_are_legal_and_different():
    space, rng = NASNet(), random.Random(0)
    architectures = [space.sample(rng) for _ in range(10_000)]
    assert len(set(architectures)) == 10_000
    for architecture in architectures:
        for cell in architecture.blueprint:
            assert all(max(block.in0, block.in1) < index + 2 for index, block in enumerate(cell))


def test_the_size_is_the_formula_of_the_paper():
    cell = 1
    for block in range(1, 6):
        cell *= (block + 1) ** 2 * 13**2 * 2
    assert NASNet(reductions=0).size() == cell == 2_286_906_949_584_691_200
    assert NASNet().size() == cell**2
    assert NASNet(blocks=1, reductions=0, operations=("sep3x3",)).size() == 2**2 * 2
    space = NASNet(blocks=1, reductions=1, operations=("sep3x3", "identity"))
    assert space.size() == len(set(space.enumerate())) == (2**2 * 2**2 * 2) ** 2


def test_mutation_changes_one_decision_and_reaches_all_of_a_small_space():
    space = NASNet(blocks=2, reductions=0, operations=("sep3x3", "identity"))
    everything = list(space.enumerate())
    assert len(everything) == space.size() == 4 * 4 * 2 * 9 * 4 * 2
    neighbours = {}
    for architecture in everything:
        reached = set()
        for name, domain in architecture.domains.items():
            for option in domain:
                if option != architecture.values[name]:
                    mutant = tuple({**architecture.values, name: option}.items())
                    reached.add(mutant)
        neighbours[tuple(architecture.values.items())] = reached
    rng = random.Random(0)
    for architecture in everything[::40]:
        for _ in range(40):
            mutant = tuple(space.mutate(architecture, rng).values.items())
            assert mutant in neighbours[tuple(architecture.values.items())]
        drawn = {tuple(space.mutate(architecture, rng).values.items()) for _ in range(400)}
        assert drawn == neighbours[tuple(architecture.values.items())]
    start = next(iter(neighbours))
    reached, frontier = {start}, [start]
    while frontier:
        for mutant in neighbours[frontier.pop()]:
            if mutant not in reached:
                reached.add(mutant)
                frontier.append(mutant)
    assert reached == set(neighbours)


def test_an_unknown_operation_is_answered_with_the_nearest():
    with pytest.raises(BadInput, match=r"'sep3x4', which is no operation \(did you mean 'sep3x3'\?\)"):
        NASNet(operations=("sep3x4",))
    with pytest.raises(BadInput, match=r"space\.operations"):
        NASNet(operations=())


# one key for all tellings of one network


def relabelled(cell, order):
    """Return the blocks in another order, which must tell a block after those it reads."""
    places = {0: 0, 1: 1, **{old + 2: new + 2 for new, old in enumerate(order)}}
    return [cell[old]._replace(in0=places[cell[old].in0], in1=places[cell[old].in1]) for old in order]


def is_legal(cell):
    return all(max(block.in0, block.in1) < index + 2 for index, block in enumerate(cell))


def test_the_key_is_the_same_for_all_orders_of_the_blocks_and_of_their_sides():
    space, rng = NASNet(operations=("sep3x3", "max3x3"), reductions=0), random.Random(0)
    told = 0
    for _ in range(40):
        cell = space.sample(rng).blueprint.normal
        key = canonical(cell)
        for order in permutations(range(5)):
            other = relabelled(cell, order)
            if is_legal(other):
                told += 1
                swapped = [Block(b.in1, b.in0, b.op1, b.op0, b.combine) if rng.random() < 0.5 else b for b in other]
                assert canonical(swapped) == key
    assert told > 400


def test_the_key_differs_for_different_networks():
    space = NASNet(blocks=2, reductions=0, operations=("sep3x3", "identity"))
    keys = {}
    for architecture in space.enumerate():
        keys.setdefault(space.canonical(architecture.blueprint), []).append(architecture.blueprint.normal)
    for cells in keys.values():
        tellings = set()
        for cell in cells[:1]:
            for order in permutations(range(2)):
                other = relabelled(cell, order)
                if is_legal(other):
                    for swaps in range(4):
                        tellings.add(
                            tuple(
                                Block(b.in1, b.in0, b.op1, b.op0, b.combine) if swaps >> i & 1 else b
                                for i, b in enumerate(other)
                            )
                        )
        assert {tuple(cell) for cell in cells} == tellings


def test_a_block_read_twice_is_not_two_blocks_that_do_the_same():
    twins = [Block(0, 1, A, B), Block(0, 1, A, B)]
    shared = [*twins, Block(2, 2, A, A), Block(3, 3, A, A)]
    separate = [*twins, Block(2, 3, A, A), Block(2, 3, A, A)]
    one = [*twins, Block(2, 2, A, A), Block(2, 2, A, A)]
    assert len({canonical(cell) for cell in (shared, separate, one)}) == 3


def test_the_key_tells_inputs_combinations_and_cells_apart():
    cells = [
        [Block(0, 1, A, B)],
        [Block(0, 1, B, A)],
        [Block(0, 0, A, B)],
        [Block(0, 1, A, B, "concat")],
        [Block(0, 1, A, C)],
    ]
    assert len({canonical(cell) for cell in cells}) == len(cells)
    space = NASNet(blocks=1)
    architecture = space.sample(random.Random(1))
    swapped = architecture.blueprint._replace(
        normal=architecture.blueprint.reduce, reduce=architecture.blueprint.normal
    )
    assert space.canonical(architecture.blueprint) != space.canonical(swapped)


def test_the_key_is_the_same_in_every_process():
    program = (
        "import random, sys\n"
        "from automl_spaces.nasnet import NASNet\n"
        "space, rng = NASNet(), random.Random(0)\n"
        "print([space.canonical(space.sample(rng).blueprint) for _ in range(20)])\n"
        "assert 'torch' not in sys.modules\n"
    )
    assert printed(program)


# networks


def test_random_networks_train():
    space, rng = NASNet(channels=2, drop_path=0.3), random.Random(0)
    for number in range(30):
        made = space.build(space.sample(rng).blueprint, Images((1 + number % 3, 8, 8), 3))
        for module in made.modules():
            if isinstance(module, ScheduledDropPath):
                module.on_progress(1.0)
        logits = made(torch.randn(2, 1 + number % 3, 8, 8))
        assert logits.shape == (2, 3)
        logits.square().sum().backward()
        assert not [name for name, parameter in made.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize("seed", range(6))
def test_a_network_answers_alike_in_both_layouts(seed):
    made = network(NASNet(auxiliary=True), seed=seed)
    images = torch.randn(4, 1, 8, 8)
    for mode in (False, True):
        made.train(mode)
        if mode:  # statistics of four images magnify what rounding differs by
            made, images = made.double(), images.double()
        answers = []
        for layout in (torch.contiguous_format, torch.channels_last):
            made.to(memory_format=layout)
            out = made(images.to(memory_format=layout))
            answers.append(out if mode else (out,))
        for one, other in zip(*answers, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_a_network_runs_in_bfloat16_and_on_a_single_image():
    made = network(NASNet(drop_path=0.2))
    with torch.autocast("cpu", torch.bfloat16):
        made(torch.randn(1, 1, 8, 8)).float().sum().backward()
    assert made.eval()(torch.randn(1, 1, 8, 8)).shape == (1, 10)


def test_drop_path_leaves_shortcuts_alone_and_grows_with_depth():
    made = network(NASNet(drop_path=0.4, operations=("identity", "skip", "sep3x3")))
    spared = 0
    for number, cell in enumerate(made.cells, start=1):
        for operation, drop in zip(cell.operations, cell.drops, strict=True):
            if operation.automl_choice[1] == "sep3x3":
                drop.on_progress(1.0)
                assert drop.probability == pytest.approx(0.4 * number / 5)
            else:
                assert isinstance(drop, torch.nn.Identity)
                spared += 1
    assert 0 < spared < 50
    assert not [module for module in network(NASNet()).modules() if isinstance(module, ScheduledDropPath)]


def test_every_operation_knows_the_decision_that_chose_it():
    architecture = NASNet().sample(random.Random(0))
    made = NASNet().build(architecture.blueprint, Images())
    chosen = {module.automl_choice for cell in made.cells for module in cell.operations}
    decided = {(name, value.name) for name, value in architecture.values.items() if ".op" in name}
    assert chosen == decided


@pytest.mark.parametrize("reductions", [1, 2, 3])
@pytest.mark.parametrize("side", [8, 28, 32, 224])
def test_the_auxiliary_head_trains_on_any_size(side, reductions):
    space = NASNet(blocks=2, channels=2, reductions=reductions, auxiliary=True)
    made = network(space, Images((3, side, side), 4))
    logits, auxiliary = made(torch.randn(2, 3, side, side))
    assert logits.shape == auxiliary.shape == (2, 4)
    (logits.sum() + auxiliary.square().sum()).backward()
    assert all(parameter.grad is not None for parameter in made.auxiliary_head.parameters())


def test_the_auxiliary_head_can_be_taken_away():
    made = network(NASNet(auxiliary=True))
    without = network(NASNet())
    assert [name for name, child in made.named_children() if getattr(child, "training_only", False)] == [
        "auxiliary_head"
    ]
    made.auxiliary_head = None
    assert made.state_dict().keys() == without.state_dict().keys()
    assert sum(p.numel() for p in made.parameters()) == sum(p.numel() for p in without.parameters())
    images = torch.randn(2, 1, 8, 8)
    assert made(images).shape == made.eval()(images).shape == (2, 10)


def test_equal_seeds_build_equal_networks():
    built = []
    for _ in range(2):
        torch.manual_seed(7)
        built.append(network(NASNet()).state_dict())
    assert all(torch.equal(one, other) for one, other in zip(*(b.values() for b in built), strict=True))


@pytest.mark.parametrize(
    ("fields", "least"), [({}, 8), ({"reductions": 3}, 8), ({"reductions": 4}, 16), ({"skeleton": "imagenet"}, 32)]
)
def test_images_too_small_are_refused_with_the_least_size_that_works(fields, least):
    space = NASNet(**fields)
    made = network(space, Images((1, least, least)))
    assert made(torch.randn(2, 1, least, least)).shape == (2, 10)
    with pytest.raises(BadInput, match=f"give task.size={least}"):
        space.check(Images((1, least - 1, least)))


def test_too_small_an_image_is_told_in_one_sentence():
    with pytest.raises(BadInput) as error:
        NASNet().check(Images((1, 7, 7)))
    assert str(error.value) == (
        "space nasnet with 2 reductions needs images of at least 8 x 8 pixels, and these are 7 x 7: give task.size=8"
    )


def test_the_graph_has_every_block_and_what_nobody_reads():
    space = NASNet()
    architecture = space.sample(random.Random(0))
    graph = space.graph(architecture.blueprint)
    assert list(graph) == ["normal", "reduce"]
    for name, edges in graph.items():
        cell = getattr(architecture.blueprint, name)
        assert len([edge for edge in edges if edge[1] != "output"]) == 10
        read = {source for source, target, _ in edges if target != "output"}
        put_out = {source for source, target, _ in edges if target == "output"}
        assert read | put_out == {"h[k-1]", "h[k-2]", "0", "1", "2", "3", "4"}
        assert not read & put_out
        assert edges[0] == (("h[k-1]", "h[k-2]")[cell[0].in0], "0", cell[0].op0.name)
    json.dumps(graph)


def test_the_recipe_lists_every_field_with_its_default():
    recipe = yaml.safe_load((ROOT / "conf" / "space" / "nasnet.yaml").read_text())
    assert recipe.pop("name") == "nasnet"
    final = recipe.pop("final")
    fields = {field.name: getattr(NASNet(), field.name) for field in dataclasses.fields(NASNet)}
    assert list(recipe) == list(fields)
    assert {**recipe, "operations": tuple(recipe["operations"])} == fields
    assert dataclasses.replace(NASNet(), **final).channels == 16
    assert fields["operations"] == NASNET_OPERATIONS

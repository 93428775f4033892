import csv
import gzip

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from automl import BadInput
from automl_spaces.nasbench_macro import NASBenchMacro


class Cifar:
    input = (3, 32, 32)
    outputs = 10


@pytest.fixture(scope="module")
def rows(data):
    with gzip.open(data / "nasbench_macro" / "nasbench_macro_cifar10.csv.gz", "rt") as file:
        return {row["arch"]: (int(row["params"]), int(row["flops"])) for row in csv.DictReader(file)}


def counted(text):
    space = NASBenchMacro()
    with torch.device("meta"):
        network = space.build(space.from_arch(text).blueprint, Cifar()).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, *Cifar.input))
    return sum(tensor.numel() for tensor in network.parameters()), counter.get_total_flops() // 2


def test_networks_have_the_parameters_and_multiply_adds_of_the_benchmark(rows):
    assert len(rows) == NASBenchMacro().size() == 6_561
    for text in ("00000000", "22212202", *list(rows)[5::900]):
        assert counted(text) == rows[text]


def test_all_networks_have_what_their_layers_add_up_to(rows):
    """Each layer costs what it costs alone: of 3 x 8 really built layers all 6,561 rows follow."""
    nothing = counted("0" * 8)
    costs = [
        [
            [one - other for one, other in zip(counted("0" * layer + kind + "0" * (7 - layer)), nothing, strict=True)]
            for kind in "012"
        ]
        for layer in range(8)
    ]
    for text, expected in rows.items():
        parts = [nothing, *(costs[layer][int(kind)] for layer, kind in enumerate(text))]
        assert tuple(map(sum, zip(*parts, strict=True))) == expected


def test_identities_have_no_place_but_where_they_halve_the_size():
    space = NASBenchMacro()
    keys = {}
    for architecture in space.enumerate():
        keys.setdefault(space.canonical(architecture.blueprint), set()).add(space.arch(architecture.blueprint))
    assert len(keys) == (3 * 3) * (3 * 7) * (3 * 7) == 3_969
    assert any({"11101111", "11110111"} <= told for told in keys.values())  # the fourth layer, and the fifth
    assert not any({"11011111", "11101111"} <= told for told in keys.values())  # the third begins a stage


def test_the_benchmarks_notation_is_read_and_written():
    space = NASBenchMacro()
    assert space.arch(space.from_arch("01210021").blueprint) == "01210021"
    for wrong in ("0121002", "01210023", "0121002x"):
        with pytest.raises(BadInput, match="write eight digits"):
            space.from_arch(wrong)

"""The settings of one space that several parts make, and the parts of these again."""

import pytest

from automl.joining import Parts, apart, joined, parts

SPACE = {"name": "nasnet", "cells": 2}
PRUNING = {"name": "pruning", "keep": 0.5}
RANGES = {"name": "hyperparameters", "crop": [0, 1]}


@pytest.mark.parametrize("compressor", [None, PRUNING])
@pytest.mark.parametrize("ranges", [None, RANGES])
def test_what_is_joined_comes_apart_again(compressor, ranges):
    one = Parts(SPACE, compressor, ranges)
    assert apart(joined(one)) == one


def test_training_is_decided_after_what_makes_networks_smaller():
    made = joined(Parts(SPACE, PRUNING, RANGES))
    assert made["name"] == "hyperparameters"
    assert made["network"] == {"name": "compressed", "space": SPACE, "compressor": PRUNING}


def test_the_final_training_has_what_the_space_says_of_it():
    values = {"space": {**SPACE, "final": {"cells": 6}, "hyperparameters": RANGES}, "compressor": PRUNING}
    assert parts(values) == Parts(SPACE, PRUNING, RANGES)
    assert parts(values, final=True) == Parts({"name": "nasnet", "cells": 6}, PRUNING, RANGES)
    assert parts({"space": {**SPACE, "final": None}}, final=True) == Parts(SPACE)


@pytest.mark.parametrize(
    "strange",
    [
        {"name": "compressed", "space": 3, "compressor": []},
        {"name": "hyperparameters", "network": None},
        {"name": "hyperparameters"},
        {"name": ["compressed"], "space": {}, "compressor": {}},
        {"name": "run", "network": {"name": "x"}},
    ],
)
def test_what_a_stranger_wrote_stays_as_it_is(strange):
    assert apart(strange) == Parts(strange)


def test_a_name_alone_is_a_space():
    assert apart("nasnet") == Parts({"name": "nasnet"})
    assert apart(None) == Parts({"name": "None"})

"""The contracts that automl's own components are tested by, and what is particular about these."""

import pytest
from automl_hello.space import Hello
from automl_hello.strategy import HillClimbing
from automl_hello.tracker import Diary

from automl.testing import ToyTask, check_component, check_space, check_strategy, check_tracker


@pytest.mark.parametrize("kind", ["space", "strategy", "tracker"])
def test_it_is_installed_with_its_settings(kind):
    check_component(kind, "hello")


def test_the_space_keeps_its_contract():
    task = ToyTask()
    task.prepare(0)
    check_space(Hello(), task)


def test_the_strategy_keeps_its_contract():
    check_strategy(HillClimbing)


def test_the_tracker_keeps_its_contract_and_writes_a_diary(tmp_path):
    check_tracker(Diary, folder=tmp_path)
    lines = (tmp_path / "hello.txt").read_text().splitlines()
    assert lines[0] == "Hello, 0 trials are done"
    assert "trial 1: ValueError: this trial fails" in lines
    assert lines[-1] == "Goodbye"

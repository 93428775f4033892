"""What TensorBoard is given, read back from its event files."""

from __future__ import annotations

import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from automl import BadInput
from automl_trackers.tensorboard_events import TensorBoard
from followed import Epochs, study

SUMMARY = {"retrain": {"curve": [{"fidelity": 0.5, "accuracy": 0.4}, {"fidelity": 1.0, "accuracy": 0.6}]}}


def read(folder):
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    return events


def scalars(folder, tag):
    return [(event.step, round(event.value, 4)) for event in read(folder).Scalars(tag)]


def test_trials_epochs_and_hyperparameters_are_read_back(tmp_path):
    done = study(tmp_path / "run", {"tensorboard": TensorBoard()}, summary=SUMMARY)
    folder = tmp_path / "run" / "tensorboard"
    assert scalars(folder / "search", "accuracy") == [(0, 0.2), (2, 2.1), (3, 3.2)]
    assert scalars(folder / "search", "search/failed") == [(0, 0), (1, 1), (2, 1), (3, 0)]
    assert scalars(folder / "trial-3", "accuracy") == [(1, 3.1), (2, 3.2)]
    assert scalars(folder / "retrain", "accuracy") == [(500, 0.4), (1000, 0.6)]
    tags = {"a/b": 1, "a.b": 2, "a_b": 3, "_step": 4, "naïve": 5}  # a space becomes _
    assert {tag: scalars(folder / "trial-0", tag) for tag in tags} == {tag: [(1, v), (2, v)] for tag, v in tags.items()}
    for trial in done.trials:
        data = read(folder / f"trial-{trial.number}").PluginTagToContent("hparams")["_hparams_/session_start_info"]
        started = plugin_data_pb2.HParamsPluginData.FromString(data).session_start_info.hparams
        values = trial.architecture.to_json()
        assert started["step"].number_value == values["step"]
        assert started["pair"].string_value == str(values["pair"])
        assert started["state"].string_value == trial.state
        none = values["none"]  # None is written as JSON, True as 1
        assert (started["none"].string_value, started["none"].number_value) == (
            ("", 1.0) if none is True else (none or "null", 0.0)
        )
    texts = [
        event.tensor_proto.string_val[0] for event in read(folder / "search").Tensors("search/reason/text_summary")
    ]
    assert texts == [b"accuracy was nan", b"no room"]


def test_a_study_that_goes_on_adds_what_is_lacking_and_doubles_nothing(tmp_path):
    study(tmp_path / "run", {}, 1)
    for trials in (2, 2, 4):
        study(tmp_path / "run", {"tensorboard": TensorBoard(curves=2)}, trials, summary=SUMMARY)
    folder = tmp_path / "run" / "tensorboard"
    assert sorted(step for step, _ in scalars(folder / "search", "search/seconds")) == [0, 1, 2, 3]
    assert scalars(folder / "trial-0", "accuracy") == [(1, 0.1), (2, 0.2)]
    assert scalars(folder / "retrain", "accuracy") == [(500, 0.4), (1000, 0.6)]
    assert sorted(path.name for path in folder.iterdir()) == ["retrain", "search", "trial-0", "trial-1"]


def test_two_names_that_come_to_one_tag_are_told_apart(tmp_path):
    odd = {"a b": 1.0, "a_b": 2.0, "/": 3.0}
    study(tmp_path / "run", {"tensorboard": TensorBoard()}, 1, evaluator=Epochs(odd=odd))
    folder = tmp_path / "run" / "tensorboard" / "trial-0"
    assert [scalars(folder, tag)[0][1] for tag in ("a_b", "a_b_2", "_")] == [1, 2, 3]


def test_its_absence_is_refused_with_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(BadInput, match=r"pip install 'automl-lightweight\[tensorboard\]'$"):
        TensorBoard().check()

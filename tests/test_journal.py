from __future__ import annotations

import json
import logging
import os
import shutil
import zlib
from itertools import pairwise

import pytest

from automl import Objective, TrialFailed, files
from automl.errors import BadInput, JournalError
from automl.journal import SCHEMA, Journal, read
from automl.runs import Run
from automl.study import Study
from automl.testing import NO_TASK, ConditionalSpace, Scripted, story
from automl_strategies.evolution import Evolution

SCRIPT = {
    0: {"accuracy": 0.25, "loss": 1.5},
    2: None,
    5: TrialFailed("die Größe „0“ geht nicht"),
}


def study(path, trials=6, heading=None, script=SCRIPT):
    return Study(
        ConditionalSpace(),
        Evolution(population=3, tournament=2),
        Scripted(script),
        NO_TASK,
        (Objective("accuracy"),),
        trials=trials,
        journal=Journal(path, {"space": "toy", "seed": 0} if heading is None else heading),
    )


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    path = tmp_path_factory.mktemp("unbroken") / "journal.jsonl"
    study(path).run()
    return path


def sealed(record):
    """Return a record as a line with a right checksum."""
    body = json.dumps({key: value for key, value in record.items() if key != "crc"}, ensure_ascii=False)[:-1].encode()
    return b'%b,"crc":"%08x"}\n' % (body, zlib.crc32(body))


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_the_journal_is_strict_json_that_tells_every_event(unbroken):
    def refuse(constant):
        raise AssertionError(constant)

    lines = unbroken.read_text().splitlines()
    records = [json.loads(line, parse_constant=refuse) for line in lines]
    assert [record["line"] for record in records] == list(range(len(lines)))
    assert records[0]["event"] == "study"
    assert records[0]["schema"] == SCHEMA
    assert records[0]["study"] == {"space": "toy", "seed": 0}
    assert [record["event"] for record in records if record.get("trial") == 0] == ["started", "reported", "finished"]
    assert [record["event"] for record in records if record.get("trial") == 2] == ["started", "failed"]
    assert records[-1]["reason"] == "die Größe „0“ geht nicht"
    assert all(abs(record["time"] - records[-1]["time"]) < 600 for record in records)
    for line in unbroken.read_bytes().splitlines():
        assert int(line[-10:-2], 16) == zlib.crc32(line[: line.rindex(b',"crc"')])


def test_a_torn_last_line_is_dropped_at_every_byte(unbroken, tmp_path, caplog):
    whole = unbroken.read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    told = story(unbroken)
    path = tmp_path / "journal.jsonl"
    for cut in range(start, len(whole) + 1):
        path.write_bytes(whole[:cut])
        caplog.clear()
        study(path).run()
        assert story(path) == told, f"cut after byte {cut - start} of the last line"
        assert len(warnings(caplog)) == (start < cut < len(whole))
        assert all(json.loads(line) for line in path.read_bytes().splitlines())


@pytest.mark.parametrize("tail", ["half_record", "half_character", "nul", "blank"])
def test_a_tail_that_is_no_line_is_dropped(unbroken, tmp_path, caplog, cases, tail):
    rest = (cases / "journals" / f"tail_{tail}.bin").read_bytes()
    longer, path = tmp_path / "longer.jsonl", tmp_path / "journal.jsonl"
    study(longer, trials=9).run()
    path.write_bytes(unbroken.read_bytes() + rest)
    study(path, trials=9).run()
    assert story(path) == story(longer)
    (warning,) = warnings(caplog)
    assert f"({len(rest)} bytes)" in warning
    assert str(path) in warning


def test_a_heading_that_was_torn_is_written_again(unbroken, tmp_path, caplog):
    path = tmp_path / "journal.jsonl"
    for cut in (0, 1, 40):
        path.write_bytes(unbroken.read_bytes()[:cut])
        study(path).run()
        assert story(path) == story(unbroken)


def damage(kind, lines):
    record = json.loads(lines[3])
    match kind:
        case "no JSON":
            return [*lines[:3], lines[3].replace(b"{", b"[", 1), *lines[4:]]
        case "one byte":
            return [*lines[:3], lines[3][:30] + bytes([lines[3][30] ^ 1]) + lines[3][31:], *lines[4:]]
        case "a list":
            return [*lines[:3], b"[1, 2]\n", *lines[4:]]
        case "a sealed list":
            return [*lines[:3], b'[1,"crc":"%08x"}\n' % zlib.crc32(b"[1"), *lines[4:]]
        case "no trial":
            del record["trial"]
            return [*lines[:3], sealed(record), *lines[4:]]
        case "no event":
            del record["event"]
            return [*lines[:3], sealed(record), *lines[4:]]
        case "another trial":
            return [*lines[:3], sealed({**record, "trial": 99}), *lines[4:]]
        case "deleted":
            return [*lines[:3], *lines[4:]]
        case "swapped":
            return [*lines[:3], lines[4], lines[3], *lines[5:]]
    raise AssertionError(kind)


@pytest.mark.parametrize(
    "kind",
    ["no JSON", "one byte", "a list", "a sealed list", "no trial", "no event", "another trial", "deleted", "swapped"],
)
def test_damage_in_the_middle_is_refused_and_left_as_it_was(unbroken, tmp_path, kind):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(damage(kind, unbroken.read_bytes().splitlines(keepends=True))))
    before = path.read_bytes()
    with pytest.raises(JournalError, match="line 4") as refused:
        study(path).run()
    assert str(path) in str(refused.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"a file\nof something else\n", b"\n", b"{}\n", b"\x00" * 512 + b"\n"])
def test_a_file_that_is_no_journal_is_refused_and_left_as_it_was(tmp_path, content):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(content)
    with pytest.raises(JournalError, match="line 1"):
        study(path).run()
    assert path.read_bytes() == content


def test_another_schema_is_refused(unbroken, tmp_path):
    path = tmp_path / "journal.jsonl"
    first, rest = unbroken.read_bytes().split(b"\n", 1)
    path.write_bytes(sealed({**json.loads(first), "schema": SCHEMA + 1}) + rest)
    with pytest.raises(JournalError, match=f"has schema {SCHEMA + 1}, this version reads {SCHEMA}"):
        study(path).run()


@pytest.mark.parametrize(
    ("heading", "word"),
    [
        ({"space": "toy", "seed": 1}, "its seed is 0, asked for is 1"),
        ({"space": "other", "seed": 0}, "its space is 'toy', asked for is 'other'"),
        ({"space": "toy"}, "its seed is 0, asked for is None"),
    ],
)
def test_another_study_is_refused_naming_what_differs(unbroken, tmp_path, heading, word):
    path = tmp_path / "journal.jsonl"
    shutil.copy(unbroken, path)
    before = path.read_bytes()
    with pytest.raises(JournalError, match=word):
        study(path, heading=heading).run()
    assert path.read_bytes() == before


def test_another_answer_is_refused_naming_the_trial_and_both(unbroken, tmp_path):
    path = tmp_path / "journal.jsonl"
    lines = unbroken.read_bytes().splitlines(keepends=True)
    number, record = next(
        (number, record)
        for number, record in enumerate(map(json.loads, lines))
        if record["event"] == "started" and record["trial"] == 3
    )
    width = record["decisions"]["width"]
    record["decisions"]["width"] = width % 8 + 1
    lines[number] = sealed(record)
    path.write_bytes(b"".join(lines))
    with pytest.raises(JournalError, match="trial 3") as refused:
        study(path).run()
    assert f"the journal has width={width % 8 + 1}, the strategy now asks for width={width}" in str(refused.value)
    assert path.read_bytes() == b"".join(lines)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_no_number_is_written_that_json_has_not(tmp_path, value):
    journal = Journal(tmp_path / "journal.jsonl", {})
    journal.open()
    with pytest.raises(ValueError, match="JSON"):
        journal.append({"event": "reported", "metrics": {"accuracy": value}})
    journal.close()
    assert len(list(read(journal.path))) == 1


@pytest.mark.parametrize("text", ["\udcff.png", "a\nb\r\x00\u2028", "\U0001f600", '"}', '","crc":"00000000"}'])
def test_any_text_comes_back(tmp_path, text):
    journal = Journal(tmp_path / "journal.jsonl", {})
    journal.open()
    journal.append({"event": "failed", "trial": 0, "seconds": 0.0, "reason": text})
    journal.append({"event": "failed", "trial": 1, "seconds": 0.0, "reason": "next"})
    journal.close()
    assert [record["reason"] for record, _ in journal.events()] == [text, "next"]


def test_each_line_is_one_write_and_syncs_are_rare(unbroken, tmp_path, monkeypatch):
    writes, syncs = [], []
    monkeypatch.setattr(files, "write", lambda descriptor, data: writes.append(data) or os.write(descriptor, data))
    monkeypatch.setattr(files, "sync", lambda descriptor: syncs.append(descriptor))
    path = tmp_path / "journal.jsonl"
    study(path).run()
    assert b"".join(writes) == path.read_bytes()
    assert len(writes) == len(story(unbroken))
    assert all(data.count(b"\n") == 1 and data.endswith(b"\n") for data in writes)
    assert len(syncs) <= 2


def test_a_second_lies_between_two_syncs(tmp_path, monkeypatch):
    clock, syncs = [0.0], []
    monkeypatch.setattr(files.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(files, "sync", lambda descriptor: syncs.append(clock[0]))
    lines = files.Lines(tmp_path / "lines")
    syncs.clear()  # of its folder
    for tick in range(100):
        clock[0] = tick / 10
        lines.append(b"{}\n")
    assert len(syncs) == 9
    assert min(later - earlier for earlier, later in pairwise(syncs)) > 1
    lines.close()
    assert len(syncs) == 10  # and at the end


def test_what_cannot_be_read_is_no_surprise(tmp_path):
    assert list(Journal(tmp_path / "none", {}).events()) == []
    assert issubclass(JournalError, Exception)
    assert not issubclass(JournalError, BadInput)


def test_options_that_are_tuples_are_read_back_as_such(tmp_path):
    (tmp_path / "config.yaml").touch()
    journal = Journal(tmp_path / "journal.jsonl", {})
    journal.open()
    asked = {"ask": 0, "decisions": {"pool": [2, [3, "max"]]}, "fidelity": 1.0, "parent": None}
    journal.append({"event": "started", "trial": 0, **asked})
    journal.append({"event": "failed", "trial": 0, "seconds": 1.0, "clock": 1.0, "reason": "none", "traceback": ""})
    journal.close()
    (trial,) = Run(tmp_path).trials
    assert trial.architecture.values == {"pool": (2, (3, "max"))}
    assert trial.architecture.to_json() == asked["decisions"]

from __future__ import annotations

import ast
import contextlib
import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from faults import Faults

from automl import Objective, TrialFailed, files
from automl.errors import AutoMLError, BadInput, StorageError
from automl.journal import Journal, read
from automl.study import Study
from automl.testing import NO_TASK, ConditionalSpace, Scripted, story
from automl_strategies.evolution import Evolution


def study(path):
    script = {0: {"accuracy": 0.7}, 2: TrialFailed("zu groß")}
    return Study(
        ConditionalSpace(),
        Evolution(population=2, tournament=2),
        Scripted(script),
        NO_TASK,
        (Objective("accuracy"),),
        trials=5,
        journal=Journal(path, {"space": "toy"}),
    )


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT], ids=errno.errorcode.get)
@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("forever", [False, True])
def test_a_disk_that_fails_at_any_call_costs_nothing_that_was_finished(tmp_path, monkeypatch, code, torn, forever):
    unbroken, path = tmp_path / "unbroken.jsonl", tmp_path / "journal.jsonl"
    study(unbroken).run()
    told = story(unbroken)
    for nth in range(1, 1000):
        path.unlink(missing_ok=True)
        faults = Faults(nth, code, torn=torn, forever=forever)
        with faults.installed(monkeypatch):
            if nth % 2:
                monkeypatch.setattr(files.time, "monotonic", iter(range(0, 10_000, 2)).__next__)  # a sync a line
            try:
                study(path).run()
            except StorageError as error:
                assert faults.fired
                assert str(path) in str(error)
                assert "\n" not in str(error)
            else:
                assert not faults.fired
        monkeypatch.undo()
        whole = [record for record, _ in read(path)] if path.exists() else []
        assert [record["line"] for record in whole] == list(range(len(whole)))
        if not torn:
            assert not whole or path.read_bytes().endswith(b"\n")
        study(path).run()
        assert story(path) == told, f"the {nth}th call failed"
        if not faults.fired and nth > 2 * len(told) + 2:
            break
    else:
        raise AssertionError("the faults never ended")


@pytest.mark.parametrize("torn", [False, True])
def test_a_disk_that_fails_while_a_torn_journal_is_resumed_costs_nothing(tmp_path, monkeypatch, torn):
    unbroken, path = tmp_path / "unbroken.jsonl", tmp_path / "journal.jsonl"
    study(unbroken).run()
    half = unbroken.read_bytes()[: unbroken.stat().st_size // 2]
    assert not half.endswith(b"\n")
    for nth in range(1, 100):
        path.write_bytes(half)
        faults = Faults(nth, errno.EIO, torn=torn)
        with faults.installed(monkeypatch), contextlib.suppress(StorageError):
            study(path).run()
        assert path.read_bytes().startswith(half[: half.rindex(b"finished")])
        study(path).run()
        assert story(path) == story(unbroken), f"the {nth}th call failed"
        if not faults.fired:
            break
    assert nth > 5


@pytest.mark.parametrize("torn", [False, True])
def test_a_whole_file_is_never_seen_half(tmp_path, monkeypatch, torn):
    path = tmp_path / "summary.json"
    files.write_json(path, {"old": "ü" * 1000})
    before = path.read_bytes()
    calls = ["write"] if torn else ["create", "write", "sync", "replace", "sync"]
    for nth in range(1, 100):
        faults = Faults(nth, errno.ENOSPC, torn=torn)
        with faults.installed(monkeypatch):
            if nth <= len(calls):
                with pytest.raises(StorageError, match="disk is full"):
                    files.write_json(path, {"new": "ü" * 1000})
                if nth < 5:  # after that it has its place, and the folder is not synced
                    assert path.read_bytes() == before
                assert list(tmp_path.iterdir()) == [path]
                assert json.loads(path.read_text()) in ({"old": "ü" * 1000}, {"new": "ü" * 1000})
            else:
                files.write_json(path, {"new": "ü" * 1000})
                break
    assert not faults.fired
    assert faults.names == calls
    assert json.loads(path.read_text()) == {"new": "ü" * 1000}
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_takes_little_at_a_time_gets_all(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "write", lambda descriptor, data: os.write(descriptor, data[:7]))
    files.write_text(tmp_path / "text", "äöü" * 100)
    assert (tmp_path / "text").read_text() == "äöü" * 100
    monkeypatch.setattr(
        files, "write", lambda descriptor, data: os.write(descriptor, data[:7]) if len(data) > 50 else 0
    )
    with pytest.raises(StorageError, match="disk is full"):
        files.write_text(tmp_path / "text", "other" * 100)
    assert (tmp_path / "text").read_text() == "äöü" * 100


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (errno.ENOSPC, "the disk is full: make room"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "read-only: choose another folder by runs=DIR"),
        (errno.EACCES, "this account may not write there"),
        (errno.EIO, "input/output error"),
        (errno.ELOOP, "check the disk and the folder"),
    ],
    ids=str,
)
def test_a_refusal_says_why_and_what_to_do(tmp_path, monkeypatch, code, word):
    with Faults(1, code).installed(monkeypatch), pytest.raises(StorageError, match=word) as refused:
        files.write_text(tmp_path / "text", "x")
    assert str(tmp_path / "text") in str(refused.value)
    assert refused.value.exit_code == 2
    with pytest.raises(StorageError, match="cannot write"):
        files.write_text(tmp_path / "none" / "text", "x")


@pytest.mark.parametrize("value", [float("nan"), [float("inf")]])
def test_a_json_file_has_no_number_that_json_has_not(tmp_path, value):
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "x.json", value)
    assert list(tmp_path.iterdir()) == []


def test_a_json_file_holds_any_text(tmp_path):
    files.write_json(tmp_path / "x.json", {"reason": "no such file \udcff.png"})
    assert json.loads((tmp_path / "x.json").read_bytes()) == {"reason": "no such file \udcff.png"}


LIMITED = """
import resource, sys
from pathlib import Path
from automl.errors import AutoMLError
sys.path.insert(0, sys.argv[2])
from test_files import study
resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900))
try:
    study(Path(sys.argv[1])).run()
except AutoMLError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def test_a_file_size_limit_is_said_and_resumed_from(tmp_path):
    path, unbroken = tmp_path / "journal.jsonl", tmp_path / "unbroken.jsonl"
    here = os.path.dirname(__file__)  # noqa: PTH120
    words = [sys.executable, "-c", LIMITED, path, here]
    uncounted = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        words, env=uncounted, capture_output=True, text=True, timeout=60
    )  # its file would be too large
    assert done.returncode == 2, done.stderr
    assert "the file would be larger than this account may write: raise the limit" in done.stderr
    assert "Traceback" not in done.stderr
    assert path.read_bytes().endswith(b"\n")
    assert len(path.read_bytes()) <= 900
    study(unbroken).run()
    study(path).run()
    assert story(path) == story(unbroken)


OWNER = """
import sys
from pathlib import Path
from automl.errors import BadInput
from automl.files import Lock
try:
    lock = Lock(Path(sys.argv[1]))
except BadInput as error:
    print("refused", flush=True)
else:
    print("owner", flush=True)
    sys.stdin.read()
    lock.release()
"""


@contextlib.contextmanager
def owner(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_second_driver_is_refused_naming_the_first(tmp_path):
    with owner(tmp_path) as process:
        assert process.stdout.readline() == "owner\n"
        with pytest.raises(BadInput, match=f"is in use by process {process.pid} on ") as refused:
            files.Lock(tmp_path)
        assert f"automl resume {tmp_path}" in str(refused.value)
        process.kill()
        process.wait()
        files.Lock(tmp_path).release()  # the dead owner's lock is taken over without a word


def test_one_of_two_drivers_wins(tmp_path):
    with owner(tmp_path) as first, owner(tmp_path) as second:
        assert sorted([first.stdout.readline(), second.stdout.readline()]) == ["owner\n", "refused\n"]


def test_a_lock_is_free_again_after_its_release_and_after_a_reboot(tmp_path):
    files.Lock(tmp_path).release()
    (tmp_path / ".owner.json").write_text(json.dumps({"pid": os.getppid(), "host": "here"}))  # now another program's
    lock = files.Lock(tmp_path)
    with pytest.raises(BadInput, match=f"process {os.getpid()} "):
        files.Lock(tmp_path)
    (tmp_path / ".owner.json").write_text("torn")
    with pytest.raises(BadInput, match="in use by another process"):
        files.Lock(tmp_path)
    lock.release()


def test_a_folder_is_made_once(tmp_path):
    files.make_folder(tmp_path / "a" / "b")
    with pytest.raises(FileExistsError):
        files.make_folder(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"a part of the path is a file|a file is in the way"):
        files.make_folder(tmp_path / "file" / "b" / "c")
    assert issubclass(StorageError, AutoMLError)
    files.make_folders(tmp_path / "a" / "c" / "d")
    files.make_folders(tmp_path / "a" / "c" / "d")
    with pytest.raises(StorageError, match=r"a part of the path is a file|a file is in the way"):
        files.make_folders(tmp_path / "file" / "b")


def test_a_folder_is_removed_at_once(tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    for nth in range(1, 5):
        files.make_folders(folder / "inner")
        (folder / "inner" / "file").write_text("")
        faults = Faults(nth, errno.EIO)
        with faults.installed(monkeypatch), contextlib.suppress(StorageError):
            files.remove_folder(folder)
        assert not folder.exists() or (folder / "inner" / "file").exists()
    assert not faults.fired
    files.remove_folder(folder)
    files.remove_file(folder)
    (tmp_path / "file").write_text("")
    with Faults(1, errno.EIO).installed(monkeypatch), pytest.raises(StorageError, match="input/output"):
        files.remove_file(tmp_path / "file")


def test_a_link_points_to_the_newest_or_stays(tmp_path, monkeypatch):
    for nth in (3, 2, 1):
        before = (tmp_path / "latest").readlink().name if nth < 3 else None
        with Faults(nth, errno.EPERM).installed(monkeypatch):
            files.point(tmp_path / "latest", f"run{nth}")
        assert (tmp_path / "latest").readlink().name == ("run3" if nth == 3 else before)
        assert list(tmp_path.iterdir()) == [tmp_path / "latest"]


def test_a_lock_that_cannot_name_its_owner_is_free_again(tmp_path, monkeypatch):
    with Faults(1, errno.ENOSPC).installed(monkeypatch), pytest.raises(StorageError) as kept:
        files.Lock(tmp_path)
    assert kept.value.__traceback__ is not None  # as in a notebook, which keeps its last error with all its frames
    lock = files.Lock(tmp_path)
    with Faults(1, errno.EROFS).installed(monkeypatch):
        lock.release()
    files.Lock(tmp_path).release()


CHANGES = {
    "write_text",
    "write_bytes",
    "mkdir",
    "makedirs",
    "unlink",
    "rmdir",
    "rmtree",
    "touch",
    "symlink_to",
    "rename",
}
CHANGES |= {"os.open", "os.write", "os.remove", "os.rename", "shutil.copy", "shutil.copyfile", "shutil.move"}
CHANGES |= {"torch.save", "onnx.save", "np.save", "np.savez", "save_file", "logging.FileHandler", "tempfile.mkstemp"}
ELSEWHERE = {
    "automl/files.py": "the seam",
    "automl/downloads.py": "into the user's cache, checked and moved into place",
    "automl/testing/strategies.py": "into a temporary folder",
    "automl/testing/trackers.py": "into a temporary folder",
    "automl/int8.py": "into a temporary folder, for a library that only takes files",
    "automl/device.py": "into a temporary folder, for a command that only takes files",
    "automl/cli.py": "os.devnull, once nobody reads any more",
    "plugins/automl_trackers/tensorboard_events.py": "by TensorBoard's own writer, and what that left is removed",
}


def changes_a_disk(call):
    """Say whether a call writes past the seam, as far as its words tell."""
    owner, _, name = ast.unparse(call.func).rpartition(".")
    words = [argument.value for argument in call.args[-1:] if isinstance(argument, ast.Constant)]
    words += [word.value.value for word in call.keywords if isinstance(word.value, ast.Constant) and word.arg == "mode"]
    if name == "open" and any(isinstance(mode, str) and re.fullmatch("[rbt]*[wax+][bt+]*", mode) for mode in words):
        return True
    if name == "replace" and owner:  # of a path; that of a text takes two
        return len(call.args) == 1 and not call.keywords
    return bool(owner) and (name in CHANGES or f"{owner}.{name}" in CHANGES)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('path.open("wb")', True),
        ('open(path, mode="a")', True),
        ("path.open()", False),
        ('path.open("rb")', False),
        ("path.replace(other)", True),
        ("text.replace('a', 'b')", False),
        ("replace(trial, number=3)", False),
        ("write_text(path, text)", False),
        ("path.write_text(text)", True),
        ("torch.save(state, path)", True),
        ("checkpoint.save(path)", False),
    ],
)
def test_writing_is_known_by_its_words(line, expected):
    assert changes_a_disk(ast.parse(line).body[0].value) == expected


def test_all_writing_goes_through_the_seam():
    root = Path(__file__).parents[1]
    for path in [*root.glob("automl/**/*.py"), *root.glob("plugins/**/*.py")]:
        place = path.relative_to(root).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and changes_a_disk(node):
                assert place in ELSEWHERE, f"{place}:{node.lineno} writes past automl/files.py: {ast.unparse(node)}"

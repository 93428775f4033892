"""Inputs that a stranger might have made for every reader, and what reads them: only errors of our own may come out."""

from __future__ import annotations

import contextlib
import copy
import gzip
import io
import json
import os
import signal
import sys
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from automl import Objective, config, runs
from automl.checkpoint import Checkpoint
from automl.errors import AutoMLError, BadInput
from automl.experiment import Experiment
from automl.journal import Journal, read
from automl.plugins import Registry
from automl.study import Study
from automl.testing import NO_TASK, ConditionalSpace, Scripted
from automl_evaluators.tables import column_names, order_by_code, read_columns
from automl_strategies.evolution import Evolution
from automl_tasks.arrays import read_npz

CASES = Path(__file__).parent / "data" / "cases"
ROUND = 10_000  # inputs after which hypothesis starts anew: it remembers all that it has made
SECONDS = 60  # of computing, for one input: more is a hang


@dataclass(frozen=True)
class Reader:
    """What is read, of which inputs, and how, given a folder that holds nothing but what this reader puts there."""

    inputs: st.SearchStrategy[Any]
    read: Callable[[Any, Path], None]


def check(reader: Reader, given: Any, folder: Path) -> bool:
    """Read one input; say whether it was taken. Anything but an error of our own passes, and so does what is written.

    Raises AssertionError for an input that takes more than a minute of computing, or more than a line to refuse, and
    where the folder holds something else afterwards.
    """

    def hang(*_: object) -> None:
        raise AssertionError(f"more than {SECONDS} s of computing")

    before = signal.signal(signal.SIGVTALRM, hang)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(given, folder)
    except AutoMLError as error:
        assert str(error), "refused without a word"
        return False
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    return True


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Return a good file with up to six places changed, doubled, moved or cut out; or any bytes at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=600))
    data = bytearray(whole)
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.sampled_from([1, 1, 1, 2, 4, 8, 100]))
        match draw(st.integers(0, 5)):
            case 0:
                data[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                data[place : place + length] = draw(st.sampled_from([b"\x00", b"\xff", b"\x7f", b"9"])) * length
            case 2:
                data[place:place] = draw(st.binary(max_size=12))
            case 3:
                del data[place : place + length]
            case 4:
                data[place:place] = data[place : place + length]
            case 5:
                del data[place:]
    return bytes(data)


NUMBERS = st.one_of(
    st.integers(-3, 40), st.sampled_from([2**31, 2**63, -(2**63), 10**30, 1e308, -0.0, 0.5, 1e-320]), st.floats()
)
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=12)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def altered(draw: st.DrawFn, whole: Any, most: int = 4) -> Any:
    """Return plain values with up to so many of them, at any depth, replaced, taken away or added."""
    values = copy.deepcopy(whole)
    for _ in range(draw(st.integers(0, most))):
        node, key = {"": values}, ""
        while isinstance(node[key], dict | list) and node[key] and draw(st.integers(0, 3)):
            node = node[key]
            key = draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        match draw(st.integers(0, 3)):
            case 0 if isinstance(node, dict) and key != "":
                del node[key]
            case 1 if isinstance(node[key], dict):
                node[key][draw(st.text(max_size=8))] = draw(PLAIN)
            case _:
                node[key] = draw(PLAIN)
                values = node[""] if key == "" and node.keys() == {""} else values
    return values


def as_json(value: Any) -> bytes:
    """Return a value as somebody's JSON, NaN included."""
    return json.dumps(value).encode()


def put(path: Path, data: bytes) -> Path:
    if not path.exists() or path.read_bytes() != data:
        path.write_bytes(data)
    return path


def study(path: Path) -> Study:
    script = {0: {"accuracy": 0.7, "loss": 1.0}, 2: None}
    evolution = Evolution(population=2, tournament=2)
    objective = (Objective("accuracy"),)
    journal = Journal(path, HEADING)
    return Study(ConditionalSpace(), evolution, Scripted(script), NO_TASK, objective, trials=4, journal=journal)


HEADING = {"space": {"name": "toy"}, "objectives": [{"metric": "accuracy", "goal": "max", "costs": []}], "limits": []}


@cache
def journal() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        study(Path(folder) / "journal.jsonl").run()
        return (Path(folder) / "journal.jsonl").read_bytes()


def sealed(record: Any, *, line: int | None = None) -> bytes:
    """Return a record as a line with the checksum that it should have."""
    if line is not None and isinstance(record, dict) and "line" in record:
        record = {**record, "line": line}
    if isinstance(record, dict):
        record = {**{key: value for key, value in record.items() if key != "crc"}, "crc": 0}
    body = json.dumps(record)
    body = body[: body.rindex('"crc"')].rstrip(", ") if isinstance(record, dict) else body
    return b'%b,"crc":"%08x"}\n' % (body.encode(), zlib.crc32(body.encode()))


@st.composite
def journals(draw: st.DrawFn) -> bytes:
    """Return a journal that is damaged, or one whose lines are whole and say whatever a stranger liked."""
    if draw(st.booleans()):
        return draw(damaged(journal()))
    records = [json.loads(line) for line in journal().splitlines()]
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(records) - 1))
        match draw(st.integers(0, 4)):
            case 0:
                del records[place:]
            case 1:
                records.insert(place, copy.deepcopy(records[place]))
            case _:
                records[place] = draw(altered(records[place], 2))
        if not records:
            return b""
    return b"".join(sealed(record, line=number) for number, record in enumerate(records))


def resume_journal(data: bytes, folder: Path) -> None:
    path = put(folder / "journal.jsonl", data)
    try:
        study(path).run()
    except AutoMLError:
        assert path.read_bytes() == data, "what was refused was changed"
        raise
    assert [record["line"] for record, _ in read(path)] == list(range(path.read_bytes().count(b"\n")))


def report_journal(data: bytes, folder: Path) -> None:
    from automl_trackers.report import page

    put(folder / "journal.jsonl", data)
    put(folder / "config.yaml", b"{}")
    run = runs.Run(folder)
    assert (run.best is None) == (not any(trial.is_scored for trial in run.trials))
    assert page(run)
    assert (folder / "journal.jsonl").read_bytes() == data


SUMMARY = {
    "schema": 1,
    "command": "automl +space=toy",
    "best": {"trial": 0, "decisions": {"kind": "a"}, "metrics": {"accuracy": 0.7}},
    "front": [0, 2],
    "test": {"accuracy": 0.9, "loss": 0.2, "images": 45},
    "baseline": {"name": "logistic regression", "accuracy": 0.8, "images": 210},
    "model": {"parameters": 10, "multiply_adds": 20, "bytes": 30, "latency_ms": 0.1, "latency_of": "a, 1 thread"},
    "before": {"test": {"accuracy": 0.9, "loss": 0.1, "images": 45}, "model": {"parameters": 20, "bytes": 60}},
    "compression": {"kept": {"one": 0.5, "two": 1.0}},
    "retrain": {"curve": [{"fidelity": 0.5, "accuracy": 0.5}, {"fidelity": 1.0, "accuracy": 0.9}]},
    "trials": {"finished": 4, "failed": 0, "rejected": 0, "interrupted": 0, "duplicates": 1, "total": 4},
    "ending": None,
    "evaluations": 4.0,
    "seconds": {"search": 1.0, "retrain": 2.0},
    "seed": 0,
    "data": {"task": "synthetic", "classes": ["a", "b"], "train": 210, "validation": 45, "test": 45},
    "warnings": ["one"],
    "versions": {"automl": "0.1"},
    "found": {"kind": "a"},
    "graph": {"nodes": [{"name": "in"}, {"name": "out"}], "edges": [["in", "out", "conv"]]},
    "int8": {"form": "u8s8", "why": "it is", "test": {"float": {"accuracy": 0.9}, "int8": {"accuracy": 0.9}}},
}


def report_summary(data: bytes, folder: Path) -> None:
    from automl_trackers.report import page

    put(folder / "summary.json", data)
    put(folder / "journal.jsonl", journal())
    assert page(runs.Run(folder))


@cache
def registry() -> Registry:
    return Registry()


@cache
def composed() -> Any:
    words = ["+space=nasbench201", "strategy=evolution", "task=synthetic", "objective=mnasnet"]
    return config.compose([*words, "objective.target=1e6", "objective.cost=parameters"], registry())


def read_config(data: bytes, folder: Path) -> None:
    found = config.read(put(folder / "config.yaml", data))
    config.resolved(found)
    config.as_yaml(found)


def build_config(data: bytes, folder: Path) -> None:
    found = config.read(put(folder / "config.yaml", data))
    Experiment(found, registry())


@cache
def yaml() -> bytes:
    return config.as_yaml(composed()).encode()


BOMBS = [
    "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "!!python/object/apply:os.mkdir [PICKLE_RAN]\n",
    "x: !!python/name:os.system\n",
    "[" * 5_000,
    "{a: " * 5_000,
    "? " * 3_000,
    "- " * 3_000 + "\n",
    "%YAML 99.9\n---\n",
    "a: !!binary =\n",
    "a: 2001-99-99\n",
    "a: !!timestamp x\n",
    "a: !!int 0x\n",
    "a: 0x\n",
    "a: !!float x\n",
    "? [1, 2]\n: 3\n",
    "? {a: 1}\n: 3\n",
    "<<: 3\n",
    "a: ${oc.env:HOME}\n",
    "a: ${b}\nb: ${a}\n",
    "a: ${oc.decode:'[1'}\n",
    "a: ${}\n",
    "'\\ud800': 1\n",
]


@st.composite
def yamls(draw: st.DrawFn) -> bytes:
    """Return a config as a run saves it, damaged, altered, or with something that YAML would love to do."""
    match draw(st.integers(0, 2)):
        case 0:
            return draw(damaged(yaml()))
        case 1:
            bomb = draw(st.sampled_from(BOMBS))
            return (yaml().decode() + bomb if draw(st.booleans()) else bomb).encode(errors="surrogatepass")
        case _:
            return as_json(draw(altered(config.unresolved(composed()))))  # JSON is YAML


KEYS = ["trials", "seed", "runs", "watch", "task.count", "task", "space", "space.cells", "strategy.population"]
KEYS += [
    "objective.limits.parameters",
    "objective",
    "evaluator.learning_rate",
    "task.root",
    "+seed",
    "~seed",
    "hydra.x",
]
PIECES = ["1", "-1", "1e1", "null", "nan", "true", "[", "]", "{", "}", ",", ":", "'", '"', "\\", "${", "}", "range(",
          ")", "choice(", "sort(", "glob(", "*", " ", "=", "@", "/", "~", "é", "\n", "\x00", "(", "a", "oc.env:HOME",
          "_target_", "interval(1,", "shuffle(", "0x1", "1_0", "\ud800"]  # fmt: skip
VALUES = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=7).map("".join)
WORDS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(KEYS) | st.text(max_size=6), VALUES).map("=".join),
        st.text(max_size=10),
        st.sampled_from(
            ["space=nasnet", "+space=chain", "strategy=random", "--help", "-m", "evaluator/inner=training"]
        ),
    ),
    min_size=1,
    max_size=4,
)


@cache
def groups() -> dict[str, list[str]]:
    return config.options(registry())


def read_words(words: list[str], folder: Path) -> None:
    _, values = config._sort(["+space=nasbench201", *words], groups())
    changed = config.change(copy.deepcopy(composed()), values, sweep="automl -m")
    config.resolved(changed)


@cache
def columns() -> bytes:
    names = ["index", *(f"op{k}" for k in range(6)), "accuracy"]
    rows = [",".join(map(str, [code, *(code // 5**k % 5 for k in range(6)), code / 50])) for code in range(50)]
    return "\n".join([",".join(names), *rows, ""]).encode()


TEXTS = st.builds(
    lambda data, again, cut: again(gzip.compress(data, 1, mtime=0)[: cut or None]),
    damaged(columns()),
    st.sampled_from([lambda data: data] * 3 + [lambda data: data[:20] + b"\x00" + data[21:]]),
    st.sampled_from([0, 0, 0, 0, 5, 60, -4]),
)


def read_table(data: bytes, folder: Path) -> None:
    path = put(folder / "table.csv.gz", data)
    column_names(path)
    found = read_columns(path, ["op0", "op1", "op2", "op3", "op4", "op5", "accuracy"])
    with contextlib.suppress(BadInput):  # so few rows are never all cells
        order_by_code(path, np.stack([found[f"op{k}"] for k in range(6)], 1))


@cache
def npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, x_train=np.zeros((6, 4, 5), np.uint8), y_train=np.arange(6) % 3)
    return stream.getvalue()


@st.composite
def npzs(draw: st.DrawFn) -> bytes:
    """Return arrays in a file that is damaged, or whole with headers that say anything."""
    if draw(st.booleans()):
        return draw(damaged(npz()))
    import zipfile

    stream = io.BytesIO()
    kinds = ["|u1", "<i8", "<f4", "<f2", "|b1", "<c8", "<U3", "|O", "<M8[s]", "|V3", ">i2", "x", "<f16"]
    sizes = st.sampled_from([0, 1, 3, 4, 6, 2**20, 2**31, 2**62, -1])
    with zipfile.ZipFile(stream, "w") as file:
        for name in draw(
            st.lists(st.sampled_from(["x_train", "y_train", "x_test", "y_test", "images"]), max_size=4, unique=True)
        ):
            shape = tuple(draw(st.lists(sizes, max_size=4)))
            header = f"{{'descr': {draw(st.sampled_from(kinds))!r}, 'fortran_order': {draw(st.booleans())}, "
            header = f"{header}'shape': {shape}, }}\n".encode()
            data = draw(st.binary(max_size=100))
            whole = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data
            file.writestr(f"{name}.npy", whole)
    return stream.getvalue()


def read_arrays(data: bytes, folder: Path) -> None:
    read_npz(put(folder / "arrays.npz", data), ("a", "b", "c"))


def read_recorded(data: bytes, folder: Path) -> None:
    from automl_evaluators.spikenas_table import SpikenasTable

    put(folder / "spikenas_cifar10.npz", data)
    SpikenasTable(str(folder))


@st.composite
def idx(draw: st.DrawFn) -> tuple[str, bytes]:
    """Return a file of MNIST's, damaged before or after it was zipped, with a header that says anything."""
    name = draw(st.sampled_from(sorted(path.name for path in (CASES / "idx" / "good").iterdir())))
    zipped = (CASES / "idx" / "good" / name).read_bytes()
    match draw(st.integers(0, 2)):
        case 0:
            return name, draw(damaged(zipped))
        case 1:
            return name, gzip.compress(draw(damaged(gzip.decompress(zipped))), 1, mtime=0)
        case _:
            sizes = [0, 1, 10, 28, 100, 2**16, 2**31, 2**32 - 1]
            header = [
                draw(st.sampled_from([0x801, 0x803, 0x802, 0])),
                *draw(st.lists(st.sampled_from(sizes), max_size=4)),
            ]
            return name, b"".join(size.to_bytes(4, "big") for size in header) + draw(st.binary(max_size=300))


def read_idx(given: tuple[str, bytes], folder: Path) -> None:
    for path in (CASES / "idx" / "good").iterdir():
        put(folder / path.name, given[1] if path.name == given[0] else path.read_bytes())
    registry().build("task", {"name": "fashion_mnist", "root": str(folder)}).load()


def read_batch(data: bytes, folder: Path) -> None:
    for name in [f"data_batch_{number}.bin" for number in range(2, 6)] + ["test_batch.bin"]:
        put(folder / name, bytes(3073))
    put(folder / "data_batch_1.bin", data)
    registry().build("task", {"name": "cifar10", "root": str(folder)}).load()


@cache
def pictures() -> list[bytes]:
    """Return a small image of each format and mode that is read, from the cases and of our own making."""
    from PIL import Image

    made = [path.read_bytes() for path in sorted((CASES / "images").iterdir()) if path.stat().st_size]
    ramp = Image.linear_gradient("L").resize((12, 10))
    modes = {"GIF": "P", "BMP": "RGB", "WEBP": "RGBA", "PPM": "RGB", "TGA": "RGBA", "ICO": "RGBA", "PNG": "LA"}
    for kind, mode in [*modes.items(), ("TIFF", "RGB"), ("TIFF", "I;16"), ("TIFF", "CMYK"), ("JPEG", "RGB")]:
        stream = io.BytesIO()
        try:
            ramp.convert(mode).save(stream, kind)
        except (OSError, KeyError, ValueError):  # a Pillow without this format
            continue
        made.append(stream.getvalue())
    return made


def read_image(data: bytes, folder: Path) -> None:
    from automl import images

    image = images.read(put(folder / "image", data), at_least=16)
    assert images.as_array(image, 3, 16, 16).shape == (3, 16, 16)


@cache
def tensors() -> bytes:
    import torch
    from safetensors.torch import save

    facts = {"automl": json.dumps({"schema": 1, "decisions": {"a": 1}, "epoch": 2})}
    return save({"a.weight": torch.ones(2, 3), "b": torch.ones(4, dtype=torch.int64)}, metadata=facts)


@st.composite
def safetensors(draw: st.DrawFn) -> bytes:
    """Return tensors in a file that is damaged, or whole with a header that says anything."""
    if draw(st.booleans()):
        return draw(damaged(tensors()))
    length = int.from_bytes(tensors()[:8], "little")
    header = as_json(draw(altered(json.loads(tensors()[8 : 8 + length]))))
    return len(header).to_bytes(8, "little") + header + tensors()[8 + length :]


@cache
def small() -> Any:
    import torch

    network = torch.nn.Module()
    network.a = torch.nn.Linear(3, 2, bias=False)
    network.register_buffer("b", torch.zeros(4, dtype=torch.int64))
    return network


def read_tensors(data: bytes, folder: Path) -> None:
    from automl.deploy import load_weights

    path = put(folder / "model.safetensors", data)
    found = Checkpoint.load(path)
    found.copy_into(small().state_dict(), "a trial")
    load_weights(small(), path)


@cache
def pickles() -> list[bytes]:
    import torch

    stream = io.BytesIO()
    torch.save(small().state_dict(), stream)
    return [stream.getvalue(), *(path.read_bytes() for path in sorted((CASES / "security").glob("*.[pc]*t")))]


def read_pickle(data: bytes, folder: Path) -> None:
    from automl_spaces.module import _load

    _load(small(), put(folder / "weights.pt", data))


DECISIONS = {"stage0.layer0.op": "skip"}
DESCRIPTION = {
    "schema": 1,
    "input": [1, 8, 8],
    "classes": ["a", "b"],
    "space": {"name": "chain", "stages": 1, "depth": 1},
    "decisions": DECISIONS,
    "retrain": {"name": "training"},
    "mean": [0.1],
    "std": [0.2],
    "task": "synthetic",
    "seed": 0,
}


def read_description(data: bytes, folder: Path) -> None:
    from automl.final import rebuilt

    path = put(folder / "architecture.json", data)
    rebuilt(runs.read_json(path), str(path), registry())


SWEEP = {"schema": 1, "command": "automl -m", "jobs": [{"words": ["seed=0"], "folder": "0-a", "exit": None}]}


def read_sweep(data: bytes, folder: Path) -> None:
    from automl.sweeps import Sweep

    put(folder / "sweep.json", data)
    Sweep.read(folder)


def pick(files: Callable[[], list[bytes]]) -> st.SearchStrategy[bytes]:
    return st.deferred(lambda: st.sampled_from(files()).flatmap(damaged))


READERS = {
    "journal": Reader(journals(), resume_journal),
    "report of a journal": Reader(journals(), report_journal),
    "report of a summary": Reader(st.deferred(lambda: altered(SUMMARY).map(as_json)), report_summary),
    "config": Reader(yamls(), read_config),
    "settings": Reader(st.deferred(lambda: altered(config.unresolved(composed())).map(as_json)), build_config),
    "words": Reader(WORDS, read_words),
    "table": Reader(TEXTS, read_table),
    "recorded arrays": Reader(npzs(), read_recorded),
    "npz": Reader(npzs(), read_arrays),
    "IDX": Reader(idx(), read_idx),
    "CIFAR": Reader(damaged(bytes([3] + [7] * 3072) * 2), read_batch),
    "image": Reader(pick(pictures), read_image),
    "safetensors": Reader(safetensors(), read_tensors),
    "torch.save": Reader(pick(pickles), read_pickle),
    "description": Reader(altered(DESCRIPTION).map(as_json), read_description),
    "sweep": Reader(st.one_of(altered(SWEEP).map(as_json), damaged(as_json(SWEEP))), read_sweep),
}


def fuzz(name: str, count: int, folder: Path, **more: Any) -> dict[bool, int]:
    """Give a reader so many inputs, in a new folder in one that is empty; return how many were taken, and refused."""
    from hypothesis import HealthCheck, given, settings

    reader, inside = READERS[name], folder / "read"
    inside.mkdir()
    found = {False: 0, True: 0}

    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck), **more)
    @given(reader.inputs)
    def read_one(one: Any) -> None:
        found[check(reader, one, inside)] += 1
        assert list(folder.iterdir()) == [inside], "something was written beside what is read"

    before = Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # libraries grumble
            read_one()
    finally:
        os.chdir(before)
    return found


def main(count: int, names: list[str]) -> int:
    """Fuzz each of the readers, and print a line each."""
    import tempfile
    import traceback

    from hypothesis import Phase

    how = {"phases": (Phase.generate, Phase.shrink), "derandomize": False}
    failed = False
    for name in names or READERS:
        began, found = time.process_time(), Counter[bool]()
        try:
            for done in range(0, count, ROUND):
                with tempfile.TemporaryDirectory() as folder:
                    found += Counter(fuzz(name, min(ROUND, count - done), Path(folder), **how))
        except BaseException:
            failed = True
            traceback.print_exc()
            print(f"{name:<22} failed", flush=True)
            continue
        spent = time.process_time() - began
        print(f"{name:<22}{found.total():>9,} inputs, {found[True]:>9,} taken, {spent:8.0f} s", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 100_000, sys.argv[2:]))

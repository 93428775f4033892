"""Where exported networks are timed: on this machine, or by a command of the user's own on a phone or a board."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Gt, MinLen

from automl import measure
from automl.errors import BadInput, StorageError, TrialFailed, near_miss, printable
from automl.measure import Latency
from automl.plugins import construct

if TYPE_CHECKING:
    from torch.nn import Module

Image = tuple[int, int, int]
_MODEL = "{model}"
_ROUNDS = 20
_TOLD = 65_536  # bytes of what a command prints that are looked at, its last
_NUMBER = re.compile(r"(?<![\w.,+-])([+-]?(?:\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+|nan|inf(?:inity)?))\s*(ms\b)?", re.I)


@dataclass
class Device(ABC):
    """Where exported networks are timed. Fields are settings; a run of a network is of ``batch`` images."""

    batch: Annotated[int, Ge(1)] = 1

    @abstractmethod
    def time(self, model: bytes, image: Image, *, runs: int = 200, seconds: float = 2.0) -> Latency:
        """Time the bytes of an ONNX file whose inputs are batches, ``image`` being channels x height x width of one.

        ``runs`` and ``seconds`` are the most that a device that is asked run by run takes. Raises BadInput where
        nothing is measured.
        """

    def quietest(self, models: Mapping[str, bytes], image: Image) -> dict[str, float]:
        """Time several such files, and return the milliseconds of each; raises BadInput where one is not measured."""
        return {name: self.time(model, image).median_ms for name, model in models.items()}

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """What a measurement rests on, as plain values: it holds for devices of equal identity alone."""

    @abstractmethod
    def describe(self) -> str:
        """Return what it is in a few words."""

    def check(self) -> None:  # noqa: B027
        """Raise BadInput where it cannot be asked at all."""


@dataclass
class Here(Device):
    """This machine's CPU, in onnxruntime, on so many ``threads``."""

    threads: Annotated[int, Ge(1)] = 1

    def time(self, model: bytes, image: Image, *, runs: int = 200, seconds: float = 2.0) -> Latency:
        how = {"threads": self.threads, "batch": self.batch} if (self.threads, self.batch) != (1, 1) else {}
        with _understood("the network"):
            return measure.onnx_latency(model, image, runs=runs, seconds=seconds, **how)

    def quietest(self, models: Mapping[str, bytes], image: Image) -> dict[str, float]:
        """Time them in turn, many times over; of each the lowest tenth percentile of a round of ten runs counts.

        A machine is not equally busy at all times, and what others do on it is to have no part in what is compared: on
        a machine with four times as much to do as it has processors, medians of rounds predicted networks half again
        as badly.
        """
        timers = {}
        for name, model in models.items():
            with _understood(name):
                take = measure.onnx_timer(model, image, threads=self.threads, batch=self.batch, alone=True)
                take(1, 0.0, 1)
                timers[name] = take
        rounds = [{name: take(10, 0.2, 1).p10_ms for name, take in timers.items()} for _ in range(_ROUNDS)]
        return {name: min(times[name] for times in rounds) for name in models}

    @property
    def identity(self) -> dict[str, Any]:
        import onnxruntime

        runtime = f"onnxruntime {onnxruntime.__version__}"
        return {"device": _processor(), "runtime": runtime, "threads": self.threads, "batch": self.batch}

    def describe(self) -> str:
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        return f"this machine ({_processor()}), {self.identity['runtime']}, {threads}, batch {self.batch}"


@dataclass
class Command(Device):
    """A command of the user's own, run ``repeats`` times for a network, without a shell, at most ``seconds`` each.

    Of the words of ``command``, {model} is the path of an ONNX file, its batch fixed. On its standard output the last
    number that ms follows counts, or the only thing there: a number, or a JSON object with ``latency_ms``.
    """

    command: Annotated[str, MinLen(1)] = ""
    called: Annotated[str, MinLen(1)] | None = None
    repeats: Annotated[int, Ge(1)] = 1
    seconds: Annotated[float, Gt(0)] = 120.0

    def __post_init__(self) -> None:
        self._words()

    def time(self, model: bytes, image: Image, *, runs: int = 200, seconds: float = 2.0) -> Latency:
        with _file(_fixed(model, self.batch)) as path:
            words = [word.replace(_MODEL, str(path)) for word in self._words()]
            found = [milliseconds(self._told(words)) for _ in range(self.repeats)]
        found.sort()
        tenth = (len(found) - 1) // 10
        median = statistics.median(found)
        return Latency(median, found[tenth], found[-1 - tenth], len(found), None, self.batch, self.describe())

    @property
    def identity(self) -> dict[str, Any]:
        digest = hashlib.blake2b(self.command.encode(), digest_size=8).hexdigest()
        name = f"a command of digest {digest}" if self.called is None else self.called
        return {"device": name, "runtime": "device=command", "threads": None, "batch": self.batch}

    def describe(self) -> str:
        return "a device by device=command" if self.called is None else f"{self.called} by device=command"

    def check(self) -> None:
        program = self._words()[0]
        if shutil.which(program) is None:
            raise BadInput(f"device.command runs {printable(program)}, which is no program here: give its path")

    def _words(self) -> list[str]:
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise BadInput(f"device.command={printable(self.command)} is no command ({error}): close it") from error
        if not any(_MODEL in word for word in words):
            raise BadInput(
                f"device.command={printable(self.command)} has no {_MODEL}, which stands for the ONNX file to time: "
                f"type 'device.command={printable(self.command)} {_MODEL}'"
            )
        return words

    def _told(self, words: list[str]) -> str:
        """Run the command, and return the end of its standard output; raises BadInput where it fails."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                process = subprocess.Popen(  # noqa: S603 - the user's own words, typed
                    words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
                )
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                raise BadInput(f"device.command does not start ({reason}): {printable(words[0])}") from error
            try:
                code = process.wait(self.seconds)
            except subprocess.TimeoutExpired:
                raise BadInput(
                    f"device.command was not done after {self.seconds:g} seconds: give device.seconds=N"
                ) from None
            finally:
                _end(process)
            if code:
                why = _end_of(err).strip().splitlines()
                said = f": {printable(why[-1])[:200]}" if why else ", and says nothing on its standard error"
                raise BadInput(f"device.command ended with exit code {code}{said}")
            return _end_of(out)


HERE = {"name": "here", "threads": 1, "batch": 1}  # what every run was measured on before there was a choice
DEVICES: dict[str, type[Device]] = {"here": Here, "command": Command}


def build(values: Mapping[str, Any] | None) -> Device:
    """Return the device that a config's values describe, this machine where there are none; raises BadInput."""
    if not isinstance(values, Mapping | None):
        raise BadInput(f"device={printable(str(values))[:80]} has no settings: type device=here or device=command")
    fields = dict(values or {"name": "here"})
    name = fields.pop("name", None)
    if not isinstance(name, str) or name not in DEVICES:
        raise BadInput(
            f"no device is named {name!r}{near_miss(str(name), DEVICES)}; installed: {', '.join(sorted(DEVICES))}"
        )
    device: Device = construct(DEVICES[name], fields, "device")
    return device


def candidate_latency(device: Device | None, network: Module, task: Any) -> float:
    """Return the milliseconds of a candidate, trained or not, exported as it would be shipped, on a device.

    None is this machine. Of the task only what ``automl.deploy.Deployed`` takes is looked at. Raises TrialFailed
    with the reason where nothing is measured.
    """
    from automl.deploy import exported

    try:
        return (device or Here()).time(exported(network, task), task.input, runs=50, seconds=1.0).median_ms
    except BadInput as error:
        raise TrialFailed(str(error)) from error


def milliseconds(text: str) -> float:
    """Return the milliseconds that a command printed; raises BadInput where it printed none, or no possible ones.

    >>> milliseconds("warm-up 9.5 ms, mean 3.25 ms")
    3.25
    >>> milliseconds('{"latency_ms": 2}')
    2.0
    """
    shown = printable(text.strip()[-80:]) or "nothing"
    value = _lone(text.strip())
    if value is None:
        numbers = [match[1] for match in _NUMBER.finditer(text) if match[2]]
        if not numbers:
            raise BadInput(
                f"device.command printed no milliseconds but {shown!r}: print a number followed by ms, "
                'or {"latency_ms": number}'
            )
        value = float(numbers[-1])
    if not 0 < value < math.inf:
        raise BadInput(f"device.command printed {value:g} ms, where more than 0 is possible: it ended {shown!r}")
    return value


def _lone(text: str) -> float | None:
    """Return the number that is all there is, or that of a JSON object; None where it is neither."""
    if (match := _NUMBER.fullmatch(text)) is not None:
        return float(match[1])
    if not text.startswith("{"):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    value = found.get("latency_ms") if isinstance(found, dict) else None
    try:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    except OverflowError:
        return math.inf


def _fixed(model: bytes, batch: int) -> bytes:
    """Return an ONNX file for so many images: not every tool takes one whose batch is open."""
    import onnx

    proto = onnx.load_from_string(model)
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for place, side in enumerate(value.type.tensor_type.shape.dim):
            if side.HasField("dim_param") and place == 0:
                side.dim_value = batch
    data: bytes = proto.SerializeToString()
    return data


@contextmanager
def _understood(what: str) -> Iterator[None]:
    """Turn what onnxruntime raises of a file into a sentence."""
    try:
        yield
    except Exception as error:  # its own kinds derive from Exception
        reason = printable(str(error).strip().split("\n")[0])[:200] or type(error).__name__
        raise BadInput(f"onnxruntime does not run {printable(what)} ({reason})") from error


@contextmanager
def _file(model: bytes) -> Iterator[Path]:
    """Give the path of a file that holds the model for as long as it is needed."""
    try:
        with tempfile.TemporaryDirectory(prefix="automl-device-") as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(model)
            yield path
    except OSError as error:
        raise StorageError(
            f"the temporary folder {tempfile.gettempdir()} cannot be written ({error.strerror or error}): "
            "make room, or set TMPDIR to another folder"
        ) from error


def _end(process: subprocess.Popen[bytes]) -> None:
    """End whatever the command began and left: it is in a group of its own, which Ctrl-C does not reach."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end_of(file: Any) -> str:
    """Return the last of what was written into a file."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TOLD))
    text: str = file.read().decode(errors="replace")
    return text


def _processor() -> str:
    """Return the name of this machine's processor."""
    try:
        found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    name = found[1] if found else platform.processor()
    return f"{name.strip()} {platform.machine()}".strip()


Runtime = Literal["onnxruntime", "torch"]

"""Times the network of a run, as ``automl latency RUN`` prints it: here, or where a command of the user's own does."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import measure, runs
from automl.errors import BadInput, printable
from automl.final import load

if TYPE_CHECKING:
    from automl.device import Device, Runtime
    from automl.measure import Latency

PHONE = "/data/local/tmp"  # where a phone lets a shell run what is put there


@dataclass(frozen=True)
class Timed:
    """The latency of one run's network, and the file that was timed; None where PyTorch ran the network itself."""

    run: str
    file: Path | None
    device: str
    latency: Latency

    def as_json(self) -> str:
        """Return everything as one JSON object."""
        file = None if self.file is None else str(self.file)
        commands = [] if self.file is None else phone(self.file)
        whole = {"run": self.run, "file": file, "device": self.device, **asdict(self.latency), "commands": commands}
        return json.dumps(whole, ensure_ascii=False)

    def as_text(self) -> str:
        """Return it for reading: the milliseconds and, for a phone, two commands to paste."""
        found = self.latency
        lines = [
            f"{printable(self.run)}, {self.file.name if self.file else 'in PyTorch'}, on {printable(self.device)}",
            f"median {_short(found.median_ms)} ms, p10 {_short(found.p10_ms)}, p90 {_short(found.p90_ms)}, "
            f"spread {(found.p90_ms - found.p10_ms) / found.median_ms:.0%}; {_how(found)}",
        ]
        if self.file is not None:
            lines += [
                "",
                "On a phone, with onnxruntime_perf_test of onnxruntime's Android build in its folder:",
                *(f"  {command}" for command in phone(self.file)),
                "or have automl do it: automl latency RUN device=command 'device.command=COMMAND {model}'",
            ]
        return "\n".join(lines)


def timed_run(
    folder: Path, device: Device, *, runtime: Runtime = "onnxruntime", int8: bool = False, target: str | None = None
) -> Timed:
    """Time the network of a run; raises BadInput where it has none, or none of that kind, or nothing is measured.

    ``runtime`` torch is this machine's CPU, with the threads and the batch of a device here. ``int8`` is the file of
    eight bits. ``target`` names the factory of a network of one's own again, which PyTorch needs.
    """
    from automl.device import Here

    shape = _input(folder)
    if runtime == "torch":
        if int8 or not isinstance(device, Here):
            other = "--int8" if int8 else "device=command"
            raise BadInput(f"--runtime torch times the float network on this machine: leave out {other}")
        network = load(folder, target=target)
        latency = measure.torch_latency(
            network, shape, runs=200, seconds=2.0, threads=device.threads, batch=device.batch
        )
        return Timed(folder.resolve().name, None, device.identity["device"], latency)
    name, command = ("model.int8.onnx", "export --int8") if int8 else ("model.onnx", "export")
    file = folder / name
    try:
        model = file.read_bytes()
    except OSError as error:
        made = f"automl {command.split()[0]} {shlex.quote(str(folder))} {' '.join(command.split()[1:])}".rstrip()
        raise BadInput(f"{file} cannot be read ({error.strerror}): type {made}, which writes it") from error
    device.check()
    return Timed(folder.resolve().name, file, device.identity["device"], device.time(model, shape))


def phone(file: Path, threads: int = 1, runs: int = 200) -> list[str]:
    """Return the two commands that put an ONNX file on an Android phone and time it there."""
    return [
        f"adb push {shlex.quote(str(file))} {PHONE}/{file.name}",
        f"adb shell 'cd {PHONE} && ./onnxruntime_perf_test -I -e cpu -x {threads} -m times -r {runs} {file.name}'",
    ]


def _input(folder: Path) -> tuple[int, int, int]:
    """Return channels x height x width of the images that a run's network takes."""
    path = folder / "architecture.json"
    description: dict[str, Any] = dict(runs.read_json(path))
    shape = description.get("input")
    if (
        not isinstance(shape, list)
        or len(shape) != 3
        or not all(type(side) is int and 0 < side <= 4096 for side in shape)
    ):
        raise BadInput(
            f"{path} does not describe a network (input {printable(str(shape))[:40]}): it was changed by hand"
        )
    channels, height, width = shape
    return channels, height, width


def _how(latency: Latency) -> str:
    """Return how it was measured: threads, runtime, batch and runs."""
    threads = [] if latency.threads is None else [f"{latency.threads} thread{'s' * (latency.threads != 1)}"]
    runs_ = f"{latency.runs} run{'s' * (latency.runs != 1)}"
    return ", ".join([*threads, printable(latency.runtime), f"batch {latency.batch}", runs_])


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"

"""Ships the network of a run in eight bits, as ``automl export RUN --int8`` does: calibrated, compared, and timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from automl import config as configs
from automl import runs
from automl.deploy import Deployed, as_onnx
from automl.errors import AutoMLError, BadInput
from automl.files import Lock, write_json, write_whole
from automl.final import facts
from automl.int8 import FORMS, batches, library, quantise
from automl.measure import Latency, onnx_latency, onnx_session
from automl.plugins import Registry, check
from automl.task import Dataset, Task, fingerprint

if TYPE_CHECKING:
    import numpy as np

CALIBRATION = 320  # training images, ten batches of them
ALIKE = 0.01  # validation accuracies that lie no further apart are alike
FASTER = 0.9  # of two latencies, one that is at most such a share of the other is the faster
_ROUNDS = 3  # of timing, the networks in turn, since a machine is not equally busy at all times


@dataclass(frozen=True)
class Version:
    """One ONNX file of a network: its bytes, its accuracy on the validation images, and its latency."""

    model: bytes
    accuracy: float
    latency: Latency

    def as_json(self) -> dict[str, Any]:
        """Return what a summary says of it."""
        return {
            "bytes": len(self.model),
            "validation_accuracy": self.accuracy,
            "latency_ms": self.latency.median_ms,
            "latency_p10_ms": self.latency.p10_ms,
            "latency_p90_ms": self.latency.p90_ms,
        }


def export_int8(deployed: Deployed, folder: Path, registry: Registry | None = None) -> dict[str, Any]:
    """Write ``model.onnx`` and ``model.int8.onnx`` of a run; return what ``summary.json`` says of both, under ``int8``.

    The activations' range is calibrated on training images of the run, found again as it is gone on with. Both forms
    of ``automl.int8`` are made, and ``better`` chooses by validation images; the test images tell what was chosen.
    Raises BadInput where the run has no network or no images any more, and for a network that has no eight-bit
    form; the run is then as it was.
    """
    library()
    lock = Lock(folder)
    try:
        summary = runs.read_json(folder / "summary.json")
        if "model" not in summary:
            raise BadInput(f"{folder} has no final network yet: run automl resume {folder} first")
        heading = runs.Run(folder).heading
        task, test = _images(folder, heading, registry or Registry())
        model = as_onnx(deployed, facts(folder), task.held_out.images[:32])
        made, found = _compared(model, task, test, heading["seed"])
        write_whole(folder / "model.onnx", model)
        write_whole(folder / "model.int8.onnx", made)
        write_json(folder / "summary.json", {**summary, "int8": found})
    finally:
        lock.release()
    return found


def sentences(found: Mapping[str, Any]) -> list[str]:
    """Return for reading what ``export_int8`` found: a row for each network, and why this one was kept."""
    form, test, versions = found["form"], found["test"], found["versions"]
    kept = {"float": ("float", test["float"]), form: (f"int8, {form}", test["int8"])}
    lines = [f"{'':<14}{'test accuracy':>14}{'bytes':>14}{'latency':>12}"]
    for name, (title, score) in kept.items():
        size, latency = versions[name]["bytes"], versions[name]["latency_ms"]
        lines.append(f"{title:<14}{score['accuracy']:>14.3f}{size:>14,}{f'{latency:.3f} ms':>12}")
    lines.append(
        f"Of {test['int8']['images']:,} test images, the same for both, {found['answered_alike']:.1%} are answered "
        f"alike; largest difference of a logit {found['largest_difference']:.3g}. "
        f"Latency: {found['latency_of']}. Calibrated on {found['calibration_images']:,} training images."
    )
    lines.append(f"Kept {form}: {found['why']}.")
    if versions[form]["bytes"] >= versions["float"]["bytes"]:
        lines.append("The network is so small that it is not smaller in eight bits: ship the float one.")
    return lines


def better(forms: Mapping[str, Version]) -> tuple[str, str]:
    """Return which of the two forms to keep, and why.

    The more accurate on the validation images if they are more than a point apart, else the faster; ``u8s8`` where
    neither is faster by a tenth, so that noise does not choose.
    """
    first, second = FORMS
    gap = forms[first].accuracy - forms[second].accuracy
    ratio = forms[first].latency.median_ms / forms[second].latency.median_ms
    measured = ", ".join(
        f"{name} {version.accuracy:.3f} in {version.latency.median_ms:.3f} ms" for name, version in forms.items()
    )
    measured = f"on validation images {measured}"
    if round(abs(gap), 6) > ALIKE:
        return (first if gap > 0 else second), f"the more accurate by more than a point ({measured})"
    if ratio <= FASTER or ratio >= 1 / FASTER:
        return (first if ratio < 1 else second), f"the faster, both as accurate to a point ({measured})"
    return first, f"the default, both as accurate to a point and as fast to a tenth ({measured})"


def _compared(model: bytes, task: Task, test: Dataset, seed: int) -> tuple[bytes, dict[str, Any]]:
    """Return the better of the eight-bit forms of a float ONNX file, and how both stand to each other."""
    calibration = _drawn(task.train, seed)
    made = {"float": model, **{form: quantise(model, calibration, form) for form in FORMS}}
    latencies = _latencies(made, task.input)
    versions = {
        name: Version(data, _score(_logits(data, task.held_out), task.held_out, task)["accuracy"], latencies[name])
        for name, data in made.items()
    }
    form, why = better({name: versions[name] for name in FORMS})
    exact, rounded = _logits(model, test), _logits(made[form], test)
    return made[form], {
        "form": form,
        "why": why,
        "calibration_images": len(calibration),
        "test": {"float": _score(exact, test, task), "int8": _score(rounded, test, task)},
        "answered_alike": float((exact.argmax(1) == rounded.argmax(1)).mean()),
        "largest_difference": float(abs(exact - rounded).max()),
        "versions": {name: version.as_json() for name, version in versions.items()},
        "latency_of": _how(latencies["float"]),
    }


def _images(folder: Path, heading: Mapping[str, Any], registry: Registry) -> tuple[Task, Dataset]:
    """Return the task of a run, prepared as it was then, and its test images; raises BadInput where it cannot be."""
    try:
        name, seed = heading["task"]["name"], check(heading["seed"], Annotated[int, Ge(0)], "seed")
    except (KeyError, TypeError):
        raise BadInput(f"the journal of {folder} does not say of which task and seed it is: give another run") from None
    try:
        task: Task = registry.build("task", configs.of_the_environment(heading["task"]))
        test = task.prepare(seed)
    except AutoMLError as error:
        raise BadInput(f"int8 needs the training images of task {name}, which cannot be had: {error}") from error
    if not len(task.train):
        raise BadInput(f"task {name} has no training images, and int8 is calibrated on them: give another run")
    if heading.get("data", fingerprint(task, test)) != fingerprint(task, test):
        raise BadInput(
            f"the images of task {name} are not those that the network of {folder} was trained on, and int8 is "
            "calibrated on those: put them back"
        )
    return task, test


def _drawn(images: Dataset, seed: int) -> np.ndarray[Any, Any]:
    """Return the images to calibrate on, drawn by the seed."""
    import numpy as np

    count = min(CALIBRATION, len(images))
    return images.images[np.sort(np.random.default_rng(seed).choice(len(images), count, replace=False))]


def _latencies(models: Mapping[str, bytes], image: tuple[int, int, int]) -> dict[str, Latency]:
    """Time the networks in turn, several times over; return of each the quietest round."""
    rounds = [{name: onnx_latency(model, image, seconds=0.7) for name, model in models.items()} for _ in range(_ROUNDS)]
    return {name: min((timed[name] for timed in rounds), key=lambda latency: latency.median_ms) for name in models}


def _logits(model: bytes, images: Dataset) -> np.ndarray[Any, Any]:
    """Return what onnxruntime answers to the images, N x classes."""
    import numpy as np

    session = onnx_session(model)
    return np.concatenate([session.run(["logits"], {"images": batch})[0] for batch in batches(images.images, 128)])


def _score(logits: np.ndarray[Any, Any], images: Dataset, task: Task) -> dict[str, float]:
    """Return the metrics of the task for these answers, and of how many images they are."""
    import torch

    totals = task.score(torch.tensor(logits), torch.tensor(images.labels))
    return {**{name: float(total) / len(images) for name, total in totals.items()}, "images": len(images)}


def _how(latency: Latency) -> str:
    return f"{latency.runtime}, {latency.threads} thread, batch {latency.batch}, median of {latency.runs} runs"

"""The final network: trained from scratch, tested once, measured, shipped, and loaded again."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import shlex
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from automl import baseline, runs, trust
from automl.decisions import Architecture
from automl.errors import AutoMLError, BadInput, SearchFailed, TrialFailed, printable
from automl.evaluator import Trainer
from automl.files import make_folders, remove_file, remove_folder, write_json, write_text
from automl.joining import apart
from automl.plugins import Registry
from automl.space import Space
from automl.task import Dataset, Task
from automl.trial import Report

if TYPE_CHECKING:
    from automl.deploy import Deployed
    from automl.device import Device
    from automl.measure import Latency

CHECKPOINT = "checkpoint"  # the folder in a run's that the final training goes on from
_ROUNDS = 3  # of timing two networks in turn
_log = logging.getLogger("automl")


@dataclass
class Final:
    """How the architecture found becomes a network that can be shipped.

    ``settings`` are the values that ``space`` and ``trainer`` were built from; with the decisions and the seed
    they are all that the network follows from, and stand in ``architecture.json``.
    """

    space: Space[Any]
    trainer: Trainer
    settings: Mapping[str, Any]
    task: Task
    task_name: str
    test: Dataset
    seed: int
    command: str
    device: Device

    def make(
        self,
        architecture: Architecture,
        folder: Path,
        interruptible: AbstractContextManager[Any],
        watch: Callable[[Report], object],
        measure: Callable[[Any], list[Mapping[str, float]]],
    ) -> dict[str, Any]:
        """Train, test once, measure and export; return what the summary says of it.

        Where the folder already holds the network that follows from the same settings, nothing is done again.
        An interrupted training goes on from its checkpoint, which stays until ``settle``.
        """
        architecture = self.space.read(architecture.to_json())
        description = self._describe(architecture)
        # a folder for each network, since a run that is extended may find another one than it was training
        digest = hashlib.blake2b(json.dumps(description).encode(), digest_size=8).hexdigest()
        checkpoint = folder / CHECKPOINT / digest
        known = None if checkpoint.exists() else _known(folder, description)  # else its summary may be another's
        if known is not None:
            return known
        self.trainer.start(self.space, self.task)
        make_folders(checkpoint)
        course = _Course(checkpoint / "course.json", watch)
        try:
            with interruptible:
                network = self.trainer.fit(architecture, self.seed, checkpoint=checkpoint, watch=course.take)
        except TrialFailed as error:
            raise SearchFailed(
                f"the best architecture could not be trained in full: {error}; "
                "change retrain or space.final and run automl resume, the search is kept"
            ) from error
        from automl.deploy import Deployed

        deployed = Deployed.of(network, self.task)
        with interruptible:
            test = score(deployed, self.test, self.task)
            accuracy, learnt_from = baseline.accuracy(self.task.train, self.test)
        found = {
            "test": test,
            "baseline": {"name": baseline.NAME, "accuracy": accuracy, "images": learnt_from},
            "retrain": {"curve": course.curve},
            "seconds": {"retrain": round(course.seconds, 3)},
        }
        form = getattr(network, "automl_form", None)
        remove_file(folder / "model.int8.onnx")  # of the network that was here before
        deployed.save(folder, {**description, "form": form} if form else description)
        found["model"] = self._measure(deployed, folder, measure)
        before = self._before(architecture, folder / "before")
        if before is not None:
            with interruptible:
                test = score(before, self.test, self.task)
            found["before"] = {"test": test, "model": self._measure(before, folder / "before", measure)}
            places = {folder: (deployed, found["model"]), folder / "before": (before, found["before"]["model"])}
            with interruptible:
                _compare(places, self.task, self.device)
            compressed = (form or {}).get("compressed", {})
            if shares := {key: dict(compressed[key]) for key in ("kept", "alike") if compressed.get(key)}:
                found["compression"] = shares
        write_text(folder / "MODEL_CARD.md", self._card(folder, found))
        return found

    def _before(self, architecture: Architecture, folder: Path) -> Deployed | None:
        """Keep in a folder, and return, the network that the final one was made of; None where there is none."""
        from automl.deploy import Deployed

        origin = self.space.origin(architecture.blueprint)
        network = self.trainer.before(architecture, self.seed)
        if origin is None or network is None:
            return None
        make_folders(folder)
        deployed = Deployed.of(network, self.task)
        description = self._describe(architecture)
        description |= {"space": apart(description["space"]).space, "decisions": origin.architecture.to_json()}
        form = getattr(network, "automl_form", None)
        deployed.save(folder, {**description, "form": form} if form else description)
        return deployed

    def _measure(
        self, deployed: Deployed, folder: Path, more: Callable[[Any], list[Mapping[str, float]]]
    ) -> dict[str, Any]:
        from automl import measure

        measured: dict[str, Any] = {
            "parameters": measure.parameters(deployed.network),
            "multiply_adds": measure.multiply_adds(deployed.network, self.task.input),
            "bytes": (folder / "model.safetensors").stat().st_size,
        }
        try:
            export(deployed, folder, self.test)
        except BadInput as error:
            _log.warning("model.onnx is not written: %s", error)
            _log.debug("model.onnx is not written", exc_info=True)
        else:
            try:
                latency = self.device.time((folder / "model.onnx").read_bytes(), self.task.input)
                measured |= _timed("latency", latency)
            except BadInput as error:
                _log.warning("the latency is not measured: %s; the network is kept, so try automl latency", error)
        for extra in more(deployed.network):
            measured |= extra
        return measured

    def _describe(self, architecture: Architecture) -> dict[str, Any]:
        return {
            **self.settings,
            "space": self.space.portable(self.settings["space"]),
            "decisions": architecture.to_json(),
            "mean": list(self.task.mean),
            "std": list(self.task.std),
            "task": self.task_name,
            "seed": self.seed,
        }

    def _card(self, folder: Path, found: Mapping[str, Any]) -> str:
        base, before = found["baseline"], found.get("before")
        columns = [_worth(network) for network in (found, before) if network is not None]
        rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
        rows.insert(1, [f"{base['name']}, same test images", f"{base['accuracy']:.4f}", *[""] * (len(columns) - 1)])
        heading = ["", ""] if before is None else ["", "this network", "before, in `before/`"]
        channels, height, width = self.task.input
        classes = ", ".join(f"`{printable(name)}`" for name in self.task.classes[:100])
        return "\n".join(
            [
                f"# A network for {printable(self.task_name)}",
                "",
                f"Found by `{printable(self.command)}`{self._made(found)} (seed {self.seed}).",
                "",
                f"|{'|'.join(f' {name} ' if name else ' ' for name in heading)}|",
                f"|{' --- |' * len(heading)}",
                *(f"| {' | '.join(row)} |" for row in rows),
                "",
                f"Input: `images`, float32, N x {channels} x {height} x {width}, in [0, 1]; normalisation is inside. "
                "Output: `logits`, N x classes.",
                "",
                f"Classes, by index: {classes}",
                "",
                f"In Python: `automl.load({str(folder)!r})`; on the command line: "
                f"`automl predict {printable(shlex.quote(str(folder)))} IMAGE`.",
                "",
                "Trained on the training images alone; chosen by the validation images. It knows nothing of images "
                "of another kind than these.",
                "",
            ]
        )

    def _made(self, found: Mapping[str, Any]) -> str:
        """Return how the network came about, for the card to go on with."""
        if "before" not in found:
            return " and trained from scratch"
        made = apart(self.settings["space"])
        what = f"network of space `{printable(str(made.space['name']))}` in `before/`"
        by = f" by compressor `{printable(str(made.compressor['name']))}`" if made.compressor else ""
        epochs = sum(point["fidelity"] > 0 for point in found["retrain"]["curve"])
        tuned = f"fine-tuned for {epochs} epoch{'s' * (epochs > 1)}" if epochs else "not fine-tuned"
        return f": the {what}, made smaller{by}, {tuned}"


def _worth(network: Mapping[str, Any]) -> dict[str, str]:
    """Return what the card tells of a network."""
    model, test = network["model"], network["test"]
    return {
        "test accuracy": f"{test['accuracy']:.4f} ({test['images']} images, used once)",
        "parameters": f"{model['parameters']:,}",
        "multiply-adds an image": f"{model['multiply_adds']:,}",
        "latency": f"{model['latency_ms']:.3f} ms ({model['latency_of']})" if "latency_ms" in model else "not measured",
    }


def _compare(places: Mapping[Path, tuple[Deployed, dict[str, Any]]], task: Task, device: Device) -> None:
    """Add what is measured besides of two networks, of which one was made of the other, to what is known of each.

    They are timed in turn, and the quietest round of each counts: a machine is not equally busy at all times.
    """
    from automl.measure import counted, torch_latency

    rounds: dict[tuple[Path, str], list[Latency]] = {}
    for _ in range(_ROUNDS):
        for place, (deployed, known) in places.items():
            if "latency_ms" in known:
                model = (place / "model.onnx").read_bytes()
                rounds.setdefault((place, "latency"), []).append(device.time(model, task.input, seconds=0.3))
            rounds.setdefault((place, "latency_torch"), []).append(torch_latency(deployed, task.input, seconds=0.3))
    for (place, name), latencies in rounds.items():
        quietest = min(latencies, key=lambda latency: latency.median_ms)
        places[place][1].update(_timed(name, quietest, f", the quietest of {_ROUNDS} rounds"))
    for deployed, known in places.values():
        known["nonzero_parameters"] = sum(int(tensor.count_nonzero()) for tensor in counted(deployed.network))


def _timed(name: str, latency: Latency, how: str = "") -> dict[str, Any]:
    return {
        f"{name}_ms": latency.median_ms,
        f"{name}_p10_ms": latency.p10_ms,
        f"{name}_p90_ms": latency.p90_ms,
        f"{name}_of": f"{latency.describe()}{how}",
    }


def settle(folder: Path) -> None:
    """Drop what the final training could be gone on from, once the summary tells of its end."""
    remove_folder(folder / CHECKPOINT)


def is_settled(folder: Path, summary: Mapping[str, Any], trials: int) -> bool:
    """Say whether a run of so many trials came to its very end, the final network included."""
    told = summary.get("trials")
    total = told.get("total") if isinstance(told, Mapping) else None
    return "model" in summary and total == trials and not (folder / CHECKPOINT).exists()


class _Course:
    """How a training went so far, kept beside its checkpoint: an interrupted training goes on with its curve."""

    def __init__(self, path: Path, watch: Callable[[Report], object]) -> None:
        self._path = path
        self._watch = watch
        kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"curve": [], "seconds": 0.0}
        self.curve: list[dict[str, float]] = kept["curve"]
        self._before: float = kept["seconds"]
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long the training took, interruptions aside."""
        return self._before + time.monotonic() - self._started

    def take(self, report: Report) -> None:
        """Add an epoch; those from it on, which a training that went on from a checkpoint does again, are replaced."""
        self.curve = [point for point in self.curve if point["fidelity"] < report.fidelity]
        self.curve.append({"fidelity": report.fidelity, **report.metrics})
        write_json(self._path, {"curve": self.curve, "seconds": self.seconds})
        self._watch(report)


def score(deployed: Deployed, images: Dataset, task: Task) -> dict[str, Any]:
    """Return accuracy and loss of a deployed network on a data set, and how many images that were."""
    import torch

    totals: dict[str, float] = {}
    with torch.no_grad():
        for start in range(0, len(images), 512):
            batch = torch.tensor(images.images[start : start + 512]).float() / 255  # copied: it may be read-only
            labels = torch.tensor(images.labels[start : start + 512])
            for name, value in task.score(deployed(batch), labels).items():
                totals[name] = totals.get(name, 0.0) + float(value)
    return {**{name: value / len(images) for name, value in totals.items()}, "images": len(images)}


def export(deployed: Deployed, folder: Path, images: Dataset | None) -> None:
    """Write model.onnx into the folder, checked on random and on real images; raises BadInput where they differ."""
    from automl.deploy import export_onnx

    export_onnx(deployed, folder / "model.onnx", facts(folder), None if images is None else images.images[:32])


def facts(folder: Path) -> dict[str, str]:
    """Return what the ONNX files of a run say of their origin."""
    return {"run": folder.name, "automl": importlib.metadata.version("automl-lightweight")}


def load(directory: str | Path, registry: Registry | None = None, *, target: str | None = None) -> Deployed:
    """Return the final network of a run: a torch module with ``classes`` and ``input``, normalisation inside.

    It takes float32 images, N x channels x height x width, in [0, 1], and gives logits, N x classes. Where it is made
    of a network of your own, ``target`` names its factory again, as ``package.module:factory``. Raises BadInput for a
    folder without a network.
    """
    from automl.deploy import load_weights

    folder = Path(directory).expanduser()
    path = folder / "architecture.json"
    description = dict(runs.read_json(path))
    again = f"space.target=package.module:factory after the folder, or automl.load({str(folder)!r}, target=...)"
    description["space"] = trust.given_again(description.get("space"), target, str(path), again)
    deployed = rebuilt(description, str(path), registry)
    load_weights(deployed, folder / "model.safetensors")
    return deployed.eval()


def rebuilt(description: Mapping[str, Any], what: str, registry: Registry | None = None) -> Deployed:
    """Return the network that a description is of, with weights of no worth; raises BadInput where it is of none."""
    from automl.deploy import Deployed
    from automl.measure import strip

    try:
        shape = tuple(int(side) for side in description["input"])
        classes = [str(name) for name in description["classes"]]
        if len(shape) != 3 or not all(0 < side <= 4096 for side in shape) or not classes:
            raise ValueError(f"input {description['input']}")
        space = (registry or Registry()).build("space", description["space"])
        task: Any = SimpleNamespace(input=shape, outputs=len(classes))
        space.check(task)
        blueprint = space.read(description["decisions"]).blueprint
        network = space.rebuild(blueprint, task, description.get("form", {}))
        return Deployed(strip(network), mean=description["mean"], std=description["std"], classes=classes, input=shape)
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"{what} does not describe a network ({type(error).__name__}: {error}): it was changed by hand"
        ) from error


def predict(network: Deployed, path: Path) -> dict[str, float]:
    """Return the share of each class that the network sees in an image file, the largest first."""
    import torch

    from automl.images import ImageError, as_array, read

    try:
        pixels = as_array(read(path, max(network.input[1:])), *network.input)
    except ImageError as error:
        raise BadInput(f"{path} cannot be predicted: {error}; give an image file") from error
    image = torch.from_numpy(pixels).float() / 255
    with torch.no_grad():
        shares = network(image[None])[0].softmax(0)
    order = shares.argsort(descending=True).tolist()
    return {network.classes[index]: float(shares[index]) for index in order}


def _known(folder: Path, description: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what the folder already says of the network so described; None where it has to be trained."""
    try:
        there, summary = runs.read_json(folder / "architecture.json"), runs.read_json(folder / "summary.json")
    except AutoMLError:
        return None
    same = all(there.get(key) == value for key, value in json.loads(json.dumps(description)).items())
    if not same or not (folder / "model.safetensors").exists() or "model" not in summary:
        return None
    known: dict[str, Any] = {
        key: summary[key]
        for key in ("test", "baseline", "model", "before", "compression", "retrain", "int8")
        if key in summary
    }
    return {**known, "seconds": {"retrain": summary.get("seconds", {}).get("retrain", 0.0)}}

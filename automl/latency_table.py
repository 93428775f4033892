"""Files of latencies: what operations take alone on one device, and networks that were measured whole there."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from automl.errors import BadInput, printable
from automl.files import write_whole
from automl.latency_model import Accuracy, Model, accuracy

SCHEMA = 1
_LARGEST = 100_000_000  # bytes
_IDENTITY = ("device", "runtime", "threads", "batch")
_HOW = "automl latency build --out FILE +space=NAME"
Image = tuple[int, ...]


@dataclass(frozen=True)
class Network:
    """A network that was measured whole: how often it has each operation, and whether it was kept to judge by."""

    counts: Mapping[str, int]
    milliseconds: float
    held_out: bool = False


@dataclass
class Table:
    """Milliseconds of one ``metric`` by operation, for a device of this ``identity`` and images of this shape.

    Operations are kernels by their names (``automl.kernels``) or options of a supernet by name and shapes. A table
    whose device is not known, an object of milliseconds by operation that somebody wrote, has no identity.
    """

    metric: str
    identity: Mapping[str, Any] | None
    image: Image | None
    operations: dict[str, float] = field(default_factory=dict)
    networks: list[Network] = field(default_factory=list)
    space: str | None = None
    source: Path | None = None

    def model(self) -> Model:
        """Return what predicts by it; it learns from all networks, held out or not."""
        return Model(self.operations, *self._learnt(self.networks))

    def judged(self) -> Accuracy | None:
        """Return how well the networks held out are predicted from the others; None where none is."""
        held = [network for network in self.networks if network.held_out]
        if not held:
            return None
        model = Model(self.operations, *self._learnt([one for one in self.networks if not one.held_out]))
        return accuracy([model.predict(one.counts) for one in held], [one.milliseconds for one in held])

    def describe(self) -> str:
        """Return in words what it is of."""
        if self.identity is None:
            return "a device that it does not name"
        threads, batch = self.identity["threads"], self.identity["batch"]
        count = "" if threads is None else f", {threads} thread{'s' * (threads != 1)}"
        return f"{self.identity['device']}, {self.identity['runtime']}{count}, batch {batch}"

    def refuse_other(self, identity: Mapping[str, Any], image: Image, what: str) -> None:
        """Raise BadInput where it is of another device, runtime, number of threads or batch, or of other images."""
        if self.identity is None:
            return
        for key in _IDENTITY:
            if self.identity[key] != identity[key]:
                raise BadInput(
                    f"{what} is of {key} {printable(str(self.identity[key]))}, and here it is "
                    f"{printable(str(identity[key]))}: choose that device (device=, device.KEY=), or make a table of "
                    f"this one by {_HOW}"
                )
        self.refuse_other_images(image, what, f"make one by {_HOW}")

    def refuse_other_images(self, image: Image, what: str, remedy: str) -> None:
        """Raise BadInput where it is of other images; ``remedy`` says what to do then."""
        if self.image is not None and tuple(self.image) != tuple(image):
            shapes = ["x".join(map(str, shape)) for shape in (self.image, image)]
            raise BadInput(f"{what} is of images of {shapes[0]}, and here they are {shapes[1]}: {remedy}")

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        places = {name: place for place, name in enumerate(self.operations)}
        networks = [
            {
                "kernels": [[places[name], number] for name, number in sorted(network.counts.items())],
                "milliseconds": network.milliseconds,
                "held_out": network.held_out,
            }
            for network in self.networks
        ]
        values: dict[str, Any] = {
            "schema": SCHEMA,
            "metric": self.metric,
            "device": None if self.identity is None else dict(self.identity),
            "image": None if self.image is None else list(self.image),
            "space": self.space,
            "operations": self.operations,
            "networks": networks,
        }
        whole = {**values, "digest": _digest(values)}
        write_whole(path, (json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())

    @staticmethod
    def _learnt(networks: list[Network]) -> tuple[list[Mapping[str, int]], list[float]]:
        return [network.counts for network in networks], [network.milliseconds for network in networks]


def read(path: Path, metric: str, what: str) -> Table:
    """Return the table of a file, of which ``what`` says where it was named; raises BadInput for any other file.

    An object of milliseconds by operation, without more, is taken for a table of a device that is not named.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise BadInput(f"{what} has more than {_LARGEST:,} bytes, so it is no table of latencies")
        values = json.loads(path.read_text())
    except OSError as error:
        raise BadInput(f"{what} cannot be read ({error.strerror}): give a file that {_HOW} wrote") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{what} is not JSON ({str(error)[:100]}): give a file that {_HOW} wrote") from error
    if not isinstance(values, dict) or not values:
        raise BadInput(
            f"{what} holds no table: give a file that {_HOW} wrote, or an object of milliseconds by operation"
        )
    if "schema" not in values:
        return Table(metric, None, None, _milliseconds(values, what), source=path)
    if values["schema"] != SCHEMA:
        raise BadInput(
            f"{what} has schema {printable(str(values['schema']))[:40]}, and here it is {SCHEMA}: make it anew"
        )
    digest = values.pop("digest", None)
    if digest != _digest(values):
        raise BadInput(f"{what} is damaged or was changed by hand, for its digest is another: make it anew by {_HOW}")
    try:
        if values["metric"] != metric:
            raise BadInput(f"{what} is of {printable(str(values['metric']))[:40]}, and here {metric} is asked for")
        operations = _milliseconds(values["operations"], what)
        names = list(operations)
        networks = [
            Network(
                {names[place]: int(number) for place, number in one["kernels"] if place >= 0 and number > 0},
                _positive(one["milliseconds"], what),
                bool(one["held_out"]),
            )
            for one in values["networks"]
        ]
        identity, image = values["device"], values["image"]
        identity = None if identity is None else {key: identity[key] for key in _IDENTITY}
        shape = None if image is None else tuple(int(side) for side in image)
        return Table(metric, identity, shape, operations, networks, values["space"], path)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise BadInput(
            f"{what} holds no table ({type(error).__name__}: {printable(str(error))[:80]}): make it anew by {_HOW}"
        ) from error


def _milliseconds(values: Mapping[str, Any], what: str) -> dict[str, float]:
    for name, value in values.items():
        if type(value) not in (int, float) or not 0 <= value < math.inf:
            _refuse(what, value, f"{printable(name)!r}", "0 or more")
    return {name: float(value) for name, value in values.items()}


def _positive(value: Any, what: str) -> float:
    if type(value) not in (int, float) or not 0 < value < math.inf:
        _refuse(what, value, "a network", "more than 0")
    return float(value)


def _refuse(what: str, value: object, name: str, bound: str) -> NoReturn:
    raise BadInput(f"{what} has {printable(json.dumps(value))[:40]} for {name}: give milliseconds, {bound}")


def _digest(values: Mapping[str, Any]) -> str:
    """Return what tells this content from any other, as it is written."""
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()

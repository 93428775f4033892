"""Makes a table of latencies of a device for a space, as ``automl latency build`` does, and says how it predicts."""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge

from automl import config as configs
from automl import device as devices
from automl import measuring
from automl.decisions import Architecture
from automl.deploy import Deployed, exported
from automl.errors import BadInput, TrialFailed, printable
from automl.kernel_files import Files
from automl.kernels import Kernel, Placed, counts, cut
from automl.latency_model import CALL, Accuracy, accuracy, kind
from automl.latency_table import Network, Table
from automl.plugins import Registry, check
from automl.prediction import time_kernels
from automl.space import Origin, Space

if TYPE_CHECKING:
    from torch.nn import Module

LEAST = 8  # networks
_HELD = 4  # one of so many networks is held out
_SIBLINGS = 4  # besides a network that is drawn, others that are made of the same one
_TRIES = 50  # to draw a network that is new, for each


@dataclass(frozen=True)
class Built:
    """A table, and how well the networks that were held out are predicted by it and by simpler means."""

    table: Table
    judged: Accuracy
    alone: Accuracy  # the sum of the kernels, times one factor
    counted: Accuracy  # by multiply-adds alone, a straight line
    shipped: float  # how many times as long a network takes that is exported as it is shipped, one that was held out

    def as_json(self) -> str:
        """Return the figures as one JSON object."""
        figures = {"predicted": self.judged, "kernels_by_a_factor": self.alone, "multiply_adds": self.counted}
        whole = {
            "device": self.table.identity,
            "space": self.table.space,
            "image": self.table.image,
            "kernels": len(self.table.operations) - 1,
            "networks": len(self.table.networks),
            "shipped_by_put_together": self.shipped,
            **{name: asdict(figure) for name, figure in figures.items()},
        }
        return json.dumps(whole, ensure_ascii=False)

    def as_text(self) -> str:
        """Return it for reading."""
        table, networks = self.table, len(self.table.networks)
        kinds = len({kind(name) for name in table.operations}) - 1
        return "\n".join(
            [
                f"Space {printable(str(table.space))}, {len(table.operations) - 1} kernels of {kinds} kinds timed "
                f"alone and {networks} networks whole, on {printable(table.describe())}",
                f"Predicted: {self.judged.describe()}, from the {networks - self.judged.networks} others",
                f"  their kernels' sum by one factor {self.alone.mape:.1%}, Spearman {self.alone.spearman:.3f}; "
                f"by multiply-adds alone {self.counted.mape:.1%}, {self.counted.spearman:.3f}",
                f"Networks are put together from kernels; one exported as it is shipped takes {self.shipped:.2f} times "
                "as long",
            ]
        )


def build(
    words: Sequence[str],
    *,
    networks: int = 40,
    image: tuple[int, int, int] | None = None,
    classes: int | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> Built:
    """Make a table for the space, the images and the device that the words of a search describe.

    So many different networks are drawn by the seed, of which one in four is held out. Their kernels are timed alone,
    and the networks, put together from the kernels, whole: exporting each would take many times as long. One is
    exported as it would be shipped, too, and compared. Where networks are made of others, these are among them, and a
    few more are made of each whose kernels are timed: so all are known at several widths. What goes on is told by
    ``say``, a line each. Raises BadInput for what does not fit.
    """
    if networks < LEAST:
        raise BadInput(f"--networks {networks} is too few to fit and to judge by: give at least {LEAST}")
    registry = Registry()
    values = configs.resolved(configs.compose(words, registry))
    seed = check(values.get("seed"), Annotated[int, Ge(0)] | None, "seed")
    seed = secrets.randbelow(1 << 31) if seed is None else seed
    device = devices.build(values.get("device"))
    device.check()
    space, task, settings = measuring.described(words, values, registry, image, classes, seed)
    space.check(task)
    say(f"{networks} networks are drawn")
    cutter = _Cutter(space, task, device.batch, seed)
    drawn, last = cutter.draw(networks)
    known = cutter.kernels
    say(f"{len(known)} kernels and one network are exported")
    files = Files()
    files.add(list(known.values()))
    shipped = exported(last, task)
    say(f"{len(known)} kernels are timed on {device.describe()}")
    call = device.quietest({CALL: nothing()}, (1, 1, 1))[CALL]
    operations = {CALL: call, **time_kernels(known, files, device, call)}
    say(f"{len(drawn)} networks are timed")
    models = {str(place): files.network(placed) for place, placed in enumerate(drawn)}
    taken = device.quietest({**models, "shipped": shipped}, task.input)
    whole = [
        Network(dict(counts(placed)), taken[str(place)], place % _HELD == _HELD - 1)
        for place, placed in enumerate(drawn)
    ]
    table = Table("latency_ms", device.identity, task.input, operations, whole, measuring.names(settings)[0])
    ratio = taken["shipped"] / taken[str(len(drawn) - 1)]
    return _judged(table, {name: kernel.multiply_adds for name, kernel in known.items()}, ratio)


def nothing() -> bytes:
    """Return an ONNX file that gives back the one number that it is given: what it takes is the call."""
    import onnx

    given, made = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 1, 1, 1]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "nothing", [given], [made])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    data: bytes = model.SerializeToString()
    return data


class _Cutter:
    """Draws networks of a space and cuts them into kernels, all of which it keeps by name."""

    def __init__(self, space: Space[Any], task: Any, batch: int, seed: int) -> None:
        self.kernels: dict[str, Kernel] = {}
        self._space, self._task, self._batch, self._seed = space, task, batch, seed
        self._rng = random.Random(seed)
        self._seen: set[Any] = set()

    def draw(self, networks: int) -> tuple[list[list[Placed]], Module]:
        """Draw so many that differ in their kernels, and return them cut, with the last as it is.

        Those that others are made of are among them, and of what else is made of these the kernels are kept. Raises
        BadInput where the space has not so many.
        """
        found: list[list[Placed]] = []
        for owner, architecture in islice(self._architectures(), _TRIES * networks):
            made = self._cut(owner, architecture)
            if made is None:
                continue
            network, placed = made
            form = frozenset(counts(placed).items())
            if not placed or form in self._seen:
                continue
            self._seen.add(form)
            found.append(placed)
            if owner is not self._space:
                for _ in range(_SIBLINGS):
                    self._cut(self._space, self._space.complete(architecture.values, self._rng))
            if len(found) == networks:
                return found, network
        raise BadInput(
            f"this space has only {len(found)} networks of different kernels, or hardly more, and --networks asks for "
            f"{networks}: "
            + (f"give --networks {len(found)}" if len(found) >= LEAST else "automl measure times each of them")
        )

    def _architectures(self) -> Iterator[Origin]:
        """Draw architectures without end, each after that which its network is made of, where it is made of another."""
        while True:
            architecture = self._space.sample(self._rng)
            origin = self._space.origin(architecture.blueprint)
            if origin is not None:
                yield origin
            yield Origin(self._space, architecture)

    def _cut(self, owner: Space[Any], architecture: Architecture) -> tuple[Module, list[Placed]] | None:
        """Build and cut a network; None where it was met before, or cannot be built, as candidates may not be."""
        if architecture in self._seen:
            return None
        self._seen.add(architecture)
        try:
            network = measuring.built(owner, architecture, self._task, self._seed)
            placed = cut(Deployed.of(network, self._task), self._task.input, self._batch)
        except (BadInput, TrialFailed):
            return None
        self.kernels |= {one.kernel.name: one.kernel for one in placed}
        return network, placed


def _judged(table: Table, multiply_adds: dict[str, int], shipped: float) -> Built:
    """Return the table with how well those held out are predicted, and how well by simpler means."""
    import numpy as np

    judged = table.judged()
    assert judged is not None
    learnt, held = ([one for one in table.networks if one.held_out is out] for out in (False, True))
    truth = [one.milliseconds for one in held]
    model = table.model()
    factor = float(np.median([one.milliseconds / model.sum(one.counts) for one in learnt]))

    def work(network: Network) -> float:
        return float(sum(number * multiply_adds[name] for name, number in network.counts.items()))

    slope, start = np.polyfit([work(one) for one in learnt], [one.milliseconds for one in learnt], 1)
    return Built(
        table,
        judged,
        accuracy([factor * model.sum(one.counts) for one in held], truth),
        accuracy([max(1e-6, float(slope * work(one) + start)) for one in held], truth),
        shipped,
    )

"""How many milliseconds each option of a network of soft choices takes: a table, measured here or given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from automl import TrialFailed, latency_table, measure
from automl.device import Device, Here, candidate_latency
from automl.errors import printable
from automl.latency_table import Table
from automl.mixture import Mixture
from automl.prediction import Prediction

Shape = tuple[int, ...]  # of one image or map: channels x height x width


def milliseconds(kind: str, network: nn.Module, task: Any, device: Device | None = None) -> float:
    """Return the median time of a network for one image.

    The kind is latency_ms, exported and on the device, None being this CPU in onnxruntime, or latency_torch_ms, on one
    thread of this CPU. Of the task only what ``automl.deploy.Deployed`` takes is looked at. Raises TrialFailed for
    what cannot be exported or measured.
    """
    if kind == "latency_ms":
        return candidate_latency(device, network, task)
    return measure.torch_latency(network, task.input).median_ms


def identity(kind: str, device: Device) -> Mapping[str, Any]:
    """Return what such latencies rest on: the device, or PyTorch here."""
    if kind == "latency_ms":
        return device.identity
    return {**Here().identity, "runtime": f"torch {torch.__version__}"}


@dataclass
class Latencies:
    """Milliseconds of one kind by operation and shapes, as "sep3x3 16x8x8 -> 16x8x8".

    What is not known is measured, each once, less what an identity takes there: calling it. By a file that
    ``automl latency build`` wrote it is predicted instead, the kernels of the operation summed. Of a file whose device
    is not known, or is not this machine, what it lacks is not measured.
    """

    kind: str
    table: Table = field(default_factory=lambda: Table("", None, None))
    device: Device | None = None  # None: this machine
    prediction: Prediction | None = None

    def __post_init__(self) -> None:
        self._idle: dict[Shape, float] = {}

    @property
    def known(self) -> dict[str, float]:
        """The milliseconds by operation."""
        return self.table.operations

    @property
    def source(self) -> Path | None:
        """The file that the table is of."""
        return self.table.source

    @classmethod
    def new(cls, kind: str, device: Device | None, image: Shape) -> Latencies:
        """Return an empty table of the device."""
        return cls(kind, Table(kind, identity(kind, device or Here()), image), device)

    @classmethod
    def read(cls, kind: str, path: Path, device: Device | None, image: tuple[int, int, int]) -> Latencies:
        """Read a table from a file; raises BadInput for one that is none, or of another device or other images."""
        what = f"evaluator.latencies={printable(str(path))}"
        table = latency_table.read(path, kind, what)
        table.refuse_other(identity(kind, device or Here()), image, what)
        prediction = Prediction(table, device or Here(), image, what) if table.networks else None
        return cls(kind, table, device, prediction)

    def options(
        self, network: nn.Module, weights: Mapping[str, Sequence[float]], task: Any
    ) -> tuple[float, dict[str, list[float]]]:
        """Return what the network takes but for its choices, and by decision what each option does in all its places.

        The network is one of mixtures, freshly built, on the CPU; it is used up. What an option takes is that of a pass
        at the shape that its place is given (FBNet; Wu et al., 2019, and ProxylessNAS; Cai et al., 2019). The rest is
        the network with nothing in the places of its mixtures, sums and concatenations included. Raises TrialFailed
        where the given table lacks some.
        """
        measure.strip(network)
        passes = _passes(network, task.input)
        _empty(network, passes)
        rest = f"rest {_by(task.input)} of {measure.parameters(network)} parameters"
        self._refuse([rest, *(name for one in passes for name in one.names)])
        if rest not in self.known:
            self.known[rest] = self._whole(network, task)
        sums = {decision: [0.0] * len(some) for decision, some in weights.items()}
        for one in passes:
            for place, (name, option) in enumerate(zip(one.names, one.mixture.options, strict=True)):
                if name not in self.known:
                    self.known[name] = self._adds(option, one.given)
                sums[one.mixture.decision][place] += self.known[name]
        return self.known[rest], sums

    def _refuse(self, names: Sequence[str]) -> None:
        lacking = list(dict.fromkeys(name for name in names if name not in self.known))
        if self.source is None or self.prediction is not None:
            return
        if lacking and (self.table.identity is None or not isinstance(self.device or Here(), Here)):
            raise TrialFailed(
                f"evaluator.latencies={printable(str(self.source))} has no {lacking[0]!r}"
                + (f", nor {len(lacking) - 1} more that this search needs" if lacking[1:] else "")
                + ": add them, or have all measured by evaluator.latencies=null, which writes latencies.json"
            )

    def _whole(self, network: nn.Module, task: Any) -> float:
        """Return what a network takes."""
        if self.prediction is not None:
            return self.prediction.milliseconds(network, task)
        return milliseconds(self.kind, network, task, self.device)

    def _adds(self, option: nn.Module, shape: Shape) -> float:
        """Return what an option adds to a network where its input has this shape."""
        if self.prediction is not None:
            channels, height, width = shape
            return self.prediction.alone(option, (channels, height, width))
        return max(0.0, self._alone(option, shape) - self._calling(shape))

    def _calling(self, shape: Shape) -> float:
        if shape not in self._idle:
            self._idle[shape] = self._alone(nn.Identity(), shape)
        return self._idle[shape]

    def _alone(self, module: nn.Module, shape: Shape) -> float:
        channels = shape[0]
        facts = SimpleNamespace(input=shape, mean=[0.0] * channels, std=[1.0] * channels, classes=[])
        return milliseconds(self.kind, module, facts, self.device)


class _Nothing(nn.Module):
    """Stands where a mixture was, and costs nothing: its input, or where that has another shape a number of it."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor, memo: object = None) -> Tensor:
        return x if tuple(x.shape[1:]) == self.shape else x[:, :1, :1, :1].expand(-1, *self.shape)


class _Pass(NamedTuple):
    """One pass of an image through a mixture: the shapes that its options are given and make, and that it makes."""

    mixture: Mixture
    given: Shape
    made: Shape
    whole: Shape

    @property
    def names(self) -> list[str]:
        """The options' keys in a table."""
        shapes = f"{_by(self.given)} -> {_by(self.made)}"
        return [f"{option.automl_choice[1]} {shapes}" for option in self.mixture.options]  # type: ignore[index]


def _passes(network: nn.Module, image: Shape) -> list[_Pass]:
    """Return each pass of an image through a mixture, in order."""
    seen: list[_Pass] = []
    handles = []

    def see(mixture: Mixture, given: tuple[Tensor, ...], made: Tensor) -> None:
        part = given[0][:, : given[0].shape[1] // mixture.share]
        of_option = mixture.options[0](part)
        seen.append(_Pass(mixture, *(tuple(tensor.shape[1:]) for tensor in (part, of_option, made))))

    for mixture in (module for module in network.modules() if isinstance(module, Mixture)):
        mixture.weights = torch.ones(len(mixture.options))
        handles.append(mixture.register_forward_hook(see))
    with measure.at_rest(network), torch.no_grad():
        network(torch.zeros(1, *image))
    for handle in handles:
        handle.remove()
    return seen


def _empty(network: nn.Module, passes: Sequence[_Pass]) -> None:
    """Put nothing into the places of the mixtures."""
    made = {id(one.mixture): one.whole for one in passes}
    for name, module in list(network.named_modules()):
        if id(module) in made:
            parent, _, own = name.rpartition(".")
            network.get_submodule(parent)._modules[own] = _Nothing(made[id(module)])


def _by(shape: Shape) -> str:
    return "x".join(map(str, shape))

"""How many milliseconds each option of a network of soft choices takes: a table, measured here or given."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from automl import BadInput, TrialFailed, deploy, measure
from automl.errors import printable
from automl.mixture import Mixture

Shape = tuple[int, ...]  # of one image or map: channels x height x width


def milliseconds(kind: str, network: nn.Module, task: Any) -> float:
    """Return the median time of a network for one image, on one thread of the CPU.

    The kind is latency_ms, exported and in onnxruntime, or latency_torch_ms. Of the task only what
    ``automl.deploy.Deployed`` takes is looked at. Raises BadInput for what cannot be exported.
    """
    if kind == "latency_ms":
        return deploy.latency(network, task).median_ms
    return measure.torch_latency(network, task.input).median_ms


@dataclass
class Latencies:
    """Milliseconds of one kind by operation and shapes, as "sep3x3 16x8x8 -> 16x8x8".

    What is not known is measured, each once, less what an identity takes there: calling it. Where all was given in a
    file, its ``source``, nothing is measured, for it may be of another device.
    """

    kind: str
    known: dict[str, float] = field(default_factory=dict)
    source: Path | None = None

    def __post_init__(self) -> None:
        self._idle: dict[Shape, float] = {}

    @classmethod
    def read(cls, kind: str, path: Path) -> Latencies:
        """Read a table from a file, a JSON object; raises BadInput for anything else."""
        what = f"evaluator.latencies={printable(str(path))}"
        try:
            table = json.loads(path.read_text())
        except OSError as error:
            raise BadInput(f"{what} cannot be read ({error.strerror}): give a latencies.json of a run") from error
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{what} is not JSON ({str(error)[:100]}): give a latencies.json of a run") from error
        if not isinstance(table, dict) or not table:
            raise BadInput(
                f"{what} holds no table: give an object of milliseconds by operation, a run's latencies.json"
            )
        for name, value in table.items():
            if type(value) not in (int, float) or not (0 <= value < math.inf):
                found = printable(json.dumps(value))[:40]
                raise BadInput(f"{what} has {found} for {printable(name)!r}: give milliseconds, 0 or more")
        return cls(kind, {name: float(value) for name, value in table.items()}, path)

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
            self.known[rest] = milliseconds(self.kind, network, task)
        sums = {decision: [0.0] * len(some) for decision, some in weights.items()}
        for one in passes:
            for place, (name, option) in enumerate(zip(one.names, one.mixture.options, strict=True)):
                if name not in self.known:
                    self.known[name] = max(0.0, self._alone(option, one.given) - self._calling(one.given))
                sums[one.mixture.decision][place] += self.known[name]
        return self.known[rest], sums

    def _refuse(self, names: Sequence[str]) -> None:
        lacking = list(dict.fromkeys(name for name in names if name not in self.known))
        if self.source is not None and lacking:
            raise TrialFailed(
                f"evaluator.latencies={printable(str(self.source))} has no {lacking[0]!r}"
                + (f", nor {len(lacking) - 1} more that this search needs" if lacking[1:] else "")
                + ": add them, or have all measured by evaluator.latencies=null, which writes latencies.json"
            )

    def _calling(self, shape: Shape) -> float:
        if shape not in self._idle:
            self._idle[shape] = self._alone(nn.Identity(), shape)
        return self._idle[shape]

    def _alone(self, module: nn.Module, shape: Shape) -> float:
        channels = shape[0]
        facts = SimpleNamespace(input=shape, mean=[0.0] * channels, std=[1.0] * channels, classes=[])
        return milliseconds(self.kind, module, facts)


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

"""Toy spaces and toy evaluators, for studies that cost nothing."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge

from automl.decisions import Choose, Integer, Op, Options, Real
from automl.evaluator import Evaluator
from automl.space import Space
from automl.task import Data, Task
from automl.trial import Objective, Report, Trial

if TYPE_CHECKING:
    from torch.nn import Module

NO_TASK: Any = None  # what a toy study is given for its task: nothing here looks at it
OBJECTIVES = (Objective("accuracy"),)


@dataclass
class ToySpace(Space[tuple[int, ...]]):
    """Independent decisions, each of so many options: the simplest space there is."""

    decisions: Annotated[int, Ge(1)] = 4
    options: Annotated[int, Ge(1)] = 3

    def describe(self, choose: Choose) -> tuple[int, ...]:
        return tuple([choose(f"d{number}", range(self.options)) for number in range(self.decisions)])

    def build(self, blueprint: tuple[int, ...], task: Task) -> Module:
        raise NotImplementedError("a toy space builds no network")


@dataclass
class ConditionalSpace(Space[Any]):
    """One of everything: nested conditions, domains that depend on earlier decisions, priors, tuples, look-alikes.

    With ``rate`` there is a decision over real numbers too, and so no end of architectures.
    """

    rate: bool = True

    def describe(self, choose: Choose) -> Any:
        depth = choose("depth", range(1, 4))
        width = choose("width", Integer(1, 8, log=True))
        layers: list[Any] = []
        for number in range(depth):
            kind = choose(f"layer.{number}.kind", _KINDS, context=(number / depth, 1.0))
            kernel = choose(f"layer.{number}.kernel", _KERNELS) if kind.name == "conv" else None
            layers.append((kind.name, kernel, choose(f"layer.{number}.channels", Integer(1, width))))
        momentum = choose("momentum", [None, 0.9, "0.9", True])
        rate = choose("rate", Real(1e-4, 1e-1, log=True)) if self.rate and momentum is not None else None
        return tuple(layers), momentum, rate

    def build(self, blueprint: Any, task: Task) -> Module:
        raise NotImplementedError("a toy space builds no network")


def _no_module() -> Module:
    raise NotImplementedError("a toy operation makes no module")


_KINDS = Options((Op("conv", _no_module), Op("pool", _no_module), Op("skip", _no_module)), prior=(2, 1, 1))
_KERNELS = ((3, 3), (5, 5), (3, 5))


@dataclass
class ToyNetworks(Space[int]):
    """Networks of one convolution, so many channels wide, normalised, pooled, and a linear layer."""

    widths: tuple[int, ...] = (4, 8)

    def describe(self, choose: Choose) -> int:
        return int(choose("width", self.widths))

    def build(self, blueprint: int, task: Task) -> Module:
        from torch import nn

        return nn.Sequential(
            nn.Conv2d(task.input[0], blueprint, 3, padding=1, bias=False),
            nn.BatchNorm2d(blueprint),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * blueprint, task.outputs),
        )


@dataclass(kw_only=True)
class ToyTask(Task):
    """Forty-eight small pictures of noise in three classes, which differ in brightness."""

    batch_size: Annotated[int, Ge(2)] = 8
    size: Annotated[int, Ge(2)] = 6

    name: ClassVar[str] = "toy"

    def load(self) -> Data:
        import numpy as np

        labels = np.arange(48) % 3
        noise = np.random.default_rng(0).integers(0, 64, (48, 3, self.size, self.size))
        images = (noise + 64 * labels[:, None, None, None]).astype(np.uint8)
        return Data(images, labels, ["dark", "grey", "bright"])


@dataclass
class Checksum(Evaluator):
    """Reports an accuracy in [0, 1) that depends on the decisions alone, in so many reports; free of cost."""

    reports: Annotated[int, Ge(1)] = 1

    def evaluate(self, trial: Trial) -> Iterator[Report]:
        accuracy = zlib.crc32(json.dumps(trial.architecture.to_json()).encode()) / 2**32
        for number in range(1, self.reports + 1):
            share = number / self.reports
            yield Report({"accuracy": accuracy * share}, share)


@dataclass
class Scripted(Evaluator):
    """Does by trial number what it is given: reports metrics, raises an exception, or ends without a report.

    Trials beyond the script report ``otherwise``.
    """

    script: Mapping[int, Mapping[str, float] | BaseException | None]
    otherwise: float = 0.5

    def evaluate(self, trial: Trial) -> Iterator[Report]:
        act = self.script.get(trial.number, {"accuracy": self.otherwise})
        if isinstance(act, BaseException):
            raise act.with_traceback(None)  # one that was raised before still has its frames
        if act is not None:
            yield Report(act)

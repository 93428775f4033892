"""What is taken down of a network that runs: its operations, its layers, and the places of their channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from torch import Tensor

from automl_compressors.labels import Count, leaves

Role = Literal["makes", "reads", "follows"]

_NUMPY = {"input": "x", "dim": "axis", "keepdim": "keepdims"}


class Unfollowed(Exception):
    """An operation does what the rules do not know: the channels that it is given must stay."""


@dataclass(frozen=True)
class Call:
    """One operation: what it was given, where counts may stand for numbers, and what it gave."""

    name: str
    function: Callable[..., Any]
    arguments: Sequence[Any]
    keywords: Mapping[str, Any]
    result: Any
    multiply_adds: int

    def get(self, place: int, name: str, default: Any = None) -> Any:
        """Return an argument by its place, or its name, or that of NumPy."""
        if place < len(self.arguments):
            return self.arguments[place]
        return self.keywords.get(name, self.keywords.get(_NUMPY.get(name, name), default))

    @property
    def input(self) -> Tensor:
        """The tensor that it is done to; raises Unfollowed for one that is given by an unusual name."""
        found = self.get(0, "input")
        if not isinstance(found, Tensor):
            raise Unfollowed
        return found

    @property
    def given(self) -> Iterator[Any]:
        """The tensors and counts among the arguments."""
        yield from leaves(self.arguments)
        yield from leaves(dict(self.keywords))

    @property
    def tensors(self) -> list[Tensor]:
        return [value for value in self.given if isinstance(value, Tensor)]

    @property
    def counts(self) -> list[Count]:
        return [value for value in self.given if isinstance(value, Count)]

    @property
    def results(self) -> list[Tensor]:
        return [value for value in leaves(self.result) if isinstance(value, Tensor)]


class Place(NamedTuple):
    """One dimension of a parameter or buffer."""

    parameter: str
    dim: int


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer as it is first run: what describes it, and what it costs.

    The input is ``inputs`` x height x width, of which a linear layer sees one pixel; the weights are outputs x
    inputs / groups x kernel, and lie in the parameter ``weight``. The multiply-adds are of one image and all calls.
    """

    name: str
    weight: str
    outputs: int
    inputs: int
    height: int
    width: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    groups: int
    multiply_adds: int

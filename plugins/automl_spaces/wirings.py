"""What a layer of a multi-branch network reads: any earlier ones, one more, all, or the one before it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from automl import Choose
from automl_spaces.dags import INPUT

Reads = tuple[tuple[int, ...], str]  # the layers that are read, INPUT for the image, and how they are merged
_BITS = (False, True)
_MERGES = ("add", "concat")


class Wiring(ABC):
    """How the layer of a place chooses what it reads, and in how many ways."""

    def __init__(self, place: int) -> None:
        self.earlier = range(INPUT, place)
        self.names = [f"layer{place}.reads_{'image' if read == INPUT else read}" for read in self.earlier]
        self.name = f"layer{place}"

    @property
    @abstractmethod
    def ways(self) -> int:
        """The number of different answers."""

    @abstractmethod
    def decide(self, choose: Choose) -> Reads:
        """Return what is read, in order, and how it is merged: not at all, if it is one."""


class Free(Wiring):
    """Any earlier layers, at least one, added or concatenated."""

    def __init__(self, place: int) -> None:
        super().__init__(place)
        self.merge = f"{self.name}.merge"

    @property
    def ways(self) -> int:
        several = int(2 ** len(self.earlier)) - 1 - len(self.earlier)
        return len(self.earlier) + len(_MERGES) * several

    def decide(self, choose: Choose) -> Reads:
        reads = [read for read, name in zip(self.earlier[:-1], self.names, strict=False) if choose(name, _BITS)]
        if not reads or choose(self.names[-1], _BITS):  # the last one is read where none else is
            reads.append(self.earlier[-1])
        return tuple(reads), choose(self.merge, _MERGES) if len(reads) > 1 else ""


class Residual(Wiring):
    """The layer before, and one earlier that is added to it, or none (He et al., 2016)."""

    def __init__(self, place: int) -> None:
        super().__init__(place)
        self.skip = f"{self.name}.skip"
        self.skips = {"none": None, **{("image" if read == INPUT else str(read)): read for read in self.earlier[:-1]}}
        self.options = tuple(self.skips)

    @property
    def ways(self) -> int:
        return len(self.skips)

    def decide(self, choose: Choose) -> Reads:
        read = self.skips[choose(self.skip, self.options)] if len(self.options) > 1 else None
        return ((self.earlier[-1],), "") if read is None else ((read, self.earlier[-1]), "add")


class Dense(Wiring):
    """All earlier layers and the image, concatenated (Huang et al., 2017)."""

    ways = 1

    def decide(self, choose: Choose) -> Reads:
        return tuple(self.earlier), "concat" if len(self.earlier) > 1 else ""


class Chain(Wiring):
    """The layer before."""

    ways = 1

    def decide(self, choose: Choose) -> Reads:
        return (self.earlier[-1],), ""


WIRINGS: Mapping[str, type[Wiring]] = {"any": Free, "residual": Residual, "dense": Dense, "chain": Chain}

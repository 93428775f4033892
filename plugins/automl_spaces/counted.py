"""Spaces whose number of descriptions follows from a formula."""

from __future__ import annotations

from abc import abstractmethod
from typing import TypeVar

from automl import Space

Blueprint = TypeVar("Blueprint")


class Counted(Space[Blueprint]):
    """A space that knows its size without running through it."""

    @abstractmethod
    def size(self) -> int:
        """Return the number of descriptions, by a formula."""

    def exceeds(self, number: int) -> bool:
        return self.size() > number

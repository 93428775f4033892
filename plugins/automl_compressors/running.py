"""Where a network is while it runs, what it returns, and what is said where it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.nn import Module


class Running:
    """Follows which module of a network runs; what leaves is told to ``seen`` with its name and result."""

    def __init__(self, network: Module, seen: Callable[[str, Any], None] | None = None) -> None:
        self._stack: list[str] = []
        self._seen = seen
        for path, module in network.named_modules():
            if not isinstance(module, torch.jit.ScriptModule):  # which takes no hooks
                module.register_forward_pre_hook(self._entering(path))
                module.register_forward_hook(self._leaving(path))

    @property
    def path(self) -> str:
        """The module that runs; after an error, the one that raised it."""
        return self._stack[-1] if self._stack else ""

    def failure(self, error: BaseException) -> str:
        """Return who raised what."""
        who = f"its part {self.path!r}" if self.path else "it"
        return f"{who} raises {said(error)}"

    def _entering(self, path: str) -> Any:
        return lambda module, given: self._stack.append(path)

    def _leaving(self, path: str) -> Any:
        def leave(module: Module, given: Any, result: Any) -> None:
            while self._stack.pop() != path:  # what raised and was caught never left
                pass
            if self._seen is not None:
                self._seen(path, result)

        return leave


def said(error: BaseException) -> str:
    """Return an error's kind and first line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}".rstrip(": ")


def tensors_in(value: Any, seen: frozenset[int] = frozenset()) -> Iterator[Tensor]:
    """Yield the tensors in what a network returns: also those in mappings, and in attributes of objects."""
    if isinstance(value, Tensor):
        yield value
    elif id(value) in seen or isinstance(value, str | bytes):
        return
    elif isinstance(value, Mapping):
        yield from tensors_in(list(value.values()), seen | {id(value)})
    elif isinstance(value, Sequence | set | frozenset):
        for item in value:
            yield from tensors_in(item, seen | {id(value)})
    elif hasattr(value, "__dict__"):
        yield from tensors_in(vars(value), seen | {id(value)})

"""What a training, or a search, goes on from: one file that holds tensors and numbers and nothing that runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.errors import BadInput
from automl.files import make_folders, write_whole

if TYPE_CHECKING:
    from torch import Tensor

SCHEMA = 1


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and the plain facts that go with them: where in the schedule, which seed, which network."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]

    def save(self, path: Path) -> None:
        """Write it whole or not at all, and make its folder; facts are in the header, never parted from the tensors."""
        from safetensors.torch import save

        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in self.tensors.items()}
        header = {"automl": json.dumps({"schema": SCHEMA, **self.facts}, allow_nan=False)}
        make_folders(path.parent)
        write_whole(path, save(tensors, metadata=header))

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read what ``save`` wrote; raises BadInput for anything else, of which nothing is run or imported."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="pt") as file:
                facts = json.loads((file.metadata() or {}).get("automl", "null"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- it is no mapping
        except (SafetensorError, OSError, ValueError) as error:
            raise BadInput(f"{path} is no checkpoint ({error}): only safetensors files are read") from None
        if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
            raise BadInput(f"{path} is no checkpoint of a training: only files that a training wrote are read")
        return cls(tensors, facts)

    def copy_into(self, targets: Mapping[str, Tensor], what: str) -> None:
        """Copy each tensor into the target of its name; raises BadInput unless names and shapes are the same."""
        import torch

        mine = {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}
        theirs = {name: tuple(tensor.shape) for name, tensor in targets.items()}
        for name in mine.keys() | theirs.keys():
            if mine.get(name) != theirs.get(name):
                found = mine.get(name, "nothing")
                wanted = theirs.get(name, "nothing")
                raise BadInput(f"the checkpoint of {what} has {found} for {name!r} where the network has {wanted}")
        with torch.no_grad():
            for name, target in targets.items():
                target.copy_(self.tensors[name])

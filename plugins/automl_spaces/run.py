"""The network that a finished run found, with its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import BadInput, Choose, Space, Task, runs
from automl.errors import printable

if TYPE_CHECKING:
    from torch.nn import Module


@dataclass
class Run(Space[None]):
    """The final network of the run in a folder, as it was trained: to be compressed, or trained further.

    There is no decision to make. It takes the images and classes of its own task, so choose the same task. ``network``
    is what stands in a result made of it, so that this can be loaded without the run: its description, without weights.
    """

    run: str | None = None
    network: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if (self.run is None) == (self.network is None):
            raise BadInput("space run needs the folder of a finished run: type space.run=FOLDER")
        if self.run is not None:
            self._description = runs.read_json(self._file("architecture.json"))
        else:
            self._description = dict(self.network or {})

    @property
    def given(self) -> bool:  # type: ignore[override]
        return self.run is not None

    def _file(self, name: str) -> Path:
        path = Path(str(self.run)).expanduser() / name
        if not path.is_file():
            raise BadInput(
                f"space.run={printable(str(self.run))} has no final network ({name} is not there): give the folder "
                "of a run that ended, with a network retrained"
            )
        return path

    def describe(self, choose: Choose) -> None:
        return None

    def check(self, task: Task) -> None:
        own = tuple(self._description["input"]), len(self._description["classes"])
        if own != (tuple(task.input), task.outputs):
            shown = [
                f"{' x '.join(map(str, shape))} in {count} classes"
                for shape, count in (own, (task.input, task.outputs))
            ]
            raise BadInput(
                f"the network of the run takes images of {shown[0]}, and the task has {shown[1]}: "
                f"choose its own, task={printable(str(self._description.get('task')))}"
            )

    def build(self, blueprint: None, task: Task) -> Module:
        from automl.deploy import load_weights
        from automl.final import rebuilt

        self.check(task)
        deployed = rebuilt(self._description, "the description of the run's network")
        if self.run is not None and not deployed.mean.is_meta:
            load_weights(deployed, self._file("model.safetensors"))
        return deployed.network

    def portable(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"name": settings["name"], "network": self._description}

    def digest(self) -> str | None:
        from automl.files import digest

        return None if self.run is None else digest(self._file("model.safetensors"))

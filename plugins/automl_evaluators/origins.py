"""The trained networks that others are made of, each trained once in a run."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections import OrderedDict
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import Origin, Task, Trainer, TrialFailed, measure
from automl.files import make_folders, remove_folder, write_json

if TYPE_CHECKING:
    from torch.nn import Module

_AFTERWARDS = ("tuning", "tuning_rate")
KEPT = 4  # networks in memory, the latest used
_log = logging.getLogger("automl")


class Origins:
    """Trained networks by their architecture, in memory and, where there is a folder, in files.

    One of a space without decisions is trained as the final network would be, where a run has such a trainer: it is
    what is to be compressed. Others stand for many, and are trained as candidates are.
    """

    def __init__(self, task: Task, candidates: Trainer, final: Trainer | None, folder: Path | None, seed: int) -> None:
        self._task, self._candidates, self._final, self._folder, self._seed = task, candidates, final, folder, seed
        self._networks: OrderedDict[str, Module] = OrderedDict()
        self._multiply_adds: dict[str, int] = {}
        self._failed: dict[str, str] = {}  # why, of those that could not be trained

    def network(self, origin: Origin) -> Module:
        """Return a trained network of that architecture, at rest on the CPU, which is the caller's to change.

        Raises TrialFailed where it could not be trained, and then without another try.
        """
        trainer, key = self._made(origin)
        if key in self._failed:
            raise TrialFailed(self._failed[key])
        if key not in self._networks:
            try:
                self._networks[key] = self._trained(origin, trainer, key)
            except TrialFailed as error:
                self._failed[key] = f"the network that is to be made smaller could not be trained: {error}"
                raise TrialFailed(self._failed[key]) from error
            if len(self._networks) > KEPT:
                self._networks.popitem(last=False)
        self._networks.move_to_end(key)
        return copy.deepcopy(self._networks[key])

    def multiply_adds(self, origin: Origin) -> int:
        """Return the multiply-adds for one image of that network, counted once."""
        _, key = self._made(origin)
        if key not in self._multiply_adds:
            self._multiply_adds[key] = measure.multiply_adds(self.network(origin), self._task.input)
        return self._multiply_adds[key]

    def _made(self, origin: Origin) -> tuple[Trainer, str]:
        """Return what trains a network, and what tells it from any other in a run."""
        trainer = self._final if self._final is not None and is_one(origin) else self._candidates
        made = repr((type(trainer).__name__, settings(trainer), origin.space, self._seed))
        text = json.dumps([made, origin.architecture.to_json()])
        return trainer, hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def _trained(self, origin: Origin, trainer: Trainer, key: str) -> Module:
        from automl.files import in_turn
        from automl.measure import strip

        space, architecture = origin
        if space.given:
            return strip(space.build(architecture.blueprint, self._task))
        if self._folder is None:
            return self._trained_at(None, origin, trainer)
        path = self._folder / "origins" / f"{key}.safetensors"
        with in_turn(path.with_suffix(".lock")):  # of several workers one trains it, and the others wait for that
            return self._trained_at(path, origin, trainer)

    def _trained_at(self, path: Path | None, origin: Origin, trainer: Trainer) -> Module:
        """Return the network that a file holds, or train it, and write the file."""
        from automl.deploy import load_weights
        from automl.measure import strip

        space, architecture = origin
        form = None if path is None else path.with_suffix(".json")
        if path is not None and form is not None and path.exists() and form.exists():
            network = strip(space.rebuild(architecture.blueprint, self._task, json.loads(form.read_text())))
            load_weights(network, path)
            return network
        inner = copy.copy(trainer)
        inner.start(space, self._task)
        _log.info("the network that is made smaller is trained first")
        checkpoint = None if path is None else path.with_suffix("")
        if checkpoint is not None:
            make_folders(checkpoint)
        network = inner.fit(architecture, self._seed, checkpoint=checkpoint)
        if path is not None and form is not None and checkpoint is not None:
            _keep(network, path, form, checkpoint)
        return network


def is_one(origin: Origin) -> bool:
    """Return whether it is the only network of its space."""
    return not origin.architecture.values


def settings(trainer: Trainer) -> dict[str, Any]:
    """Return the settings by which an origin is trained: all but those of what comes after it was made smaller."""
    named: list[str] = [field.name for field in fields(trainer)] if is_dataclass(trainer) else []
    return {name: getattr(trainer, name) for name in named if name not in _AFTERWARDS}


def _keep(network: Any, path: Path, form: Path, checkpoint: Path) -> None:
    from automl.deploy import save_weights

    write_json(form, dict(getattr(network, "automl_form", {})))
    save_weights(network, path)
    remove_folder(checkpoint)

"""The trained networks that others are made of, each trained once in a run."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import Origin, Task, Trainer

if TYPE_CHECKING:
    from torch.nn import Module

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

    def network(self, origin: Origin) -> Module:
        """Return a trained network of that architecture, at rest on the CPU, which is the caller's to change."""
        trainer = self._candidates if origin.architecture.values or self._final is None else self._final
        settings = repr((trainer, origin.space, self._seed))
        text = json.dumps([settings, origin.architecture.to_json()])
        key = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        if key not in self._networks:
            self._networks[key] = self._trained(origin, trainer, key)
            if len(self._networks) > KEPT:
                self._networks.popitem(last=False)
        self._networks.move_to_end(key)
        return copy.deepcopy(self._networks[key])

    def _trained(self, origin: Origin, trainer: Trainer, key: str) -> Module:
        from automl.deploy import load_weights
        from automl.measure import strip

        space, architecture = origin
        if space.given:
            return strip(space.build(architecture.blueprint, self._task))
        path = None if self._folder is None else self._folder / "origins" / f"{key}.safetensors"
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
            checkpoint.mkdir(parents=True, exist_ok=True)
        network = inner.fit(architecture, self._seed, checkpoint=checkpoint)
        if path is not None and form is not None and checkpoint is not None:
            _keep(network, path, form, checkpoint)
        return network


def _keep(network: Any, path: Path, form: Path, checkpoint: Path) -> None:
    import shutil

    from automl.deploy import save_weights
    from automl.files import write_json

    write_json(form, dict(getattr(network, "automl_form", {})))
    save_weights(network, path)
    shutil.rmtree(checkpoint, ignore_errors=True)

"""A network of the user's own: a factory that is named on the command line, and a file of weights."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import BadInput, Choose, Space, Task
from automl.errors import printable

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module as Network


@dataclass
class Module(Space[None]):
    """What ``target``, as ``package.module:factory``, returns: a torch module from images to logits.

    The factory is called with the ``arguments``. Images come normalised, N x channels x height x width; the logits are
    N x classes. ``weights`` is a safetensors file, or one of torch.save that holds a state dict and nothing that runs;
    without it the network is trained first. The target runs your code, so it is taken from the command line alone, and
    never from a file: ``automl resume``, ``automl.load`` and ``automl export`` ask for it again.
    """

    target: str
    weights: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        module, colon, name = self.target.partition(":")
        if not colon or not all(part.isidentifier() for part in [*module.split("."), *name.split(".")]):
            raise BadInput(
                f"space.target={printable(self.target)[:80]} is no factory: give it as space.target=package.module:name"
            )
        self._fitting: set[tuple[Any, ...]] = set()

    @property
    def given(self) -> bool:  # type: ignore[override]
        return self.weights is not None

    def describe(self, choose: Choose) -> None:
        return None

    def check(self, task: Task) -> None:
        """Build the network and have it answer two images; raises BadInput where it does not."""
        import torch

        what = (tuple(task.input), task.outputs)
        if what in self._fitting:
            return
        network = self._filled().eval()
        images = torch.zeros(2, *task.input)
        try:
            with torch.no_grad():
                outputs = network(images)
        except Exception as error:
            raise BadInput(
                f"the network of space.target={self.target} cannot take images of {' x '.join(map(str, task.input))}: "
                f"{_said(error)}; change the factory, its space.arguments, or the task"
            ) from error
        found = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        if found != (2, task.outputs):
            raise BadInput(
                f"the network of space.target={self.target} answers two images with {found}, and the task wants "
                f"{(2, task.outputs)}, a logit a class: change the factory, its space.arguments, or the task"
            )
        self._fitting.add(what)

    def build(self, blueprint: None, task: Task) -> Network:
        self.check(task)
        return self._filled()

    def _filled(self) -> Network:
        network = self._made()
        if self.weights is not None and not any(tensor.is_meta for tensor in network.state_dict().values()):
            _load(network, self._file())
        return network

    def _made(self) -> Network:
        from torch.nn import Module as Network

        module, _, name = self.target.partition(":")
        try:
            factory: Any = importlib.import_module(module)
            for part in name.split("."):
                factory = getattr(factory, part)
        except Exception as error:
            raise BadInput(
                f"space.target={self.target} cannot be imported: {_said(error)}; give package.module:factory of "
                "what is installed or stands on PYTHONPATH"
            ) from error
        try:
            network = factory(**self.arguments)
        except Exception as error:
            raise BadInput(
                f"space.target={self.target} raises {_said(error)}: mend it, or give what it takes as "
                "'space.arguments={name: value}'"
            ) from error
        if not isinstance(network, Network):
            raise BadInput(
                f"space.target={self.target} returns {type(network).__name__}, and not a torch.nn.Module: "
                "give a factory, or a class, that makes one"
            )
        return network

    def portable(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        from automl import trust

        return {**trust.without(dict(settings)), "weights": None}

    def digest(self) -> str | None:
        from automl.files import digest

        return None if self.weights is None else digest(self._file())

    def _file(self) -> Path:
        path = Path(str(self.weights)).expanduser()
        if not path.is_file():
            raise BadInput(f"space.weights={path} does not exist: give a safetensors file, or one of torch.save")
        return path


def _load(network: Network, path: Path) -> None:
    """Put the weights of a file into the network; raises BadInput unless names and shapes are the network's."""
    found = _tensors(path)
    wanted = network.state_dict()
    for name in sorted(wanted.keys() | found.keys()):
        mine = tuple(wanted[name].shape) if name in wanted else "nothing"
        theirs = tuple(found[name].shape) if name in found else "nothing"
        if mine != theirs:
            raise BadInput(
                f"space.weights={path} has {theirs} for {printable(name)!r}, where the network has {mine}: "
                "give the weights of this network"
            )
    network.load_state_dict(found)


def _tensors(path: Path) -> Mapping[str, Tensor]:
    """Return the tensors of a file by name; nothing in it is run."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError) as error:
        raise BadInput(f"space.weights={path} holds no weights: {_said(error)}") from error
    except Exception as error:  # torch says of a file that would run code what it would take to run it
        raise BadInput(
            f"space.weights={path} holds more than tensors, so it is not read: save the state dict alone, by "
            "safetensors.torch.save_file or torch.save"
        ) from error
    tensors = found.get("state_dict", found) if isinstance(found, Mapping) else found
    if not isinstance(tensors, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise BadInput(f"space.weights={path} holds no state dict: save one, by torch.save(model.state_dict(), path)")
    return tensors


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(printable(str(error)).split())[:200]}"

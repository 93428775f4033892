"""What is shipped: the network with its normalisation inside, as weights and as one ONNX file that was checked."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import itertools
import json
import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from automl.errors import BadInput
from automl.files import write_json, write_whole
from automl.measure import Latency, at_rest, onnx_latency, onnx_session, strip

if TYPE_CHECKING:
    import numpy as np

    from automl.task import Task

TOLERANCE = 1e-4  # of the largest logit, where that is above 1
BATCHES = (1, 2, 5)


class Deployed(nn.Module):
    """A trained network that takes images as they are: float32, N x channels x height x width, in [0, 1].

    ``mean`` and ``std`` of the training images, a channel each, are inside; the output is the logits, N x classes.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        classes: Sequence[str],
        input: tuple[int, int, int],  # noqa: A002 -- the word of the tasks
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))
        self.classes = tuple(classes)
        self.input = input

    @classmethod
    def of(cls, network: nn.Module, task: Task) -> Deployed:
        """Return the network at rest, without its training-only parts, for the images of the task."""
        deployed = cls(strip(network), mean=task.mean, std=task.std, classes=task.classes, input=task.input)
        return deployed.eval()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits

    def save(self, folder: Path, description: Mapping[str, Any]) -> None:
        """Write ``model.safetensors`` and, with what else describes it, ``architecture.json``."""
        save_weights(self, folder / "model.safetensors")
        what = {"schema": 1, "input": list(self.input), "classes": list(self.classes)}
        write_json(folder / "architecture.json", {**what, **description})


def save_weights(module: nn.Module, path: Path) -> None:
    """Write the tensors of a module by name as a safetensors file, whole or not at all."""
    from safetensors.torch import save

    # copies, for safetensors refuses tensors that share memory
    write_whole(path, save({name: tensor.cpu().contiguous().clone() for name, tensor in module.state_dict().items()}))


def load_weights(module: nn.Module, path: Path) -> None:
    """Read weights into a module: only tensors, and only if their names, shapes and types are the module's.

    Raises BadInput for any other file; nothing in it is run or imported, and the module is then as it was.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist: give the folder of a run that ended") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise BadInput(f"{path} holds no weights ({error}): only safetensors files are read") from None
    targets = module.state_dict()
    for name in sorted(targets.keys() | tensors.keys()):
        wanted, found = _form(targets.get(name)), _form(tensors.get(name))
        if wanted != found:
            raise BadInput(f"{path} has {found} for {name!r}, where the network has {wanted}: it is of another network")
    module.load_state_dict(tensors)


def _form(tensor: Tensor | None) -> str:
    return "nothing" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def export_onnx(
    deployed: Deployed, path: Path, metadata: Mapping[str, str], images: np.ndarray[Any, Any] | None = None
) -> None:
    """Write the network as one complete ONNX file with the input ``images`` and the output ``logits``, any batch.

    Raises BadInput as ``as_onnx`` does; what was there before is then untouched.
    """
    write_whole(path, as_onnx(deployed, metadata, images))


def as_onnx(deployed: Deployed, metadata: Mapping[str, str], images: np.ndarray[Any, Any] | None = None) -> bytes:
    """Return the bytes of the ONNX file that ``export_onnx`` writes.

    They are returned only after onnxruntime gave the outputs of PyTorch to 1e-4 for batches of 1, 2 and 5, on random
    images and on the real ones given (uint8 or in [0, 1]); else BadInput says what differs. The classes (a JSON
    list) and the input (a JSON list) are in the file's metadata, with what else is given.
    """
    facts = {"classes": json.dumps(deployed.classes), "input": json.dumps(deployed.input), **metadata}

    def checked(network: Deployed) -> bytes:
        model = _as_onnx(network, facts)
        check_onnx(model, deployed, images)
        return model

    with at_rest(deployed), torch.no_grad():
        try:
            return checked(_lean(copy.deepcopy(deployed)))
        except Exception:  # whatever it is, the network as it is decides
            return checked(deployed)


def _lean(network: Deployed) -> Deployed:
    """Make a network at rest quicker to export, in place, and return it; the exporter makes the same of it.

    Of what follows a convolution in a sequence, normalisation becomes a part of its weights; activations no longer
    overwrite what they are given, which the exporter would undo. That halves the seconds that an export takes.
    """
    often = Counter(id(module) for _, module in network.named_modules(remove_duplicate=False))
    for module in network.modules():
        if type(module).__module__.startswith("torch.nn.") and getattr(module, "inplace", False) is True:
            module.__dict__["inplace"] = False
        if type(module).forward is not nn.Sequential.forward:
            continue
        for (first, convolution), (second, norm) in itertools.pairwise(module._modules.items()):
            if type(convolution) is not nn.Conv2d or type(norm) is not nn.BatchNorm2d or norm.running_mean is None:
                continue
            if often[id(convolution)] == often[id(norm)] == 1:
                module._modules[first] = fuse_conv_bn_eval(convolution, norm)
                module._modules[second] = nn.Identity()
    return network


def _as_onnx(deployed: Deployed, facts: Mapping[str, str]) -> bytes:
    _keep_operators()
    example = torch.rand(3, *deployed.input, generator=torch.Generator().manual_seed(0))
    try:
        with quiet():
            program = torch.onnx.export(
                deployed,
                (example,),
                dynamo=True,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
                external_data=False,
                verbose=False,
            )
            assert program is not None
            proto: Any = program.model_proto
    except Exception as error:  # the exporter raises whatever its many parts do
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadInput(f"the network cannot be exported to ONNX ({reason}): AUTOML_DEBUG=1 shows where") from error
    _forget_where_it_was_made(proto)
    for key, value in facts.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    data: bytes = proto.SerializeToString()
    return data


@functools.cache
def _keep_operators() -> None:
    """Have the exporter read its table of operators once in a process, which takes a quarter of an export each time."""
    with contextlib.suppress(ImportError, AttributeError):  # another torch may have it elsewhere, and is only slower
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        ONNXRegistry.from_torchlib = staticmethod(functools.cache(ONNXRegistry.from_torchlib))  # type: ignore[method-assign]


def _forget_where_it_was_made(proto: Any) -> None:
    """Drop the exporter's notes: half of a small file, with lines of code and paths of the machine it ran on."""
    for graph in (proto.graph, *proto.functions):
        named = [graph, *graph.node, *graph.value_info]
        if graph is proto.graph:
            named += [*graph.input, *graph.output, *graph.initializer]
        for part in named:
            del part.metadata_props[:]


def latency(network: nn.Module, task: Task, *, threads: int = 1, batch: int = 1) -> Latency:
    """Time a network, trained or not, as it would be shipped: exported, in onnxruntime.

    Of the task only what ``Deployed`` takes is looked at. Raises BadInput where the network cannot be exported.
    """
    return onnx_latency(exported(network, task), task.input, runs=50, seconds=1.0, threads=threads, batch=batch)


def exported(network: nn.Module, task: Task) -> bytes:
    """Return the bytes of the ONNX file that a network, trained or not, would be shipped as; unchecked.

    Of the task only what ``Deployed`` takes is looked at. Raises BadInput where the network cannot be exported.
    """
    deployed = Deployed.of(copy.deepcopy(network), task)
    with at_rest(deployed), torch.no_grad():
        return _as_onnx(_lean(deployed), {})


def check_onnx(model: bytes, deployed: Deployed, images: np.ndarray[Any, Any] | None = None) -> None:
    """Compare the outputs of an ONNX file with those of PyTorch; raises BadInput, saying what differs.

    Both see random images and the real ones given, in batches of 1, 2 and 5. The network is to be at rest.
    """
    import numpy as np

    session = onnx_session(model)
    rng = np.random.default_rng(0)
    for batch in BATCHES:
        kinds = {"random": rng.random((batch, *deployed.input), dtype=np.float32)}
        if images is not None and len(images):
            kinds["real"] = _floats(images[rng.integers(len(images), size=batch)])
        for kind, given in kinds.items():
            with torch.inference_mode():
                expected, again = (deployed(torch.from_numpy(given)).numpy() for _ in range(2))
            if not np.array_equal(expected, again):
                raise BadInput(
                    "the network is not exported to ONNX: it gives two answers for one image "
                    "(is there a dropout that is always on?)"
                )
            try:
                found = session.run(["logits"], {"images": given})[0]
            except Exception as error:  # onnxruntime's own kinds derive from Exception
                reason = str(error).strip().splitlines()[0]
                raise BadInput(f"the ONNX file does not run on {batch} {kind} images: {reason}") from None
            if found.shape != expected.shape:
                raise BadInput(
                    f"the ONNX file answers {batch} images with {found.shape}, PyTorch with {expected.shape}"
                )
            off = float(np.abs(found - expected).max())
            if not off <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
                raise BadInput(
                    f"the ONNX file does not do what the network does: on {batch} {kind} images the outputs differ "
                    f"by {off:.2g}, where {TOLERANCE:g} is allowed"
                )


def _floats(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return images in [0, 1] as float32."""
    import numpy as np

    return images.astype(np.float32) / np.float32(255) if images.dtype == np.uint8 else images.astype(np.float32)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the prints, warnings and log lines of a library, unless AUTOML_DEBUG=1."""
    if os.environ.get("AUTOML_DEBUG"):
        yield
        return
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)

"""Makes an eight-bit ONNX file of a float one: weights by channel, activations by what real images make of them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.deploy import quiet
from automl.errors import BadInput, StorageError, printable
from automl.measure import onnx_session

if TYPE_CHECKING:
    import numpy as np

    from automl.splits import Images

FORMS = {"u8s8": "QUInt8", "s8s8": "QInt8"}  # the sign of activations and of weights, and onnxruntime's word for it
BATCH = 32  # images that are looked at together
_ADVICE = "ship the float one, model.onnx"


def quantise(model: bytes, images: Images, form: str) -> bytes:
    """Return an ONNX file that does in eight bits what the float one does, with the same inputs, outputs and metadata.

    Quantised after training, statically (Jacob et al., 2018): weights symmetrically, a scale each output channel;
    activations, unsigned (``u8s8``) or signed (``s8s8``), affinely from the least to the largest value that the
    calibration ``images`` (uint8, N x channels x height x width) give rise to; biases in 32 bits. Normalisation is
    folded into convolutions first. What has no eight-bit form stays float. Equal arguments give equal bytes.

    Raises BadInput for a network that onnxruntime cannot quantise, naming the operator, and where a part of
    onnxruntime is missing.
    """
    quantiser = library()
    try:
        with tempfile.TemporaryDirectory(prefix="automl-int8-") as place, quiet():
            prepared = _prepared(model, Path(place), quantiser)
            try:
                made = _quantised(prepared, images, form, quantiser)
            except OSError:
                raise
            except Exception as error:  # the quantiser raises whatever its many parts do
                raise BadInput(_culprit(prepared, images, form, quantiser, error)) from error
        _check(made, images, _operators(model))
    except OSError as error:
        raise StorageError(
            f"the temporary folder {tempfile.gettempdir()} cannot be written ({error.strerror or error}): "
            "make room, or set TMPDIR to another folder"
        ) from error
    return _described(made, model, images, form)


def library() -> Any:
    """Return onnxruntime's quantiser; raises BadInput where a part of it is missing."""
    try:
        import onnxruntime.quantization as quantiser
    except ImportError as error:
        raise BadInput(
            f"int8 needs an optional part of onnxruntime, which is not installed ({printable(str(error))}): "
            f"type pip install {error.name or 'onnxruntime[quantization]'}"
        ) from error
    return quantiser


class _Batches:
    """The calibration images as onnxruntime asks for them: a batch a call, then None."""

    def __init__(self, images: Images) -> None:
        self._batches = batches(images, BATCH)

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}


def batches(images: Images, size: int) -> Iterator[np.ndarray[Any, Any]]:
    """Yield uint8 images as float32 in [0, 1], so many at a time."""
    import numpy as np

    for start in range(0, len(images), size):
        yield images[start : start + size].astype(np.float32) / np.float32(255)


def _prepared(model: bytes, place: Path, quantiser: Any) -> Path:
    """Write the float network with its constants and its normalisation folded, and the shape of every tensor told."""
    given, prepared = place / "given.onnx", place / "prepared.onnx"
    given.write_bytes(model)
    try:
        # shapes are told by onnx itself: the symbolic way would need another library
        quantiser.quant_pre_process(given, prepared, skip_symbolic_shape=True)
    except OSError:
        raise
    except Exception as error:
        raise BadInput(
            f"onnxruntime cannot prepare the network for int8 ({_reason(error)}): its operators are "
            f"{', '.join(_operators(model))}; AUTOML_DEBUG=1 shows where"
        ) from error
    return prepared


def _quantised(prepared: Path, images: Images, form: str, quantiser: Any, operators: Sequence[str] = ()) -> bytes:
    """Quantise the operators of these types, by default all that have an eight-bit form."""
    made = prepared.with_name("made.onnx")
    quantiser.quantize_static(
        prepared,
        made,
        _Batches(images),
        quant_format=quantiser.QuantFormat.QDQ,
        op_types_to_quantize=list(operators),
        per_channel=True,
        activation_type=quantiser.QuantType[FORMS[form]],
        weight_type=quantiser.QuantType.QInt8,
        calibrate_method=quantiser.CalibrationMethod.MinMax,
    )
    return made.read_bytes()


def _culprit(prepared: Path, images: Images, form: str, quantiser: Any, error: Exception) -> str:
    """Return in a sentence what cannot be quantised: the first operator that cannot be, even alone."""
    for operator in _operators(prepared.read_bytes()):
        try:
            _quantised(prepared, images[:BATCH], form, quantiser, [operator])
        except Exception as alone:
            return f"onnxruntime cannot quantise the operator {operator} of this network ({_reason(alone)}): {_ADVICE}"
    return f"onnxruntime cannot quantise this network ({_reason(error)}): {_ADVICE}"


def _check(made: bytes, images: Images, operators: Sequence[str]) -> None:
    """See that something of the operators was quantised, that it runs for any batch and answers with numbers."""
    import numpy as np
    import onnx

    weights = onnx.load_from_string(made).graph.initializer
    if not any(weight.data_type == onnx.TensorProto.INT8 and len(weight.dims) > 1 for weight in weights):
        raise BadInput(
            "onnxruntime found no weights to quantise in this network: of its operators, "
            f"{', '.join(operators)}, none is a convolution or a product with a matrix; {_ADVICE}"
        )
    try:
        session = onnx_session(made)
        answers = [session.run(["logits"], {"images": next(batches(images, size))})[0] for size in (1, 2, 5)]
    except Exception as error:  # onnxruntime's own kinds derive from Exception; they name the operator
        raise BadInput(f"onnxruntime does not run this network in eight bits ({_reason(error)}): {_ADVICE}") from error
    if not all(np.isfinite(answer).all() for answer in answers):
        raise BadInput(f"in eight bits this network gives answers that are no numbers: {_ADVICE}")


def _described(made: bytes, model: bytes, images: Images, form: str) -> bytes:
    """Return the file with the float one's metadata and how it was quantised, without what nobody needs."""
    import onnx

    proto, given = onnx.load_from_string(made), onnx.load_from_string(model)
    proto.producer_name, proto.producer_version = given.producer_name, given.producer_version
    del proto.graph.value_info[:]  # shapes, which onnxruntime infers anew; of a small file they are much
    for node in proto.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.name = ""
    del proto.metadata_props[:]
    proto.metadata_props.extend(given.metadata_props)
    entry = proto.metadata_props.add()
    entry.key = "int8"
    entry.value = json.dumps({"form": form, "weights": "by channel, symmetric", "calibration_images": len(images)})
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def _operators(model: bytes) -> list[str]:
    """Return the kinds of operators in an ONNX file, in the order in which they are met."""
    import onnx

    return list(dict.fromkeys(node.op_type for node in onnx.load_from_string(model).graph.node))


def _reason(error: Exception) -> str:
    return printable(str(error).strip().split("\n")[0])[:200] or type(error).__name__

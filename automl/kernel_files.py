"""Makes ONNX files of kernels, all of them exported at once, and of networks that are put together from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from automl.deploy import quiet
from automl.errors import BadInput, printable
from automl.kernels import FILLED, Kernel, Placed


class Files:
    """ONNX files by kernel, as bytes; a network of kernels that are known is put together without another export.

    Exporting takes seconds, whatever it is of: so it is done once for many kernels, and the parts are cut out.
    """

    def __init__(self) -> None:
        self._parts: dict[str, Any] = {}

    def add(self, kernels: Sequence[Kernel]) -> None:
        """Export those kernels that are not known; raises BadInput, naming one, where that fails."""
        self._parts |= {kernel.name: _filled(kernel) for kernel in kernels if kernel.kind in FILLED}
        new = list({kernel.name: kernel for kernel in kernels if kernel.name not in self._parts}.values())
        if not new:
            return
        try:
            self._export(new)
        except Exception as error:  # the exporter raises whatever its many parts do
            if len(new) == 1:
                reason = printable(str(error).strip().split("\n")[0])[:200] or type(error).__name__
                raise BadInput(f"{new[0].name} cannot be exported to ONNX alone ({reason})") from error
            half = len(new) // 2
            self.add(new[:half])
            self.add(new[half:])

    def alone(self, kernel: Kernel) -> bytes:
        """Return the file of a kernel that was added: an input for each map that it reads."""
        data: bytes = self._parts[kernel.name].SerializeToString()
        return data

    def network(self, placed: Sequence[Placed]) -> bytes:
        """Return one file of kernels that were added, wired as in their network, each with weights of its own.

        Its input is ``images``, its output ``logits``: the result of the last kernel.
        """
        import onnx

        graph = onnx.GraphProto(name="network")
        results: list[str] = []
        opsets: dict[str, int] = {}
        for place, one in enumerate(placed):
            part = self._parts[one.kernel.name]
            opsets |= {opset.domain: opset.version for opset in part.opset_import}
            names = {
                given.name: results[read] if read >= 0 else "images"
                for given, read in zip(part.graph.input, one.reads, strict=True)
            }

            def name(old: str, names: dict[str, str] = names, place: int = place) -> str:
                return old and names.get(old, f"k{place}.{old}")

            if not any(value.name == "images" for value in graph.input) and -1 in one.reads:
                images = graph.input.add()
                images.CopyFrom(part.graph.input[one.reads.index(-1)])
                images.name = "images"
                images.type.tensor_type.shape.dim[0].dim_param = "batch"  # as of what is shipped
            for tensor in part.graph.initializer:
                own = graph.initializer.add()
                own.CopyFrom(tensor)
                own.name = name(tensor.name)
            for node in part.graph.node:
                own = graph.node.add()
                own.CopyFrom(node)
                own.name = f"k{place}.{node.name}"
                own.input[:] = [name(old) for old in node.input]
                own.output[:] = [name(old) for old in node.output]
            results.append(name(part.graph.output[0].name))
            if (
                one.kernel.kind in FILLED
            ):  # its shape is worked out as it runs, and onnxruntime fuses only what it knows
                shape = graph.value_info.add()
                shape.CopyFrom(part.graph.output[0])
                shape.name = results[-1]
        logits = graph.output.add()
        logits.CopyFrom(self._parts[placed[-1].kernel.name].graph.output[0])
        logits.name = results[-1]
        imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opsets.items()]
        model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)
        data: bytes = model.SerializeToString()
        return data

    def _export(self, kernels: Sequence[Kernel]) -> None:
        import onnx.utils

        given = [[f"k{place}.given{number}" for number in range(len(one.shapes))] for place, one in enumerate(kernels)]
        made = [f"k{place}.made" for place in range(len(kernels))]
        with quiet(), torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            together = _Together(kernels).eval()
            program = torch.onnx.export(
                together,
                tuple(torch.rand(shape) for kernel in kernels for shape in kernel.shapes),
                dynamo=True,
                input_names=[name for names in given for name in names],
                output_names=made,
                external_data=False,
                verbose=False,
                optimize=True,
            )
            assert program is not None
            proto: Any = program.model_proto
        parts = onnx.utils.Extractor(proto)
        for kernel, names, result in zip(kernels, given, made, strict=True):
            part = parts.extract_model(names, [result])
            onnx.checker.check_model(part)
            self._parts[kernel.name] = part


def _filled(kernel: Kernel) -> Any:
    """Return the file of a kernel that fills a map with one number: alone, the exporter takes it for a constant."""
    import onnx

    (shape,) = kernel.shapes
    sides: list[str | int | None] = ["batch", *shape[1:]]
    given, made = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sides) for name in ("given", "made")
    )
    nodes = [
        onnx.helper.make_node("Shape", ["given"], ["shape"], name="shape"),
        onnx.helper.make_node("Expand", ["number", "shape"], ["made"], name="expand"),
    ]
    number = onnx.helper.make_tensor("number", onnx.TensorProto.FLOAT, [], [0.0])
    graph = onnx.helper.make_graph(nodes, "filled", [given], [made], [number])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)


class _Together(nn.Module):
    """Kernels side by side, each with inputs of its own."""

    def __init__(self, kernels: Sequence[Kernel]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(kernel.module() for kernel in kernels)
        self._takes = [len(kernel.shapes) for kernel in kernels]

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        waiting = iter(given)
        return tuple(
            part(*[next(waiting) for _ in range(takes)]) for part, takes in zip(self.parts, self._takes, strict=True)
        )

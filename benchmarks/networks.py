"""Hand-designed networks side by side: what they cost at 224 x 224, and how good they are at equal budget.

    python benchmarks/networks.py sizes --json benchmarks/figures/networks.json
    python benchmarks/networks.py accuracy --root DIR --json benchmarks/figures/networks-accuracy.json
    python benchmarks/networks.py picture benchmarks/figures/networks-accuracy.json --out docs/networks.svg

``sizes`` prints a table: parameters, multiply-adds, memory access, peak activations, and the latency of one image on
one thread in PyTorch and in onnxruntime. ``accuracy`` makes each network as wide as a budget of multiply-adds allows,
trains it on the same Fashion-MNIST images by the same short recipe through the command line's own door, and reads the
test accuracy and the latency of the exported network; ``picture`` draws the two.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

SIZES: Sequence[tuple[str, Mapping[str, Any]]] = (
    ("alexnet", {}),
    ("vgg", {"depth": 16}),
    ("googlenet", {}),
    ("inception_v3", {}),
    ("resnet", {"depth": 18}),
    ("resnet", {"depth": 50}),
    ("resnext", {"depth": 50}),
    ("densenet", {"depth": 121}),
    ("xception", {}),
    ("squeezenet", {"version": "1.0"}),
    ("squeezenet", {"version": "1.1"}),
    ("mobilenet_v1", {}),
    ("mobilenet_v1", {"width": 0.5}),
    ("mobilenet_v2", {}),
    ("mobilenet_v2", {"width": 0.5}),
    ("mnasnet", {"genotype": "a1"}),
    ("mnasnet", {"genotype": "b1"}),
    ("mnasnet", {"genotype": "small"}),
    ("shufflenet_v1", {"groups": 3}),
    ("shufflenet_v1", {"groups": 8}),
    ("shufflenet_v2", {"width": 0.5}),
    ("shufflenet_v2", {"width": 1.0}),
    ("igcv1", {"form": "imagenet"}),
    ("igcv3", {}),
    ("espnet", {}),
    ("espnet_v2", {"width": 1.0}),
    ("thundernet", {"backbone": "snet49"}),
    ("thundernet", {"backbone": "snet146"}),
)
ACCURACY: Sequence[tuple[str, Mapping[str, Any]]] = (
    ("vgg_cifar", {}),
    ("resnet_cifar", {"depth": 20}),
    ("squeezenet", {"version": "1.1"}),
    ("googlenet", {}),
    ("xception", {}),
    ("mobilenet_v1", {}),
    ("mobilenet_v2", {}),
    ("mnasnet", {"genotype": "small"}),
    ("shufflenet_v1", {"groups": 3}),
    ("igcv1", {}),
    ("igcv2", {}),
    ("igcv3", {}),
    ("espnet", {}),
)
WIDTHS = [0.01 * step for step in range(4, 100)] + [0.05 * step for step in range(20, 81)]


def sizes(registry: Any) -> list[dict[str, Any]]:
    """Measure every network of SIZES for one image of 3 x 224 x 224 and a thousand classes."""
    from automl import measure
    from automl.deploy import latency
    from automl.layers import profile

    image = (3, 224, 224)
    rows = []
    for name, settings in SIZES:
        network = _built(registry, name, settings, image, 1000).eval()
        found = profile(network, image)
        task: Any = SimpleNamespace(
            mean=(0.5,) * 3, std=(0.25,) * 3, classes=[str(n) for n in range(1000)], input=image
        )
        torch_ms, onnx_ms = measure.torch_latency(network, image), latency(network, task)
        rows.append(
            {
                "network": _called(name, settings),
                "parameters": found.parameters,
                "multiply_adds": found.multiply_adds,
                "memory_access": found.memory_access,
                "peak_bytes": found.peak_activations,
                "torch_ms": torch_ms.median_ms,
                "onnx_ms": onnx_ms.median_ms,
                "onnx_p10_ms": onnx_ms.p10_ms,
                "onnx_p90_ms": onnx_ms.p90_ms,
            }
        )
        print(_row(rows[-1].values()), flush=True)
    return rows


def accuracy(registry: Any, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Train every network of ACCURACY, each as wide as the budget allows, and test it once."""
    from automl import config
    from automl.experiment import Experiment

    rows = []
    for name, settings in ACCURACY:
        width = _width(registry, name, settings, given.budget)
        words = [f"+space={name}", "strategy=grid", "watch=[]", "task=fashion_mnist", f"task.root={given.root}"]
        words += [f"space.{key}={value}" for key, value in {**settings, "width": width}.items()]
        words += [f"task.images={given.images}", "task.batch_size=64", f"seed={given.seed}", "task.flip=true"]
        words += ["evaluator.epochs=1", "evaluator.images=100", f"retrain.epochs={given.epochs}"]
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            study = Experiment(config.compose([*words, f"runs={folder}"], registry), registry).run()
        model, tested = study.summary["model"], study.summary["test"]
        rows.append(
            {
                "network": _called(name, {**settings, "width": width}),
                "test_accuracy": tested["accuracy"],
                "parameters": model["parameters"],
                "multiply_adds": model["multiply_adds"],
                "onnx_ms": model["latency_ms"],
                "seconds": round(time.monotonic() - began, 1),
                "command": config.command([word for word in words if not word.startswith("task.root")]),
            }
        )
        print(_row(list(rows[-1].values())[:-1]), flush=True)
        if given.json:
            _write(given.json, {"rows": rows, "baseline": study.summary["baseline"], "budget": given.budget})
    return rows


def _width(registry: Any, name: str, settings: Mapping[str, Any], budget: float) -> float:
    """Return the largest of WIDTHS with which the network has at most so many multiply-adds on 28 x 28 grey images."""
    import torch

    from automl import BadInput, measure

    best = None
    for width in WIDTHS:
        width = round(width, 2)
        try:
            with torch.device("meta"):
                network = _built(registry, name, {**settings, "width": width}, (1, 28, 28), 10)
        except BadInput:
            continue
        if measure.multiply_adds(network, (1, 28, 28)) > budget:
            break
        best = width
    if best is None:
        raise SystemExit(f"{name} has more than {budget:,.0f} multiply-adds at any width: give a larger --budget")
    return best


def _built(registry: Any, name: str, settings: Mapping[str, Any], image: tuple[int, int, int], outputs: int) -> Any:
    space = registry.build("space", {"name": name, **settings})
    (architecture,) = space.enumerate()
    return space.build(architecture.blueprint, SimpleNamespace(input=image, outputs=outputs))


def _called(name: str, settings: Mapping[str, Any]) -> str:
    return " ".join([name, *(f"{key}={value}" for key, value in settings.items())])


def _row(values: Any) -> str:
    shown = [
        f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else value
        for value in values
    ]
    return "| " + " | ".join(shown) + " |"


def picture(found: Mapping[str, Any]) -> str:
    """Return accuracy against latency as SVG, the front joined by a line; readable in light and in dark."""
    rows = sorted(found["rows"], key=lambda row: row["onnx_ms"])
    wide, high, left, bottom = 760, 460, 60, 50
    slowest = max(row["onnx_ms"] for row in rows) * 1.25
    low = min(row["test_accuracy"] for row in rows) - 0.01
    top = max(row["test_accuracy"] for row in rows) + 0.01

    def x(value: float) -> float:
        return left + (wide - left - 20) * value / slowest

    def y(value: float) -> float:
        return high - bottom - (high - bottom - 20) * (value - low) / (top - low)

    parts = []
    for step in range(6):
        value = low + (top - low) * step / 5
        parts.append(f'<path class="grid" d="M{left} {y(value):.1f}H{wide - 20}"/>')
        parts.append(f'<text x="{left - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{100 * value:.1f}</text>')
        value = slowest * step / 5
        parts.append(f'<text x="{x(value):.1f}" y="{high - bottom + 18}" text-anchor="middle">{value:.2g}</text>')
    below = "latency, ms (one image, one thread, onnxruntime)"
    parts.append(f'<text x="{(left + wide) / 2}" y="{high - 10}" text-anchor="middle">{below}</text>')
    turned = f'x="14" y="{high / 2}" transform="rotate(-90 14 {high / 2})"'
    parts.append(f'<text {turned} text-anchor="middle">test accuracy, %</text>')
    front, best = [], 0.0
    for row in rows:
        if row["test_accuracy"] > best:
            best = row["test_accuracy"]
            front.append(f"{x(row['onnx_ms']):.1f} {y(best):.1f}")
    parts.append(f'<path class="front" d="M{"L".join(front)}"/>')
    taken: list[tuple[float, float]] = []
    for row in rows:
        across, down = x(row["onnx_ms"]), y(row["test_accuracy"])
        words = row["network"].split(" width=")[0].replace("_", " ")
        place = down + 4
        while any(abs(place - other) < 13 and abs(across - begun) < 150 for begun, other in taken):
            place += 13
        taken.append((across, place))
        parts.append(
            f'<circle cx="{across:.1f}" cy="{down:.1f}" r="4"/>'
            f'<text x="{across + 8:.1f}" y="{place:.1f}">{escape(words)}</text>'
        )
    style = (
        "text{font:12px system-ui,sans-serif;fill:#222}.grid{stroke:#ccc;fill:none}.front{stroke:#1668b4;fill:none;"
        "stroke-dasharray:6 3}circle{fill:#1668b4}svg{background:#fff}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#444}svg{background:#181818}}"
    )
    title = "Hand-designed networks at one budget: accuracy against latency"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" role="img"><title>{title}</title>'
        f"<style>{style}</style>{''.join(parts)}</svg>\n"
    )


def _write(path: Path, found: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    of_sizes = commands.add_parser("sizes")
    of_accuracy = commands.add_parser("accuracy")
    of_accuracy.add_argument("--root", required=True, help="the folder with the four files of Fashion-MNIST")
    of_accuracy.add_argument("--budget", type=float, default=5e6, help="multiply-adds at 28 x 28")
    of_accuracy.add_argument("--images", type=int, default=6000, help="training and validation images")
    of_accuracy.add_argument("--epochs", type=int, default=6)
    of_accuracy.add_argument("--seed", type=int, default=0)
    for command in (of_sizes, of_accuracy):
        command.add_argument("--json", type=Path)
    drawn = commands.add_parser("picture")
    drawn.add_argument("figures", type=Path)
    drawn.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if given.command == "picture":
        given.out.write_text(picture(json.loads(given.figures.read_text())))
        return
    from automl.plugins import Registry

    if given.command == "sizes":
        rows = sizes(Registry())
        if given.json:
            _write(given.json, {"rows": rows})
    else:
        accuracy(Registry(), given)


if __name__ == "__main__":
    main()

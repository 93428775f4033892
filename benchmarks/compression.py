"""Channel pruning side by side: every criterion, AMC, evolution and TPE on the same decisions, and Torch-Pruning.

    python benchmarks/compression.py --root DIR [--seeds 0 1 2] [--networks ResNet-20]
        [--json benchmarks/figures/compression.json]

Two small networks are trained on Fashion-MNIST, at 16 x 16, then pruned to 50 % and 25 % of their multiply-adds: by a
rule, in one evaluation; by strategies that make the same decisions, one a layer, in equally many evaluations without
fine-tuning; and by Torch-Pruning's own pruners, whose share is raised until the network keeps to the same budget. All
are then fine-tuned alike. Accuracies are of the test images, before and after; bytes are of the weights' file; the
latency is of one image in onnxruntime on one thread. MobileNetV2 is also pruned by eight channels at a time, to these
shares of its multiply-adds and of its latency, by a table of its kernels that is made first; what it then takes, as a
share of the whole one's latency, is timed in turn. Rows that the JSON file has already are not run again.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "ResNet-20": {"name": "resnet_cifar", "depth": 20, "width": 0.5, "resolution": 16},
    "MobileNetV2, half as wide": {"name": "mobilenet_v2", "width": 0.5, "resolution": 16},
}
BUDGETS = (0.5, 0.25)
RULES: Mapping[str, Mapping[str, Any]] = {
    "l1": {"criterion": "l1"},
    "l1, greedy": {"criterion": "l1", "greedy": True},
    "l1, reconstructed": {"criterion": "l1", "reconstruct": True},
    "l2": {"criterion": "l2"},
    "bn_scale": {"criterion": "bn_scale"},
    "taylor": {"criterion": "taylor"},
    "taylor_weight": {"criterion": "taylor_weight"},
    "random": {"criterion": "random"},
    "l1, all channels in one ranking": {"criterion": "l1", "across": "global"},
    "taylor, all channels in one ranking": {"criterion": "taylor", "across": "global"},
}
SEARCHES: Mapping[str, Mapping[str, Any]] = {
    "AMC (ddpg)": {"name": "ddpg"},
    "evolution": {"name": "evolution"},
    "tpe": {"name": "tpe"},
    "random shares": {"name": "random"},
}
EIGHTS: Mapping[str, Mapping[str, Any]] = {
    "by eights": {"round_to": 8},
    "by eights, of the latency": {"round_to": 8, "resource": "latency_ms"},
}
BY_EIGHTS = {  # the method and the settings, by what it is then called
    f"{method}, {how}": (method, settings)
    for how, settings in EIGHTS.items()
    for method in ("l1, reconstructed", "AMC (ddpg)", "tpe")
}
PEERS = ("torch-pruning, magnitude l1", "torch-pruning, BN scale", "torch-pruning, Taylor")


class Bench:
    """One network, trained by one seed, and how what is made of it is tuned and judged."""

    def __init__(self, settings: Mapping[str, Any], seed: int, given: argparse.Namespace) -> None:
        from automl.plugins import Registry

        self.registry, self.settings, self.seed, self.given = Registry(), settings, seed, given
        self.task = self.registry.build(
            "task", {"name": "fashion_mnist", "root": given.root, "images": given.images, "batch_size": 64}
        )
        self.test = self.task.prepare(seed)
        space = self.registry.build("space", dict(settings))
        trainer = self.trainer(epochs=given.epochs)
        trainer.start(space, self.task)
        space.check(self.task)

        self.network = trainer.fit(space.sample(random.Random(0)), seed)

    def trainer(self, **settings: Any) -> Any:
        return self.registry.build("evaluator", {"name": "training", **settings})

    def compressed(self, network: Any, settings: Mapping[str, Any]) -> Any:
        from automl.compression import Given
        from automl.compressor import Compressed

        space = Compressed(Given(network), self.registry.build("compressor", dict(settings)))
        space.check(self.task)
        return space

    def tuned(self, network: Any) -> Any:
        """Return a copy, trained as every pruned network is."""
        space = self.compressed(network, {"name": "pruning", "keep": 1.0, "budget": None, "recalibrate": 0})
        trainer = self.trainer(tuning=self.given.tuning)
        trainer.start(space, self.task)
        return trainer.fit(space.make(lambda name, domain: domain), self.seed)

    @cached_property
    def latencies(self) -> str:
        """The file of a table of kernels of the network and of those that it can be pruned to, timed here."""
        from automl.latency_build import build

        space = [f"space.{key}={value}" for key, value in self.settings.items() if key != "name"]
        words = [f"+space={self.settings['name']}", *space, "task=fashion_mnist", f"task.root={self.given.root}"]
        words += ["+compressor=amc", "compressor.round_to=8", "compressor.budget=null", "compressor.keep=[0.1,1.0]"]
        file = Path(tempfile.mkdtemp()) / "latencies.json"
        build([*words, "seed=0"], networks=24).table.write(file)
        return str(file)

    def bounded(self, budget: float, settings: Mapping[str, Any]) -> dict[str, Any]:
        table = {"latencies": self.latencies} if settings.get("resource") == "latency_ms" else {}
        return {"budget": budget, **settings, **table}

    def by_rule(self, rule: Mapping[str, Any], budget: float, settings: Mapping[str, Any]) -> tuple[Any, int]:
        space = self.compressed(self.network, {"name": "pruning", **rule, **self.bounded(budget, settings)})
        return self.finished(space, space.sample(random.Random(0))), 1

    def by_search(self, strategy: Mapping[str, Any], budget: float, settings: Mapping[str, Any]) -> tuple[Any, int]:
        from automl.study import Study

        more = {"warmup": self.given.trials // 4} if strategy["name"] == "ddpg" else {}
        space = self.compressed(self.network, {"name": "amc", "keep": [0.1, 1.0], **self.bounded(budget, settings)})
        study = Study(
            space,
            self.registry.build("strategy", {**strategy, **more}),
            self.trainer(),
            self.task,
            trials=self.given.trials,
            seed=self.seed,
        )
        study.run()
        return self.finished(space, study.strategy.recommend(study.trials)), len(study.trials)

    def finished(self, space: Any, architecture: Any) -> Any:
        trainer = self.trainer(tuning=0)
        trainer.start(space, self.task)
        return trainer.fit(architecture, self.seed)

    def by_torch_pruning(self, name: str, budget: float) -> tuple[Any, int]:
        """Return what its pruner makes at the least ratio that meets the budget, normalisation measured anew."""
        import torch
        import torch_pruning as tp

        from automl import measure

        most = budget * measure.multiply_adds(self.network, self.task.input)
        image = torch.rand(2, *self.task.input)

        def pruned(ratio: float) -> Any:
            network = copy.deepcopy(self.network).eval()
            for parameter in network.parameters():
                parameter.requires_grad_()
            if "Taylor" in name:
                importance = tp.importance.GroupTaylorImportance()
                images, labels = self.images()
                self.task.loss(network(images), labels).backward()
            else:
                importance = (
                    tp.importance.BNScaleImportance() if "BN" in name else tp.importance.GroupMagnitudeImportance(p=1)
                )
            last = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
            tp.pruner.BasePruner(
                network, image, importance=importance, pruning_ratio=ratio, ignored_layers=[last]
            ).step()
            return network

        low, high = 0.0, 0.95
        for _ in range(12):
            middle = (low + high) / 2
            if measure.multiply_adds(pruned(middle), self.task.input) <= most:
                high = middle
            else:
                low = middle
        network = pruned(high)
        space = self.compressed(network, {"name": "pruning", "keep": 1.0, "budget": None})
        return self.finished(space, space.make(lambda name, domain: domain)), 1

    def images(self) -> tuple[Any, Any]:
        import torch

        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (self.task.mean, self.task.std))
        images = torch.from_numpy(self.task.train.images[:512].copy()).float() / 255
        return (images - mean) / std, torch.from_numpy(self.task.train.labels[:512].copy()).long()

    def accuracy(self, network: Any) -> float:
        from automl.deploy import Deployed
        from automl.final import score

        return float(score(Deployed.of(copy.deepcopy(network), self.task), self.test, self.task)["accuracy"])

    def share(self, network: Any) -> float:
        """Return the share of the latency that is left, the whole network and this one being timed in turn."""
        from automl.deploy import exported
        from automl.device import Here

        models = {"whole": exported(self.network, self.task), "made": exported(network, self.task)}
        taken = Here().quietest(models, self.task.input)
        return taken["made"] / taken["whole"]

    def worth(self, network: Any) -> dict[str, float]:
        from safetensors.torch import save

        from automl import measure
        from automl.deploy import latency

        network = copy.deepcopy(network)
        return {
            "accuracy": self.accuracy(network),
            "parameters": measure.parameters(network),
            "multiply_adds": measure.multiply_adds(network, self.task.input),
            "bytes": len(save({name: one.contiguous().clone() for name, one in network.state_dict().items()})),
            "latency_ms": latency(network, self.task).median_ms,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="the folder with Fashion-MNIST's files")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--budgets", nargs="+", type=float, choices=BUDGETS, default=BUDGETS)
    parser.add_argument("--networks", nargs="+", choices=[*NETWORKS], default=[*NETWORKS])
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--tuning", type=int, default=2)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows: list[dict[str, Any]] = json.loads(given.json.read_text()) if given.json and given.json.exists() else []
    done = {(row["network"], row["seed"], row["budget"], row["method"]) for row in rows}

    def keep(row: dict[str, Any]) -> None:
        rows.append(row)
        if given.json:
            given.json.write_text(json.dumps(rows, indent=1) + "\n")

    for seed in given.seeds:
        for network in given.networks:
            wanted = [(network, seed, 1.0, "as it is")]
            wanted += [(network, seed, budget, name) for budget in given.budgets for name in methods(network)]
            if all(one in done for one in wanted):
                continue
            bench = Bench(NETWORKS[network], seed, given)
            for key in wanted:
                if key not in done:
                    keep(measured(bench, *key))
    table(rows)


def methods(network: str) -> list[str]:
    return [*RULES, *SEARCHES, *PEERS, *(BY_EIGHTS if "Mobile" in network else ())]


def measured(bench: Bench, network: str, seed: int, budget: float, method: str) -> dict[str, Any]:
    began = time.process_time()
    make: Callable[[], tuple[Any, int]] = lambda: (bench.network, 0)  # noqa: E731
    plain, settings = BY_EIGHTS.get(method, (method, {}))
    if plain in RULES:
        make = lambda: bench.by_rule(RULES[plain], budget, settings)  # noqa: E731
    elif plain in SEARCHES:
        make = lambda: bench.by_search(SEARCHES[plain], budget, settings)  # noqa: E731
    elif method in PEERS:
        make = lambda: bench.by_torch_pruning(method, budget)  # noqa: E731
    row: dict[str, Any] = {"network": network, "seed": seed, "budget": budget, "method": method}
    try:
        made, evaluations = make()
    except Exception as error:  # a peer that cannot do it is a result
        return {**row, "failed": f"{type(error).__name__}: {error}"[:200]}
    seconds = time.process_time() - began
    untuned = bench.accuracy(made)
    after = bench.worth(made if method == "as it is" else bench.tuned(made))
    row |= {"evaluations": evaluations, "seconds": seconds, "untuned": untuned, **after}
    if method in BY_EIGHTS:
        row["latency_share"] = bench.share(made)
    print(f"{network:<28}{seed} {budget:<6}{method:<38}{row['untuned']:.3f} {row['accuracy']:.3f}", flush=True)
    return row


def table(rows: list[dict[str, Any]]) -> None:
    """Print a row a method: means over the seeds, and from the worst to the best."""
    groups: dict[tuple[str, float, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["network"], row["budget"], row["method"]), []).append(row)
    print("| network | left | method | before tuning | after tuning | multiply-adds | bytes | ms | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for (network, budget, method), members in sorted(groups.items(), key=lambda item: (item[0][0], -item[0][1])):
        good = [row for row in members if "failed" not in row]
        if not good:
            print(f"| {network} | {budget:.0%} | {method} | failed: {members[0]['failed']} | | | | | |")
            continue
        cells = [f"{_spread([row[key] for row in good])}" for key in ("untuned", "accuracy")]
        means = [
            statistics.fmean(row[key] for row in good) for key in ("multiply_adds", "bytes", "latency_ms", "seconds")
        ]
        shown = f"{means[0]:,.0f} | {means[1]:,.0f} | {means[2]:.3f} | {means[3]:.1f}"
        print(f"| {network} | {budget:.0%} | {method} | {' | '.join(cells)} | {shown} |")


def _spread(values: list[float]) -> str:
    mean = statistics.fmean(values)
    return f"{mean:.3f} ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else f"{mean:.3f}"


if __name__ == "__main__":
    main()

"""What a step of a one-shot search costs, beside the textbook form of the same network in the same run.

    python benchmarks/supernet.py [--json FILE] [--sides 16 32] [--kinds first] [--steps 3] [--rounds 2]

The search network of DARTS (16 channels, 8 cells, eight operations an edge, batches of 64). The textbook form calls
every operation of every edge one by one, in the default layout, and takes the gradients of everything in both halves of
a step. Each contestant runs in an interpreter of its own, taking turns; a step is of weights and of choices, first and
second order, or a sampled path's. Seconds are of this process's CPU on one thread; memory is by how much the process
grew at its peak. The losses and the first gradients of the choices have to agree to the rounding of float32, which some
forty layers of normalisation make larger.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
OPERATIONS = ("none", "max3x3", "avg3x3", "skip", "sep3x3", "sep5x5", "dilsep3x3", "dilsep5x5")
KINDS = ("first", "second", "path")


def prepared(side: int, channels_last: bool) -> tuple[Any, Any, Any]:
    """Return the engine, the architecture with all choices soft, and a sampled one."""
    import torch

    from automl_evaluators.batches import Batches
    from automl_evaluators.hardware import Hardware
    from automl_evaluators.one_shot import OneShot, Schedule
    from automl_spaces import darts
    from automl_strategies.darts import DARTS
    from automl_tasks.synthetic import Synthetic

    task = Synthetic(count=600, size=side, channels=3, labels=10, batch_size=64)
    task.prepare(0)
    space = darts.DARTS(cells=2, channels=16, operations=OPERATIONS)
    fabric = Hardware("cpu").fabric()
    data = [Batches(part, task.mean, task.std, torch.device("cpu")) for part in (task.train, task.train, task.held_out)]
    engine = OneShot(
        space,
        task,
        *data,
        Schedule(0.025, 0.001, 1000, 0.9, 3e-4, 5.0),
        seed=0,
        fabric=fabric,
        channels_last=channels_last,
        affine=False,
        threads=1,
    )
    strategy = DARTS(deviation=0.1)
    strategy.start(space, random.Random(0))
    return engine, strategy.ask().architecture, space.sample(random.Random(1))


def ours(side: int, kind: str) -> Callable[[], Mapping[str, Any]]:
    engine, soft, hard = prepared(side, channels_last=True)
    if kind == "path":
        network = engine.network(hard)
        return lambda: {"loss": engine.train_on([network])}
    network, leaves = engine.network(soft), engine.leaves(soft)
    fixed = {name: leaf.detach() for name, leaf in leaves.items()}

    def step() -> Mapping[str, Any]:
        _, gradients = engine.gradients(network, leaves, kind)
        loss = engine.train_on([network], fixed)
        return {"loss": loss, "gradients": {name: gradient.tolist() for name, gradient in gradients.items()}}

    return step


def textbook(side: int, kind: str) -> Callable[[], Mapping[str, Any]]:
    """The same numbers, each operation by itself, everything's gradients taken whether they are needed or not."""
    import torch
    from torch import nn

    from automl.mixture import Mixture

    engine, soft, hard = prepared(side, channels_last=False)
    network = engine.network(hard if kind == "path" else soft)
    leaves = {} if kind == "path" else engine.leaves(soft)

    class OneByOne(Mixture):
        def forward(self, x: torch.Tensor, memo: object = None) -> torch.Tensor:
            return sum(weight * option(x) for weight, option in zip(self.weights, self.options, strict=True))

    for module in network.modules():
        if isinstance(module, Mixture):
            module.__class__ = OneByOne
            module.weights = leaves[module.decision]
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.025, momentum=0.9, weight_decay=3e-4)
    network.train()

    def loss_of(images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(network(images), labels)

    def clear() -> None:
        optimizer.zero_grad()
        for leaf in leaves.values():
            leaf.grad = None

    def descend() -> float:
        clear()
        loss = loss_of(*engine._batch(engine.train, engine.step))
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 5.0)
        for group in optimizer.param_groups:
            group["lr"] = engine.schedule.rate(engine.step)
        optimizer.step()
        engine.step += 1
        return loss.item()

    def step() -> Mapping[str, Any]:
        if kind == "path":
            return {"loss": descend()}
        batch = engine._batch(engine.choices, engine.looks, "choices")
        engine.looks += 1
        if kind == "first":
            clear()
            loss_of(*batch).backward()
            gradients = {name: leaf.grad.tolist() for name, leaf in leaves.items()}
        else:
            gradients = unrolled(batch)
        return {"loss": descend(), "gradients": gradients}

    def unrolled(batch: tuple[torch.Tensor, torch.Tensor]) -> dict[str, list[float]]:
        trained_on, rate = engine._batch(engine.train, engine.step), engine.schedule.rate(engine.step)
        held = [parameter.detach().clone() for parameter in parameters]
        clear()
        loss_of(*trained_on).backward()
        with torch.no_grad():
            for parameter in parameters:
                buffer = optimizer.state[parameter].get("momentum_buffer")
                moved = parameter.grad + 3e-4 * parameter
                parameter.sub_(rate * (moved if buffer is None else moved + 0.9 * buffer))
        clear()
        loss_of(*batch).backward()
        direct = {name: leaf.grad.clone() for name, leaf in leaves.items()}
        direction = [parameter.grad.clone() for parameter in parameters]
        epsilon = 0.01 / float(torch.sqrt(sum(part.square().sum() for part in direction)))
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                for parameter, before, part in zip(parameters, held, direction, strict=True):
                    parameter.copy_(before + sign * epsilon * part)
            clear()
            loss_of(*trained_on).backward()
            sides.append({name: leaf.grad.clone() for name, leaf in leaves.items()})
        with torch.no_grad():
            for parameter, before in zip(parameters, held, strict=True):
                parameter.copy_(before)
        return {
            name: (one - rate * (sides[0][name] - sides[1][name]) / (2 * epsilon)).tolist()
            for name, one in direct.items()
        }

    return step


CONTESTANTS = {"textbook": textbook, "automl": ours}


def run(name: str, side: int, kind: str, steps: int) -> dict[str, Any]:
    step = CONTESTANTS[name](side, kind)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = step()  # unseen: what is made once
    seconds = []
    for _ in range(steps):
        began = time.process_time()
        step()
        seconds.append(time.process_time() - began)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"seconds": statistics.median(seconds), "megabytes": grown, "told": told}


def compare(sides: Sequence[int], kinds: Sequence[str], steps: int, rounds: int) -> list[dict[str, Any]]:
    rows = []
    for side in sides:
        for kind in kinds:
            best: dict[str, dict[str, Any]] = {}
            for _ in range(rounds):
                for name in CONTESTANTS:
                    command = [sys.executable, __file__, "--run", name, str(side), kind, "--steps", str(steps)]
                    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                    if name not in best or found["seconds"] < best[name]["seconds"]:
                        best[name] = found
            plain, mine = best["textbook"], best["automl"]
            row = {
                "step": kind,
                "side": side,
                "textbook_seconds": plain["seconds"],
                "automl_seconds": mine["seconds"],
                "speed": plain["seconds"] / mine["seconds"],
                "textbook_megabytes": plain["megabytes"],
                "automl_megabytes": mine["megabytes"],
                "memory": mine["megabytes"] / plain["megabytes"],
                "largest_difference": difference(plain["told"], mine["told"]),
            }
            rows.append(row)
            print(
                "| "
                + " | ".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values())
                + " |",
                flush=True,
            )
    return rows


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Return the largest difference of loss and gradients, over the largest number."""
    mine = [one["loss"], *(value for row in one.get("gradients", {}).values() for value in row)]
    theirs = [other["loss"], *(value for row in other.get("gradients", {}).values() for value in row)]
    return max(abs(a - b) for a, b in zip(mine, theirs, strict=True)) / max(map(abs, mine))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sides", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        name, side, kind = given.run
        print(json.dumps(run(name, int(side), kind, given.steps)))
        return
    rows = compare(given.sides, given.kinds, given.steps, given.rounds)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()

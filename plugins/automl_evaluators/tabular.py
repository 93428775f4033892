"""Looks a candidate's training up in a table of trainings that others did."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge

from automl import Architecture, BadInput, Evaluator, Op, Options, Report, Space, Task, Trial
from automl_evaluators.tables import DECISIONS, Table

_SCHEDULES = {"nasbench201": (12, 200), "spikenas": (100,)}  # the first is the default
_DATASETS = {"nasbench201": ("cifar10", "cifar100"), "spikenas": ("cifar10",)}


@dataclass
class Tabular(Evaluator):
    """What was recorded of a cell's training, with the seconds that it took then.

    ``nasbench201`` (Dong & Yang, 2020) has two trainings of each cell, by schedules of 12 and of 200 ``epochs``, and
    of most cells only where they ended. The shorter is no beginning of the longer, for its learning rate falls to
    zero, so a candidate is evaluated as a whole: the validation accuracy by the schedule asked for, the mean over
    the runs there were. ``spikenas`` (Sun et al., 2024) has all 100 epochs, so that a candidate can be trained in
    part and gone on with.

    Metrics: accuracy on the validation images, in shares; parameters; seconds that this trial took, those of its
    parent left out. Of nasbench201 also multiply_adds and, where an objective or a limit names them, latencies such
    as latency_pixel3_ms. Of spikenas also loss, train_accuracy and train_loss, left out where they were not finite.

    Nothing is shared between cells that compute the same: each was trained on its own.
    """

    table: Literal["nasbench201", "spikenas"] = "nasbench201"
    dataset: Literal["cifar10", "cifar100"] = "cifar10"
    epochs: Annotated[int, Ge(1)] | None = None  # of the schedule: 12, the default, or 200; spikenas has 100
    root: str | None = None  # the folder with the table or with a folder of its name; else $AUTOML_DATA, ...

    def __post_init__(self) -> None:
        for field, value, there in (
            ("dataset", self.dataset, _DATASETS[self.table]),
            ("epochs", self.epochs or _SCHEDULES[self.table][0], _SCHEDULES[self.table]),
        ):
            if value not in there:
                raise BadInput(
                    f"evaluator.{field}={value} is not in table {self.table}: give {' or '.join(map(str, there))}"
                )

    def start(self, space: Space[Any], task: Task) -> None:
        super().start(space, task)
        asked = (self.table, self.dataset, self.epochs, self.root, self.wanted)
        if getattr(self, "_asked", None) != asked:  # a study starts what was started before, to be checked
            self._table = self._open()
            self._asked = asked
        self._shares = _shares(space, self._table)
        some = self._table.costs(0)
        self._limited = any(limit.metric in some for limit in self.limits)

    def evaluate(self, trial: Trial) -> Iterator[Report]:
        code = self._code(trial.architecture)
        if self._limited:
            yield Report({**self._table.costs(code), "seconds": 0.0}, 0.0)
        parent = trial.parent
        begun = parent.fidelity if parent is not None and parent.architecture == trial.architecture else 0.0
        yield from self._table.reports(code, begun, trial.candidate.fidelity)

    def metrics(self) -> frozenset[str]:
        return self._table.metrics()

    def steps(self) -> int | None:
        return self._table.steps

    def key(self, architecture: Architecture) -> Hashable:
        return architecture

    def outcome(self, architecture: Architecture) -> Mapping[str, float]:
        """Return test_accuracy and validation_accuracy after the full training, whichever schedule is searched by."""
        return self._table.outcome(self._code(architecture))

    def _open(self) -> Table:
        if self.table == "spikenas":
            from automl_evaluators.spikenas_table import SpikenasTable

            return SpikenasTable(self.root)
        from automl_evaluators.nasbench201_table import NASBench201Table

        return NASBench201Table(self.root, self.dataset, self.epochs or _SCHEDULES[self.table][0], self.wanted)

    def _code(self, architecture: Architecture) -> int:
        values = architecture.values
        return sum([shares[values[name]] for name, shares in self._shares])


def _shares(space: Space[Any], table: Table) -> list[tuple[str, dict[Any, int]]]:
    """Return what each option of each decision adds to a cell's code.

    Raises BadInput for a space with other decisions than the table's, by name, or other options.
    """
    domains = space.sample(random.Random(0)).domains
    shares = []
    for place, name in enumerate(DECISIONS):
        domain = domains.get(name)
        options = domain.options if isinstance(domain, Options) else ()
        named = {option.name if isinstance(option, Op) else option: option for option in options}
        if len(domains) != len(DECISIONS) or set(named) != set(table.operations):
            raise BadInput(
                f"table {table.space} holds cells of six edges, each {', '.join(table.operations)}, and space "
                f"{type(space).__name__} decides otherwise: type +space={table.space}, or choose another "
                "evaluator.table or evaluator"
            )
        shares.append((name, {named[operation]: code * 5**place for code, operation in enumerate(table.operations)}))
    return shares

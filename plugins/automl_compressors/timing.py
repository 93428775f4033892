"""What a network takes on a device as a formula of its widths, learnt from kernels that were timed there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from automl import BadInput, Task
from automl.deploy import Deployed
from automl.errors import printable
from automl.kernels import cut
from automl.latency_model import CALL, Model
from automl_compressors import surgery
from automl_compressors.budget import TABLE
from automl_compressors.costs import Cost, Width

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch.nn import Module

    from automl.latency_table import Network, Table
    from automl_compressors.channels import Channels

    Numbers = NDArray[np.int64]

_NUMBER = re.compile(r"\d+")
_LEAST = 4  # networks that were measured whole, to learn a line from
_MANY = 3  # widths of a kernel, of which more are only summed, as of a concatenation

Term = tuple[int, ...]  # the widths whose product it is: none, one or two


@dataclass(frozen=True)
class _Timed:
    """Kernels whose names differ in their numbers alone: a row of numbers each, and its milliseconds."""

    numbers: Numbers
    milliseconds: NDArray[np.float64]


class Timing:
    """The milliseconds of networks of one form, whose layers differ in width, by a table of their kernels.

    Each kernel of the network is a sum of a constant, of its widths and of their products, none of them negative, by
    least squares over all kernels of the table that are like it but for the widths. So a narrower network never takes
    longer, and how wide a layer may be is found by halving, as for multiply-adds. ProxylessNAS (Cai et al., 2019) and
    AMC (He et al., 2018) look layers up in such a table; between its rows they interpolate. What kernels alone sum to
    is then corrected by a straight line through the networks of the table that were measured whole.
    """

    def __init__(self, table: Table, what: str) -> None:
        """``what`` says where the table was named."""
        self._table, self._what = table, what
        self._alone = Model(table.operations, (), ())  # which sums, and corrects nothing
        self._slope, self._start = _line(self._alone, table.networks)
        rows: dict[str, list[tuple[list[int], float]]] = {}
        for name, milliseconds in table.operations.items():
            form, numbers = _apart(name)
            rows.setdefault(form, []).append((numbers, milliseconds))
        self._timed = {
            form: _Timed(np.array([row for row, _ in found], np.int64), np.array([time for _, time in found]))
            for form, found in rows.items()
        }

    def cost(self, network: Module, channels: Channels, groups: Sequence[str], task: Task) -> tuple[Cost[float], float]:
        """Return the formula, by the units of the groups named, the others being whole, and what the network takes.

        That is by its own kernels, where the table has them: they may be quicker than the formula, which is of all
        widths, for runtimes prefer some. Raises BadInput where the table is of other images, or lacks kernels like
        those of the network.
        """
        self._table.refuse_other_images(task.input, self._what, "make another")
        network = surgery.weighty(network)  # to run it costs less than to work out what each operation would give
        names = self._names(network, task)
        whole = [_apart(name) for name in names]
        order = list(channels.groups)
        changes: dict[int, list[Numbers]] = {}  # by group: what one unit adds to the numbers of each kernel
        for name in groups:
            fewer = [_apart(one) for one in self._names(_narrower(network, channels, name), task)]
            if [form for form, _ in fewer] != [form for form, _ in whole]:
                raise BadInput(
                    f"without a channel of {printable(name)!r} the network is another one to a runtime, so no latency "
                    f"follows from its widths: leave the layer as it is by compressor.whole=[{printable(name)}]"
                )
            changes[order.index(name)] = [
                np.array(more, np.int64) - np.array(less, np.int64)
                for (_, more), (_, less) in zip(whole, fewer, strict=True)
            ]
        units = {index: channels.groups[order[index]].units for index in changes}
        cost = Cost(float)
        cost.add(self._corrected(self._table.operations.get(CALL, 0.0)))
        known: dict[Any, Sequence[tuple[float, Term]]] = {}
        for place, (form, numbers) in enumerate(whole):
            slopes = np.array([changes[index][place] for index in changes]).reshape(len(changes), -1)
            kernel = _Kernel.of(form, np.array(numbers, np.int64), slopes, units)
            if kernel.key not in known:
                known[kernel.key] = self._fitted(kernel)
            for times, term in known[kernel.key]:
                cost.add(self._slope * times, *(kernel.widths[width] for width in term))
        cost.close(len(order))
        try:
            return cost, self._corrected(self._alone.sum(Counter(names)))
        except KeyError:
            return cost, cost.of(channels.units({}))

    def _corrected(self, alone: float) -> float:
        """Return what a network takes whose kernels alone sum to so much."""
        return self._slope * alone + self._start

    def _names(self, network: Module, task: Task) -> list[str]:
        """Return the names of the kernels of a network, as it would be shipped, in their order."""
        batch = 1 if self._table.identity is None else int(self._table.identity["batch"])
        return [one.kernel.name for one in cut(Deployed.of(network, task), task.input, batch)]

    def _fitted(self, kernel: _Kernel) -> list[tuple[float, Term]]:
        """Return the terms whose sum a kernel takes, of its widths by their numbers."""
        from scipy.optimize import nnls

        timed = self._timed.get(kernel.form)
        like = np.zeros(0, bool) if timed is None else kernel.like(timed.numbers)
        if timed is None or not like.any():
            raise self._refusal(kernel, "no kernel like")
        points = timed.numbers[like][:, [places[0] for places in kernel.places]].astype(float)
        if kernel.widths and len(np.unique(points, axis=0)) == 1:  # of two, what lies between is never less nor more
            raise self._refusal(kernel, "one width alone of")
        terms = _terms(len(kernel.widths))
        features = np.stack([points[:, list(term)].prod(axis=1) for term in terms], axis=1)
        scale = features.max(axis=0)
        found, _ = nnls(features / scale, timed.milliseconds[like])
        return [(float(times), term) for times, term in zip(found / scale, terms, strict=True) if times > 0]

    def _refusal(self, kernel: _Kernel, lacks: str) -> BadInput:
        return BadInput(
            f"{self._what} has {lacks} {printable(kernel.name)!r}: make a table of this space and compressor, "
            f"{TABLE}, of more --networks"
        )


@dataclass(frozen=True)
class _Kernel:
    """One kernel of a network: its name without numbers, these, and its ``widths`` with the places of each there."""

    form: str
    numbers: Numbers
    widths: Sequence[Width]
    places: Sequence[Sequence[int]]

    @classmethod
    def of(cls, form: str, numbers: Numbers, slopes: Numbers, units: Mapping[int, int]) -> _Kernel:
        """``slopes`` are what a unit of each group adds to each number; ``units`` those that each group has."""
        places: dict[tuple[int, ...], list[int]] = {}
        for place in np.flatnonzero(slopes.any(axis=0)):
            places.setdefault((int(numbers[place]), *slopes[:, place].tolist()), []).append(int(place))
        widths = []
        for number, *column in places:
            added = {group: each for group, each in zip(units, column, strict=True) if each}
            widths.append(Width(number - sum(each * units[group] for group, each in added.items()), added))
        return cls(form, numbers, widths, list(places.values()))

    @property
    def key(self) -> Any:
        """Equal for kernels that take equally long at equal widths."""
        fixed = np.delete(self.numbers, [place for places in self.places for place in places])
        return self.form, tuple(map(tuple, self.places)), tuple(fixed.tolist())

    @property
    def name(self) -> str:
        numbers = iter(self.numbers.tolist())
        return re.sub("#", lambda _: str(next(numbers)), self.form)

    def like(self, numbers: Numbers) -> NDArray[np.bool_]:
        """Say of each row of numbers whether it differs in the widths alone, each the same in all of its places."""
        found: NDArray[np.bool_] = np.ones(len(numbers), bool)
        varying = [place for places in self.places for place in places]
        fixed = np.setdiff1d(np.arange(len(self.numbers)), varying)
        found &= (numbers[:, fixed] == self.numbers[fixed]).all(axis=1)
        for places in self.places:
            found &= (numbers[:, places] == numbers[:, places[:1]]).all(axis=1)
        return found


def _line(alone: Model, networks: Sequence[Network]) -> tuple[float, float]:
    """Return slope and start of what networks that were timed whole take by the sum of their kernels."""
    if len(networks) < _LEAST:
        return 1.0, 0.0
    sums = np.array([alone.sum(network.counts) for network in networks])
    taken = np.array([network.milliseconds for network in networks])
    if np.ptp(sums) > 0.01 * sums.max():
        slope, start = (float(value) for value in np.polyfit(sums, taken, 1, w=1 / taken))
        if slope > 0 and slope * sums.min() + start > 0:
            return slope, start
    return float(np.median(taken / sums)), 0.0


def _terms(widths: int) -> list[Term]:
    """Return a constant, each width, and their products: of two different ones, or of the only one with itself."""
    alone: list[Term] = [(), *((width,) for width in range(widths))]
    if widths == 1:
        return [*alone, (0, 0)]
    return [*alone, *(combinations(range(widths), 2) if widths <= _MANY else ())]


def _narrower(network: Module, channels: Channels, group: str) -> Module:
    """Return the network without one unit of a group."""
    return channels.prune(network, {group: range(channels.groups[group].units - 1)})


def _apart(name: str) -> tuple[str, list[int]]:
    """Return a name without its numbers, and these.

    >>> _apart("add of 1x16x8x8")
    ('add of #x#x#x#', [1, 16, 8, 8])
    """
    return _NUMBER.sub("#", name), [int(number) for number in _NUMBER.findall(name)]

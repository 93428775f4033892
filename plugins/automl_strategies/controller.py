"""An LSTM that answers any space's decisions one by one, each given those before it (Zoph & Le, 2017).

It knows a decision by its name and an option by its name and itself, each of which has a row in a few tables of
weights: as what is read next, an embedding; as what can be chosen, an output. Rows are made when they are first met.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import embedding

from automl import Architecture, Integer, Options, Real, Space
from automl_strategies.intervals import MANY, from_unit, to_unit

Domain = Real | Integer | Options[Any]
NUMBERS = torch.float64  # the network is so small that calls cost more than numbers
ROOM = 64  # rows that the tables begin with
REACH = 0.08  # weights begin uniform within it, to both sides of 0


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Have torch work on one thread: waiting for others takes many times what so small a network does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Categories:
    """How a decision among few is drawn: by softmax, from what the domain itself would draw where nothing is learnt.

    An option without an offset is not on offer.
    """

    def __init__(self, domain: Integer | Options[Any], name_row: int, rows: Sequence[int]) -> None:
        self.name_row = name_row
        self.rows = rows
        self.offsets = _log_prior(domain)
        self.index = torch.tensor(rows)
        self._places = {option: place for place, option in enumerate(domain.options)}

    def draw(self, outputs: Sequence[float], domain: Domain, rng: Random) -> tuple[Any, float]:
        """Return an option and the logarithm of its probability."""
        logits = [output + offset for output, offset in zip(outputs, self.offsets, strict=True)]
        top = max(logits)
        shares = [math.exp(logit - top) for logit in logits]
        total = sum(shares)
        drawn = rng.random() * total
        place = 0
        for other, share in enumerate(shares):
            if share:
                place = other  # the last of all, if rounding leaves something
                drawn -= share
                if drawn < 0:
                    break
        return domain.options[place], logits[place] - top - math.log(total)

    def place(self, value: Any) -> tuple[int, float]:
        """Return the place of the value among the rows, and the weight that its embedding is read with."""
        return self._places[value], 1.0


class Interval:
    """How a decision among many numbers is drawn: by a beta distribution over the interval, at first uniform.

    Its parameters are exponentials of the two outputs. An integer has the density at its middle.
    """

    def __init__(self, domain: Real | Integer, name_row: int, rows: Sequence[int]) -> None:
        self.name_row = name_row
        self.rows = rows
        self.offsets = (0.0, -math.inf)  # to softmax there is one option
        self.index = torch.tensor(rows)
        self._domain = domain

    def draw(self, outputs: Sequence[float], domain: Domain, rng: Random) -> tuple[Any, float]:
        """Return a number and the logarithm of its density in the unit interval."""
        alpha, beta = (math.exp(output) for output in outputs)
        value = from_unit(self._domain, rng.betavariate(alpha, beta))
        unit = to_unit(self._domain, value)
        size = math.lgamma(alpha) + math.lgamma(beta) - math.lgamma(alpha + beta)
        return value, (alpha - 1) * math.log(unit) + (beta - 1) * math.log1p(-unit) - size

    def place(self, value: Any) -> tuple[int, float]:
        """Return the row that stands for the number, and the weight that its embedding is read with."""
        return 0, to_unit(self._domain, value)


Head = Categories | Interval


class Step:
    """One decision of a sequence in the controller's rows: what is read before it, and what was chosen."""

    __slots__ = ("choice", "head", "inputs", "weights")

    def __init__(self, head: Head, inputs: list[int], weights: list[float], choice: tuple[int, float]) -> None:
        self.head = head
        self.inputs = inputs
        self.weights = weights
        self.choice = choice


class Controller:
    """The network, its optimiser (Adam) and the rows met so far.

    Without hidden units there is no network, and each decision has logits of its own, whatever was decided before.
    All that is random follows from the seed and the names, in whichever order these are met.
    """

    def __init__(self, hidden: int, layers: int, learning_rate: float, seed: int) -> None:
        self.hidden = hidden
        self.layers = layers if hidden else 0
        self.seed = seed
        generator = torch.Generator().manual_seed(seed)
        shapes = ((4 * hidden, hidden), (4 * hidden, hidden), (4 * hidden,), (4 * hidden,))
        self.cells: list[Tensor] = [
            Parameter(torch.empty(shape, dtype=NUMBERS).uniform_(-REACH, REACH, generator=generator))
            for shape in shapes * self.layers
        ]
        self.embeddings = _table(hidden)
        self.outputs = _table(hidden)
        self.biases = _table(1)
        self.tables = [self.biases, self.embeddings, self.outputs] if hidden else [self.biases]
        self.optimizer = torch.optim.Adam([*self.tables, *self.cells], learning_rate)
        self._rows: dict[str, int] = {}
        self._heads: dict[Hashable, Head] = {}

    @on_one_thread()
    def draw(self, space: Space[Any], rng: Random) -> tuple[Architecture, list[float]]:
        """Return an architecture, and the log-probability of each of its decisions that could go otherwise."""
        log_probs: list[float] = []
        read: tuple[int, float] | None = None
        state = [self._zeros(1)] * (2 * self.layers)

        def answer(name: str, domain: Domain, context: Sequence[float] | None) -> Any:
            nonlocal read
            if domain.count == 1:
                return domain.options[0]
            head = self._head(name, domain)
            inputs, weights = self._inputs(name, head, read, context)
            value, log_prob = head.draw(self._advance(head, inputs, weights, state), domain, rng)
            log_probs.append(log_prob)
            place, weight = head.place(value)
            read = head.rows[place], weight
            return value

        return space.make(answer, with_context=True), log_probs

    def steps(self, architecture: Architecture) -> list[Step]:
        """Return the decisions of an architecture that could have gone otherwise."""
        steps = []
        read: tuple[int, float] | None = None
        for name, domain in architecture.domains.items():
            if domain.count != 1:
                head = self._head(name, domain)
                inputs, weights = self._inputs(name, head, read, architecture.contexts.get(name))
                place, weight = choice = head.place(architecture.values[name])
                steps.append(Step(head, inputs, weights, choice))
                read = head.rows[place], weight
        return steps

    @on_one_thread()
    def judge(self, sequences: Sequence[Sequence[Step]]) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of what was chosen, and the entropies: a row a sequence, zeros at its end.

        Entropies are those of what could be chosen, given the choices before; of an interval, relative to uniform.
        """
        length = max(map(len, sequences))
        width = max(len(step.head.rows) for steps in sequences for step in steps)
        rows, offsets, places, units, is_interval = [], [], [], [], []
        for steps in sequences:
            for step in steps:
                head = step.head
                spare = width - len(head.rows)
                rows.append([*head.rows, *[0] * spare])
                offsets.append([*head.offsets, *[-math.inf] * spare])
                places.append(step.choice[0])
                is_interval.append(isinstance(head, Interval))
                units.append(step.choice[1] if is_interval[-1] else 0.5)
            end = length - len(steps)
            rows += [[0] * width] * end
            offsets += [[0.0, *[-math.inf] * (width - 1)]] * end  # one option: probability 1, entropy 0
            places += [0] * end
            units += [0.5] * end
            is_interval += [False] * end
        shape = (len(sequences), length)
        index = torch.tensor(rows).view(*shape, width)
        outputs = embedding(index, self.biases).squeeze(-1)
        if self.layers:
            hidden = self._run(sequences, length)
            outputs = outputs + (embedding(index, self.outputs) @ hidden.unsqueeze(-1)).squeeze(-1)
        offset = torch.tensor(offsets, dtype=NUMBERS).view(*shape, width)
        logs = (outputs + offset).log_softmax(-1)
        chosen = logs.gather(-1, torch.tensor(places).view(*shape, 1)).squeeze(-1)
        entropy = -(logs.exp() * logs.masked_fill(offset == -math.inf, 0.0)).sum(-1)
        if any(is_interval):
            interval = torch.tensor(is_interval).view(shape)
            alpha, beta = outputs[..., :2].masked_fill(~interval.unsqueeze(-1), 0.0).exp().unbind(-1)
            # uniform, so that both are 0, where there is no interval
            curve = torch.distributions.Beta(alpha, beta, validate_args=False)
            chosen = chosen + curve.log_prob(torch.tensor(units, dtype=NUMBERS).view(shape))  # type: ignore[no-untyped-call]
            entropy = entropy + curve.entropy()  # type: ignore[no-untyped-call]
        return chosen, entropy

    @on_one_thread()
    def descend(self, loss: Tensor) -> None:
        """Go one step of the optimiser down the loss."""
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    def _run(self, sequences: Sequence[Sequence[Step]], length: int) -> Tensor:
        """Return the hidden units before each decision."""
        width = max(len(step.inputs) for steps in sequences for step in steps)
        inputs: list[list[int]] = []
        weights: list[list[float]] = []
        for steps in sequences:
            for step in steps:
                spare = width - len(step.inputs)
                inputs.append([*step.inputs, *[0] * spare])
                weights.append([*step.weights, *[0.0] * spare])
            inputs += [[0] * width] * (length - len(steps))
            weights += [[0.0] * width] * (length - len(steps))
        weight = torch.tensor(weights, dtype=NUMBERS).unsqueeze(1)
        read = (weight @ embedding(torch.tensor(inputs), self.embeddings)).view(len(sequences), length, self.hidden)
        zeros = self._zeros(self.layers, len(sequences))
        return torch.lstm(read, (zeros, zeros), self.cells, True, self.layers, 0.0, False, False, True)[0]

    @torch.no_grad()
    def _advance(self, head: Head, inputs: list[int], weights: list[float], state: list[Tensor]) -> list[float]:
        """Read one step, and return the outputs for its rows; the state is two tensors a layer."""
        outputs = self.biases[head.index, 0]
        if self.layers:
            hidden = torch.tensor([weights], dtype=NUMBERS) @ self.embeddings[inputs]
            for layer in range(self.layers):
                own = slice(2 * layer, 2 * layer + 2)
                state[own] = torch.lstm_cell(hidden, state[own], *self.cells[4 * layer : 4 * layer + 4])
                hidden = state[2 * layer]
            outputs = torch.addmv(outputs, self.outputs[head.index], hidden[0])
        numbers: list[float] = outputs.tolist()
        return numbers

    def _inputs(
        self, name: str, head: Head, read: tuple[int, float] | None, context: Sequence[float] | None
    ) -> tuple[list[int], list[float]]:
        """Return what is read before a decision: rows, and the weights that their embeddings are added with."""
        inputs, weights = [head.name_row], [1.0]
        if read is not None:
            inputs.append(read[0])
            weights.append(read[1])
        if context is not None:
            inputs += [self._row(f"{name}\0context\0{place}") for place in range(len(context))]
            weights += map(float, context)
        return inputs, weights

    def _head(self, name: str, domain: Domain) -> Head:
        """Return how the decision is drawn from that domain."""
        key = (name, domain.options, domain.prior) if isinstance(domain, Options) else (name, domain)
        head = self._heads.get(key)
        if head is None:
            name_row = self._row(name)
            if isinstance(domain, Real) or (isinstance(domain, Integer) and domain.count > MANY):
                head = Interval(domain, name_row, [self._row(f"{name}\0interval\0{end}") for end in ("low", "high")])
            else:
                codes = [json.dumps(domain.encode(option)) for option in domain.options]
                head = Categories(domain, name_row, [self._row(f"{name}\0option\0{code}") for code in codes])
            self._heads[key] = head
        return head

    def _row(self, key: str) -> int:
        """Return the row of that key in the tables, made if it is new."""
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = len(self._rows)
            if row == len(self.biases):
                self._double()
            rng = Random(f"{self.seed}/{key}")
            for table in self.tables[1:]:
                weights = [rng.uniform(-REACH, REACH) for _ in range(self.hidden)]
                table.data[row] = torch.tensor(weights, dtype=NUMBERS)
        return row

    def _double(self) -> None:
        """Make room in the tables, and in what the optimiser knows of them; no loss may be waiting."""
        for table in self.tables:
            table.grad = None
            state = self.optimizer.state.get(table, {})
            for name, value in state.items():
                if value.shape == table.shape:
                    state[name] = torch.cat([value, torch.zeros_like(value)])
            table.data = torch.cat([table.data, torch.zeros_like(table.data)])

    def _zeros(self, *shape: int) -> Tensor:
        return torch.zeros(*shape, self.hidden, dtype=NUMBERS)


def _table(width: int) -> Parameter:
    return Parameter(torch.zeros(ROOM, width, dtype=NUMBERS))


def _log_prior(domain: Integer | Options[Any]) -> list[float]:
    """Return the logarithm of the shares that the domain draws its options by, up to a constant."""
    if isinstance(domain, Integer):
        if not domain.log:
            return [0.0] * domain.count
        return [math.log(math.log((value + 0.5) / (value - 0.5))) for value in domain]
    if domain.prior is None:
        return [0.0] * domain.count
    return [math.log(share) if share else -math.inf for share in domain.prior]

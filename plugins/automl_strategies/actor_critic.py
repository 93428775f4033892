"""The two networks of DDPG: an actor that knows the best action in a state, and a critic that knows what one is worth.

They are so small that calls cost more than numbers: all weights of one are one vector, and gradients are written out.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod, sqrt
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import linear

from automl_strategies.controller import on_one_thread

if TYPE_CHECKING:
    from automl_strategies.ddpg import Transition

FAST, SLOW, EPS = 0.9, 0.999, 1e-8  # of Adam (Kingma & Ba, 2015)
TINY = 1e-30  # nothing beside EPS squared; the root of 0 takes twenty times as long as that of a number
NUMBER = 4  # bytes
Layers = Sequence[Tensor]  # weight and bias of each, in turn


class Network:
    """Two layers of ``hidden`` units with ReLU, then one output; trained by Adam, and followed by a target.

    The generator draws the weights uniformly within one over the root of how many numbers a unit reads.
    """

    def __init__(self, width: int, hidden: int, rate: float, generator: torch.Generator) -> None:
        self.width = width
        self.hidden = hidden
        self.rate = rate
        self.steps = 0
        self._lay_out()
        for place, layer in enumerate(self.layers):
            reach = self.layers[place - place % 2].shape[1] ** -0.5
            layer.uniform_(-reach, reach, generator=generator)
        self._vectors[1] = self._vectors[0]

    def _lay_out(self) -> None:
        """Make room for weights, target, gradient and Adam's two moments: a vector each, looked at as layers."""
        hidden = self.hidden
        shapes = [(hidden, self.width), (hidden,), (hidden, hidden), (hidden,), (1, hidden), (1,)]
        sizes = [prod(shape) for shape in shapes]
        self._vectors = torch.zeros(5, sum(sizes))
        self._parts: list[Layers] = [
            [part.view(shape) for part, shape in zip(vector.split(sizes), shapes, strict=True)]
            for vector in self._vectors
        ]
        self.layers, self.target, self.gradient, *_ = self._parts

    def widen(self, width: int) -> None:
        """Read more numbers than before; the new ones change no answer until they are learnt from."""
        before = self._parts
        self.width = width
        self._lay_out()
        for layers, known in zip(self._parts, before, strict=True):
            for layer, old in zip(layers, known, strict=True):
                layer[..., : old.shape[-1]] = old

    def backward(self, seen: Sequence[Tensor], slope: Tensor, into: Layers | None = None) -> Tensor:
        """Return the slope by the inputs, given that by the outputs, and write down those by the weights."""
        for layer in (2, 1, 0):
            if into is not None:
                torch.mm(slope.t(), seen[layer], out=into[2 * layer])
                torch.sum(slope, 0, out=into[2 * layer + 1])
            slope = slope @ self.layers[2 * layer]
            if layer:
                slope *= seen[layer] > 0
        return slope

    def step(self) -> None:
        """Go one step of Adam against the gradient."""
        weights, _, gradient, first, second = self._vectors
        self.steps += 1
        first.lerp_(gradient, 1 - FAST)
        second.mul_(SLOW).addcmul_(gradient, gradient, value=1 - SLOW)
        spread = (second + TINY).sqrt_().mul_(1 / sqrt(1 - SLOW**self.steps)).add_(EPS)
        weights.addcdiv_(first, spread, value=-self.rate / (1 - FAST**self.steps))

    def follow(self, share: float) -> None:
        """Have the target go that share of its way to the weights."""
        self._vectors[1].lerp_(self._vectors[0], share)


class ActorCritic:
    """An actor state-h-h-sigmoid and a critic (W1 state + W2 action)-ReLU-h-ReLU-1, of h hidden units.

    States are of ``width`` numbers. All that is random follows from the seed.
    """

    @on_one_thread()
    def __init__(
        self, width: int, hidden: int, actor_rate: float, critic_rate: float, tau: float, discount: float, seed: int
    ) -> None:
        self.width = width
        self.tau = tau
        self.discount = discount
        generator = torch.Generator().manual_seed(seed)
        self.actor = Network(width, hidden, actor_rate, generator)
        self.critic = Network(1 + width, hidden, critic_rate, generator)
        action = self.critic.layers[0][:, 0].uniform_(-1, 1, generator=generator)  # W2 reads one number
        self.critic.target[0][:, 0] = action

    @on_one_thread()
    def widen(self, width: int) -> None:
        """Have states of more numbers than before."""
        self.width = width
        self.actor.widen(width)
        self.critic.widen(1 + width)

    @on_one_thread()
    def act(self, state: bytes) -> float:
        """Return the best action that the actor knows of."""
        return act(self.actor.layers, self._states([state]))[-1].item()

    @on_one_thread()
    def learn(self, transitions: Sequence[Transition], rewards: Sequence[float]) -> float:
        """Go one step with the critic, then one with the actor, let the targets follow, and return the critic's loss.

        The critic is to say r + discount x Q'(s', mu'(s')), and r alone where nothing comes after; the actor is to do
        what the critic says is best.
        """
        states = self._states([transition.state for transition in transitions])
        actions = _column([transition.action for transition in transitions])
        seen = judge(self.critic.layers, states, actions)
        error = seen[-1] - self.aims(transitions, rewards)
        self.critic.backward(seen, error * (2 / len(error)), self.critic.gradient)
        self.critic.step()
        *seen, actions = act(self.actor.layers, states)
        judged = judge(self.critic.layers, states, actions)
        slope = self.critic.backward(judged, torch.full_like(actions, -1 / len(actions)))[:, :1]
        self.actor.backward(seen, slope * actions * (1 - actions), self.actor.gradient)
        self.actor.step()
        self.actor.follow(self.tau)
        self.critic.follow(self.tau)
        return error.square().mean().item()

    def aims(self, transitions: Sequence[Transition], rewards: Sequence[float]) -> Tensor:
        """Return what the critic should say of each transition: a column."""
        after = self._states([transition.after or b"" for transition in transitions])
        goes_on = _column([transition.after is not None for transition in transitions])
        worth = judge(self.critic.target, after, act(self.actor.target, after)[-1])[-1]
        return _column(rewards) + self.discount * goes_on * worth

    def _states(self, states: Sequence[bytes]) -> Tensor:
        """Return packed states as rows, with zeros for the numbers that were not known of when they were met."""
        size = NUMBER * self.width
        packed = bytearray(b"".join([state.ljust(size, b"\0") for state in states]))
        return torch.frombuffer(packed, dtype=torch.float32).view(len(states), self.width)


def act(actor: Layers, states: Tensor) -> list[Tensor]:
    """Return the actions that an actor of such layers takes, a column, after what its layers see before."""
    seen = forward(actor, states)
    seen[-1] = seen[-1].sigmoid()
    return seen


def judge(critic: Layers, states: Tensor, actions: Tensor) -> list[Tensor]:
    """Return what a critic of such layers says of actions in states, a column, after what its layers see before."""
    return forward(critic, torch.cat([actions, states], 1))


def forward(layers: Layers, inputs: Tensor) -> list[Tensor]:
    """Return what each of the layers sees, and the outputs."""
    seen = [inputs]
    for layer in (0, 2):
        seen.append(linear(seen[-1], layers[layer], layers[layer + 1]).relu_())
    return [*seen, linear(seen[-1], layers[4], layers[5])]


def _column(numbers: Sequence[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32).unsqueeze(1)

"""DDPG: one agent answers every decision by a number, and learns from what it remembers which are best where."""

from __future__ import annotations

import logging
from array import array
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Le, Lt

from automl import Architecture, Candidate, Integer, Options, Real, Space, Strategy, Trial, Worth
from automl_strategies.actions import Order, Span, near

if TYPE_CHECKING:
    from automl_strategies.actor_critic import ActorCritic

Domain = Real | Integer | Options[Any]
REPEATS = 3  # known architectures in a row, after which each more doubles the noise
WIDEST = 8.0  # standard deviation of the noise, which is then uniform
FAR = 10  # decisions before one whose place is 1/2
_log = logging.getLogger("automl")


class Transition:
    """A decision of an episode: the state, what was decided in it, and the state after it, None at the end.

    A state is packed: 32-bit numbers, of which a batch is made by joining them.
    """

    __slots__ = ("after", "episode", "scale", "state", "value")

    def __init__(self, episode: Episode, state: bytes, scale: Span | Order, value: Any) -> None:
        self.episode = episode
        self.state = state
        self.scale = scale
        self.value = value
        self.after: bytes | None = None

    @property
    def action(self) -> float:
        """The action that means what was decided."""
        return self.scale.action(self.value)


class Episode:
    """The decisions of one architecture, and the trial that tells what all of them are worth."""

    __slots__ = ("architecture", "number", "transitions", "trial")
    architecture: Architecture  # once decided
    trial: Trial  # once told

    def __init__(self, number: int) -> None:
        self.number = number
        self.transitions: list[Transition] = []


@dataclass
class DDPG(Strategy):
    """Deep deterministic policy gradient (Lillicrap et al., 2016), as AMC prunes by it (He et al., 2018).

    An actor answers decision by decision, each by an action from 0 to 1: the place in the decision's interval, or among
    its options, of which numbers are sorted and others stay in the order given. Where an interval is narrower than the
    decision had it before, as a budget narrows it, the action is clipped, and remembered so. The state is the context
    of the decision; where it has none, how many decisions came before, how many options there are, how much of the
    interval is left, and the action before.

    The first ``warmup`` episodes are uniform, and only remembered. From then on actions are drawn from a normal
    distribution around the actor's, cut off at 0 and 1, of deviation ``sigma`` x ``decay`` ^ (episode - ``warmup``),
    and at the end of an episode there is one update for each of its decisions, on ``batch`` of the last ``replay``
    decisions. All decisions of an episode have its reward, less a moving average of the batches' mean rewards. What
    is known already is no episode; after three such in a row each more doubles the deviation.

    Where the authors' release slips it is not followed: it has 101 uniform episodes for 100, so that its noise begins
    at 0.475; it remembers actions as they were before the budget clipped them; it updates while an episode is stored.
    Its noise falls to nothing, where here it does not fall below ``least``.
    """

    several: ClassVar[bool] = False

    hidden: Annotated[int, Ge(1)] = 300
    actor_rate: Annotated[float, Gt(0)] = 1e-4
    critic_rate: Annotated[float, Gt(0)] = 1e-3
    tau: Annotated[float, Gt(0), Le(1)] = 0.01
    discount: Annotated[float, Ge(0), Le(1)] = 1.0
    batch: Annotated[int, Ge(1)] = 64
    replay: Annotated[int, Ge(1)] = 2000
    baseline: Annotated[float, Ge(0), Lt(1)] = 0.5
    warmup: Annotated[int, Ge(0)] = 100
    sigma: Annotated[float, Gt(0)] = 0.5
    decay: Annotated[float, Gt(0), Le(1)] = 0.95
    least: Annotated[float, Gt(0)] = 1e-3

    def start(self, space: Space[Any], rng: Random) -> None:
        super().start(space, rng)
        self.worth = Worth()
        self.memory: deque[Transition] = deque(maxlen=self.replay)
        self.average: float | None = None  # of the batches' mean rewards
        self.agent: ActorCritic | None = None  # born when the generator is seeded
        self.episodes = 0  # asked for, without those that were known
        self.repeats = 0  # in a row
        self.running: dict[int, Episode] = {}  # by the identity of the architecture
        self.told: dict[int, Episode | None] = {}  # by trial; None: asked for by another
        self.columns: dict[Hashable, int] = {}  # of a state, by what stands there
        self.scales: dict[Hashable, Span | Order] = {}

    def deviation(self, episode: int) -> float:
        """Return the standard deviation of the noise in the episode of that number, the first being 0."""
        return max(self.sigma * self.decay ** max(episode - self.warmup, 0), self.least)

    # asking

    def ask(self) -> Candidate:
        random = self.rng.random
        episode = Episode(self.episodes)
        self.episodes += 1
        doubled = min(max(self.repeats - REPEATS, 0), 20)
        deviation = min(self.deviation(episode.number) * 2**doubled, WIDEST)
        made = 0
        before = 0.0

        def answer(name: str, domain: Domain, context: Sequence[float] | None) -> Any:
            nonlocal made, before
            made += 1
            scale = self._scale(name, domain)
            if not scale.is_free:
                return domain.options[0]
            state = self._state(domain, scale.left, made - 1, before, context)
            action = random()
            if episode.number >= self.warmup:
                action = near(self._agent().act(state), deviation, action)
            value = scale.value(action)
            transition = Transition(episode, state, scale, value)
            if episode.transitions:
                episode.transitions[-1].after = state
            episode.transitions.append(transition)
            before = transition.action
            return value

        episode.architecture = self.space.make(answer, with_context=True)
        self.running[id(episode.architecture)] = episode
        return Candidate(episode.architecture)

    def _scale(self, name: str, domain: Domain) -> Span | Order:
        """Return how actions and values of a decision belong together."""
        if isinstance(domain, Options):
            key: Hashable = (name, domain.options, domain.prior)
            scale = self.scales.get(key)
            if scale is None:
                scale = self.scales[key] = Order(domain)
            return scale
        key = (name, type(domain), domain.log)
        scale = self.scales.get(key)
        if scale is None:
            scale = self.scales[key] = Span(domain)
        assert isinstance(scale, Span)
        scale.meet(domain)
        return scale

    def _state(self, domain: Domain, left: float, made: int, before: float, context: Sequence[float] | None) -> bytes:
        """Return what the agent sees of a decision, in columns that each have one meaning."""
        named: list[tuple[Hashable, float]]
        if context is not None and len(context):
            named = [(place, float(number)) for place, number in enumerate(context)]
        else:
            options = 0.0 if domain.count is None else 1 / domain.count
            named = [("made", made / (made + FAR)), ("options", options), ("left", left), ("before", before)]
        places = [self.columns.setdefault(key, len(self.columns)) for key, _ in named]
        state = array("f", bytes(4 * len(self.columns)))
        for place, (_, number) in zip(places, named, strict=True):
            state[place] = number
        return state.tobytes()

    def _agent(self) -> ActorCritic:
        """Return the agent, which knows states of all columns met so far."""
        if self.agent is None:
            from automl_strategies.actor_critic import ActorCritic

            self.agent = ActorCritic(
                len(self.columns),
                self.hidden,
                self.actor_rate,
                self.critic_rate,
                self.tau,
                self.discount,
                self.rng.getrandbits(63),
            )
        if len(self.columns) > self.agent.width:
            self.agent.widen(len(self.columns))
        return self.agent

    # telling

    def tell(self, trial: Trial) -> None:
        self.worth.see(trial)
        episode = self.running.pop(id(trial.architecture), None)
        if trial.number in self.told:
            self.repeats += 1
            self.episodes -= episode is not None
            return
        self.repeats = 0
        parent = trial.candidate.parent
        if episode is None:  # gone on with: worth what is known of it last
            episode = None if parent is None else self.told.get(parent)
            self.told[trial.number] = episode
            if episode is not None:
                episode.trial = trial
            return
        self.told[trial.number] = episode
        episode.trial = trial
        self.memory.extend(episode.transitions)
        if episode.number >= self.warmup:
            for _ in episode.transitions:
                self.learn(self._agent())
        episode.transitions = []

    def learn(self, agent: ActorCritic) -> None:
        """Update the agent once, by decisions drawn from the memory."""
        transitions = self.rng.sample(self.memory, min(self.batch, len(self.memory)))
        rewards = [self.worth.of(transition.episode.trial) for transition in transitions]
        mean = fmean(rewards)
        before = mean if self.average is None else self.average
        self.average = self.baseline * before + (1 - self.baseline) * mean
        agent.learn(transitions, [reward - self.average for reward in rewards])

    def recommend(self, trials: Sequence[Trial]) -> Architecture:
        if self.agent is None and self.memory:
            _log.warning(
                "strategy=ddpg drew all %d architectures at random and learnt nothing: give more trials than "
                "strategy.warmup=%d, best four times as many",
                len(self.told),
                self.warmup,
            )
        return super().recommend(trials)

"""PC-DARTS: a part of the channels goes through the operations, and the edges of a node compete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge

from automl import Trial
from automl_strategies.gradient import Gradient, Weighed, softmax, through_softmax


@dataclass
class PCDARTS(Gradient):
    """Partially connected DARTS (Xu et al., 2020).

    A ``channels``-th of the channels goes through the operations, the others pass by. Where a node takes all of a set
    of states, the states have logits of their own, whose softmax multiplies the weights of their operations and
    decides, with them, which are derived.
    """

    channels: Annotated[int, Ge(1)] = 4

    def start(self, space: Any, rng: Any) -> None:
        super().start(space, rng)
        self.groups: dict[str, tuple[str, int]] = {}  # by decision: the set that it is of, and its place there

    @property
    def part(self) -> int:  # type: ignore[override]
        return self.channels

    def ask(self) -> Any:
        candidate = super().ask()
        if candidate is not None and not self.groups and self._known_members:
            for name, members in self._known_members.items():
                edges = [decision for decisions in members.values() for decision in decisions]
                self._logits_of(f"{name}/edges", len(edges))
                self.groups |= {decision: (name, place) for place, decision in enumerate(edges)}
        return candidate

    def share_of(self, name: str) -> float:
        """Return by what the operations of a decision are multiplied."""
        if name not in self.groups:
            return 1.0
        group, place = self.groups[name]
        return softmax(self.logits[f"{group}/edges"])[place]

    def weigh(self, name: str, logits: Sequence[float]) -> Weighed:
        shares, edge = softmax(logits), self.share_of(name)
        return Weighed(tuple(edge * share for share in shares), shares, edge)

    def strength(self, name: str) -> list[float]:
        return [self.share_of(name) * share for share in softmax(self.logits[name])]

    def slopes(
        self, weighed: Mapping[str, Weighed], gradients: Mapping[str, Sequence[float]]
    ) -> dict[str, Sequence[float]]:
        slopes = super().slopes(weighed, gradients)
        edges: dict[str, list[float]] = {}
        for name, gradient in gradients.items():
            if name in self.groups:
                group, place = self.groups[name]
                slope = edges.setdefault(group, [0.0] * len(self.logits[f"{group}/edges"]))
                slope[place] = sum(one * share for one, share in zip(gradient, weighed[name].shares, strict=True))
        for group, slope in edges.items():
            shares = softmax(self.logits[f"{group}/edges"])
            slopes[f"{group}/edges"] = through_softmax(Weighed((), shares), slope)
        return slopes

    def state(self) -> Mapping[str, Any]:
        return {**super().state(), "groups": {name: list(place) for name, place in self.groups.items()}}

    def restore(self, state: Mapping[str, Any], trials: Sequence[Trial]) -> None:
        super().restore(state, trials)
        self.groups = {name: (group, place) for name, (group, place) in state["groups"].items()}

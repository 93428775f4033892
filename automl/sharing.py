"""One set of weights that all networks of a space share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

from automl.mixture import Mixture


class Place(NamedTuple):
    """Where a parameter is: the module that owns it, by what attribute, and the key that it is shared by."""

    owner: nn.Module
    attribute: str
    key: str


def places(network: nn.Module) -> Iterator[Place]:
    """Yield every parameter of a built network with the key by which networks of its space share it.

    Within a module that an ``Op`` made the key is the decision, the operation, how many such came before in the
    network, the place within, and the shape; elsewhere the place in the network and the shape. So an operation that
    is chosen twice for one place has one set of weights, whatever else was chosen.
    """
    counts: Counter[tuple[str, str]] = Counter()
    prefixes: dict[str, tuple[str, int]] = {}  # by path of a marked module: its prefix, and where its own path begins
    seen: set[tuple[int, str]] = set()
    for path, module in network.named_modules():
        mark = getattr(module, "automl_choice", None)
        if mark is not None and not isinstance(module, Mixture):
            prefixes[path] = (f"{mark[0]}/{mark[1]}/{counts[mark]}", len(path) + 1)
            counts[mark] += 1
        above = path
        while above and above not in prefixes:
            above = above.rpartition(".")[0]
        prefix, begin = prefixes.get(above, ("", 0))
        for attribute, parameter in module._parameters.items():
            if parameter is None or (id(module), attribute) in seen:
                continue
            seen.add((id(module), attribute))
            inner = ".".join(filter(None, (path[begin:], attribute)))
            shape = "x".join(map(str, parameter.shape))
            yield Place(module, attribute, f"{prefix}/{inner}/{shape}")


class SharedWeights:
    """One tensor for each key, put into every network that ``adopt`` is given."""

    def __init__(self) -> None:
        self.tensors: dict[str, nn.Parameter] = {}

    def adopt(self, network: nn.Module) -> list[nn.Parameter]:
        """Put the shared parameters in the place of the network's own, which those that are new become.

        Returns the new ones.
        """
        new = []
        for owner, attribute, key in places(network):
            shared = self.tensors.get(key)
            if shared is None:
                parameter = owner._parameters[attribute]
                assert parameter is not None
                self.tensors[key] = parameter
                new.append(parameter)
            else:
                owner._parameters[attribute] = shared
        return new

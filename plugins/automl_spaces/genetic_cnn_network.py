"""Networks of Genetic CNN: stages of convolutions that read sums, with a pool after each, and a hidden layer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from automl_networks.classifier import Classifier
from automl_networks.conv_norm import conv_norm
from automl_networks.pooling import Pool
from automl_spaces.dags import Dag
from automl_spaces.graph_network import Added, Graph


def network(
    dags: Sequence[Dag],
    filters: Sequence[int],
    hidden: int,
    dropout: float,
    image: tuple[int, int, int],
    outputs: int,
) -> Classifier:
    """Return images to logits, N x outputs."""
    channels, height, width = image
    stages = []
    for dag, count in zip(dags, filters, strict=True):
        reads = [node.reads for node in dag]
        graph = Graph(reads, [Added() for _ in dag], [conv_norm(count, count, 3) for _ in dag])
        stages.append(nn.Sequential(conv_norm(channels, count, 3), graph, Pool("maximum", 2, 2)))
        channels, height, width = count, (height + 1) // 2, (width + 1) // 2
    head = nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * height * width, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(hidden, outputs),
    )
    return Classifier(nn.Identity(), stages, head)

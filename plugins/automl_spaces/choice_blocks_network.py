"""Networks of choice blocks: stages of one cell that reads the outputs of the last two."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from automl import Op
from automl_networks.classifier import pooled_linear
from automl_networks.conv_norm import conv_norm
from automl_networks.convolutions import convolution
from automl_networks.pooling import Pool
from automl_spaces.choice_blocks import Cell


class ChoiceNetwork(nn.Module):
    """Images to logits, N x outputs: so many cells a stage, of a width that doubles from stage to stage."""

    def __init__(self, cell: Cell, stages: int, cells: int, channels: int, colours: int, outputs: int) -> None:
        super().__init__()
        self.stem = conv_norm(colours, channels, 3, activation=None)
        self.shrink = Pool("average", 2, 2)
        self.shrinks = [stage > 0 and place == 0 for stage in range(stages) for place in range(cells)]
        self.cells = nn.ModuleList()
        older = newer = channels
        for shrinks in self.shrinks:
            channels *= 2 if shrinks else 1
            self.cells.append(ChoiceCell(cell, newer, older, channels))
            older, newer = newer, channels * len(cell)
        self.head = nn.Sequential(nn.BatchNorm2d(newer), nn.ReLU(inplace=True), *pooled_linear(newer, outputs))

    def forward(self, images: Tensor) -> Tensor:
        older = newer = self.stem(images)
        for shrinks, cell in zip(self.shrinks, self.cells, strict=True):
            if shrinks:
                older, newer = self.shrink(older), self.shrink(newer)
            older, newer = newer, cell(newer, older)
        logits: Tensor = self.head(newer)
        return logits


class ChoiceCell(nn.Module):
    """One cell: its inputs brought to its width by 1 x 1 convolutions, its blocks, all of them concatenated."""

    def __init__(self, cell: Cell, newer: int, older: int, channels: int) -> None:
        super().__init__()
        self.reads = [block.reads for block in cell]
        read = {state for block in cell for state in block.reads}
        self.inputs = nn.ModuleDict(
            {str(state): convolution(width, channels, 1) for state, width in enumerate((newer, older)) if state in read}
        )
        self.blocks = nn.ModuleList(Applied(block.operations, channels) for block in cell)

    def forward(self, newer: Tensor, older: Tensor) -> Tensor:
        states = [
            self.inputs[str(state)](x) if str(state) in self.inputs else x for state, x in enumerate((newer, older))
        ]
        for reads, block in zip(self.reads, self.blocks, strict=True):
            given = [states[read] for read in reads]
            states.append(block(sum(given[1:], given[0])))
        return torch.cat(states[2:], dim=1)


class Applied(nn.Module):
    """The sum of what operations make of one map."""

    def __init__(self, operations: Sequence[Op], channels: int) -> None:
        super().__init__()
        self.operations = nn.ModuleList(op(channels, channels, 1) for op in operations)

    def forward(self, x: Tensor) -> Tensor:
        made = [operation(x) for operation in self.operations]
        total: Tensor = sum(made[1:], made[0])
        return total

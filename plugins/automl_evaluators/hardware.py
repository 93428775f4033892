"""What networks are trained on: which device, in which precision, in which layout."""

from __future__ import annotations

import logging
import os
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from automl import BadInput

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Accelerator = Literal["auto", "cpu", "gpu"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
FabricsPrecision = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True)
class Hardware:
    """The settings of that name of an evaluator that trains, and what they come to on this machine."""

    accelerator: Accelerator = "auto"
    precision: Precision = "auto"
    channels_last: bool | Literal["auto"] = "auto"

    def check(self) -> None:
        """Raise BadInput where a GPU is asked for that is not there."""
        if self.accelerator != "gpu" and self.precision != "float16":
            return  # so that torch need not be imported
        import torch

        if self.accelerator == "gpu" and not torch.cuda.is_available():
            raise BadInput("evaluator.accelerator=gpu, but PyTorch finds no GPU here: use evaluator.accelerator=cpu")
        if self.precision == "float16" and not self.is_gpu:
            raise BadInput("evaluator.precision=float16 needs a GPU: use evaluator.precision=float32 or bfloat16")

    def fabric(self) -> Fabric:
        """Return Lightning Fabric for one device, quiet; a new one each time where it holds the scale of float16."""
        precision, accelerator = self._in_fabrics_words(), "gpu" if self.is_gpu else "cpu"
        return (_new if precision == "16-mixed" else _fabric)(accelerator, precision)

    @property
    def is_gpu(self) -> bool:
        """Whether training is on a GPU; Apple's lacks the 64-bit numbers that metrics are summed in."""
        import torch

        return self.accelerator == "gpu" or (self.accelerator == "auto" and torch.cuda.is_available())

    @property
    def lays_channels_last(self) -> bool:
        """Whether tensors are laid out channels-last; automatic is everywhere but on a GPU in 32 bits."""
        if self.channels_last != "auto":
            return self.channels_last
        return not self.is_gpu or self._in_fabrics_words() != "32-true"

    def _in_fabrics_words(self) -> FabricsPrecision:
        """Return the precision; automatic is bfloat16 where a GPU has it, else float32.

        A processor with bfloat16 gains nothing by it below 500 million multiply-adds an image (measured: 0.64 of the
        speed at 1 million, 1.06 at 500), and a rule is repeatable where a race between the two would not be.
        """
        import torch

        precision = self.precision
        if precision == "auto":
            short = self.is_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
            precision = "bfloat16" if short else "float32"
        names = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
        return names[precision]  # type: ignore[return-value]


def _new(accelerator: str, precision: FabricsPrecision) -> Fabric:
    with warnings.catch_warnings():
        if not os.environ.get("AUTOML_DEBUG"):
            warnings.simplefilter("ignore")
            logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
        from lightning.fabric import Fabric

        return Fabric(accelerator=accelerator, devices=1, precision=precision)


_fabric = lru_cache(_new)  # to make one takes as long as a step: it looks through all that is installed for callbacks

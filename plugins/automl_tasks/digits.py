"""Scans of handwritten digits, tiny and always there: they come with scikit-learn."""

import gzip
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge

from automl import BadInput, Data, Task


@dataclass(kw_only=True)
class Digits(Task):
    """1,797 handwritten digits, 8 x 8, grey, white on black (Alpaydin & Kaynak, 1998), as in scikit-learn.

    The pixels count how many of 4 x 4 dots were ink; 0..16 becomes 0..255.
    """

    batch_size: Annotated[int, Ge(2)] = 64
    crop: Annotated[int, Ge(0)] = 1

    name: ClassVar[str] = "digits"

    def load(self) -> Data:
        # read from its file: importing sklearn.datasets would take longer than all the rest of the start
        package = find_spec("sklearn")
        if package is None or not package.submodule_search_locations:
            raise BadInput("task=digits needs scikit-learn, which is not installed: pip install scikit-learn")
        path = Path(package.submodule_search_locations[0]) / "datasets" / "data" / "digits.csv.gz"
        if path.exists():
            with gzip.open(path, "rt") as file:
                table = np.loadtxt(file, delimiter=",", dtype=np.int64)
        else:
            from sklearn.datasets import load_digits

            digits = load_digits()
            table = np.column_stack([digits.data, digits.target]).astype(np.int64)
        images = np.round(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
        return Data(images, table[:, 64], tuple("0123456789"))

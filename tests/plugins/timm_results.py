"""Compares the sizes of networks with those that another library publishes."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import torch
from golden import build

from automl import measure


def published_millions(data: Path, network: str) -> str:
    """Return the parameters of one of timm's networks in millions, to two digits."""
    with gzip.open(data / "timm_results" / "results-imagenet.csv.gz", "rt") as file:
        found = {row["param_count"] for row in csv.DictReader(file) if row["model"].partition(".")[0] == network}
    (millions,) = found  # of several weights that were trained
    return millions


def built_millions(name: str, **settings: Any) -> str:
    """Return the parameters of a hand-designed network in millions, to two digits; no tensor holds data."""
    with torch.device("meta"):
        return f"{measure.parameters(build(name, **settings)) / 1e6:.2f}"

"""What a report of a problem needs besides versions: the machine, folders, plugins; no value of a variable."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator

import psutil

from automl import config, runs
from automl.plugins import Registry

_VARIABLES = ("AUTOML_DATA", "AUTOML_CACHE", "AUTOML_RUNS", "AUTOML_BLOCK", "AUTOML_DEBUG")


def lines(registry: Registry) -> Iterator[str]:
    """Yield what is so here, a line each."""
    yield f"platform   {platform.platform()}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield f"machine    {cores} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB memory"
    import torch

    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    yield f"torch      {torch.get_num_threads()} threads, GPUs: {', '.join(devices) or 'none'}"
    folder = runs.root()
    place = next(parent for parent in [folder.absolute(), *folder.absolute().parents] if parent.exists())
    yield f"runs       {folder.absolute()} ({shutil.disk_usage(place).free / 2**30:.0f} GiB free)"
    yield f"configs    {config.folder()}"
    yield f"plugins    {', '.join(sorted({c.plugin for cs in registry.components.values() for c in cs}))}"
    for name in _VARIABLES:
        yield f"{name:<14}{'set' if name in os.environ else 'not set'}"

"""Where the files of a data set may lie."""

import os
from pathlib import Path

from automl.downloads import cache_folder


def folders(name: str, root: str | None) -> list[Path]:
    """Return the folders to look in for a data set: the root if it is given, else $AUTOML_DATA/name and the cache."""
    if root:
        return [Path(root).expanduser()]
    shared = os.environ.get("AUTOML_DATA")
    return [*([Path(shared).expanduser() / name] if shared else []), cache_folder(name)]


def target(name: str, root: str | None) -> Path:
    """Return the folder that the data set is fetched into."""
    return folders(name, root)[-1]

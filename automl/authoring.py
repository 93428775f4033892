"""Writes the package of a new plugin, whose tests pass as written: ``automl new-plugin NAME KIND``."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from pathlib import Path

from automl.distributions import OURS
from automl.errors import BadInput, StorageError, near_miss, printable
from automl.files import make_folders, write_text
from automl.plugins import KINDS, Kind, Registry, plural

TEMPLATES = Path(__file__).parent / "templates" / "plugin"
COMMANDS: dict[Kind, str] = {
    "space": "automl +space={name} strategy=random trials=3",
    "strategy": "automl +space=nasnet strategy={name} trials=5",
    "evaluator": "automl +space=chain evaluator={name} objective.metric=gradient_norm trials=50",
    "compressor": "automl +space=mobilenet_v2 +compressor={name} strategy=random trials=3",
    "task": "automl +space=chain strategy=random task={name} trials=3",
    "tracker": "automl +space=chain strategy=random 'watch=[progress,report,{name}]' trials=3",
}
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_VALUES = {"false", "inf", "nan", "no", "none", "null", "off", "on", "true", "yes"}  # to YAML or Hydra no names
_LONGEST = 24


def new_plugin(name: str, kind: str, place: Path, registry: Registry) -> Path:
    """Write ``automl-NAME`` into the place, and return its folder.

    Raises BadInput for a kind that there is not, a name that is none or taken, and a folder that exists.
    """
    if kind not in KINDS:
        swapped = f"; did you mean: automl new-plugin {printable(kind)} {name}" if name in KINDS else ""
        raise BadInput(f"there is no kind {kind!r}{near_miss(kind, KINDS)}: give one of {', '.join(KINDS)}{swapped}")
    of: Kind = next(known for known in KINDS if known == kind)
    _refuse(name, of, registry)
    package = f"automl_{name}"
    distribution = package.replace("_", "-")
    folder = place / distribution
    if folder.exists() or folder.is_symlink():
        raise BadInput(f"{folder} exists, and nothing is written over it: remove it, or give another name")
    values = {
        "name": name,
        "kind": kind,
        "plural": plural(of),
        "article": "An" if kind == "evaluator" else "A",
        "class": "".join(word.capitalize() for word in [*name.split("_"), kind]),
        "package": package,
        "distribution": distribution,
        "version": ".".join(importlib.metadata.version(OURS).split(".")[:2]),
        "command": command(name, of),
    }
    source = f"src/{package}"
    for path, template in {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"{source}/__init__.py": "init.py",
        f"{source}/py.typed": None,
        f"{source}/{kind}.py": f"{kind}.py",
        f"{source}/conf/__init__.py": "conf.py",
        f"{source}/conf/{kind}/{name}.yaml": f"{kind}.yaml",
        f"tests/test_{name}.py": f"test_{kind}.py",
    }.items():
        file = folder / path
        try:
            make_folders(file.parent)
            write_text(file, "" if template is None else _filled(template, values))
        except StorageError as error:
            raise BadInput(f"{folder} cannot be written: {_reason(error)}; give another place") from error
    return folder


def _reason(error: StorageError) -> str:
    cause = error.__cause__
    return (isinstance(cause, OSError) and cause.strerror) or str(cause)


def command(name: str, kind: Kind) -> str:
    """Return the command that tries a new component."""
    return COMMANDS[kind].format(name=name)


def _refuse(name: str, kind: Kind, registry: Registry) -> None:
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        shown = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:_LONGEST].rstrip("_")
        better = f", as {shown}" if _NAME.fullmatch(shown) else ""
        raise BadInput(
            f"{name!r} is no name for a component: give up to {_LONGEST} small letters, digits and "
            f"underscores, a letter first{better}"
        )
    if name in _VALUES:
        raise BadInput(f"{name!r} is a value to YAML, and so no name for a component: give another")
    if taken := registry.components.get((kind, name)):
        raise BadInput(f"{kind} {name!r} is there already, of plugin {taken[0].plugin}: give another name")
    try:
        importlib.metadata.distribution(f"automl-{name}")
    except importlib.metadata.PackageNotFoundError:
        if importlib.util.find_spec(f"automl_{name}") is None:
            return
    raise BadInput(f"a package automl_{name} is installed already: give another name")


def _filled(template: str, values: dict[str, str]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(  # noqa: S701  # Python and TOML, of a name that was checked
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True
    )
    return environment.get_template(f"{template}.j2").render(values)

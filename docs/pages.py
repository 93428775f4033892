"""Writes the pages that are made of code: one a component, of its docstring and YAML; the options; the Python names."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import automl
from automl import config
from automl.drawing import pictures
from automl.drawing.layout import lay_out
from automl.errors import AutoMLError
from automl.explain import count, decided, example, rows
from automl.plugins import KINDS, Component, Registry, plural
from automl.space import Space

FOLDER = "components"  # within docs/, ignored by git
TITLES = {
    "executor": "Executors: where candidates are evaluated",
    "objective": "Objectives: what is searched for",
    "retrain": "Retraining: what becomes of the best",
}
SECTIONS = {
    "Components to derive from": ("Space", "Strategy", "Evaluator", "Wrapper", "Trainer", "Compressor", "Task"),
    "What travels between them": ("Architecture", "Candidate", "Report", "Trial", "Data", "Dataset", "Origin"),
    "Domains of decisions": ("Choose", "Op", "Options", "Integer", "Real"),
    "Goals and limits": ("Objective", "Cost", "LogCost", "Limit", "Worth", "best", "merit"),
    "Searching and what comes of it": ("search", "compress", "load", "Study"),
    "For plugins": ("hookimpl", "Training"),
    "Errors": ("AutoMLError", "BadInput", "TrialFailed"),
}


def write(docs: Path) -> None:
    """Write every page that has changed, and remove those of components that are gone."""
    made = dict(_pages())
    for path in (docs / FOLDER).rglob("*.*"):
        if str(path.relative_to(docs)) not in made:
            path.unlink()
    for name, text in made.items():
        file = docs / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists() or file.read_text() != text:
            file.write_text(text)


def _pages() -> Iterator[tuple[str, str]]:
    """Yield the name within docs/ and the text of each page: what this distribution brings, and no other."""
    registry = Registry()
    ours = [found[0] for found in registry.components.values() if found[0].package == "automl-lightweight"]
    for component in ours:
        place = f"{FOLDER}/{component.kind}/{component.name}"
        picture = picture_of(component, registry)
        if picture is not None:
            yield f"{place}.svg", picture
        yield f"{place}.md", component_page(component, registry, picture is not None)
    for kind in KINDS:
        names = [component.name for component in ours if component.kind == kind]
        yield f"{FOLDER}/{kind}/index.md", _index(plural(kind).capitalize(), names)
    groups = {place.name for place in config.folder().iterdir() if place.is_dir()}.difference(KINDS)
    for group in sorted(groups):
        names = sorted(file.stem for file in (config.folder() / group).glob("*.yaml"))
        blocks = [f"## {group}={name}\n\n{_settings_file(group, name)}" for name in names]
        yield f"{FOLDER}/{group}.md", "\n".join([f"# {TITLES.get(group, group.capitalize())}\n", *blocks])
    yield f"{FOLDER}/index.md", _index("Components", [*(f"{kind}/index" for kind in KINDS), *sorted(groups)], depth=2)
    yield f"{FOLDER}/python.md", python_page()


def picture_of(component: Component, registry: Registry) -> str | None:
    """Return a picture of one sampled architecture of a space as SVG; None where there is none."""
    loaded = registry.load(component.kind, component.name)
    if not issubclass(loaded, Space):
        return None
    try:
        found = example(loaded).graphs()
    except (TypeError, AutoMLError):
        return None
    return pictures.svg(found) if any(lay_out(edges) for edges in found.values()) else None


def component_page(component: Component, registry: Registry, is_drawn: bool = False) -> str:
    """Return what a component is, its settings with defaults and bounds, its file, and of a space its decisions.

    Of a space that is drawn there is the picture, with its size and the command that searches it.
    """
    kind, name = component.kind, component.name
    loaded = registry.load(kind, name)
    title, _, rest = inspect.cleandoc(loaded.__doc__ or "").partition("\n\n")
    parts = [f"# {name}", prose(title), *(_drawn(name, loaded) if is_drawn else []), prose(rest)]
    table = [f"| `{kind}.{key}` | {_cell(default)} | {_cell(allowed)} |" for key, default, allowed in rows(loaded)]
    if table:
        parts += ["## Settings", "\n".join(["| key | default | what it may be |", "| --- | --- | --- |", *table])]
    parts += [f"## conf/{kind}/{name}.yaml", _settings_file(kind, name)] if _file(kind, name).exists() else []
    if issubclass(loaded, Space):
        parts += ["## Decisions", "```text\n" + "\n".join(decided(loaded)) + "\n```"]
    parts.append(f"`automl explain {kind} {name}` prints this; the class is `{component.path.replace(':', '.')}`.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _drawn(name: str, loaded: type[Space]) -> list[str]:
    """Return the picture of one architecture, what it costs, how many there are, the paper and the command."""
    sample = example(loaded)
    size, (paper, command) = sample.space.size(), _head(name)
    return [
        f"![One sampled architecture of {name}]({name}.svg)",
        f"One sampled architecture; {prose(sample.costs())}. "
        f"The space has {count(size)} architecture{'s' * (size != 1)} by its defaults.",
        f"Reference: {prose(paper)}",
        f"```text\n{command}\n```",
    ]


def _head(name: str) -> tuple[str, str]:
    """Return the paper at the head of a space's file, and the first command that searches it."""
    text = _file("space", name).read_text()
    paper, commands = text.partition("\n")[0].lstrip("# "), re.findall(rf"automl \+space={name}[^\n#]*", text)
    return paper, (commands or [f"automl +space={name}"])[0].strip()


def python_page() -> str:
    """Return the page of all public names."""
    listed = [name for names in SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(automl.__all__), sorted(set(listed) ^ set(automl.__all__))
    lines = ["# The Python names", "", "What `automl.__all__` names is public; the changelog says when it changes.", ""]
    for section, names in SECTIONS.items():
        lines += [f"## {section}", "", "```{eval-rst}"]
        for name in names:
            found = getattr(automl, name)
            directive = "autoclass" if inspect.isclass(found) else "autofunction"
            directive = directive if inspect.isclass(found) or inspect.isfunction(found) else "autodata"
            lines += [f".. {directive}:: automl.{name}", ""]
        lines += ["```", ""]
    return "\n".join(lines)


def prose(text: str) -> str:
    """Return the text of a docstring as Markdown: what is not code stands as it is."""
    parts = re.split(r"(``.+?``)", text, flags=re.DOTALL)
    escaped = [part if part.startswith("``") else re.sub(r"([\\`*_\[\]<>{}|$])", r"\\\1", part) for part in parts]
    return "".join(escaped)


def _index(title: str, names: list[str], depth: int = 1) -> str:
    listed = "\n".join(names)
    return f"# {title}\n\n```{{toctree}}\n:maxdepth: {depth}\n\n{listed}\n```\n"


def _file(group: str, name: str) -> Path:
    return config.folder() / group / f"{name}.yaml"


def _settings_file(group: str, name: str) -> str:
    return f"```yaml\n{_file(group, name).read_text().rstrip()}\n```\n"


def _cell(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text else ""

"""Composes and reads configs; the one file that knows Hydra."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import trust
from automl.errors import BadInput, near_miss, printable
from automl.joining import HYPERPARAMETERS
from automl.plugins import KINDS, Registry

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

_TEXT = re.compile(  # keys whose value is text
    r"(runs|space\.target|device\.(command|called)|.*\.(root|path|file|weights|run|table|storage))$"
)
_LARGEST = 1_000_000  # bytes of a config file
_GROUPS = ("space", "strategy", "evaluator", "task", "objective")  # which every run has
_OPTIONAL = ("executor", "retrain", "compressor")
_ELSEWHERE = re.compile(r"\$\{(?!oc\.env:[\w, ./-]*\})")  # what takes its value from more than the environment
_OF_KEY = re.compile(r"\$\{(?:oc\.env:[\w, ./-]*|([\w.-]+))\}")
_TAKEN = 10  # at most, in one text and of such texts in a file
_YAMLS_OWN = (AttributeError, TypeError, LookupError, ArithmeticError)  # of values that are not of their tag
_NO_PLUS = "a default, so it takes no plus"
_JOIN = f"space.with_{HYPERPARAMETERS}"  # a word that has the ranges of the file join any space
_RANGES = f"+space@space.{HYPERPARAMETERS}={HYPERPARAMETERS}"  # the same in Hydra's words


def folder() -> Path:
    """Return where the config groups live: inside the package where installed, beside it in a checkout."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "conf"


def options(registry: Registry) -> dict[str, list[str]]:
    """Return the options of each config group by listing folders; Hydra is not imported."""
    import importlib.util

    found: dict[str, set[str]] = {}
    roots = [folder()]
    for path in registry.config_paths():
        package, _, rest = path.removeprefix("pkg://").partition("/")
        spec = importlib.util.find_spec(package)
        roots += [Path(place) / rest for place in (spec.submodule_search_locations or [] if spec else [])]
    for root in roots:
        for file in sorted(root.glob("*/*.yaml")):
            found.setdefault(file.parent.name, set()).add(file.stem)
    return {group: sorted(names) for group, names in sorted(found.items())}


def compose(words: Sequence[str], registry: Registry) -> DictConfig:
    """Return the config that the words of a command line ask for; composing runs no code that a file names.

    Raises BadInput, with the whole command that works, for words that do not fit.
    """
    choices, values = _sort(words, options(registry), registry)
    with _hydra(registry):
        try:
            from hydra import compose as hydra_compose

            config = hydra_compose("config", overrides=choices)
        except Exception as error:
            sentence = _without_place(choices) if "Could not override" in str(error) else _one_sentence(error)
            raise BadInput(sentence) from error
    refuse_code(config)
    if _RANGES in choices:
        _leave_network_out(config)
    return _joined(change(config, values, sweep=command(["-m", *words])))


def _leave_network_out(config: DictConfig) -> None:
    """Leave out of the ranges the network that their file brings: it is the space that they join."""
    from omegaconf import open_dict

    with open_dict(config):
        del config.space[HYPERPARAMETERS]["network"]


def _joined(config: DictConfig) -> DictConfig:
    """Return the config with the ranges beside the space that they join, where they were chosen as a space."""
    from omegaconf import OmegaConf

    ranges = unresolved(config).get("space")
    if not isinstance(ranges, dict) or ranges.get("name") != HYPERPARAMETERS:
        return config
    network = ranges.pop("network")
    if not isinstance(network, dict) or network.get("name") == HYPERPARAMETERS:
        raise BadInput(
            f"space.network={printable(str(network))[:80]} is no network whose training could be decided: type "
            f"+space=NAME {_JOIN}=true"
        )
    OmegaConf.update(config, "space", {**network, HYPERPARAMETERS: ranges}, merge=False, force_add=True)
    return config


def group(name: str, words: Sequence[str], registry: Registry) -> dict[str, Any]:
    """Return the plain values of one group, as ``device``, that words of it alone ask for; raises BadInput."""
    for word in words:
        if re.split("[=./@]", word.lstrip("+~"))[0] != name:
            raise BadInput(f"{printable(word)} has no say here, only {name}=NAME and {name}.KEY=VALUE do: leave it out")
    any_space = "+space=chain"  # composing asks for one
    values = resolved(compose([any_space, *words], registry))[name]
    assert isinstance(values, dict)
    return values


def jobs(words: Sequence[str], registry: Registry) -> list[list[str]]:
    """Return the words of every job of a sweep, in Hydra's order; raises BadInput where there is none."""
    with _hydra(registry):
        lists: list[list[str]] = []
        for word in words:
            override = _parse(word)
            if override.is_sweep_override():
                name = word.partition("=")[0]
                lists.append([f"{name}={value}" for value in override.sweep_string_iterator()])
            else:
                lists.append([word])
    found = [list(job) for job in product(*lists)]
    if not found:
        raise BadInput("this sweep has no jobs: give every key at least one value")
    return found


def read(path: Path) -> DictConfig:
    """Return a config file that a run wrote, read as if a stranger had: data alone, no aliases, bounded size."""
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("it has an alias")
            return super().compose_node(parent, index)

    try:
        if path.stat().st_size > _LARGEST:
            raise BadInput(f"{path} has more than {_LARGEST:,} bytes, so it is no config of a run")
        values = yaml.load(path.read_text(), Loader)  # noqa: S506  # a SafeLoader
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}; give the folder of a run") from error
    except (yaml.YAMLError, ValueError, RecursionError, *_YAMLS_OWN) as error:
        raise BadInput(f"{path} is no config of a run: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(values, dict) or not all(isinstance(values.get(group), dict) for group in _GROUPS):
        raise BadInput(f"{path} is no config of a run: it lacks {', '.join(_GROUPS[:-1])} or {_GROUPS[-1]}")
    for group in _OPTIONAL:
        if not isinstance(values.get(group), dict | None):
            raise BadInput(f"{path} is no config of a run: its {group} has no settings")
    _refuse_expanding(path, values)
    try:
        config = OmegaConf.create(values)
        refuse_code(config)
    except (OmegaConfBaseException, ValueError, RecursionError) as error:
        raise BadInput(f"{path} is no config of a run: {_one_sentence(error)[:200]}") from error
    return config


def _refuse_expanding(path: Path, values: Mapping[str, Any]) -> None:
    """Raise BadInput for values that are taken from values taken from others: each step may double their length."""
    texts = list(_taken(values))
    for text in texts:
        chained = "${" in _OF_KEY.sub("", text)
        for place in filter(None, _OF_KEY.findall(text)):
            node: Any = values
            for part in place.split("."):
                node = node.get(part) if isinstance(node, Mapping) else None
            chained = chained or any(_taken(node))
        if chained or len(texts) > _TAKEN or text.count("${") > _TAKEN:
            raise BadInput(
                f"{path} takes values from others that are taken from others ({printable(text)[:80]}), which may take "
                "minutes: write them out"
            )


def _taken(node: Any) -> Iterator[str]:
    """Yield each text within plain values that takes something from another key."""
    if isinstance(node, Mapping):
        for value in node.values():
            yield from _taken(value)
    elif isinstance(node, list):
        for value in node:
            yield from _taken(value)
    elif isinstance(node, str) and _ELSEWHERE.search(node):
        yield node


def change(config: DictConfig, words: Sequence[str], sweep: str | None = None) -> DictConfig:
    """Return the config with the values of ``key=value`` words; raises BadInput for a key it does not have.

    ``sweep`` is the command to name where a word gives several values.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    open_nodes = [node for node in ("objective.limits",) if OmegaConf.select(config, node) is not None]
    for word in words:
        override = _parse(word)
        key = override.key_or_group
        if override.is_add() or override.is_force_add() or override.is_delete():
            shown = word.lstrip("+~")
            raise BadInput(f"{printable(word)!r} adds or removes a key: the keys are fixed, so type {shown}")
        if key == _JOIN:
            raise BadInput(f"{printable(word)} says what is decided, and a run goes on as it began: start a new run")
        if key.rpartition(".")[0] not in open_nodes:
            _refuse_unknown_key(config, key)
        if override.is_sweep_override():
            several = "" if sweep is None else f"for a sweep type {sweep}, "
            raise BadInput(
                f"{printable(word)!r} gives several values: {several}"
                f"for one value that has a comma type {_in_quotes(word)}"
            )
        try:
            OmegaConf.update(config, key, override.value(), merge=False, force_add=True)
        except OmegaConfBaseException as error:  # what looks as if it were taken from another key, and cannot be read
            raise BadInput(
                f"{printable(word)!r} cannot be read ({_one_sentence(error)[:120]}): "
                "put a backslash before ${ where it is meant as it stands"
            ) from error
    refuse_code(config, [word.partition("=")[0] for word in words])
    return config


def choose_trackers(config: DictConfig, words: Sequence[str], registry: Registry) -> tuple[DictConfig, list[str]]:
    """Return the config of a run with the trackers that the words choose, and the other words.

    What a tracker was set to stays. Raises BadInput for a tracker that there is not.
    """
    from omegaconf import OmegaConf

    chosen = [word for word in words if word.partition("=")[0] == "tracker"]
    if not chosen:
        return config, list(words)
    groups = options(registry)
    choices, _ = _sort([f"+space={groups['space'][0]}", *chosen], groups)
    with _hydra(registry):
        from hydra import compose as hydra_compose

        found = hydra_compose(None, overrides=[choice for choice in choices if "@" in choice]).get("tracker") or {}
    known = config.get("tracker") or {}
    trackers = {name: known.get(name, values) for name, values in found.items()}
    OmegaConf.update(config, "tracker", trackers, merge=False, force_add=True)
    return config, [word for word in words if word not in chosen]


def refuse_choices(config: DictConfig, words: Sequence[str]) -> None:
    """Raise BadInput for a word that would choose another component than the config has."""
    from omegaconf import DictConfig

    for word in words:
        key = word.partition("=")[0].lstrip("+~")
        if isinstance(config.get(key), DictConfig):
            raise BadInput(
                f"{printable(word)} chooses another {key}, and a run goes on with its own: leave it out, or start "
                "a new run"
            )


def resolved(config: DictConfig) -> dict[str, Any]:
    """Return the config as plain values, interpolations resolved; raises BadInput where one is missing."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        missing = sorted(OmegaConf.missing_keys(config))
    except OmegaConfBaseException as error:
        raise BadInput(_one_sentence(error)) from error
    for key in missing:
        group, place = key.partition(".")[0], key.rpartition(".")[0]
        name = OmegaConf.select(config, f"{place}.name") if place else None
        explained = name and group in KINDS
        what = f"; automl explain {group} {printable(str(name))} says what it may be" if explained else ""
        raise BadInput(f"{key} is missing: type {key}=VALUE{what}")
    try:
        values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise BadInput(_one_sentence(error)) from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def part(config: DictConfig, key: str) -> dict[str, Any]:
    """Return one group of the config as plain values, interpolations resolved; raises BadInput where one cannot be."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        values = OmegaConf.to_container(config.get(key) or OmegaConf.create({}), resolve=True)
    except OmegaConfBaseException as error:
        raise BadInput(_one_sentence(error)) from error
    assert isinstance(values, dict)
    return {str(name): value for name, value in values.items()}


def unresolved(config: DictConfig) -> dict[str, Any]:
    """Return the config as plain values, interpolations and what is missing as they are written."""
    from omegaconf import OmegaConf

    values = OmegaConf.to_container(config, resolve=False)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def without_secrets(values: Mapping[str, Any], config: DictConfig) -> dict[str, Any]:
    """Return resolved values in which all that was taken from the environment is as it was written."""

    def masked(value: Any, written: Any) -> Any:
        if isinstance(value, Mapping) and isinstance(written, Mapping):
            return {key: masked(inner, written.get(key)) for key, inner in value.items()}
        if isinstance(value, list) and isinstance(written, list) and len(value) == len(written):
            return [masked(*pair) for pair in zip(value, written, strict=True)]
        return written if isinstance(written, str) and "${" in written else value

    written = unresolved(config)
    return {key: masked(value, written.get(key)) for key, value in values.items()}


def of_the_environment(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values that ``without_secrets`` made with what the environment has; raises BadInput where it lacks it."""
    from omegaconf import OmegaConf

    return resolved(OmegaConf.create(dict(values)))


def as_yaml(config: DictConfig) -> str:
    """Return the config as YAML, unresolved, so that what it takes from the environment is not written down.

    Neither is code that it names: that is asked for again.
    """
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(trust.without(unresolved(config))))


def refuse_code(config: Any, typed: Collection[str] = ()) -> None:
    """Raise BadInput for a config that names code: components are chosen by name, never by a Python path.

    The keys ``typed`` on the command line may.
    """

    for place, name in trust.named(unresolved(config)):
        word = f"{place}="
        if word not in trust.WORDS:  # else what reads the words of a file would not know it for code
            word = f"+space=module {trust.WORD}"
        elif place in typed:
            continue
        raise BadInput(
            f"the config has {place}={printable(name)[:80]!r}, which names code: it is only taken from the "
            f"command line, so type {word}{printable(name)[:80]}"
        )
    waiting: list[tuple[str, Any]] = [("", unresolved(config))]
    while waiting:
        place, node = waiting.pop()
        if isinstance(node, Mapping):
            for key, value in node.items():
                if str(key) in ("_target_", "_args_", "_partial_"):
                    raise BadInput(
                        f"the config has {place}{key}={printable(str(value))[:80]!r}, which names code: "
                        "remove it, components are chosen by their name"
                    )
                waiting.append((f"{place}{key}.", value))
        elif isinstance(node, list):
            waiting.extend((f"{place}{index}.", value) for index, value in enumerate(node))


def command(words: Sequence[str]) -> str:
    """Return the words as one command that can be pasted into a shell."""
    return printable(shlex.join(["automl", *words]))


@contextmanager
def _hydra(registry: Registry) -> Iterator[None]:
    """Have Hydra compose from our groups and the plugins'."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    paths = registry.config_paths()

    class PluginPaths(SearchPathPlugin):
        def manipulate_search_path(self, search_path: Any) -> None:
            for path in paths:
                search_path.append("automl-plugin", path)

    Plugins.instance().register(PluginPaths)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(folder().resolve()), version_base="1.3", job_name="automl"):
            yield
    finally:
        Plugins.instance().class_name_to_class.pop(f"{__name__}.PluginPaths", None)
        Plugins.instance().plugin_type_to_subclass_list[SearchPathPlugin].remove(PluginPaths)


def added(registry: Registry) -> set[str]:
    """Return the groups of which an experiment has no option until one is added by a plus."""
    return set(options(registry)) - _defaults()


def _defaults() -> set[str]:
    """Return the groups that every experiment has an option of; what is of other groups is added, as a space is."""
    import yaml

    values = yaml.safe_load((folder() / "config.yaml").read_text())
    groups = {group for entry in values.pop("defaults") if isinstance(entry, dict) for group in entry}
    return groups | {key for key, value in values.items() if value != "???"}


def _sort(
    words: Sequence[str], groups: Mapping[str, list[str]], registry: Registry | None = None
) -> tuple[list[str], list[str]]:
    """Part the words into group choices, for Hydra to compose, and values, for us to set; refuse what is mistyped."""
    given = _defaults()
    choices: list[str] = []
    values: list[str] = []
    chosen: dict[str, str] = {}
    is_alone = f"+space={HYPERPARAMETERS}" in words
    for word in words:
        name, equals, option = word.partition("=")
        if is_alone and name == "space.network" and not option.startswith("{"):  # a component within another
            name, word = "space/network", f"space/network={option}"
        key = name.lstrip("+~")
        group = re.split("[@/]", key)[0]
        if not equals or not key:
            raise BadInput(
                f"{printable(word)!r} is neither a command nor key=value: "
                "automl --help lists both" + near_miss(word, [*groups])
            )
        if key.startswith("hydra."):
            raise BadInput(f"{key} is Hydra's own: automl runs its jobs itself, so leave it out")
        if key == _JOIN and option.lower() in ("true", "false"):  # a sweep writes True
            choices += [_RANGES] if option.lower() == "true" and not is_alone else []
            continue
        if key == _JOIN:
            raise BadInput(f"{printable(word)} must be true or false")
        if group not in groups:
            values.append(word)
            continue
        if "," in option and not option.startswith(("[", "'", '"')):
            first = option.split(",")[0]
            raise BadInput(
                f"{printable(word)} gives several values: for a sweep type "
                f"{command(['-m', *words])}, for one run {command(_with(words, word, f'{name}={first}'))}"
            )
        if key in chosen and group != "experiment":
            raise BadInput(
                f"{key} is chosen twice, {chosen[key]} and {printable(option)}: type {command(_without(words, word))}"
            )
        chosen[key] = printable(option)
        added = group not in given and "/" not in key
        if added != name.startswith("+"):
            right = [f"+{key}={option}" if added else f"{key}={option}" if w == word else w for w in words]
            right = _with(words, word, f"+{key}={option}" if added else f"{key}={option}")
            if added and option in groups[group] and not any(w.startswith(("strategy=", "+strategy=")) for w in right):
                right.append("strategy=evolution")
            raise BadInput(
                f"{printable(word)}: {group} has {'no default, so it is added with a plus' if added else _NO_PLUS}; "
                f"did you mean: {command(right)}"
            )
        several = [picked.strip(" \"'") for picked in option.strip("[]").split(",")] if option != "[]" else []
        for picked in several:
            if picked not in groups[group] and picked != "null":
                raise BadInput(
                    f"no {group} is named {printable(picked)!r}{near_miss(picked, groups[group])}; "
                    f"installed: {', '.join(groups[group])}{registry.left_out() if registry else ''}"
                )
        if group == "tracker":
            choices += _abreast(several)
            continue
        if (key, option) == ("compressor", "null"):  # of a sweep with and without
            continue
        if "/" in key:  # evaluator/inner=training: a component within another, in Hydra's words
            choices.append(f"{group}@{key.replace('/', '.')}={option}")
        else:
            choices.append(word)
    if "space" not in chosen and "experiment" not in chosen:
        raise BadInput(
            "choose a search space first: automl +space=<name> "
            f"{printable(shlex.join(words))}; installed: {', '.join(groups['space'])}"
        )
    return choices, values


def _abreast(names: Sequence[str]) -> list[str]:
    """Return the choice of each tracker, in Hydra's words: they are several, each at a place of its own."""
    return [f"+tracker@tracker.{name}={name}" for name in dict.fromkeys(names) if name != "null"]


def _without_place(choices: Sequence[str]) -> str:
    """Return in a sentence which component was put into one that takes none."""
    within = [choice.partition("=")[0].partition("@")[2] for choice in choices if "@" in choice]
    named = ", ".join(place.replace(".", "/") for place in within)
    return f"{named} has no place: what is chosen there takes no other component, so choose one that does (hyperband)"


def _with(words: Sequence[str], old: str, new: str) -> list[str]:
    return [new if word == old else word for word in words]


def _without(words: Sequence[str], old: str) -> list[str]:
    return [word for word in words if word != old]


def _parse(word: str) -> Override:
    """Return one override, parsed by Hydra; the value of a key that takes text is text as it stands."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    key, _, value = word.partition("=")
    if _TEXT.match(key) and value[:1] not in ("'", '"') and not value.startswith("${"):
        word = f"{key}={_quoted(value)}"
    try:
        return OverridesParser.create().parse_override(word)
    except Exception as error:
        raise BadInput(
            f"{printable(word)!r} cannot be read ({_one_sentence(error)[:120]}): "
            f"put the value in quotes, {_in_quotes(word)}"
        ) from error


def _quoted(value: str) -> str:
    escaped = value.replace('"', '\\"')
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f'"{escaped}' + "\\" * trailing + '"'


def _in_quotes(word: str) -> str:
    key, _, value = word.partition("=")
    return printable(shlex.quote(f"{key}={_quoted(value)}"))


def _refuse_unknown_key(config: Any, key: str) -> None:
    from omegaconf import DictConfig

    node: Any = config
    place = ""
    for part in key.split("."):
        names = [str(name) for name in node] if isinstance(node, DictConfig) else []
        if part not in names:
            where = f"{place.rstrip('.')} has" if place else "there is"
            if place == "space." and part == HYPERPARAMETERS:
                raise BadInput(f"what the training is like is not decided here: type {_JOIN}=true, too")
            if place == "space.":
                names.append(_JOIN.removeprefix(place))
            if place == "tracker.":
                raise BadInput(f"tracker {printable(part)} is not chosen: type tracker={printable(part)}, too")
            raise BadInput(
                f"{where} no key {printable(part)!r}{near_miss(part, names)}"
                + (f"; its keys: {', '.join(name for name in names if name != 'name')}" if names else "")
            )
        node = node._get_node(part)
        place += f"{part}."


def _one_sentence(error: BaseException) -> str:
    return printable(" ".join(str(error).split("\n")[0].split()))

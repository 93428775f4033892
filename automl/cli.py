"""The command line: bare words are served at once, key=value words start an experiment."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import logging
import os
import platform
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import logs
from automl.errors import AutoMLError, BadInput, near_miss, printable

if TYPE_CHECKING:
    from automl.plugins import Registry

_log = logging.getLogger("automl")
_SWEEP = {"-m", "--multirun"}
HELP = """\
Find, compress and ship lightweight neural networks.

  automl +space=nasnet strategy=evolution     search, retrain the best, test it, export it, report
  automl +space=nasnet key=value ...          any setting of the groups below, as task.batch_size=64
  automl -m +space=nasnet seed=0,1,2          a sweep: every combination, one after the other
  automl +space=nasnet evaluator=hyperband evaluator/inner=training     a component within another

Groups (group=option):
{groups}
Other commands (automl COMMAND --help):
{commands}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code: 0 done, 1 search failed, 2 bad input, 130 Ctrl-C, 143 SIGTERM."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    screen = logs.screen(_debugging())
    try:
        return _exit_code(lambda: _serve(words))
    except KeyboardInterrupt as interrupted:
        return int(getattr(interrupted, "exit_code", 130))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        logging.getLogger("automl").removeHandler(screen)


def _exit_code(work: Callable[[], int]) -> int:
    """Do the work; say in one sentence what went wrong, and return the exit code."""
    try:
        return work()
    except BrokenPipeError:
        raise
    except Exception as error:
        if _debugging():
            traceback.print_exception(error)
        if isinstance(error, AutoMLError):
            print(f"automl: {printable(str(error))}", file=sys.stderr)
            return error.exit_code
        print(
            f"automl failed, which is our fault: {type(error).__name__}: {printable(str(error))[:500]} "
            "(AUTOML_DEBUG=1 shows where; please report it with the output of automl doctor)",
            file=sys.stderr,
        )
        return 1


def _serve(words: list[str]) -> int:
    if not words:
        print(f"Choose a search space: automl +space=<name>\n\n{_help()}", end="")
        return 0
    if words[0] in COMMANDS:
        return COMMANDS[words[0]](words[1:])
    if words[0] == "help" or not {"-h", "--help"}.isdisjoint(words):
        print(_help(), end="")
        return 0
    if words[0] == "--version":
        print(_version())
        return 0
    if not _SWEEP.isdisjoint(words):
        return _sweep([word for word in words if word not in _SWEEP])
    if any(word.startswith("-") for word in words):
        flag = next(word for word in words if word.startswith("-"))
        raise BadInput(f"there is no option {flag!r}: automl --help lists what there is")
    if "=" not in words[0] and not words[0].startswith("+"):
        raise BadInput(f"there is no command {words[0]!r}{near_miss(words[0], COMMANDS)}: automl --help lists them")
    return _experiment(words)


def _experiment(words: list[str], create: Callable[[str], Path] | None = None) -> int:
    from automl import config
    from automl.experiment import Experiment
    from automl.plugins import Registry

    registry = Registry()
    experiment = Experiment(config.compose(words, registry), registry, config.command(words))
    _warn(registry)
    if create is not None:
        experiment.create = create
    try:
        experiment.run()
    finally:
        _close(experiment)
    return 0


def _close(experiment: Any) -> None:
    """Print what came out; the last line of stdout is the run folder, alone."""
    study = getattr(experiment, "study", None)
    if study is None or study.directory is None:
        return
    summary, folder = study.summary, study.directory
    if "test" in summary:
        rows = [("", "test accuracy", "parameters", "latency")]
        for name, network in (("before", summary.get("before")), ("found network", summary)):
            if network is not None:
                latency = network["model"].get("latency_ms")
                accuracy, parameters = network["test"]["accuracy"], network["model"]["parameters"]
                took = "-" if latency is None else f"{latency:.2f} ms"
                rows.append((name, f"{accuracy:.3f}", f"{parameters:,}", took))
        rows.append((summary["baseline"]["name"], f"{summary['baseline']['accuracy']:.3f}", "-", "-"))
        for row in rows:
            print(f"{row[0]:<22}{row[1]:>14}{row[2]:>13}{row[3]:>12}")
    if "recorded" in summary:
        print(
            "recorded of the best: " + ", ".join(f"{name} {value:.6g}" for name, value in summary["recorded"].items())
        )
    if "knee" in summary:
        goals = " and ".join(objective.metric for objective in study.objectives)
        front = len(summary["front"])
        print(f"{front} trial{'s' * (front > 1)} on the front of {goals}; its knee is trial {summary['knee']}")
    if study.failed:
        from automl.trial import by_reason

        reason, alike = by_reason(study.failed)[0]
        print(
            f"{len(study.failed)} of {len(study.trials)} trials failed; the commonest reason, {len(alike)} times: "
            f"{printable(reason)}. The traceback of each is in {folder / 'journal.jsonl'}"
        )
    report = folder / "report.html"
    if report.exists():
        on = "" if study.ending else f"    Go on: automl resume {folder} trials={3 * study.total}"
        print(f"Report: {report}{on}")
    print(folder, flush=True)


def _sweep(words: list[str]) -> int:
    """Run every job of a sweep in one folder."""
    from automl import config, runs
    from automl.plugins import Registry
    from automl.sweeps import Sweep

    jobs = config.jobs(words, Registry())
    places = [word.partition("=")[2] for word in words if word.startswith("runs=")]
    root = Path(places[-1]).expanduser() if places else runs.root()
    return _run(Sweep(root, config.command(["-m", *words]), jobs))


def _run(sweep: Any) -> int:
    return int(
        sweep.run(
            lambda words, create: _exit_code(lambda: _experiment(words, create)),
            lambda folder, words: _exit_code(lambda: _go_on(str(folder), words)),
        )
    )


def _resume(words: list[str]) -> int:
    parser = _parser("resume", "Go on with a run, the latest by default, to the end that an unbroken one would have.")
    parser.add_argument("run", nargs="?", help="a run folder, or a sweep's; default: the latest run")
    parser.add_argument("settings", nargs="*", help="trials=60 extends a run; the total counts")
    given = parser.parse_args(words)
    if given.run is not None and "=" in given.run and not Path(given.run).exists():
        given.settings.insert(0, given.run)
        given.run = None
    if given.run is not None and (Path(given.run) / "sweep.json").is_file():
        from automl import trust
        from automl.sweeps import Sweep

        again = trust.typed(given.settings)
        settings = [word for word in given.settings if word not in again]
        if settings:
            raise BadInput(f"{given.run} is a sweep, which goes on as it was: leave out {settings[0]}")
        return _run(Sweep.read(Path(given.run), again))
    return _go_on(given.run, given.settings)


def _go_on(run: str | None, settings: list[str]) -> int:
    from automl.experiment import resuming

    experiment, folder = resuming(run, settings)
    if experiment is not None:
        _warn(experiment.registry)
        try:
            experiment.run(folder)
        finally:
            _close(experiment)
    else:
        print(folder)
    return 0


def _report(words: list[str]) -> int:
    parser = _parser("report", "Write report.html anew for runs, also for unfinished ones.")
    parser.add_argument("run", nargs="*", help="run folders; default: the latest")
    given = parser.parse_args(words)
    from automl import runs
    from automl.plugins import Registry

    tracker = Registry().build("tracker", {"name": "report"})
    for run in given.run or [None]:
        print(tracker.write(runs.find(run, runs.root())))
    return 0


def _compare(words: list[str]) -> int:
    parser = _parser("compare", "Compare the methods of a sweep: curves, ranks, a table, references, commands.")
    parser.add_argument("sweep", nargs="+", help="folders of sweeps, or run folders")
    parser.add_argument("--out", required=True, help="the folder for what is written")
    given = parser.parse_args(words)
    from automl.comparison import compare

    out = Path(given.out)
    for sentence in compare([Path(folder) for folder in given.sweep], out):
        print(sentence)
    print(out)
    return 0


def _dashboard(words: list[str]) -> int:
    parser = _parser("dashboard", "Show a run in optuna-dashboard, also one that is at work; Ctrl-C ends it.")
    parser.add_argument("run", nargs="?", help="a run folder; default: the latest")
    parser.add_argument("--port", type=int, default=8080, help="of this machine, 0 for any that is free; default 8080")
    given = parser.parse_args(words)
    from automl import runs
    from automl.dashboard import Dashboard

    dashboard = Dashboard(runs.find(given.run, runs.root()), given.port)
    print(dashboard.address, flush=True)
    dashboard.serve()
    return 0


def _measure(words: list[str]) -> int:
    parser = _parser(
        "measure",
        "Say what networks cost, layer by layer, and how long they take: those of a space, as +space=mobilenet_v2 "
        "key=value ..., untrained, or the one that a run found.",
    )
    parser.add_argument("words", nargs="*", help="a run folder, or the words of a search; default: the latest run")
    parser.add_argument("--image", help="channels x height x width, 3x224x224 unless the words name a task")
    parser.add_argument("--classes", help="how many, 1000 unless the words name a task")
    parser.add_argument("--batch", default="1", help="images a run, default 1")
    parser.add_argument("--threads", default="1", help="default 1")
    parser.add_argument("--no-latency", action="store_true", help="count, but take no time")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    given = parser.parse_intermixed_args(words)
    from automl import measuring, runs

    image = None if given.image is None else measuring.image_of(given.image)
    classes = None if given.classes is None else _whole("--classes", given.classes)
    how = {"batch": _whole("--batch", given.batch), "threads": _whole("--threads", given.threads)}
    timed = not given.no_latency
    if any("=" in word for word in given.words) and not Path(given.words[0]).exists():
        found = measuring.measured_space(given.words, image=image, classes=classes, timed=timed, **how)
    elif given.image or given.classes:
        raise BadInput("the network of a run has its images and classes: leave out --image and --classes")
    else:
        folders, target = _target(given.words)
        if len(folders) > 1:
            raise BadInput(f"one run is measured at a time: leave out {printable(folders[1])}")
        folder = runs.find_network(next(iter(folders), None), runs.root())
        found = measuring.measured_run(folder, target=target, timed=timed, **how)
    print(found.as_json() if given.json else found.as_text())
    return 0


def _latency(words: list[str]) -> int:
    if words[:1] == ["build"]:
        return _latency_build(words[1:])
    parser = _parser(
        "latency",
        "Say how long the exported network of a run takes, here or on a device of yours (device=command), and how to "
        "time it on a phone. automl latency build makes a table that predicts it: see automl latency build --help.",
    )
    parser.add_argument(
        "words", nargs="*", metavar="run", help="a run folder, default the latest; device=, device.KEY="
    )
    parser.add_argument("--threads", help="default 1")
    parser.add_argument("--batch", help="images a run, default 1")
    parser.add_argument(
        "--runtime", default="onnxruntime", choices=["onnxruntime", "torch"], help="default onnxruntime"
    )
    parser.add_argument("--int8", action="store_true", help="time model.int8.onnx, which automl export --int8 writes")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    given = parser.parse_intermixed_args(words)
    from automl import config, device, latency, runs
    from automl.plugins import Registry

    rest, target = _target(given.words)
    of_device = [word for word in rest if word.startswith("device") and "=" in word]
    folders = [word for word in rest if word not in of_device]
    if len(folders) > 1:
        raise BadInput(f"one run is timed at a time: leave out {printable(folders[1])}")
    for key, value in (("threads", given.threads), ("batch", given.batch)):
        if value is not None:
            of_device.append(f"device.{key}={_whole(f'--{key}', value)}")
    place = device.build(config.group("device", of_device, Registry()))
    folder = runs.find_network(next(iter(folders), None), runs.root())
    found = latency.timed_run(folder, place, runtime=given.runtime, int8=given.int8, target=target)
    print(found.as_json() if given.json else found.as_text())
    return 0


def _latency_build(words: list[str]) -> int:
    parser = _parser(
        "latency build",
        "Make a table of latencies for the networks of a space on a device: kernels alone, some networks whole. It "
        "predicts candidates by evaluator.latencies=FILE; its error on networks held out is printed.",
    )
    parser.add_argument(
        "words", nargs="*", help="the words of a search: +space=NAME task=NAME device=NAME key=value ..."
    )
    parser.add_argument("--out", required=True, help="the file to write")
    parser.add_argument("--space", help="the space, in place of +space=")
    parser.add_argument("--networks", default="40", help="how many are timed whole, a quarter to judge by; default 40")
    parser.add_argument("--image", help="channels x height x width, 3x224x224 unless the words name a task")
    parser.add_argument("--classes", help="how many, 1000 unless the words name a task")
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object")
    given = parser.parse_intermixed_args(words)
    from automl import latency_build, measuring

    image = None if given.image is None else measuring.image_of(given.image)
    classes = None if given.classes is None else _whole("--classes", given.classes)
    out = Path(given.out).expanduser()
    if out.is_dir() or not out.parent.is_dir():
        raise BadInput(f"--out {printable(given.out)} cannot be written: give a file in a folder that exists")
    built = latency_build.build(
        [*([f"+space={given.space}"] if given.space else []), *given.words],
        networks=_whole("--networks", given.networks),
        image=image,
        classes=classes,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    built.table.write(out)
    print(built.as_json() if given.json else built.as_text())
    if not given.json:
        print(out)
    return 0


def _target(words: list[str]) -> tuple[list[str], str | None]:
    """Return the words without space.target=, and the factory of one's own that it names for a run's network."""
    found = [word.partition("=")[2] for word in words if word.startswith("space.target=")]
    return [word for word in words if not word.startswith("space.target=")], found[-1] if found else None


def _whole(option: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise BadInput(f"{option} {text} must be an integer, at least 1")
    return int(text)


def _export(words: list[str]) -> int:
    parser = _parser("export", "Write model.onnx of a run anew and check it against PyTorch.")
    parser.add_argument("run", nargs="?", help="a run folder; default: the latest")
    parser.add_argument(
        "--int8",
        action="store_true",
        help="also model.int8.onnx, calibrated on the run's training images; compare both",
    )
    words, target = _target(words)
    given = parser.parse_args(words)
    from automl import runs
    from automl.final import export, load

    folder = runs.find(given.run, runs.root())
    network = load(folder, target=target)
    if given.int8:
        from automl.exporting import export_int8, sentences

        for sentence in sentences(export_int8(network, folder)):
            print(sentence)
        print(folder / "model.int8.onnx")
    else:
        export(network, folder, None)
        print(folder / "model.onnx")
    return 0


def _predict(words: list[str]) -> int:
    parser = _parser("predict", "Say what a run's network sees in images.")
    parser.add_argument("run", help="a run folder")
    parser.add_argument("image", nargs="+", help="image files")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    words, target = _target(words)
    given = parser.parse_args(words)
    from automl import runs
    from automl.final import load, predict

    network = load(runs.find_network(given.run, runs.root()), target=target)
    for path in given.image:
        shares = predict(network, Path(path))
        if given.json:
            print(json.dumps({"image": path, "classes": shares}, ensure_ascii=False))
        else:
            best = list(shares.items())[:3]
            print(printable(path), *(f"{printable(name)} {share:.2f}" for name, share in best), sep="   ")
    return 0


def _plugins(words: list[str]) -> int:
    parser = _parser("plugins", "List what is installed: kind, name, package, version.")
    parser.add_argument("--json", action="store_true", help="as one JSON list")
    given = parser.parse_args(words)
    from automl.plugins import Registry

    registry = Registry()
    found = [component for components in registry.components.values() for component in components]
    rows = [
        {"kind": c.kind, "name": c.name, "package": c.package, "version": c.version, "plugin": c.plugin} for c in found
    ]
    for plugin, (package, version) in registry.plugins.items():
        if plugin not in {component.plugin for component in found}:  # it watches, or brings options alone
            name = plugin.partition(":")[2]
            rows.append({"kind": "hooks", "name": name, "package": package, "version": version, "plugin": plugin})
    if given.json:
        print(json.dumps(rows, indent=1))
    else:
        for row in rows:
            print(f"{row['kind']:<12}{printable(row['name']):<20}{printable(row['package']):<24}{row['version']}")
    for sentence in [*_left_out(registry), *registry.clashes()]:
        print(printable(sentence), file=sys.stderr)
    return 0


def _problems(registry: Registry) -> dict[str, str]:
    """Return why plugins cannot be used, by plugin; reads what they bring."""
    registry.config_paths()
    _ = registry.components
    return registry.problems


def _left_out(registry: Registry) -> list[str]:
    """Return in a sentence each which plugins cannot be used, and why."""
    return [f"plugin {plugin} is left out: {reason}" for plugin, reason in _problems(registry).items()]


def _warn(registry: Registry) -> None:
    for plugin, reason in _problems(registry).items():
        _log.warning("plugin %s is left out: %s (AUTOML_BLOCK=%s says that it shall be)", plugin, reason, plugin)


def _explain(words: list[str]) -> int:
    parser = _parser("explain", "Say what a component is and what its settings are; of a space also draw a network.")
    parser.add_argument("kind", help="space, strategy, evaluator, compressor, task or tracker")
    parser.add_argument("name")
    parser.add_argument("--picture", metavar="FILE", help="draw a sampled network of a space: FILE.svg or FILE.png")
    given = parser.parse_args(words)
    from automl.explain import draw, explain
    from automl.plugins import KINDS

    if given.kind not in KINDS:
        raise BadInput(f"there is no kind {given.kind!r}{near_miss(given.kind, KINDS)}: give one of {', '.join(KINDS)}")
    if given.picture is not None:
        draw(given.kind, given.name, Path(given.picture).expanduser())
    print(explain(given.kind, given.name))
    if given.picture is not None:
        print(given.picture)
    return 0


def _new_plugin(words: list[str]) -> int:
    from automl.plugins import KINDS, Registry

    parser = _parser("new-plugin", "Write the package of a new plugin into ./automl-NAME; its tests pass as written.")
    parser.add_argument("name", help="of the component: small letters, digits and underscores")
    parser.add_argument("kind", help=", ".join(KINDS))
    given = parser.parse_args(words)
    from automl.authoring import command, new_plugin

    folder = new_plugin(given.name, given.kind, Path(), Registry())
    print(f"{folder} holds {given.kind} {given.name}. Next:\n")
    for line in (
        f"cd {folder}",
        "pip install -e '.[dev]'",
        "pytest",
        "automl plugins",
        command(given.name, given.kind),
    ):
        print(f"  {line}")
    print("\nIt is an example: change what it does, and keep its tests. docs/plugins.md says what may be done.")
    return 0


def _doctor(words: list[str]) -> int:
    _parser("doctor", "Print what a report of a problem needs.").parse_args(words)
    from automl import doctor
    from automl.plugins import Registry

    registry = Registry()
    problems = [f"problem    {printable(sentence)}" for sentence in [*_left_out(registry), *registry.clashes()]]
    print("\n".join([_version(), *doctor.lines(registry), *problems]))
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "resume": _resume,
    "report": _report,
    "compare": _compare,
    "dashboard": _dashboard,
    "measure": _measure,
    "latency": _latency,
    "export": _export,
    "predict": _predict,
    "plugins": _plugins,
    "explain": _explain,
    "new-plugin": _new_plugin,
    "doctor": _doctor,
}
_SENTENCES = {
    "resume": "go on with a run, or extend it",
    "report": "write the report of runs anew",
    "dashboard": "show a run in optuna-dashboard",
    "compare": "compare the methods of a sweep, for a paper",
    "measure": "say what networks cost, layer by layer",
    "latency": "time a run's network, here or on your device; latency build predicts it",
    "export": "write model.onnx of a run anew, with --int8 also in eight bits",
    "predict": "say what a run's network sees in images",
    "plugins": "list what is installed",
    "explain": "say what a component is, and its settings",
    "new-plugin": "write the package of a new plugin",
    "doctor": "print what a report of a problem needs",
}


def _help() -> str:
    from automl.config import options
    from automl.plugins import Registry

    registry = Registry()
    groups = "".join(f"  {group:<12}{', '.join(names)}\n" for group, names in options(registry).items())
    commands = "".join(f"  {name:<12}{_SENTENCES[name]}\n" for name in COMMANDS)
    wrong = "".join(f"\n{printable(sentence)}\n" for sentence in _left_out(registry))
    return HELP.format(groups=groups, commands=commands) + wrong


def _version() -> str:
    versions = {name: importlib.metadata.version(name) for name in ("automl-lightweight", "torch", "hydra-core")}
    ours, torch, hydra = versions.values()
    return f"automl {ours} (torch {torch}, hydra {hydra}, python {platform.python_version()})"


def _parser(name: str, sentence: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(f"automl {name}", description=sentence)


def _debugging() -> bool:
    return os.environ.get("AUTOML_DEBUG", "") not in ("", "0")

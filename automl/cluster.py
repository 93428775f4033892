"""Workers that are actors of Ray: on a cluster, or on a Ray that is started on this machine for one search."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from automl import allotment, reaper
from automl.errors import BadInput, printable
from automl.evaluator import Evaluator
from automl.files import remove_file, write_text
from automl.strategy import Strategy
from automl.worker import Answer, Desk
from automl.workers import Death, Worker, Workers

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else it announces a change of its own
    "RAY_DEDUP_LOGS": "0",
    "RAY_worker_niceness": "0",  # else beside any other program nothing is left for what is evaluated
}


@dataclass
class Ray(Workers):
    """Evaluates by so many actors, spread over the nodes by their processors.

    Those of a node share its processors; where there are graphics cards each has one, or an equal part of one. The
    run's folder has to be seen by all nodes, for a training that goes on from another reads what that left there.
    """

    address: str | None = None

    open: ClassVar[frozenset[str]] = Workers.open | {"address"}

    def __post_init__(self) -> None:
        super().__post_init__()
        self._ray: Any = None
        self._reaper: subprocess.Popen[bytes] | None = None
        self._is_ours = False  # to be left, or ended, in the end

    @property
    def _is_here(self) -> bool:
        """Whether Ray was started on this machine, for this search."""
        return self._is_ours and self.address is None

    def check(self, evaluator: Evaluator, strategy: Strategy) -> None:
        super().check(evaluator, strategy)
        self._connect()

    def start(self, evaluator: Evaluator, clock: float) -> None:
        self._connect()
        try:
            self._nodes = self._alive()
            self._cards = sum(node["Resources"].get("GPU", 0) for node in self._nodes.values())
            self._seen_by = dict(zip(range(self.workers), _spread(self._nodes, self.workers), strict=True))
            self._living: list[_Actor] = []
            self._hired: set[int] = set()  # places that had a worker before
            if evaluator.folder is not None and not self._is_here:
                self._probe(Path(evaluator.folder))
        except BaseException:
            self.close()
            raise
        super().start(evaluator, clock)
        self.say(self._described())

    def parcel(self, packed: bytes) -> Any:
        return self._ray.put(packed)

    def hire(self, number: int) -> Worker:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._move(number)
        node = self._seen_by[number]
        options: dict[str, Any] = {"num_cpus": 0, "max_restarts": 0, "max_task_retries": 0}
        if self._cards:
            parts = -(-self.workers // max(1, int(self._cards)))  # workers a card
            options |= {"num_gpus": 1 if parts == 1 else int(1e4 / parts) / 1e4, "scheduling_strategy": "SPREAD"}
        else:
            # a node that has just joined may be refused, and what is asked for softly is then put beside the driver
            is_again = number in self._hired
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=is_again)
        self._hired.add(number)
        if self.trial_memory is not None:
            options["concurrency_groups"] = {_LOOKS: 1}
        together = max(1, list(self._seen_by.values()).count(node))
        processors = int(self._nodes[node]["Resources"].get("CPU", 1)) or 1
        threads = allotment.threads(together, processors)
        actor = self._ray.remote(**options)(Desk).remote()
        worker = _Actor(self._ray, actor, {allotment.THREADS: threads})
        self._living.append(worker)
        return worker

    def listen(self, seconds: float | None) -> Iterator[tuple[Worker, Answer | Death]]:
        asked = {worker.asked: worker for worker in self._living if worker.asked is not None}
        if not asked:
            return
        done, _ = self._ray.wait(list(asked), num_returns=1, timeout=seconds)
        if done:
            done, _ = self._ray.wait(list(asked), num_returns=len(asked), timeout=0)
        errors = self._ray.exceptions
        for reference in done:
            worker = asked[reference]
            worker.asked = None
            try:
                answer = self._ray.get(reference)
            except errors.RayTaskError as error:
                answer = Answer("refused", text=f"{type(error.cause).__name__}: {error.cause}"[:1_000])
            except errors.RayError:  # of its process, of its node, of the way there: all mean that it is tried again
                self._living.remove(worker)
                answer = Death("its process or its node is gone")
            yield worker, answer

    def close(self) -> None:
        super().close()
        if self._ray is None:
            return
        ray, self._ray = self._ray, None
        if self._is_ours:
            with _signals_kept():
                ray.shutdown()
        if self._reaper is not None:
            self._reaper.kill()
            self._reaper.communicate()
            self._reaper = None

    def _connect(self) -> None:
        """Find Ray, or start it on this machine; raises BadInput where it does not answer, or is not installed."""
        if self._ray is not None:
            return
        os.environ.update({name: os.environ.get(name, value) for name, value in _QUIET.items()})
        try:
            import ray
        except ImportError as error:
            raise BadInput(
                "executor=ray needs an optional part: pip install 'automl-lightweight[ray]', or type "
                f"executor=processes for the workers of this machine ({error})"
            ) from None
        if ray.is_initialized():  # by the user's own program, whose it stays
            self._ray, self._is_ours = ray, False
            return
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self.address is None:
            quiet |= {"include_dashboard": False, "num_cpus": allotment.cores()}
        else:
            _knock(self.address)
        with _signals_kept():
            try:
                ray.init(address=self.address or "local", **quiet)
            except (ConnectionError, RuntimeError, OSError, ValueError) as error:
                said = printable(" ".join(str(error).split()))[:200]
                raise BadInput(
                    f"Ray cannot be {'started here' if self.address is None else f'reached at {self.address}'} "
                    f"({said}): type executor=processes for the workers of this machine"
                ) from error
        self._ray, self._is_ours = ray, True
        if self._is_here:
            command = [sys.executable, "-m", "automl.reaper", *reaper.started()]
            self._reaper = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603

    def _alive(self) -> dict[str, Any]:
        return {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}

    def _move(self, number: int) -> None:
        """Have a place whose node is lost on another one."""
        alive = {key: node for key, node in self._alive().items() if _answers(node)}
        for node in [node for node in self._nodes if node not in alive]:
            self.say(f"Node {self._nodes.pop(node)['NodeManagerAddress']} is lost; its trials run again elsewhere.")
        self._nodes.update(alive)
        if not self._nodes:
            raise BadInput("no node of the Ray cluster is left: start it again, and go on by automl resume")
        if self._seen_by[number] not in self._nodes:
            taken = Counter(node for node in self._seen_by.values() if node in self._nodes)
            self._seen_by[number] = _roomiest(self._nodes, taken)

    def _probe(self, folder: Path) -> None:
        """See that every node sees the run's folder, by a file, and has this version of automl."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        token, file = secrets.token_hex(8), folder / f".probe-{os.getpid()}"
        write_text(file, token)
        try:
            look = self._ray.remote(num_cpus=0, max_retries=0)(seen)
            asked = {
                node: look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
                    str(file.absolute())
                )
                for node in self._nodes
            }
            for node, reference in asked.items():
                host = self._nodes[node]["NodeManagerAddress"]
                try:
                    version, found = self._ray.get(reference, timeout=60)
                except self._ray.exceptions.RayError as error:
                    said = printable(" ".join(str(error).split()))[:300]
                    raise BadInput(f"node {host} cannot run automl ({said}): install the same there as here") from None
                if version != _version():
                    raise BadInput(
                        f"node {host} has automl {version}, and here is {_version()}: install the same on both"
                    )
                if found != token:
                    raise BadInput(
                        f"node {host} does not see the run's folder {folder.absolute()}: have it in a folder that all "
                        "nodes share by runs=DIR, or type executor=processes for the workers of this machine"
                    )
        finally:
            remove_file(file)

    def _described(self) -> str:
        counted = Counter(self._nodes[node]["NodeManagerAddress"] for node in self._seen_by.values())
        where = "started here" if self._is_here else "a cluster"
        each = ", ".join(f"{count} on {host}" for host, count in counted.items())
        nodes = len(self._nodes)
        shared = "" if self._is_here or self.evaluator.folder is None else "; all see the run's folder"
        return (
            f"Ray, {where}: {nodes} node{'s' * (nodes > 1)}, {self.workers} worker{'s' * (self.workers > 1)}"
            f"{'' if self._cards else f' ({each})'}{shared}."
        )


_LOOKS = "looks"  # beside what is evaluated


class _Actor(Worker):
    """A worker that is an actor of Ray."""

    def __init__(self, ray: Any, actor: Any, environment: Mapping[str, str]) -> None:
        self._ray, self._actor, self._environment = ray, actor, dict(environment)
        self.asked: Any = None
        self._looked: Any = None

    def send(self, word: Literal["start", "begin", "go_on", "stop"], *values: Any) -> None:
        if word == "start":
            values = (*values, self._environment)
        self.asked = getattr(self._actor, word).remote(*values)

    def kill(self) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(self._actor)

    def resident(self) -> int | None:
        if self._looked is None:
            self._looked = self._actor.resident.options(concurrency_group=_LOOKS).remote()
        done, _ = self._ray.wait([self._looked], timeout=0)
        if not done:
            return None
        looked, self._looked = self._looked, None
        try:
            return int(self._ray.get(looked))
        except self._ray.exceptions.RayError:
            return None


def seen(path: str) -> tuple[str, str | None]:
    """Return this node's version of automl, and what it reads in that file."""
    try:
        return _version(), Path(path).read_text()
    except OSError:
        return _version(), None


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("automl-lightweight")
    except PackageNotFoundError:
        return "of a checkout"


def _spread(nodes: Mapping[str, Any], workers: int) -> list[str]:
    """Return a node for each of so many workers, in the proportion of their processors."""
    taken: Counter[str] = Counter()
    for _ in range(workers):
        taken[_roomiest(nodes, taken)] += 1
    return list(taken.elements())


def _roomiest(nodes: Mapping[str, Any], taken: Mapping[str, int]) -> str:
    """Return the node with the most processors for one worker more."""
    return max(nodes, key=lambda node: nodes[node]["Resources"].get("CPU", 0) / (taken.get(node, 0) + 1))


def _answers(node: Mapping[str, Any]) -> bool:
    """Say whether a node is there: a cluster takes a quarter of a minute to call one dead."""
    try:
        socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), timeout=3).close()
    except OSError:
        return False
    return True


def _knock(address: str) -> None:
    """Raise BadInput where no Ray answers at an address, in seconds: Ray itself would wait much longer, or exit."""
    if "://" in address:
        raise BadInput(
            f"executor.address={printable(address)} is of Ray's client: give host:port of the cluster's head, as "
            "executor.address=10.0.0.1:6379, or auto on a node of it"
        )
    answers = True
    if address != "auto":
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise BadInput(f"executor.address={printable(address)} must be host:port of a cluster's head, or auto")
        try:
            socket.create_connection((host, int(port)), timeout=3).close()
        except (OSError, OverflowError):
            answers = False
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        answers = answers and subprocess.run(command, **_ALONE).returncode == 0  # noqa: S603  # an address is no option
    except subprocess.TimeoutExpired:
        answers = False
    if not answers:
        raise BadInput(
            f"no Ray cluster answers at executor.address={printable(address)}: start one by ray start --head, or leave "
            "executor.address out, which starts Ray on this machine"
        )


_ALONE: dict[str, Any] = {"capture_output": True, "timeout": 15, "stdin": subprocess.DEVNULL}


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Give the signals that Ray takes for itself back to whoever had them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Evaluators for workers: they tell where they ran, die, dawdle, eat memory, and raise what cannot be sent."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import threading
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from automl import Evaluator, Report, Space


def worth(trial):
    return zlib.crc32(json.dumps(trial.architecture.to_json()).encode()) / 2**32


@dataclass
class Dying(Evaluator):
    """Kills its own process in some trials: each time, or the first time only, after its first report."""

    always: tuple[int, ...] = ()
    once: tuple[int, ...] = ()
    marks: str = ""  # a folder

    def evaluate(self, trial):
        yield Report({"accuracy": worth(trial) / 2}, 0.5)
        mark = Path(self.marks) / str(trial.number)
        with mark.open("a") as file:
            file.write("x")
        if trial.number in self.always or (trial.number in self.once and mark.read_text() == "x"):
            os.kill(os.getpid(), signal.SIGKILL)
        yield Report({"accuracy": worth(trial)})


class TwoParts(Exception):
    """Takes two arguments and passes one on, so that it cannot be rebuilt."""

    def __init__(self, first, second):
        super().__init__(first)


class Locked(Exception):
    """Holds what cannot be pickled."""

    def __init__(self):
        super().__init__("locked")
        self.lock = threading.Lock()


class Speechless(Exception):
    """Has no text."""

    def __str__(self):
        raise ValueError


@dataclass
class Raising(Evaluator):
    """Raises in the first trials, each another error."""

    def evaluate(self, trial):
        class Local(Exception):
            pass

        errors = [TwoParts("one", "two"), Locked(), Local("here"), Speechless(), ValueError("half \ud800 of a pair")]
        logging.getLogger("automl").warning("raising is in for a surprise")
        if trial.number < len(errors):
            raise errors[trial.number]
        if trial.number == len(errors):
            yield "no report"
        yield Report({"accuracy": worth(trial)})


@dataclass
class Telling(Evaluator):
    """Writes its environment, and with ``torch`` the threads that there are, into a file of its trial's number."""

    place: str
    torch: bool = False
    together: int = 0  # waits until so many trials have begun
    until: str = ""  # waits for this file

    def evaluate(self, trial):
        said = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")}
        said["process"] = os.getpid()
        if self.torch:
            import torch

            said["threads"] = torch.get_num_threads()
        (Path(self.place) / f"{trial.number}.json").write_text(json.dumps(said))
        end = time.monotonic() + 60
        while not self._may_end() and time.monotonic() < end:
            time.sleep(0.01)
        yield Report({"accuracy": worth(trial)})

    def _may_end(self):
        begun = len(list(Path(self.place).glob("*.json")))
        return begun >= self.together and (not self.until or (Path(self.place) / self.until).exists())


@dataclass
class Dawdling(Evaluator):
    """Takes a while in some trials, and has a child that outlives it unless it is killed, too."""

    slow: tuple[int, ...] = ()
    seconds: float = 60.0
    marks: str = ""
    megabytes: int = 0

    def evaluate(self, trial):
        yield Report({"accuracy": worth(trial) / 2}, 0.5)
        if trial.number in self.slow:
            kept = b"x" * (self.megabytes << 20)
            child = subprocess.Popen(["sleep", "1000"], close_fds=False)
            (Path(self.marks) / str(trial.number)).write_text(f"{os.getpid()} {child.pid}")
            end = time.monotonic() + self.seconds
            while time.monotonic() < end:
                time.sleep(min(1.0, self.seconds)) if kept is not None else None
            child.kill()
            child.wait()
        yield Report({"accuracy": worth(trial)})


@dataclass
class Uneven(Evaluator):
    """Takes a little, more or less, in three steps; what they are worth is told by the decisions."""

    epochs: int = 3
    seconds: float = 0.02

    def steps(self):
        return self.epochs

    def evaluate(self, trial):
        until = round(trial.candidate.fidelity * self.epochs)
        begun = 0 if trial.parent is None else round(trial.parent.fidelity * self.epochs)
        for step in range(begun + 1, until + 1):
            time.sleep(self.seconds * ((trial.number * 7 + step) % 5) / 5)
            yield Report({"accuracy": worth(trial) * (1 - 0.5**step)}, step / self.epochs)


@dataclass
class Stateful(Evaluator):
    stateful = True

    def evaluate(self, trial):
        yield Report({"accuracy": 0.5})


class Lambdas(Space):
    """Operations that are lambdas, and a lambda of its own."""

    def __init__(self):
        self.shout = lambda name: name.upper()

    def describe(self, choose):
        from automl import Op

        return self.shout(choose("op", [Op("a", lambda: None), Op("b", lambda: None), Op("c", lambda: None)]).name)

    def build(self, blueprint, task):
        raise NotImplementedError


@dataclass
class Holding(Evaluator):
    """Has a field that no one can send."""

    counts: object = field(default_factory=threading.Lock)

    def evaluate(self, trial):
        yield Report({"accuracy": 0.5})

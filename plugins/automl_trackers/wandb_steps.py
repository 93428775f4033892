"""Which steps of a W&B run belong to what, so that a study that goes on finds its place."""

from __future__ import annotations

import contextlib
import secrets
import string
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from automl.errors import BadInput
from automl.files import write_json
from automl.runs import read_json

SCHEMA = 1
FILE = "wandb.json"


@dataclass
class Extra:
    """Rows that are of no trial, after so many trials: epochs of the final network, tables.

    ``course`` has the shares of the schedule at which epochs were sent.
    """

    after: int
    rows: int = 0
    course: list[float] = field(default_factory=list)


class Steps:
    """The id of the W&B run, and its steps.

    The rows of trials are known from the trials: one for each report that is drawn, and one for the trial. All other
    rows are written down here before they are sent. So every row has its step for good, whoever sends it: what W&B has
    is not sent again, and no step goes back.
    """

    def __init__(self, folder: Path, curves: int) -> None:
        """Take up those of a run folder; ``curves`` is kept as it was at first, for the steps depend on it."""
        self._path = folder / FILE
        there = read_json(self._path) if self._path.exists() else {}
        try:
            self.id = str(there.get("id") or "".join(secrets.choice(_LETTERS) for _ in range(8)))
            self.curves = int(there.get("curves", curves))
            self.extras = [Extra(**extra) for extra in there.get("extras", ())]
            self.process: dict[str, float] | None = there.get("process")
        except (TypeError, ValueError) as error:
            raise BadInput(f"{self._path} is damaged ({error}): delete it, for a new run of W&B") from error
        self._past = list(self.extras)
        self._own: Extra | None = None  # of this session
        self.trials = 0
        self.step = 0

    def begin_trial(self) -> None:
        """Go to the first step of the next trial."""
        self._pass_extras()
        self.trials += 1

    def begin_extra(self, share: float | None = None) -> None:
        """Reserve the next step for a row of no trial, an epoch at that share of its schedule where one is given."""
        self._pass_extras()
        if self._own is None:
            self._own = Extra(self.trials)
            self.extras.append(self._own)
        self._own.rows += 1
        if share is not None:
            self._own.course.append(share)
        self.save()

    def is_sent(self, share: float) -> bool:
        """Say whether the epoch at that share was sent, of the network that is trained after these trials."""
        return any(share in extra.course for extra in self.extras if extra.after == self.trials)

    @property
    def courses(self) -> int:
        """How many final networks before that of these trials had epochs sent."""
        return len({extra.after for extra in self.extras if extra.course and extra.after < self.trials})

    def save(self) -> None:
        """Write them down."""
        extras = [asdict(extra) for extra in self.extras]
        there: dict[str, Any] = {"schema": SCHEMA, "id": self.id, "curves": self.curves, "extras": extras}
        write_json(self._path, there | ({"process": self.process} if self.process else {}))

    def note_process(self) -> None:
        """Write down which process of W&B's works for this one."""
        process = service()
        self.process = None if process is None else {"pid": process.pid, "created": process.create_time()}
        self.save()

    def wait(self, seconds: float = 30.0) -> None:
        """Wait for the process of a driver that was killed: it is still writing down what it was sent."""
        if self.process is None:
            return
        with contextlib.suppress(psutil.Error, KeyError, TypeError, ValueError):
            process = psutil.Process(int(self.process["pid"]))
            if process.create_time() == self.process["created"] and process.ppid() != psutil.Process().pid:
                process.wait(seconds)

    def _pass_extras(self) -> None:
        while self._past and self._past[0].after <= self.trials:
            self.step += self._past.pop(0).rows


_LETTERS = string.ascii_lowercase + string.digits


def service() -> psutil.Process | None:
    """Return the process that W&B has beside this one."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if "wandb-core" in child.name() or "wandb-core" in " ".join(child.cmdline()[:1]):
                    return child
    return None

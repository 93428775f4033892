"""A sweep: every combination of settings, a run each, in one folder."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from automl import runs, trust
from automl.config import command as typed
from automl.errors import BadInput, printable
from automl.files import make_folder, point, write_json

SCHEMA = 1


class Sweep:
    """The jobs of a sweep, the folder of each inside the sweep's own, and how they ended; kept in ``sweep.json``."""

    def __init__(self, root: Path, command: str, jobs: Sequence[Sequence[str]]) -> None:
        """Plan a sweep under ``root``; its folder is made when the first job needs one.

        Raises BadInput where jobs differ in the code that they name, which is typed but once to go on with them.
        """
        for start in trust.WORDS:
            targets = dict.fromkeys(word for words in jobs for word in trust.typed(words) if word.startswith(start))
            if len(targets) > 1:
                advice = ", or name one factory and sweep over what it takes, space.arguments" * (start == trust.WORD)
                raise BadInput(
                    f"a sweep has one {start[:-1]}, and here are {', '.join(targets)}: start a sweep for each{advice}"
                )
        self._root = root
        self.folder: Path | None = None
        self.command = command
        self.jobs: list[dict[str, Any]] = [
            {"words": list(words), "folder": None, "exit": None, "command": typed(words)} for words in jobs
        ]

    @classmethod
    def read(cls, folder: Path, given: Sequence[str] = ()) -> Sweep:
        """Return the sweep of a folder, to be gone on with; raises BadInput where sweep.json is damaged.

        Where its jobs name code of the user's, the words ``given`` name it again: what the file has is not run.
        """
        found = runs.read_json(folder / "sweep.json")
        try:
            sweep = cls(
                folder.parent,
                str(found["command"]),
                [trust.words_without([str(word) for word in job["words"]], given) for job in found["jobs"]],
            )
            for job, known in zip(sweep.jobs, found["jobs"], strict=True):
                inside = None if known["folder"] is None else Path(str(known["folder"])).name  # never outside of it
                job |= {"folder": inside, "exit": known["exit"]}
                job["command"] = printable(str(known.get("command", job["command"])))
        except (KeyError, TypeError) as error:
            raise BadInput(f"{folder / 'sweep.json'} is no list of jobs ({error}): start the sweep again") from error
        sweep.folder = folder
        named = {word for job in sweep.jobs for word in trust.typed(job["words"])}
        if any(job["exit"] != 0 for job in sweep.jobs):
            for start, what in trust.WORDS.items():
                if f"{start}{trust.ASKED}" in named:
                    raise BadInput(
                        f"the jobs of {folder} run code of yours, which is named anew each time: type automl resume "
                        f"{shlex.quote(str(folder))} {start}{what}"
                    )
        for word in given:
            if word not in named:
                raise BadInput(f"no job of {folder} runs such code of yours: leave out {printable(word)}")
        return sweep

    def run(
        self,
        start: Callable[[list[str], Callable[[str], Path]], int],
        go_on: Callable[[Path, list[str]], int],
    ) -> int:
        """Run every job that is not done, whatever another does, and end with a line a job.

        ``start`` is given the words of a job and what makes its folder, ``go_on`` the folder of one begun before, and
        the words that are typed again; both return an exit code. Returns 0 where all are done, 2 where all others were
        bad input, else 1.
        """
        try:
            for number, job in enumerate(self.jobs):
                if job["exit"] == 0:
                    continue
                print(f"[{number + 1}/{len(self.jobs)}] {job['command']}", flush=True)
                begun = self._begun(job)
                if begun is None:
                    job["exit"] = start(job["words"], lambda label, number=number: self._make(number, label))  # type: ignore[misc]
                else:
                    job["exit"] = go_on(begun, trust.typed(job["words"]))
                self._write()
        finally:
            print()
            for job in self.jobs:
                code = job["exit"]
                ended = "not done" if code is None else "done" if code == 0 else f"exit {code}"
                print(f"{ended:<10}{job['command']}")
            if self.folder is not None:
                self._write()
                print(f"Compare them: automl compare {shlex.quote(str(self.folder))} --out comparison")
                print(self.folder, flush=True)
        failed = {job["exit"] for job in self.jobs if job["exit"]}
        return 2 if failed == {2} else int(bool(failed))

    def _begun(self, job: Mapping[str, Any]) -> Path | None:
        """Return the folder of a job that can be gone on with."""
        if self.folder is None or job["folder"] is None:
            return None
        path = self.folder / job["folder"]
        return path if runs.is_run(path) else None

    def _make(self, number: int, label: str) -> Path:
        """Return a new folder for a job, in the sweep's."""
        if self.folder is None:
            self.folder = runs.create(self._root, "sweep", latest=False)
        path = self.folder / f"{number}-{label}"
        while path.exists():  # what was left of a job that was killed at once
            path = path.with_name(f"{path.name}-again")
        make_folder(path)
        point(self._root / "latest", os.path.relpath(path, self._root))
        self.jobs[number]["folder"] = path.name
        self._write()
        return path

    def _write(self) -> None:
        if self.folder is not None:
            jobs = [{**job, "words": trust.words_without(job["words"])} for job in self.jobs]
            write_json(self.folder / "sweep.json", {"schema": SCHEMA, "command": self.command, "jobs": jobs})


def place(folder: Path) -> tuple[str, list[str]] | None:
    """Return the name of the sweep that a run is of, and the words that tell the run from the sweep's others.

    None for a run that is of no sweep.
    """
    folder = folder.resolve()  # runs/latest is a link
    path = folder.parent / "sweep.json"
    if not path.is_file():
        return None
    jobs = runs.read_json(path).get("jobs", [])
    own = next((job["words"] for job in jobs if job["folder"] == folder.name), None)
    if own is None:
        return None
    return folder.parent.name, [word for word in own if any(word not in job["words"] for job in jobs)] or own

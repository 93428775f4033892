"""Mirrors a study into an Optuna storage, where optuna-dashboard shows it live."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import BadInput, Trial, hookimpl
from automl_trackers.distributions import Distributions, ranges

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from automl.standing import Standing

FILE = "optuna.db"
_METRIC_NAMES = "study:metric_names"  # Optuna's method for it warns on every call that it may change
_COMPLETE = {"psycopg": "'psycopg[binary]'"}  # packages that by themselves lack a part
_LETTERS = 1_000  # of the reason of a failure: some databases take no more


@dataclass
class OptunaMirror:
    """Writes each trial that ended into an Optuna storage, as a trial of a study that is named as the run folder.

    ``storage`` is the URL of a database (`sqlite:///FILE`, `postgresql://...`), or the path of a journal file of
    Optuna's; by default `optuna.db` in the run folder. A trial that finished is COMPLETE, one that failed FAIL, one
    that was rejected for breaking a limit before it was trained PRUNED. Values are the objectives, costs and all; the
    intermediate ones, by epoch, the first objective's metric. Every metric is a user attribute. Limits are constraints,
    over 0 where broken. Options keep their types; operations go by their names, tuples as JSON.
    """

    storage: str | None = None

    def __post_init__(self) -> None:
        self._study: optuna.Study | None = None
        self._storage: BaseStorage | None = None

    def check(self) -> None:
        """Raise BadInput where the storage cannot be opened."""
        if self.storage is None:
            return
        if "://" not in self.storage:
            folder = Path(self.storage).expanduser().absolute().parent
            if not folder.is_dir() or not os.access(folder, os.W_OK):
                raise BadInput(f"tracker.optuna.storage={self.storage} cannot be opened: {folder} cannot be written to")
            return
        import sqlalchemy

        try:
            shown = sqlalchemy.engine.make_url(self.storage).render_as_string(hide_password=True)
        except sqlalchemy.exc.ArgumentError:
            raise BadInput(
                "tracker.optuna.storage is no URL of a database: type one as sqlite:///FILE or postgresql://HOST/NAME, "
                "or the path of a journal file"
            ) from None
        try:
            engine = sqlalchemy.create_engine(self.storage)
            try:
                engine.connect().close()
            finally:
                engine.dispose()
        except ImportError as error:
            package = _COMPLETE.get(error.name or "", error.name)
            raise BadInput(
                f"tracker.optuna.storage={shown} needs a package that is not installed: pip install {package}"
            ) from error
        except (sqlalchemy.exc.SQLAlchemyError, OSError) as error:
            reason = " ".join(str(getattr(error, "orig", None) or error).split())[:200]
            raise BadInput(
                f"tracker.optuna.storage={shown} cannot be opened ({reason}): mend the address, "
                "or leave it out for a file in the run folder"
            ) from error

    @hookimpl
    def automl_study_started(self, study: Standing) -> None:
        """Open the storage, and write what it lacks of the trials so far."""
        if study.directory is not None:
            self.mirror(study, study.directory)

    @hookimpl
    def automl_trial_finished(self, study: Standing, trial: Trial) -> None:
        """Write it."""
        if self._study is not None and trial.number not in self._known:
            self._add(study, trial)

    @hookimpl
    def automl_study_finished(self, study: Standing) -> None:
        """Let go of the database's connections; they are opened again where there is more to write."""
        from optuna.storages import RDBStorage

        if isinstance(self._storage, RDBStorage):
            self._storage.remove_session()
            self._storage.engine.dispose()

    def mirror(self, study: Standing, folder: Path) -> None:
        """Write what the storage lacks of a study's trials; domains that are not known are what was decided."""
        import optuna

        if os.environ.get("AUTOML_DEBUG", "") in ("", "0"):
            optuna.logging.set_verbosity(optuna.logging.WARNING)
        if self._study is None:
            storage, name = self.open(folder), folder.resolve().name
            self._storage = storage
            self._study = optuna.create_study(
                storage=storage,
                study_name=name,
                directions=["maximize" if objective.goal == "max" else "minimize" for objective in study.objectives],
                load_if_exists=True,
            )
            names = [objective.metric for objective in study.objectives]
            storage.set_study_system_attr(storage.get_study_id_from_name(name), _METRIC_NAMES, names)
            self._study.set_user_attr("limits", [f"{limit.metric} {limit.bound:g}" for limit in study.limits])
            self._distributions = Distributions()
            trials = self._study.get_trials(deepcopy=False)
            self._known = {trial.user_attrs.get("trial") for trial in trials}
        lacking = [trial for trial in study.trials if trial.number not in self._known]
        self._ranges = (
            {}
            if all(trial.architecture.domains for trial in lacking)
            else ranges(trial.architecture.to_json() for trial in study.trials)
        )
        for trial in lacking:
            self._add(study, trial)

    def open(self, folder: Path) -> BaseStorage:
        """Return the storage of the run in that folder."""
        from optuna.storages import JournalStorage, RDBStorage
        from optuna.storages.journal import JournalFileBackend

        if self.storage is not None and "://" not in self.storage:
            return JournalStorage(JournalFileBackend(str(Path(self.storage).expanduser())))
        return RDBStorage(self.storage or f"sqlite:///{(folder / FILE).resolve()}")

    def _add(self, study: Standing, trial: Trial) -> None:
        assert self._study is not None
        self._known.add(trial.number)
        self._study.add_trial(self._frozen(study, trial))

    def _frozen(self, study: Standing, trial: Trial) -> FrozenTrial:
        from optuna.trial import TrialState, create_trial

        architecture, first = trial.architecture, study.objectives[0]
        parameters, distributions = self._distributions.of(architecture.to_json(), architecture.domains or self._ranges)
        state = {"failed": TrialState.FAIL, "rejected": TrialState.PRUNED}.get(trial.state, TrialState.COMPLETE)
        is_complete = state == TrialState.COMPLETE
        signs = [1 if objective.goal == "max" else -1 for objective in study.objectives]
        attributes: dict[str, Any] = {
            "trial": trial.number,
            "seconds": trial.seconds,
            "fidelity": trial.fidelity,
            **{f"metrics/{name}": value for name, value in trial.metrics.items()},
        }
        if trial.error is not None:
            attributes["reason"] = trial.error[:_LETTERS]
        constraints = [
            (trial.metrics[limit.metric] - limit.bound) * (1 if limit.goal == "min" else -1)
            for limit in study.limits
            if limit.metric in trial.metrics
        ]
        epochs = [report for report in trial.reports if report.fidelity > 0]
        return create_trial(
            state=state,
            values=[sign * score for sign, score in zip(signs, trial.scores, strict=True)] if is_complete else None,
            params=parameters,
            distributions=distributions,
            user_attrs=attributes,
            system_attrs={"constraints": constraints} if study.limits else None,
            intermediate_values={
                number: report.metrics[first.metric]
                for number, report in enumerate(epochs, 1)
                if first.metric in report.metrics
            },
        )

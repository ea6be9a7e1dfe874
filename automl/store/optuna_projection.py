"""A view of our record in Optuna's own tables, so that every Optuna tool works on the database.

It can be rebuilt at any time, hence two liberties: a failure never disturbs a study, and a commit need not have
reached the disk. Only Optuna's public interface is used.
"""

from __future__ import annotations

import logging
import sqlite3
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from agents import Goal, TrialState
from automl.store.errors import StoreError
from automl.store.optuna_finalists import Finalists, show_finalists
from automl.store.optuna_trials import frozen_trial
from automl.store.records import StudyRecord, TrialRecord
from automl.store.store import Store
from automl.store.urls import parse_url
from automl.types import Phase
from search_spaces import Knob

if TYPE_CHECKING:
    import optuna

logger = logging.getLogger(__name__)

_TIMEOUT_S = 10.0
_LEASE = timedelta(minutes=2)
"""Longer than Optuna can take to add a trial: it waits five times for a lock."""


class OptunaProjection:
    """Copies finished trials of a study into Optuna's tables: one Optuna study "<study>/<agent>/<seed>" a lane, with
    what the search measured. When the study has concluded, "<study>" has its finalists as they were finished.

    Parameters are the knobs' levels, the objective is the goal's metric, and its steps, if it has any, are the
    intermediate values. User attributes are every measurement of the search, whether the trial is feasible, and our
    `agent`, `seed`, `number` and `trial_id`. Optuna numbers trials in the order in which they finished. A trial that
    failed is FAIL; one that was stopped, or is infeasible and has no value, is PRUNED; `reason` says why.
    """

    def __init__(
        self, store: Store, study: StudyRecord, knobs: Sequence[Knob], goal: Goal, limits: Mapping[str, float]
    ) -> None:
        self.store = store
        self.study = study
        self.knobs = tuple(knobs)
        self.goal = goal
        self.limits = dict(limits)
        self._lanes: dict[tuple[str, int], optuna.Study] = {}
        self._storage: optuna.storages.RDBStorage | None = None
        self._behind = False

    @classmethod
    def of(cls, store: Store, study: StudyRecord) -> OptunaProjection:
        """The projection of a study as its recorded `config` describes it (see `Store.create_study`)."""
        try:
            knobs = [Knob.from_record(knob) for knob in study.config["knobs"]]
            goal = Goal(study.config["goal"]["metric"], study.config["goal"]["direction"])
        except (KeyError, TypeError) as error:
            raise StoreError(
                f"the study {study.name!r} has no {error} in its recorded configuration, so it cannot be shown in "
                f"Optuna. Use `automl trials {study.name}`"
            ) from error
        return cls(store, study, knobs, goal, study.config.get("limits", {}))

    def prepare(self, trial: TrialRecord) -> None:
        """Make Optuna's study of the trial's lane if there is none, so that another thread may `record` its trials.

        Keeping Optuna quiet meanwhile touches what all threads share. Never raises, as `record`.
        """
        if not self._behind:
            with self._forgiven():
                self._lane(trial.agent, trial.seed)

    def record(self, trial: TrialRecord) -> None:
        """Copy one finished trial. Never raises: the first failure is warned of, and the rest left to `sync`."""
        if self._behind:
            return
        with self._forgiven():
            self._copy(trial)

    def sync(self, *, strict: bool = False) -> int:
        """Copy every finished trial that is not there yet; the number copied.

        What is there is found by our trial id, so it may be called at any time and any number of times. A failure
        is warned of, or with `strict` a `StoreError`.
        """
        copied = 0
        with self._forgiven(strict):
            self._lanes.clear()  # what a cached study knows of other processes' trials may be old
            for lane, finished in self.store.count_finished(self.study.id).items():
                if self._holds(lane, finished):
                    continue
                there = {t.user_attrs.get("trial_id") for t in self._lane(*lane).get_trials(deepcopy=False)}
                ours = self.store.trials(self.study.id, agent=lane[0], seed=lane[1])
                missing = [t for t in ours if t.finish_order is not None and t.id not in there]
                for trial in sorted(missing, key=lambda t: t.finish_order or 0):
                    copied += self._copy(trial)
            self._show_finalists()
            self._behind = False
        return copied

    def conclude(self) -> None:
        """Show the finalists as they were finished, if the study has concluded. Never raises, as `record`."""
        with self._forgiven():
            self._show_finalists()

    def _show_finalists(self) -> None:
        found = Finalists.of(self.store, self.study, self.goal)
        if found is not None:
            with quiet_optuna():
                show_finalists(self._opened(), found, self.knobs)

    def _holds(self, lane: tuple[str, int], n: int) -> bool:
        """Whether Optuna's study of the lane has `n` trials: the last numbers tell, without reading thousands."""
        storage = self._opened()
        try:
            study = storage.get_study_id_from_name(self._name(*lane))
            storage.get_trial_id_from_study_id_trial_number(study, n - 1)
        except KeyError:
            return False
        try:
            storage.get_trial_id_from_study_id_trial_number(study, n)
        except KeyError:
            return True
        return False

    def close(self) -> None:
        """Close its connections: an open one keeps the write-ahead log of an SQLite file from being folded in."""
        self._lanes.clear()
        if self._storage is not None:
            self._storage.remove_session()
            self._storage.engine.dispose()
            self._storage = None

    def _copy(self, trial: TrialRecord) -> bool:
        """Add the trial unless another process is about to; whether it was added."""
        lane = self._lane(trial.agent, trial.seed)
        if not self.store.claim_projection(trial.id, _LEASE):
            return False
        try:
            lane.add_trial(self._frozen(trial))
        except BaseException:
            with suppress(StoreError):  # the error to report is the first
                self.store.release_projection(trial.id)
            raise
        return True

    def _lane(self, agent: str, seed: int) -> optuna.Study:
        """Optuna's study of the lane, made where there is none."""
        if (agent, seed) not in self._lanes:
            import optuna

            name, storage = self._name(agent, seed), self._opened()
            with quiet_optuna():
                try:
                    lane = optuna.load_study(study_name=name, storage=storage)
                except KeyError:
                    lane = optuna.create_study(
                        study_name=name,
                        storage=storage,
                        direction=self.goal.direction,
                        load_if_exists=True,  # by another process, since
                    )
                if not lane.user_attrs:
                    lane.set_metric_names([self.goal.metric])
                    lane.set_user_attr("limits", self.limits)
                    told = f"as the search measured them; networks as they were finished are in {self.study.name}"
                    lane.set_user_attr("values", told)
            self._lanes[agent, seed] = lane
        return self._lanes[agent, seed]

    def _name(self, agent: str, seed: int) -> str:
        return lane_name(self.study.name, agent, seed)

    def _opened(self) -> optuna.storages.RDBStorage:
        """Optuna's storage, opened on first use."""
        self._storage = self._storage or open_optuna_storage(self.store.url)
        return self._storage

    def _frozen(self, trial: TrialRecord) -> optuna.trial.FrozenTrial:
        """The trial in Optuna's terms."""
        state, value = self._state(trial)
        constraints = self._constraints(trial)
        told = (m for m in trial.measurements if (m.phase, m.metric) == (Phase.SEARCH, self.goal.metric))
        steps = {m.step: m.value for m in told}
        # Those of the search alone: they stay the same, whenever the trial is copied.
        attributes: dict[str, Any] = dict(trial.values)
        if trial.state is not TrialState.FAILED:
            attributes["feasible"] = all(excess <= 0 for excess in constraints.values())
        if trial.reason is not None:
            attributes["reason"] = trial.reason
        if trial.repeat_of is not None:
            attributes["repeat_of"] = trial.repeat_of
        return frozen_trial(trial, self.knobs, state, value, attributes, constraints, steps if any(steps) else {})

    def _state(self, trial: TrialRecord) -> tuple[optuna.trial.TrialState, float | None]:
        """Optuna's state and objective; it wants a value of what is COMPLETE and none of what is FAIL."""
        from optuna.trial import TrialState as OptunaState

        value = trial.values.get(self.goal.metric)
        if trial.state is TrialState.FAILED:
            return OptunaState.FAIL, None
        if trial.state is TrialState.STOPPED or (trial.state is TrialState.INFEASIBLE and value is None):
            return OptunaState.PRUNED, value
        return (OptunaState.FAIL, None) if value is None else (OptunaState.COMPLETE, value)

    def _constraints(self, trial: TrialRecord) -> dict[str, float]:
        """By how much each limit is exceeded, in the metric's unit; at most 0 is feasible. None known of a failure.

        Of a limited metric without a measurement only the trial's state speaks: 1 if it is infeasible, else 0.
        """
        if trial.state is TrialState.FAILED:
            return {}
        unknown = 1.0 if trial.state is TrialState.INFEASIBLE else 0.0
        values = trial.values
        over = {
            metric: values[metric] - limit if metric in values else unknown for metric, limit in self.limits.items()
        }
        if trial.state is TrialState.INFEASIBLE and all(excess <= 0 for excess in over.values()):
            over["infeasible"] = 1.0
        return over

    @contextmanager
    def _forgiven(self, strict: bool = False) -> Iterator[None]:
        """Whatever goes wrong in Optuna is a warning, once, and the work of a later `sync`."""
        try:
            yield
        except Exception as error:
            self._lanes.clear()
            if strict:
                raise StoreError(
                    f"Optuna's tables in {self.store.name} cannot be brought up to date: {error}"
                ) from error
            if not self._behind:
                logger.warning(
                    "Optuna's tables in %s fall behind; the study goes on, and `automl dashboard` brings them up "
                    "to date later (%s: %s)",
                    self.store.name,
                    type(error).__name__,
                    error,
                )
            self._behind = True


def lane_name(study: str, agent: str, seed: int) -> str:
    """What Optuna calls the lane of a study."""
    return f"{study}/{agent}/{seed}"


def open_optuna_storage(url: str) -> optuna.storages.RDBStorage:
    """Optuna's storage in the database at `url`, its tables made where there are none."""
    from optuna.storages import RDBStorage

    connect_args: dict[str, Any] = {"connect_timeout": round(_TIMEOUT_S)}
    if parse_url(url).get_backend_name() == "sqlite":
        connect_args = {"timeout": _TIMEOUT_S, "factory": _Connection}
    escaped = url.replace("{", "{{").replace("}", "}}")  # Optuna takes a URL for a template
    for attempt in range(5):
        try:
            with quiet_optuna():
                return RDBStorage(escaped, engine_kwargs={"connect_args": connect_args})
        except Exception:
            # Two processes that make the tables at once collide; the second look finds them there.
            if attempt == 4:
                raise
            time.sleep(0.2 * (attempt + 1))
    raise AssertionError("unreachable")


class _Connection(sqlite3.Connection):
    """Optuna's connection: it leaves the disk its time, since what it writes can be written again."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA synchronous=NORMAL")


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Without Optuna's notes that a study was created, and that naming a metric is experimental."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)

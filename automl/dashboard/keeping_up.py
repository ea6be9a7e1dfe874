"""What the dashboard shows kept up with the record: all of it before it serves, and what changed every few seconds.

A study that runs is written by its driver, which must not wait: of such a study only the note and the fronts are
brought up to date here, and its trials once they have not changed for a while.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING

from automl.dashboard.explained import explain
from automl.dashboard.shown_files import ShownFiles
from automl.store import OptunaProjection, Store, StoreError, StudyRecord, conclusion, open_optuna_storage, open_store

if TYPE_CHECKING:
    import optuna

logger = logging.getLogger(__name__)

EVERY_S = 5.0
"""Between two looks at the record."""

State = tuple[dict[tuple[str, int], int], int | None]
"""Finished trials of each lane, and the last conclusion's id."""


class Keeper:
    """Brings Optuna's tables in the database at `url` up to date."""

    def __init__(self, url: str) -> None:
        self.files = ShownFiles(url)
        self._url = url
        self._seen: dict[int, State] = {}
        self._changed: set[int] = set()
        """The studies that had changed when last looked at, so that trials of theirs may not be copied yet."""
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="automl-dashboard", daemon=True)

    def bring_up_to_date(self) -> None:
        """Show everything there is. A study that cannot be shown keeps no other from it; `StoreError` if none can."""
        with open_store(self._url, create=False) as store:
            studies = store.studies()
            self._seen = {study.id: _state(store, study) for study in studies}
            failures, copied = [], []
            for study in studies:
                try:
                    projection = OptunaProjection.of(store, study)
                except StoreError as error:
                    logger.warning("%s", error)
                    continue
                try:
                    with closing(projection):
                        projection.sync(strict=True)
                    copied.append(study)
                except StoreError as error:
                    failures.append(error)
            if failures and not copied:
                raise failures[0]
            for failure in failures:
                logger.warning("%s", failure)
            self._explain(store, copied)

    def start(self) -> None:
        """Keep up from here on, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_S):
            try:
                with open_store(self._url, create=False) as store:
                    self._look(store)
            except Exception as error:  # the server goes on with what there is
                logger.warning("the dashboard falls behind the record: %s", error)

    def _look(self, store: Store) -> None:
        """Explain the studies that changed, and copy the trials of those that changed before and have paused since."""
        studies = {study.id: study for study in store.studies() if {"knobs", "goal"} <= study.config.keys()}
        states = {key: _state(store, study) for key, study in studies.items()}
        changed = {key for key, state in states.items() if self._seen.get(key) != state}
        paused = (self._changed & states.keys()) - changed
        for key in paused:
            with closing(OptunaProjection.of(store, studies[key])) as projection:
                projection.sync()
        self._explain(store, [studies[key] for key in changed | paused])
        self._seen, self._changed = states, changed

    def _explain(self, store: Store, studies: Sequence[StudyRecord]) -> None:
        """Bring notes, fronts and files of `studies` up to date; of one that has none it is warned."""
        if not studies:
            return
        with _opened(store) as storage:
            for study in studies:
                try:
                    explain(store, study.name, storage, self.files)
                except Exception as error:  # Optuna raises what it likes, and the trials are there all the same
                    logger.warning("study %r is shown without its note: %s", study.name, error)


def _state(store: Store, study: StudyRecord) -> State:
    concluded = conclusion(store, study.id)
    return store.count_finished(study.id), concluded.id if concluded is not None else None


@contextmanager
def _opened(store: Store) -> Iterator[optuna.storages.RDBStorage]:
    """Optuna's storage, and its connections closed afterwards."""
    storage = open_optuna_storage(store.url)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()

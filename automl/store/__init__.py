"""The record of every study in SQL, and views of it: a table, and Optuna's own tables."""

from automl.store.conclusions import conclude_study, conclusion
from automl.store.copying import copy_search
from automl.store.errors import LeaseLostError, StoreError, StudyBusyError, StudyExistsError, StudyNotFoundError
from automl.store.live_projection import LiveProjection
from automl.store.optuna_projection import OptunaProjection, lane_name, open_optuna_storage, quiet_optuna
from automl.store.optuna_trials import frozen_trial
from automl.store.records import ArtifactRecord, AttemptRecord, ConclusionRecord, Rule, Sense, StudyRecord, TrialRecord
from automl.store.removal import remove_study
from automl.store.seals import is_ours
from automl.store.store import Store, open_store
from automl.store.transfer import backup_sqlite, export_studies, import_studies
from automl.store.trial_query import chosen
from automl.store.trial_rows import TrialRows, recorded_trials
from automl.store.trial_table import frame, read_trials, write_trials

__all__ = [
    "ArtifactRecord",
    "AttemptRecord",
    "ConclusionRecord",
    "LeaseLostError",
    "LiveProjection",
    "OptunaProjection",
    "Rule",
    "Sense",
    "Store",
    "StoreError",
    "StudyBusyError",
    "StudyExistsError",
    "StudyNotFoundError",
    "StudyRecord",
    "TrialRecord",
    "TrialRows",
    "backup_sqlite",
    "chosen",
    "conclude_study",
    "conclusion",
    "copy_search",
    "export_studies",
    "frame",
    "frozen_trial",
    "import_studies",
    "is_ours",
    "lane_name",
    "open_optuna_storage",
    "open_store",
    "quiet_optuna",
    "read_trials",
    "recorded_trials",
    "remove_study",
    "write_trials",
]

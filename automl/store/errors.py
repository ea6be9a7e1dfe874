"""Errors of the database. Each message says what was expected, what came, and the remedy."""

from automl.errors import AutomlError


class StoreError(AutomlError):
    """A database that cannot be opened, read or written, or a record that it does not accept."""


class StudyExistsError(StoreError):
    """A study of this name is already recorded."""


class StudyNotFoundError(StoreError):
    """No study of this name is recorded."""


class ConnectionLostError(StoreError):
    """The server of the database is gone, or does not answer yet."""


class StudyBusyError(StoreError):
    """Another process drives the study."""


class LeaseLostError(StoreError):
    """Another process has taken the study over from this one."""

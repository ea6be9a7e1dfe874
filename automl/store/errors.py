"""Errors of the database. Each message says what was expected, what came, and the remedy."""

from automl.errors import AutomlError


class StoreError(AutomlError):
    """A database that cannot be opened, read or written, or a record that it does not accept."""


class StudyExistsError(StoreError):
    """A study of this name is already recorded."""


class StudyNotFoundError(StoreError):
    """No study of this name is recorded."""

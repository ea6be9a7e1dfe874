"""Errors that a user can put right. Each message says what was expected, what came, and the remedy.

The command line prints them without a traceback; errors of the database live in `automl.store`.
"""


class AutomlError(ValueError):
    """Any error of a user's input, files or environment that this package can explain."""


class ConfigError(AutomlError):
    """A study file, option or budget that is not valid."""


class DataError(AutomlError):
    """Data that is missing, damaged, unreadable or of the wrong shape."""


class ModelError(AutomlError):
    """A network that cannot be found, built, loaded or run."""


class ExportError(AutomlError):
    """An exported file that cannot be written or does not compute what the network computes."""


class MissingPackageError(AutomlError):
    """A package that is not installed, and that what was asked for needs."""


class BackendError(AutomlError):
    """A backend that is not there, or a file that it does not run as it was exported."""


class StudyError(AutomlError):
    """A study that cannot be started, resumed or read as asked."""


class BudgetError(AutomlError):
    """A network that turned out to exceed its budget when it was counted."""


class TableError(AutomlError):
    """A table of evaluated Points that cannot be made, read or used as asked."""


class NotFiniteError(ArithmeticError):
    """A loss, a metric or a weight came out as NaN or infinite."""


def in_a_line(error: BaseException) -> str:
    """What a library's error says, on one line and not without end, for the sentence of one of ours."""
    return f"{' '.join(str(error).split()):.300}"

"""A tabular benchmark: Points evaluated once and kept in a file, on which any agent is judged in seconds."""

from automl.benchmark.costs import CostPolynomial
from automl.benchmark.record import record
from automl.benchmark.regret import evaluations_until, judge, regret_after
from automl.benchmark.tabular import Coverage, Table, TableSpace

__all__ = ["CostPolynomial", "Coverage", "Table", "TableSpace", "evaluations_until", "judge", "record", "regret_after"]

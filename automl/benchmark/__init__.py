"""A tabular benchmark: Points evaluated once and kept in a file, on which any agent is judged in seconds."""

from automl.benchmark.costs import CostPolynomial
from automl.benchmark.published import nas_bench_201, nas_bench_macro
from automl.benchmark.record import record
from automl.benchmark.regret import evaluations_until, judge, play, regret_after
from automl.benchmark.tabular import Coverage, Table, TableSpace

__all__ = [
    "CostPolynomial",
    "Coverage",
    "Table",
    "TableSpace",
    "evaluations_until",
    "judge",
    "nas_bench_201",
    "nas_bench_macro",
    "play",
    "record",
    "regret_after",
]

"""The fitters by the name of their operator. An operator that is not here needs no data."""

from __future__ import annotations

from typing import Any

from automl.config.evaluation import EvaluationOptions
from automl.fit.base import Fitter
from automl.fit.channels import ChannelsFitter
from automl.fit.code import CodeFitter
from automl.fit.rank import RankFitter
from automl.fit.sparsity import SparsityFitter
from search_spaces import Operator

FITTERS: dict[str, type[Fitter[Any]]] = {
    "channels": ChannelsFitter,
    "rank": RankFitter,
    "sparsity": SparsityFitter,
    "code": CodeFitter,
}


def fitter_of(operator: Operator, options: EvaluationOptions) -> Fitter[Any]:
    """The fitter of an operator."""
    return FITTERS.get(operator.name, Fitter)(operator, options)

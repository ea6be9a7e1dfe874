"""Evaluation of a Point: build, repair without training, measure."""

from automl.evaluation.evaluator import Evaluator
from automl.evaluation.options import EvaluationOptions

__all__ = ["EvaluationOptions", "Evaluator"]

"""Evaluation of a Point: build, repair without training, measure."""

from automl.evaluation.evaluator import Evaluator

__all__ = ["Evaluator"]

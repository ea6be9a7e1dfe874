"""Optuna Dashboard on the database: each study with a note, a front, its report and its pictures, behind a gate."""

from automl.dashboard.serving import serve_dashboard

__all__ = ["serve_dashboard"]

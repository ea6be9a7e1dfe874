"""Latency measured for a moment, where a test asks what becomes of a time and not how precise it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from automl.export import integer_onnx
from automl.measures import fast_widths, latency_model, piece_times
from automl.measures.backends.side_by_side import Effort
from automl.study import corrections, latency_cost

MOMENT = Effort(rounds=10, seconds=0.0, repeats=0)
"""One block of rounds."""


@contextmanager
def rough_times() -> Iterator[None]:
    """While it lasts, tables and models of latency are measured roughly, models by two networks besides the ends."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (integer_onnx, fast_widths, latency_model, piece_times, latency_cost, corrections):
            patch.setattr(module, "EFFORT", MOMENT)
        patch.setattr(piece_times, "NETWORKS", 3)
        yield

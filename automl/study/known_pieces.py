"""The times of layers that earlier studies of a database have measured, for one that needs them again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from automl.errors import StudyError
from automl.measures.pieces import Grid, PieceModel, Shape
from automl.store import Store, is_ours

Tables = Callable[[], Sequence[Mapping[str, Any]]]
"""Gives the latency models on record, the oldest first."""


def tables_of(store: Store) -> Sequence[Mapping[str, Any]]:
    """The latency models of the studies that this user started."""
    ours = (study.config for study in store.studies() if is_ours(study))
    return [config["latency_table"] for config in ours if "latency_table" in config]


def known_grids(tables: Iterable[Mapping[str, Any]], device: str, batch: int) -> dict[Shape, Grid]:
    """Shape -> its times, of the last of `tables` (latency models on record, the oldest first) that measured it.

    Only of models measured on `device`, which names processor, threads, backend and its version, with as many samples a
    pass and on a quiet machine; what cannot be read is passed over.
    """
    grids: dict[Shape, Grid] = {}
    for told in tables:
        if told.get("kind") != "pieces":
            continue
        try:
            model = PieceModel.from_record(told)
        except StudyError:
            continue
        if model.device == device and model.options.batch == batch and model.unsteady is None:
            grids |= model.grids
    return grids

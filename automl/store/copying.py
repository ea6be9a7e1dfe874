"""The search of a study under a second name: its trials as they were searched, and nothing that was done with them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from automl.store import schema, seals
from automl.store.errors import StudyExistsError
from automl.store.rows import now
from automl.store.store import Store
from automl.store.transfer import Import, lines
from automl.types import Phase

SEARCHED = (Phase.SEARCH, Phase.AGENT, Phase.SENSITIVITY, Phase.CORRECTION, Phase.SUPERNET)
"""The phases of what agents are told, or tell, and of what is known before any trial."""


def copy_search(
    store: Store, name: str, other: str, config: Mapping[str, Any], keep: Collection[str] = (), **environment: Any
) -> None:
    """Record the trials of study `name`, as its search left them, as those of a new study `other`; all or nothing.

    `config`: the new study's. `keep`: the kinds of artifacts that belong to the search. `environment`: what is noted
    beside that of the study. `StudyNotFoundError`, `StudyExistsError`.
    """
    source = store.study(name)
    about = {
        "name": other,
        "config": dict(config),
        "environment": {**source.environment, **environment},
        "created": now().isoformat(),
    }
    with store.database.write() as connection:
        if connection.scalar(sa.select(schema.study.c.id).where(schema.study.c.name == other)) is not None:
            raise StudyExistsError(f"there is a study {other!r} in {store.name}: give the new one another name")
        # A copy of what this user started is this user's; a copy of what came from elsewhere still does.
        taken = Import(connection, store.name, {}, seal=seals.seal if seals.is_ours(source) else seals.unsealed)
        for line in _searched(lines(connection, [source.id]), about, keep):
            taken.take(line)
        taken.finish()


def _searched(
    whole: Iterator[dict[str, Any]], about: Mapping[str, Any], keep: Collection[str]
) -> Iterator[dict[str, Any]]:
    """The lines of the copy, from those of the study."""
    for line in whole:
        if "study" in line:
            yield {"study": {**line["study"], **about}}
        elif "trial" in line:
            yield {"trial": {**line["trial"], "measurements": _of_search(line["trial"]["measurements"])}}
        elif "artifact" in line and line["artifact"]["kind"] in keep:
            yield line


def _of_search(measurements: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [measured for measured in measurements if measured["phase"] in SEARCHED]

"""The shape of a network searched for one signal: a study in the database, trial by trial, resumed if it is there."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import agents
from agents import Goal, TrialState
from automl.errors import StudyError
from automl.lanes.session import Session, best_of
from automl.runners import SerialRunner
from automl.signals.encoding import Effort, encode_shape
from automl.signals.shape_space import COST, ShapeSpace
from automl.signals.shapes import HALF_BITS, Shape
from automl.signals.signal import Signal
from automl.study.differences import first_differences
from automl.study.provenance import code_version
from automl.types import Measurement, Outcome, Say, silent
from search_spaces import Point

if TYPE_CHECKING:
    from automl.store import Store, StudyRecord, TrialRecord

GOAL = Goal("psnr", "maximize")
SHORTER = 4
"""A trial has the steps of the last fit divided by this."""


@dataclass(frozen=True)
class ShapeEvaluator:
    """What a Point is worth: a network of its shape is fitted for a while, stored and read."""

    space: ShapeSpace
    signal: Signal
    most: int
    effort: Effort

    def __call__(self, point: Point, rival: Point | None = None) -> Outcome:
        """PSNR, bytes and bits a point of the decoded file."""
        encoded = encode_shape(self.signal, self.space.shape(point), self.most, self.effort)
        return Outcome.done(
            [
                Measurement("psnr", encoded.psnr, "dB", n=self.signal.values.size),
                Measurement(COST, len(encoded.content), "bytes"),
                Measurement("bpp", encoded.bpp, "bits"),
            ]
        )


def search_shape(
    store: Store,
    name: str,
    signal: Signal,
    most: int,
    effort: Effort,
    trials: int,
    *,
    half: bool = False,
    frequencies: int = 0,
    agent: str = "tpe",
    say: Say = silent,
) -> Shape:
    """The best shape of `trials` that `agent` proposes within `most` bytes, by the PSNR of short fits.

    The study `name` is new or gone on with. `half`: weights are float16. Errors: `StudyError` if there is another study
    of this name or no trial came to a value, `StudyBusyError` if another process runs it.
    """
    from automl.store import LiveProjection, OptunaProjection

    space, limits = ShapeSpace(signal, most, half=half, frequencies=frequencies), {COST: float(most)}
    space.require_feasible(limits)
    short = replace(effort, steps=max(effort.steps // SHORTER, 1))
    record = _study(store, name, _config(space, signal, most, short, agent))
    chooser = agents.create(agent, space=space, goal=GOAL, limits=limits, seed=effort.seed, trials=trials)
    projection = LiveProjection(OptunaProjection.of(store, record))
    with store.drive(record.id), closing(projection):
        session = Session(
            store,
            record,
            agent,
            effort.seed,
            chooser,
            trials,
            observers=[projection.record, _telling(space, say)],
        )
        SerialRunner().run(session, ShapeEvaluator(space, signal, most, short))
        projection.sync()
    best = best_of(session.finished, GOAL)
    if best is None:
        raise StudyError(f"no trial of study {name!r} came to a file: {session.finished[0].reason}")
    return space.shape(best.point)


def _config(space: ShapeSpace, signal: Signal, most: int, effort: Effort, agent: str) -> dict[str, object]:
    """What the study is of, as its record has it."""
    return {
        "knobs": [knob.to_record() for knob in space.knobs],
        "goal": asdict(GOAL),
        "limits": {COST: most},
        "agent": {"name": agent},
        "signal": {
            "kind": signal.kind,
            "shape": list(signal.values.shape),
            "sha256": hashlib.sha256(signal.values.tobytes()).hexdigest(),
        },
        "effort": asdict(effort),
    }


def _study(store: Store, name: str, config: dict[str, object]) -> StudyRecord:
    from automl.store import StudyNotFoundError

    try:
        study = store.study(name)
    except StudyNotFoundError:
        return store.create_study(name, config, code_version=code_version(), environment={})
    if differences := first_differences(study.config, config):
        raise StudyError(
            f"study {name!r} in {store.name} is another: {'; '.join(differences)}. Give this one another name"
        )
    return study


def _telling(space: ShapeSpace, say: Say) -> Callable[[TrialRecord], None]:
    def tell(record: TrialRecord) -> None:
        shape = space.shape(record.point)
        bits = "float16" if shape.bits == HALF_BITS else f"{shape.bits:g} bits"
        found = f"{record.values['psnr']:.2f} dB" if record.state is TrialState.DONE else f"{record.reason}"
        say(f"trial {record.number}: {shape.depth} layers of {shape.width}, {bits}: {found}")

    return tell

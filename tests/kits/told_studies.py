"""Studies that were never run, written through the store: as many trials as wanted, under names of strangers."""

from __future__ import annotations

import random
from collections.abc import Callable

from agents import TrialState
from automl.store import Rule, Store, StudyRecord, conclude_study
from automl.types import Measurement, Outcome, Phase
from search_spaces import Knob, Point

WHOLE = 1_000_000.0
"""Multiply-accumulates of the original."""
LIMIT = 500_000.0


def same(text: str) -> str:
    return text


def tell_study(
    store: Store, name: str = "told", trials: int = 200, knobs: int = 8, say: Callable[[str], str] = same, seed: int = 0
) -> StudyRecord:
    """A study of two agents with `trials` trials in all, a budget and error curves, not concluded.

    `say` spells every name in it.
    """
    draw = random.Random(seed)
    made = [Knob(say(f"layer{i}.conv"), tuple(range(2, 17)), say("channels")) for i in range(knobs)]
    config = {
        "name": name,
        "model": {"name": say("small_cnn")},
        "budget": ["macs <= 50%"],
        "agent": {"name": say("bo")},
        "baselines": [say("random")],
        "trials": trials // 2,
        "seeds": [0],
        "knobs": [knob.to_record() for knob in made],
        "goal": {"metric": say("accuracy"), "direction": "maximize"},
        "limits": {"macs": LIMIT},
        "shares": {"macs": [round(draw.random(), 3) for _ in made]},
    }
    study = store.create_study(name, config, code_version=say("1.0"), environment={say("torch"): say("2.13")})
    original = Point({knob.name: 16 for knob in made})
    base = store.open_trial(study.id, "base", 0, 0, original)
    store.close_trial(base.id, Outcome.done(_measured(say, 0.97, WHOLE), 0.5))
    curves = [
        Measurement(knob.name, (16 - level) ** 2 * (i + 1) / 1e3, step=level, phase=Phase.SENSITIVITY)
        for i, knob in enumerate(made)
        for level in knob.levels
    ]
    store.add_measurements(base.id, curves)
    for agent, ceiling in ((say("random"), 0.9), (say("bo"), 0.93)):
        for number in range(trials // 2):
            point = Point({knob.name: draw.choice(knob.levels) for knob in made})
            trial = store.open_trial(study.id, agent, 0, number, point)
            store.close_trial(trial.id, _outcome(draw, number, ceiling, say))
    return study


def conclude(store: Store, study: StudyRecord, say: Callable[[str], str] = same) -> int:
    """Finish the three best trials so that their order changes and the best of random, and report the best; its id."""
    metric = say("accuracy")
    done = [t for t in store.trials(study.id) if t.state is TrialState.DONE and t.agent != "base"]
    best = sorted(done, key=lambda t: -t.values[metric])[:3]
    (base,) = store.trials(study.id, agent="base")
    rival = next(t for t in sorted(done, key=lambda t: -t.values[metric]) if t.agent == say("random"))
    for trial, accuracy in zip((base, *best, rival), (0.97, 0.94, 0.96, 0.95, 0.93), strict=True):
        costs = trial.values["macs"]
        store.add_measurements(trial.id, _measured(say, accuracy, costs, Phase.FINAL))
        store.add_measurements(trial.id, _measured(say, accuracy - 0.01, costs, Phase.TEST)[:1])
        ratio = costs / WHOLE
        times = [("latency_ms", 2 * ratio, "ms", 0.1), ("latency_ratio", ratio, "", 0.05)]
        store.add_measurements(
            trial.id, [Measurement(m, v, u, 15, s, say("a CPU"), phase=Phase.LATENCY) for m, v, u, s in times]
        )
    winner = best[1]
    rule = Rule("macs <= 50%", "macs", Phase.FINAL, "at most", LIMIT, winner.values["macs"])
    conclude_study(store, winner.id, [rule], [say("the machine's pace was unsteady")])
    return winner.id


def _outcome(draw: random.Random, number: int, ceiling: float, say: Callable[[str], str]) -> Outcome:
    if number % 23 == 22:
        return Outcome.failed(say("out of memory"), 0.1)
    measured = _measured(say, ceiling - 0.3 * draw.random() ** 2, LIMIT * (0.8 + 0.2 * draw.random()))
    if number % 11 == 10:
        return Outcome.infeasible(say("exceeds the budget by 3 MACs"), measured)
    if number % 7 == 6:
        return Outcome.stopped(say(f"cannot win after {number} samples"), measured)
    return Outcome.done(measured, 0.5 + draw.random())


def _measured(
    say: Callable[[str], str], accuracy: float, macs: float, phase: Phase = Phase.SEARCH
) -> list[Measurement]:
    return [
        Measurement(say("accuracy"), accuracy, "fraction", 1000, 0.01, phase=phase),
        Measurement("macs", round(macs), "MAC", phase=phase),
        Measurement("params", round(macs / 10), phase=phase),
        Measurement("size_bytes", round(macs / 3), "B", phase=phase),
    ]

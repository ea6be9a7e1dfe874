"""A study of 10,000 trials of 50 decisions, written as an import writes it: what the record is measured with."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from automl.config.study import StudyConfig
from automl.store import open_store
from automl.store.transfer import Import
from search_spaces import Knob, Point

AGENTS = ("amc_warm", "tpe", "uniform_like", "random")
SEEDS = 5
START = datetime(2026, 1, 1, tzinfo=UTC)
FINALISTS = 3
"""Of each lane."""


def knobs() -> list[Knob]:
    """Fifty: blocks, widths, ranks and number formats."""
    blocks = [Knob(f"block:layer{i}", (0, 1), "block", kind="gate") for i in range(6)]
    widths = [Knob(f"stage{i // 6}.conv{i % 6}", tuple(range(4, 65))) for i in range(24)]
    shares = tuple(f"{level / 16:.0%}" for level in range(2, 16))
    ranks = [
        Knob(f"rank:layer{i}", tuple(range(2, 17)), "of break-even", 16, labels=(*shares, "whole")) for i in range(10)
    ]
    codes = [Knob(f"code:layer{i}", (4, 8, 32), "bits", labels=("int4", "int8", "float32")) for i in range(10)]
    return [*blocks, *widths, *ranks, *codes]


def config() -> dict[str, Any]:
    """What is on record of the study."""
    settings = {"name": "ten-thousand", "model": "resnet56", "data": "cifar10", "budget": "macs <= 50%", "trials": 500}
    return {
        **StudyConfig.from_dict({**settings, "seeds": list(range(SEEDS))}).to_record(),
        "knobs": [knob.to_record() for knob in knobs()],
        "goal": {"metric": "accuracy", "direction": "maximize"},
        "limits": {"macs": 62_742_848.0},
    }


def lines(trials: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """The study and its trials, as a file of `automl db export` has them."""
    yield {
        "study": {
            "name": "ten-thousand",
            "config": config(),
            "code_version": "0",
            "environment": {"python": "3", "cpu_count": 2},
            "created": START.isoformat(),
        }
    }
    yield trial("base", 0, 0, 0, Point({knob.name: knob.original for knob in knobs()}), 0.93, 1.0, finished=True)
    each = trials // (len(AGENTS) * SEEDS)
    for agent in AGENTS:
        for seed in range(SEEDS):
            for number in range(each):
                share = float(rng.uniform(0.3, 0.5))
                point = Point({knob.name: int(rng.choice(knob.levels)) for knob in knobs()})
                accuracy = float(rng.beta(8, 2)) * 0.9
                yield trial(agent, seed, number, number, point, accuracy, share, finished=number >= each - FINALISTS)


def trial(
    agent: str, seed: int, number: int, order: int, point: Point, accuracy: float, share: float, *, finished: bool
) -> dict[str, Any]:
    """One trial with what was measured of it."""
    started = START + timedelta(seconds=number)
    failed = number % 50 == 7
    measured = [
        measurement("accuracy", accuracy, 2000, 0.01),
        measurement("loss", 2 * (1 - accuracy), 2000, 0.03),
        measurement("divergence", 1 - accuracy, 2000, 0.02),
        measurement("macs", round(share * 125_485_696)),
        measurement("params", round(share * 853_018)),
        measurement("size_bytes", round(share * 3_412_072)),
    ]
    if finished:
        final = [
            {**m, "phase": "final", "value": m["value"] * (1.01 if m["metric"] == "accuracy" else 1)} for m in measured
        ]
        test = [{**m, "phase": "test"} for m in measured[:2]]
        timed = [
            measurement("latency_ms", 20 * share, 15, 0.5, phase="latency"),
            measurement("latency_ratio", share, 15, 0.02, phase="latency"),
        ]
        measured = [*measured, *final, *test, *timed]
    return {
        "trial": {
            "agent": agent,
            "seed": seed,
            "number": number,
            "point": point.to_json(),
            "point_key": point.key,
            "state": "failed" if failed else "done",
            "reason": "out of memory" if failed else None,
            "started": started.isoformat(),
            "attempts": 1,
            "finished": (started + timedelta(seconds=1)).isoformat(),
            "wall_s": 1.0,
            "finish_order": order + 1,
            "repeat_of": None,
            "measurements": [] if failed else measured,
            "ended": [],
        }
    }


def measurement(
    metric: str, value: float, n: int = 1, spread: float | None = None, phase: str = "search"
) -> dict[str, Any]:
    """One measured number."""
    names = {"step": 0, "unit": "", "device": "a processor", "phase": phase}
    return {"metric": metric, "value": float(value), "n": n, "spread": spread, **names}


def fill(url: str, trials: int = 10_000) -> None:
    """Write the study into a new database at `url`."""
    with open_store(url) as store, store.database.write() as connection:
        taken = Import(connection, store.name, {})
        for line in lines(trials, np.random.default_rng(0)):
            taken.take(json.loads(json.dumps(line)))
        best = {"trial": [AGENTS[0], 0, trials // (len(AGENTS) * SEEDS) - 1], "concluded": START.isoformat()}
        rule = {"text": "macs <= 50%", "metric": "macs", "phase": "final", "sense": "at most"}
        rules = [{**rule, "bound": 62_742_848.0, "value": 60_000_000.0}]
        taken.take({"conclusion": {**best, "notes": "", "rules": rules}})
        taken.finish()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--trials", type=int, default=10_000)
    arguments = parser.parse_args()
    fill(arguments.url, arguments.trials)

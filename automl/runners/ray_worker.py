"""What runs in a worker of a sweep: whole trials, or one epoch of a trial after the other."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune

from agents import Goal, TrialState
from automl.runners.base import OutOfMemoryError, run, run_trial
from automl.runners.ray_schedulers import EPOCH, UTILITY
from automl.types import Outcome
from search_spaces import Point


def worker(reference: Any, threads: int, folder: Path, goal: Goal | None) -> type[tune.Trainable]:
    """The class of the workers, which fetch the evaluator at `reference` once.

    `goal`: by which trials are compared after each epoch; their checkpoints are in `folder`. None: a step is a trial.
    """

    class TrialActor(tune.Trainable):
        """A worker: holds the evaluator, and runs one trial, or one epoch of it, a step."""

        def setup(self, config: dict[str, Any]) -> None:
            torch.set_num_threads(threads)
            self._evaluate = ray.get(reference)
            self._checkpoint: Path | None = None
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._point = Point.from_json(new_config["point"])
            rival = new_config["rival"]
            self._rival = Point.from_json(rival) if rival is not None else None
            self.cleanup()
            self._epoch = 0
            if goal is not None:  # by Tune's id, so that a second attempt begins anew
                folder.mkdir(parents=True, exist_ok=True)
                self._checkpoint = folder / self.trial_id
            return True

        def step(self) -> dict[str, Any]:
            try:
                outcome = self._step()
            except OutOfMemoryError as error:
                return {"outcome": [], "lost": str(error), "done": True}
            told = {"outcome": [asdict(outcome)], "done": True}
            if goal is None or goal.metric not in outcome.values:
                return told
            epoch = max(m.step for m in outcome.measurements)
            utility = goal.utility(outcome.values[goal.metric])
            return {**told, "done": outcome.state is not TrialState.STOPPED, EPOCH: epoch, UTILITY: utility}

        def _step(self) -> Outcome:
            if self._checkpoint is None:
                return run_trial(self._evaluate, self._point, self._rival)
            self._epoch += 1
            return run(partial(self._evaluate.after, self._point, self._epoch, self._checkpoint))

        def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
            assert self._checkpoint is not None
            return {"epoch": self._epoch, "training": self._checkpoint.read_bytes()}

        def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
            assert self._checkpoint is not None and checkpoint is not None
            self._epoch = checkpoint["epoch"]
            self._checkpoint.write_bytes(checkpoint["training"])

        def cleanup(self) -> None:
            if self._checkpoint is not None:
                self._checkpoint.unlink(missing_ok=True)

    return TrialActor

"""Who owns the loop: in this process, or a Ray Tune sweep. Both see the same `Proposer`."""

from automl.runners.base import Evaluate, Runner, run_trial
from automl.runners.serial import SerialRunner

__all__ = ["Evaluate", "Runner", "SerialRunner", "run_trial"]

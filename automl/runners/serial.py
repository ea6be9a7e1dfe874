"""The loop in this process."""

from __future__ import annotations

from automl.lanes.session import Proposer
from automl.runners.base import Evaluate, OutOfMemoryError, run_trial


class SerialRunner:
    """One trial after the other."""

    def run(self, proposer: Proposer, evaluate: Evaluate) -> None:
        """Take trials, evaluate them, hand back their outcomes, until there are none."""
        while (record := proposer.propose()) is not None:
            while not record.state.finished:
                try:
                    outcome = run_trial(evaluate, record.point, proposer.rival(record.id))
                except OutOfMemoryError as error:
                    record = proposer.fail_attempt(record.id, str(error))
                else:
                    record = proposer.finish(record.id, outcome)

    def close(self) -> None:
        """Nothing was started."""

"""A model of latency corrected by real measurements as a search goes on.

A model is fitted before any trial, and a search ends where it was never measured: at what this problem's networks keep,
just within the limit, and perhaps on a machine that is quieter by then. So twice in the first half of the trials every
lane pauses, the best networks so far are exported and timed beside the original, and the model is scaled to what they
take. Agents are made anew for the new limit and told of all trials; what is predicted to be over it by now is told as
such. Every correction is on record, so that a study that is resumed meets the same limits in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from agents import Agent, TrialState
from automl.config.latency import PREDICTED
from automl.errors import BackendError, ExportError
from automl.lanes.session import Session
from automl.measures.backends.side_by_side import Effort
from automl.measures.latency import LatencyComparison
from automl.store import Store, StudyRecord, TrialRecord
from automl.study.latency_at_limit import CLOSE, NEAR, NETWORKS, taken_of_predicted
from automl.study.latency_cost import comparer
from automl.study.setup import Setup
from automl.types import BASE, Measurement, Phase, Say
from search_spaces import InfeasibleBudgetError, Plan, Point

SCALE = "latency_scale"
"""The metric of a correction: what the model on record is multiplied by."""
TAKEN = "latency_ratio"
"""What a timed network took, by the original in float32."""
FEWEST = 4
"""Trials of a lane without which nothing is corrected: too few networks have been seen to know which are kept."""
EFFORT = Effort(rounds=200, seconds=20.0, half_width=0.01)


class Corrections:
    """Scales a study's model of latency to what the best networks take, and keeps what they took on record."""

    def __init__(self, store: Store, study: StudyRecord, setup: Setup, say: Say) -> None:
        """Scale the model as it was scaled last."""
        self._store, self._study, self._setup, self._say = store, study, setup, say
        self._scale = 1.0
        self.as_of(None)

    @property
    def planned(self) -> list[int]:
        """After how many trials of a lane the model is corrected, ascending."""
        trials, times = self._setup.config.trials, self._setup.latency_options.corrections
        if self._setup.latency_table is None:
            return []
        after = {round(trials * i / (2 * times)) for i in range(1, times + 1)}
        return sorted(count for count in after if FEWEST <= count < trials)

    def rounds(self, lanes: Sequence[Session], makers: Sequence[Callable[[], Agent]]) -> Iterator[Sequence[Session]]:
        """Give the lanes once for every part of their trials, and correct the model in between.

        `makers`: makes each lane's agent for the limits as they are then. A lane of few trials waits until nothing will
        be corrected any more: its networks are to keep the same limit as the others' last. Where all are such, what
        they would propose is timed before any trial.
        """
        planned = self.planned
        long = [lane for lane in lanes if lane.trials > max(planned, default=0)]
        if not long:
            self._before_any(lanes, makers)
        for count in planned if long else []:
            if count in self._known() or any(len(lane.finished) > count for lane in long):
                continue
            for lane in lanes:
                lane.pause = count if lane in long else 0
            yield lanes
            if any(len(lane.finished) == count for lane in long):  # or their time is over, or all has been tried
                self._by_trials(long, count)
                _go_on(lanes, makers)
        for lane in lanes:
            lane.pause = lane.trials
        yield lanes

    @property
    def told(self) -> str | None:
        """What was corrected, in words; None if nothing was."""
        known = [
            f"{scale:.2f} {f'after {count} trials' if count else 'before any trial'}"
            for count, scale in sorted(self._known().items())
        ]
        if not known:
            return None
        return f"predicted latencies: multiplied by {' and by '.join(known)}, as the best networks took when timed then"

    def as_of(self, trial: int | None) -> None:
        """Scale the model as it was when trial `trial` of a lane was proposed; None: as it was scaled last."""
        known = [scale for count, scale in sorted(self._known().items()) if trial is None or count <= trial]
        self._scale_to(known[-1] if known else 1.0)

    def keeps(self, point: Point) -> bool:
        """Whether a network is within the limit on latency by the model as it is now."""
        limit = self._setup.limits.get(PREDICTED)
        return limit is None or self._setup.space.cost(point, PREDICTED) <= limit

    def _scale_to(self, scale: float) -> None:
        if scale != self._scale:
            self._setup.scale_latency(scale)
            self._scale = scale

    def _known(self) -> dict[int, float]:
        """Trials of a lane -> what the model is multiplied by after them."""
        if self._setup.latency_table is None:
            return {}
        base = self._store.trials(self._study.id, agent=BASE, seed=0)
        told = (m for record in base for m in record.measurements)
        return {m.step: m.value for m in told if (m.phase, m.metric) == (Phase.CORRECTION, SCALE)}

    def _before_any(self, lanes: Sequence[Session], makers: Sequence[Callable[[], Agent]]) -> None:
        """Correct the model by what agents of one trial each are going to propose, where there are no others."""
        asked = self._setup.latency_table is not None and self._setup.latency_options.corrections > 0
        begun = any(lane.begun for lane in lanes)
        if not asked or begun or 0 in self._known():
            return
        for _ in range(self._setup.latency_options.corrections):  # what is corrected has them propose other networks
            before = self._scale
            proposed = dict.fromkeys(point for make in makers for point in make().ask(1, []))
            near = [point for point in proposed if self._is_near(point)][:NETWORKS]
            self._correct({str(i): point for i, point in enumerate(near)}, 0)
            if abs(self._scale / before - 1) < CLOSE:
                break
        _go_on(lanes, makers)

    def _by_trials(self, lanes: Sequence[Session], count: int) -> None:
        """Correct the model by the best networks of `lanes` near the limit, and record what they took."""
        found = {str(record.id): record for record in self._near_limit(lanes)}
        taken = self._correct({name: record.point for name, record in found.items()}, count)
        if taken is None:
            return
        for name, record in found.items():
            ratio = taken.times.ratio(name)
            told = Measurement(TAKEN, ratio.high, "", ratio.n, None, taken.device, count, Phase.CORRECTION)
            self._store.add_measurements(record.id, [told])

    def _correct(self, points: Mapping[str, Point], count: int) -> LatencyComparison | None:
        """Time networks, by their names, scale the model, and record that; their times, if they could be taken."""
        before, taken = self._scale, None
        try:
            taken = self._timed(points) if points else None
        except (BackendError, ExportError) as error:  # one of them may be refused by the backend's library
            self._say(f"the model of latency stays as it is: {error}")
        if taken is not None:
            self._scale_to(before * self._factor(points, taken))
            try:
                self._setup.space.require_feasible(self._setup.limits)
            except InfeasibleBudgetError as error:  # what was timed may be, and no agent can search without a network
                self._scale_to(before)
                self._say(f"the model of latency stays as it is, since by what was timed there would be {error}")
        scale = Measurement(SCALE, self._scale, n=max(len(points), 1), step=count, phase=Phase.CORRECTION)
        (base,) = self._store.trials(self._study.id, agent=BASE, seed=0)
        self._store.add_measurements(base.id, [scale])
        return taken

    def _is_near(self, point: Point) -> bool:
        """Whether a network is predicted to be just within the limit."""
        return -NEAR <= self._setup.space.cost(point, PREDICTED) / self._setup.limits[PREDICTED] - 1 <= 0

    def _near_limit(self, lanes: Sequence[Session]) -> list[TrialRecord]:
        """The best different networks of the lanes that are predicted to be just within the limit, best first."""
        goal, found = self._setup.config.goal, dict[str, TrialRecord]()
        done = [one for lane in lanes for one in lane.finished if one.state is TrialState.DONE]
        for record in sorted(done, key=lambda one: one.to_trial().utility(goal), reverse=True):
            if self._is_near(record.point):
                found.setdefault(record.point.key, record)
        return list(found.values())[:NETWORKS]

    def _timed(self, points: Mapping[str, Point]) -> LatencyComparison:
        """The networks of the points timed beside the original, untrained, as weights take no time."""
        self._say(f"timing {len(points)} networks near the limit, to correct the model of latency")
        space = self._setup.given_space
        networks = {name: space.build(space.plan(point)).eval() for name, point in points.items()}
        original = space.build(Plan()).eval()
        return comparer(self._setup.problem, self._setup.config, EFFORT)({"original": original, **networks})

    def _factor(self, points: Mapping[str, Point], taken: LatencyComparison) -> float:
        """What predictions have to be multiplied by, so that the upper ends of intervals are met in the mean."""
        table = self._setup.latency_table
        assert table is not None
        costs = {name: self._setup.space.cost(point, PREDICTED) for name, point in points.items()}
        factor = taken_of_predicted(taken.times, {name: cost / table.original_ms for name, cost in costs.items()})
        self._say(f"they take at most {factor:.1%} of what was predicted; the search goes on with that")
        return factor


def _go_on(lanes: Sequence[Session], makers: Sequence[Callable[[], Agent]]) -> None:
    """Let the lanes go on with agents that are made for the limits as they are now."""
    for lane, make in zip(lanes, makers, strict=True):
        lane.go_on(make())

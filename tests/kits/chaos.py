"""A study to which harm is done while it runs; what was lost, doubled, changed or left over is counted."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from automl.runners import SerialRunner
from automl.store import OptunaProjection, Store, StudyRecord, open_store
from automl.testing.toy_space import toy_problem
from tests.kits.driver_process import DriverProcess
from tests.kits.harms import HARMS, Scene
from tests.kits.toy_driver import SleepyEvaluator, course, new_toy_study, told, toy_session

logger = logging.getLogger(__name__)


@dataclass
class Tally:
    """What was done to a study, and what became of it."""

    harms: Counter[str] = field(default_factory=Counter)
    trials: int = 0
    """How many have finished."""
    lost: int = 0
    """Finished trials that the database has no more, or has otherwise than they were told."""
    doubled: int = 0
    """Trials that finished twice, or have one place in the order."""
    most_in_flight: int = 0
    """Trials left running when no driver was there, at most."""
    left_running: int = 0
    """The same at the end."""
    cut_short: int = 0
    """Attempts that ended without an outcome."""
    miscounted: int = 0
    """Trials whose number of attempts is not that of those recorded, and one more."""
    same_course: bool = False
    """Whether the sequence is that of a study that nothing befell, run in one process. Expected of one worker."""
    not_in_optuna: int = 0
    """Trials that Optuna's tables lack, or have twice, once they have been brought up to date."""
    seconds: float = 0.0
    ends: Counter[str] = field(default_factory=Counter)
    """What drivers said when they ended by themselves before the study's end: the first words."""
    tracebacks: list[str] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    """What the drivers wrote to standard output that is not theirs: there results go."""

    @property
    def wrong(self) -> list[str]:
        """What must be nothing and is something."""
        counts = ("lost", "doubled", "left_running", "miscounted", "not_in_optuna", "tracebacks", "stray")
        return [f"{name}: {getattr(self, name)}" for name in counts if getattr(self, name)]


def uninterrupted(folder: Path, trials: int) -> list[tuple]:
    """The course of the study when nothing befalls it."""
    with open_store(folder / "through.db") as store:
        study = new_toy_study(store)
        SerialRunner().run(toy_session(store, study, trials), SleepyEvaluator(toy_problem(), 0.0))
        return course(store, study)


def chaos(
    scene: Scene, *, rounds: int, workers: int, trials: int, wait_s: float = 0.2, harms: Sequence[str] = ()
) -> Tally:
    """Run the study to its end while `rounds` harms befall it: `harms` in turn, or else all that can, in random order.

    `workers`: of Ray, 0 for none.
    """
    tally, began = Tally(), time.monotonic()
    possible = [name for name, (_, can) in HARMS.items() if can(scene)]
    scene.options = ("--workers", workers, "--trials", trials, "--wait-s", wait_s, "--optuna")
    left: list[str] = []
    acknowledged: dict[int, list] = {}
    with open_store(scene.url) as store:
        study = new_toy_study(store)
        _start(scene)
        while sum(tally.harms.values()) < rounds:
            if not scene.driver.wait(2):  # it gets on between one harm and the next
                if scene.driver.alive:
                    raise AssertionError(f"the driver does not get on: {scene.driver.words}")
                if scene.driver.process.returncode == 0:
                    break
                _buried(scene, store, study, acknowledged, tally)
                continue
            scene.a_while(0.0, 3 * wait_s)
            left = left or list(harms) or scene.rng.sample(possible, len(possible))
            name = left.pop(0)
            tally.harms[name] += 1
            logger.info("%d: %s, after %d trials", sum(tally.harms.values()), name, len(acknowledged))
            HARMS[name][0](scene)
            _compare(scene, store, study, acknowledged, tally)
        while scene.driver.process.wait(600):
            _buried(scene, store, study, acknowledged, tally)
        _compare(scene, store, study, acknowledged, tally)
        _judge(scene, store, study, workers, trials, tally)
    tally.seconds = round(time.monotonic() - began, 1)
    return tally


def _start(scene: Scene) -> None:
    """Start a driver that has the study, or be told why none comes to it."""
    for _ in range(5):
        scene.drivers.append(scene.start())
        if scene.driver.wait(1):
            return
        scene.driver.kill()  # nothing is lost with one that has not begun
    raise AssertionError(f"no driver begins: {scene.driver.words}")


def _buried(scene: Scene, store: Store, study: StudyRecord, acknowledged: dict[int, list], tally: Tally) -> None:
    """See what a driver that has ended has left, and start another."""
    scene.driver.end()
    tally.most_in_flight = max(tally.most_in_flight, len(store.running(study.id)))
    _compare(scene, store, study, acknowledged, tally)
    _start(scene)


def _compare(scene: Scene, store: Store, study: StudyRecord, acknowledged: dict[int, list], tally: Tally) -> None:
    """Count what the database has lost, has twice, or has otherwise than it was told by those who drove it."""
    for driver in scene.drivers:
        for trial in driver.news():
            tally.doubled += trial[0] in acknowledged
            acknowledged[trial[0]] = trial
    trials = {trial.id: trial for trial in store.trials(study.id) if trial.state.finished}
    tally.lost += sum(key not in trials or told(trials[key]) != was for key, was in acknowledged.items())
    orders = Counter(trial.finish_order for trial in trials.values())
    tally.doubled += sum(count - 1 for count in orders.values())
    tally.lost += sum(order not in orders for order in range(1, len(trials) + 1))


def _judge(scene: Scene, store: Store, study: StudyRecord, workers: int, trials: int, tally: Tally) -> None:
    """Fill in what can be told when all is over."""
    for driver in scene.drivers:
        driver.end()
        _last_words(driver, tally)
    records = store.trials(study.id)
    attempts = Counter(attempt.trial_id for attempt in store.attempts(study.id))
    tally.trials = sum(record.state.finished for record in records)
    tally.lost += trials - tally.trials
    tally.left_running = len(store.running(study.id))
    tally.cut_short = sum(attempts.values())
    tally.miscounted = sum(record.attempts != attempts[record.id] + 1 for record in records)
    tally.same_course = course(store, study) == uninterrupted(scene.folder, trials)
    tally.not_in_optuna = _missing(store, study, trials)


def _last_words(driver: DriverProcess, tally: Tally) -> None:
    """Keep why a driver ended by itself, and what it should not have said."""
    killed = driver.process.returncode < 0
    tally.stray += [line for line in driver.stray if not killed or line.endswith("\n")]
    if "Traceback (most recent call last)" in "".join(driver.said):
        tally.tracebacks.append(driver.words)
    elif driver.process.returncode > 0:
        last = next((line for line in reversed(driver.said) if line.startswith("automl: ")), "ended without a word")
        tally.ends[last.removeprefix("automl: ").strip()[:300]] += 1


def _missing(store: Store, study: StudyRecord, trials: int) -> int:
    """How many trials Optuna's tables lack, or have twice, once no claim of a dead process stands in the way.

    A claim lasts two minutes, after which another copies the trial; here it is given back as if they had passed.
    """
    projection = OptunaProjection.of(store, study)
    try:
        for trial in store.trials(study.id):
            store.release_projection(trial.id)
        projection.sync(strict=True)
        shown = [trial.user_attrs["number"] for trial in projection._lane("nsga2", 0).get_trials(deepcopy=False)]
        return len(shown) - len(set(shown)) + len(set(range(trials)) - set(shown))
    finally:
        projection.close()

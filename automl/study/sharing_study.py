"""Shared weights as what judges the trials of a study: trained once, kept in a file, checked before they are trusted.

The networks of the check are trained alone, as trials are where nothing is shared, and stay trials of a lane of their
own. What the supernet says of them, and what the check came to, goes on record beside that; a study that goes on reads
its verdict there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from agents import TrialState
from automl.config.space import CELLS
from automl.config.supernet import SupernetOptions
from automl.evaluation import Evaluator
from automl.sharing.subnets import SubnetBuilder
from automl.sharing.supernet_file import Made, made_of, read_supernet, write_supernet
from automl.sharing.supernet_training import train_supernet
from automl.store import ArtifactRecord, Store, StudyRecord, TrialRecord
from automl.study.artifacts import file_of
from automl.study.rank_check import Verdict, rank_correlation, window
from automl.study.setup import Setup
from automl.types import BASE, CHECK, Measurement, Phase, Say
from automl.util.duration import duration
from automl.util.threads import pinned_threads
from search_spaces import Point, Supernet, supernet

SUPERNET = "supernet"
"""The kind of artifact that shared weights are."""
SECONDS, CORRELATION = "seconds", "rank_correlation"
"""What is recorded of the supernet with the trial of the reference."""


class SharedWeights:
    """The supernet of a study, and what its check came to."""

    def __init__(self, store: Store, study: StudyRecord, setup: Setup, folder: Path, say: Say) -> None:
        """`folder`: of the study's files."""
        self._store, self._study, self._setup, self._folder, self._say = store, study, setup, folder, say
        options = setup.config.evaluation.supernet
        assert options is not None
        self.options: SupernetOptions = options
        self._verdict: Verdict | None = None

    @property
    def checked(self) -> bool:
        """Whether networks are trained alone to check it."""
        return self.options.check > 0

    @property
    def points(self) -> Sequence[Point]:
        """The networks of the check."""
        return window(self._setup.space, self._setup.limits, self.options.check, self._metric)

    @property
    def _metric(self) -> str:
        """The cost of the window: the first that is limited."""
        return next(iter(self._setup.limits), "macs")

    @property
    def trusted(self) -> bool:
        """Whether shared weights judge the trials. Before the check has come to its end they do not."""
        if not self.checked:
            return True
        verdict = self.verdict
        return verdict is not None and verdict.trusted

    @property
    def told(self) -> str:
        """What a reader of the study's figures should know."""
        if not self.checked:
            return "supernet: trials have its weights, and whether it ranks networks as training does was not checked"
        verdict = self.verdict
        return verdict.told if verdict is not None else "supernet: its check has not come to an end"

    @property
    def verdict(self) -> Verdict | None:
        """What the check came to, by what is on record; None before its end."""
        if self._verdict is None:
            base = self._base
            if base is not None and CORRELATION in base.values_of(Phase.SUPERNET):
                self._verdict = self._compared(base.values_of(Phase.SUPERNET)[SECONDS])
        return self._verdict

    def _compared(self, supernet_s: float) -> Verdict:
        """What the networks of the check that have been judged in both ways say."""
        trials, goal = self._store.trials(self._study.id, agent=CHECK), self._setup.config.goal.metric
        both = [t for t in trials if t.state is TrialState.DONE and goal in t.values_of(Phase.SUPERNET)]
        costs = [trial.values[self._metric] for trial in both] or [0.0]
        return Verdict(
            rank_correlation([t.values[goal] for t in both], [t.values_of(Phase.SUPERNET)[goal] for t in both]),
            len(both),
            self._metric,
            min(costs),
            max(costs),
            supernet_s,
            alone_s=sum(self._took(trial) for trial in both),
            judged_s=sum(trial.values_of(Phase.SUPERNET)[SECONDS] for trial in both),
        )

    def _took(self, trial: TrialRecord) -> float:
        """What a trial took, or the one that answered it."""
        first = trial if trial.repeat_of is None else self._store.trial(trial.repeat_of)
        return first.wall_s or 0.0

    @property
    def _base(self) -> TrialRecord | None:
        return next(iter(self._store.trials(self._study.id, agent=BASE)), None)

    @cached_property
    def evaluator(self) -> Evaluator:
        """Judges Points with the weights of the supernet, which is read from its file."""
        weights, artifact = self._new(), self._kept()
        assert artifact is not None
        read_supernet(weights, self._file(), artifact.sha256)
        setup, config = self._setup, self._setup.config
        builder = SubnetBuilder(setup.space, setup.reference, weights, self.options.recalibration)
        options = replace(config.evaluation, training=None, supernet=None, race=0.0)
        return Evaluator(setup.problem, setup.space, options, setup.limits, setup.threads, config.goal, builder=builder)

    def make(self) -> None:
        """Train the supernet, or take the one that the study names, unless it is there; then it is on record.

        One that was killed goes on from its last epoch. Errors: those of training, `StudyError`.
        """
        if self._kept() is not None:
            return
        weights = self._new()
        if self.options.file is not None:
            path = Path(self.options.file)
            made, digest = read_supernet(weights, path)
            self._say(f"taking the supernet {path}, whose training took {duration(made.seconds)}")
        else:
            path = self._folder / "supernet.safetensors"
            made = self._trained(weights)
            digest = write_supernet(weights, made, path)
        self._store.add_artifact(self._study.id, None, SUPERNET, path.resolve(), digest)
        self._checkpoint.unlink(missing_ok=True)

    def compare(self) -> None:
        """Judge the networks of the check, which have been trained alone, with shared weights; record and tell what it
        comes to."""
        base, goal = self._base, self._setup.config.goal.metric
        assert base is not None
        if CORRELATION in base.values_of(Phase.SUPERNET):
            return
        for trial in self._store.trials(self._study.id, agent=CHECK):
            if trial.state is not TrialState.DONE or SECONDS in trial.values_of(Phase.SUPERNET):
                continue
            outcome = self.evaluator(trial.point)
            judged = [replace(m, phase=Phase.SUPERNET) for m in outcome.measurements if m.metric == goal]
            seconds = Measurement(SECONDS, outcome.wall_s, "s", phase=Phase.SUPERNET)
            self._store.add_measurements(trial.id, [*judged, seconds])
        found = self._compared(self._made_s())
        told = [
            Measurement(SECONDS, found.supernet_s, "s", phase=Phase.SUPERNET),
            Measurement(CORRELATION, found.correlation, n=found.networks, phase=Phase.SUPERNET),
        ]
        self._store.add_measurements(base.id, told)
        self._say(found.told)

    def _made_s(self) -> float:
        """What training the supernet took."""
        return made_of(self._file()).seconds

    def _trained(self, weights: Supernet) -> Made:
        setup, options = self._setup, self.options
        self._say(f"training the weights that all networks share, {options.rule.replace('_', ' ')}")
        with pinned_threads(setup.threads):
            history = train_supernet(
                weights,
                setup.problem,
                setup.limits,
                options,
                setup.evaluator.training_time,
                checkpoint=self._checkpoint,
                say=self._say,
            )
        space = setup.config.to_record()["space"][CELLS]
        return Made(history.wall_s, sum(epoch.samples for epoch in history.epochs), options.rule, space)

    @property
    def _checkpoint(self) -> Path:
        return self._folder / "supernet.checkpoint"

    def _new(self) -> Supernet:
        """The supernet of the study's space with its first weights."""
        weights = supernet(self._setup.space, self.options.training.seed)
        weights.shown = self._setup.reference
        return weights

    def _file(self) -> Path:
        """Where the supernet lies. Errors: `StudyError`."""
        artifact = self._kept()
        assert artifact is not None
        return file_of(self._study, artifact, self._folder)

    def _kept(self) -> ArtifactRecord | None:
        return next((a for a in self._store.artifacts(self._study.id) if a.kind == SUPERNET), None)

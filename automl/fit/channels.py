"""Which channels of each group stay, and what narrowing costs: worked out once from the calibration samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from agents import Sensitivity
from automl.fit.base import Fitter
from automl.fit.gram import supported
from automl.fit.importance import activation_scores, taylor_scores
from automl.fit.reconstruction import kept_in_groups
from automl.fit.sensitivity import sensitivity_curves
from automl.fit.statistics import Statistics
from automl.fit.surgeon import Elimination, eliminate
from automl.tasks.problem import Problem
from search_spaces import Channels


class ChannelsFitter(Fitter[Channels]):
    """Scores channels by the importance of the evaluation's options; the surgeon tells what narrowing costs too."""

    _found: dict[str, Elimination | None] | None = None

    def layers(self) -> Sequence[str]:
        """Those that can lose some of the inputs of a group."""
        network = self.operator.network
        return [
            name
            for name, kept in self.operator.narrowest().items()
            if supported(layer := network.get_submodule(name)) and kept_in_groups(layer, kept.kept_in)
        ]

    def scores(self, statistics: Statistics, problem: Problem) -> Mapping[str, np.ndarray]:
        """The scores of every group by the importance of the options."""
        channels, importance = self.operator, self.options.importance
        if importance == "magnitude":
            return channels.magnitudes
        if importance == "activation":
            return activation_scores(channels, statistics.grams)
        if importance == "taylor":
            return taylor_scores(channels, problem)
        magnitudes = channels.magnitudes
        found = self._eliminations(statistics)
        return {name: magnitudes[name] if one is None else one.scores for name, one in found.items()}

    def curves(self, statistics: Statistics, problem: Problem) -> Sensitivity:
        """What narrowing each group alone costs by the surgeon, whatever the scores are by."""
        return sensitivity_curves(self.operator, self._eliminations(statistics))

    def _eliminations(self, statistics: Statistics) -> dict[str, Elimination | None]:
        if self._found is None:
            grams, fisher = statistics.grams, statistics.fisher
            self._found = {group.name: eliminate(self.operator, group, grams, fisher) for group in self.operator.groups}
        return self._found

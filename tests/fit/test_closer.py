"""Of two refits the one that comes closer to the original is kept, whichever it is."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch

from automl.config.evaluation import EvaluationOptions
from automl.fit.builder import Builder
from automl.fit.closer import CloserRefit
from automl.fit.distance import Distance
from search_spaces import channel_space
from tests.kits import digits


@dataclass
class Off:
    """Stands for a fit: what it gives the classifier is off by so much."""

    by: float

    def apply(self, network, slices, steps=()):
        weight = network.linear.weight
        noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            weight.add_(self.by * noise)


def kl(outputs, originals):
    return (originals.softmax(1) * (originals.log_softmax(1) - outputs.log_softmax(1))).sum(1)


@pytest.mark.parametrize(("careful", "searched", "kept"), [(0.1, 0.3, 0.1), (0.3, 0.1, 0.1), (0.2, 0.2, 0.2)])
def test_the_closer_one_is_kept(careful, searched, kept):
    problem = digits.problem("resnet8")
    network, expected = copy.deepcopy(problem.model), copy.deepcopy(problem.model)
    distance = Distance(problem.model, problem.validation, kl)
    CloserRefit(Off(careful), Off(searched), distance).apply(network, {})
    Off(kept).apply(expected, {})
    torch.testing.assert_close(network.linear.weight, expected.linear.weight)


def test_a_network_is_reported_with_weights_no_farther_from_the_original_than_either_refit_gives():
    problem = digits.problem("small_cnn")
    space = channel_space(problem.model, problem.example_inputs)
    builder = Builder(space, EvaluationOptions())
    builder.prepare(problem, torch.float32)
    divergence = problem.kind.divergence
    inputs = problem.validation[0][0]

    def far(network):
        with torch.no_grad():
            return float(divergence(network(*inputs), problem.model(*inputs)).mean())

    careful = builder.thorough(problem, blockwise=False)
    assert isinstance(careful._refit, CloserRefit)
    for keep in (0.3, 0.6):
        point = space.point([knob.nearest(keep) for knob in space.knobs])
        alone = builder.thorough(problem, blockwise=False)
        alone._refit = careful._refit._careful
        reported, sequential, searched = far(careful.build(point)), far(alone.build(point)), far(builder.build(point))
        assert reported == pytest.approx(min(sequential, searched), rel=1e-3)

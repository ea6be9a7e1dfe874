"""The fit's loss and its gradient are those that GPyTorch computes by automatic differentiation."""

import numpy as np
import pytest
import torch
from botorch.models import SingleTaskGP
from gpytorch.mlls import ExactMarginalLogLikelihood

from agents.bo import Encoder
from agents.evidence import Evidence
from agents.types import Goal, Task
from automl.testing.toy_space import ToySpace
from tests.kits.toy_choices import ToyChoiceSpace
from tests.kits.toy_depth import ToyDepthSpace


@pytest.mark.parametrize("space", [ToySpace(), ToyDepthSpace(), ToyChoiceSpace()], ids=["widths", "depth", "choices"])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_gpytorchs(space, seed):
    rng = np.random.default_rng(seed)
    encoder = Encoder(Task(space, Goal("accuracy", "maximize"), {}, 0, 10))
    points = [space.point([int(rng.choice(knob.levels)) for knob in space.knobs]) for _ in range(9)]
    x, y = encoder(points), rng.standard_normal(9)
    model = SingleTaskGP(
        torch.from_numpy(x), torch.from_numpy(y)[:, None], covar_module=encoder.kernel(), outcome_transform=None
    )
    likelihood = ExactMarginalLogLikelihood(model.likelihood, model).train()
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter += torch.from_numpy(rng.uniform(0.0, 0.5, parameter.shape))
    theirs = -likelihood(model(*model.train_inputs), model.train_targets)
    slopes = torch.autograd.grad(theirs, list(likelihood.parameters()))
    loss, gradients = Evidence(likelihood, encoder.columns)()
    assert loss.item() == pytest.approx(theirs.item(), abs=1e-6)  # GPyTorch's priors have float32 numbers
    assert len(gradients) == len(slopes)
    for ours, gradient in zip(gradients, slopes, strict=True):
        assert ours.shape == gradient.shape and torch.allclose(ours, gradient, atol=1e-6)

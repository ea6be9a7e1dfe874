"""Rounding is dearer where a layer is factorised, by about as much as networks built for real show."""

import numpy as np
import pytest
import torch

from automl.evaluation import Evaluator
from search_spaces import NetworkSpace
from tests.kits import digits


def outputs(network, layer, batches):
    """What the norm after a convolution makes of the data: [channels, n]. What the layer makes is another scale with
    integers, into whose scales norms go."""
    seen = []
    norm = network.get_submodule(layer.replace("conv", "bn"))
    hook = norm.register_forward_hook(lambda module, args, out: seen.append(out.transpose(0, 1).flatten(1)))
    with torch.no_grad():
        for inputs, _ in batches:
            network.eval()(*inputs)
    hook.remove()
    return torch.cat(seen, dim=1)


def test_the_factor_is_what_the_outputs_of_layers_show():
    operators = {"rank": {}, "code": {"formats": ["int2", "int4"]}}
    problem = digits.problem("resnet8")
    space = NetworkSpace(problem.model, problem.example_inputs, operators)
    evaluator = Evaluator(problem, space, threads=1)
    dearer = evaluator.sensitivity().dearer
    knobs = {knob.name: knob for knob in space.knobs}
    assert len(dearer) > 5 and all(factor >= 1 for factor in dearer.values())
    assert all(knobs[one].site == knobs[other].site for one, other in dearer)

    def made(levels, layer):
        point = space.point([levels.get(knob.name, knob.levels[-1]) for knob in space.knobs])
        return outputs(evaluator.network(point), layer, problem.calibration)

    told, shown = [], []
    for rank, code in dearer:
        layer = rank.removeprefix("rank:")
        if "conv" not in layer:
            continue
        low, few = {rank: knobs[rank].levels[7]}, {code: knobs[code].levels[0]}
        apart = [made(low | few, layer) - made(low, layer), made(few, layer) - made({}, layer)]
        told.append(np.log(dearer[rank, code]))
        shown.append(np.log([float(errors.var(1).sum()) for errors in apart]) @ [1, -1])
    assert np.mean(shown) > np.log(1.5), "factors do lose more"
    assert abs(np.mean(told) - np.mean(shown)) < np.log(1.6)


@pytest.mark.parametrize("operators", [{"rank": {}}, {"code": {}}, {"rank": {}, "channels": {}}])
def test_nothing_is_dearer_without_both(operators):
    problem = digits.problem("resnet8")
    space = NetworkSpace(problem.model, problem.example_inputs, operators)
    assert Evaluator(problem, space, threads=1).sensitivity().dearer == {}

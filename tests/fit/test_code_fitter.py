"""The fitter of `code`: one layer at a time with the moments of that layer alone gives what all at once give."""

import pytest
import torch
from torch import nn

from automl.config.evaluation import EvaluationOptions
from automl.fit.code import CodeFitter
from automl.fit.gram import gather_grams
from automl.fit.statistics import Moments
from search_spaces import Code, CodeStep, NetworkSpace
from search_spaces.codecs.integers import holds
from search_spaces.codecs.number_formats import FORMATS
from tests.kits.studies import setup

NAMES = ("binary", "ternary", "int2", "int3", "int4", "int8")
X = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def network():
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 20, 3, bias=False), nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 40, 3), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(640, 10)).eval()


def fitter():
    space = NetworkSpace(network(), (X,), {"code": {"formats": NAMES}})
    return space, CodeFitter(space.operator(Code), EvaluationOptions())


def state(made):
    return {name: tensor.clone() for name, tensor in made.state_dict().items()}


@pytest.mark.parametrize("name", NAMES)
def test_layer_by_layer_is_all_at_once_with_the_same_moments(name):
    space, code = fitter()
    layers = code.layers()
    whole = network()
    grams = {key: gram.matrix for key, gram in gather_grams(whole, layers, [((X,), torch.zeros(40))]).items()}
    step = CodeStep(dict.fromkeys(layers, name))
    together, _ = code.fit(space.build(space.plan(space.original_point)), step, Moments(grams))
    _, other = fitter()
    one_by_one = space.build(space.plan(space.original_point))
    for layer in layers:
        one_by_one, _ = other.fit(one_by_one, CodeStep({layer: name}), Moments({layer: grams[layer]}))
    assert state(together).keys() == state(one_by_one).keys()
    assert all(torch.equal(a, b) for a, b in zip(state(together).values(), state(one_by_one).values(), strict=True))
    for layer in layers:
        weight, scale = together.get_parameter(f"{layer}.weight"), together.get_buffer(f"{layer}.weight_scale")
        assert holds(weight, scale).level <= FORMATS[name].level


def test_more_levels_are_nearer_to_the_original():
    errors = []
    for name in NAMES:
        space, code = fitter()
        grams = {key: g.matrix for key, g in gather_grams(network(), code.layers(), [((X,), torch.zeros(40))]).items()}
        made = space.build(space.plan(space.original_point))
        built, _ = code.fit(made, CodeStep(dict.fromkeys(code.layers(), name)), Moments(grams))
        with torch.no_grad():
            errors.append(float((built.eval()(X) - network()(X)).square().mean()))
    assert errors == sorted(errors, reverse=True)


def test_networks_of_trials_and_finished_ones_have_files_as_they_were_foretold():
    """Norms, whose statistics a trial finds anew, are settled in both."""
    made = setup(space={"code": {"formats": ["int4"]}}, budget="size <= 30%", objective="divergence")
    point = made.space.point(made.space.lowest.tolist())
    made.evaluator.prepare()
    for evaluator in (made.evaluator, made.evaluator.finishing()):
        network = evaluator.network(point)
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        settled = [bool((norm.weight == 1).all() and not norm.running_mean.any()) for norm in norms]
        assert settled == [False, *[True] * 4], "all but that of the stem, which keeps its numbers"
        size = next(m.value for m in evaluator.certify(network) if m.metric == "size_bytes")
        assert size <= made.space.cost(point, "size_bytes") < 1.2 * size

import cloudpickle
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from agents import TrialState
from automl.config.evaluation import EvaluationOptions
from automl.errors import BudgetError, ConfigError
from automl.evaluation import Evaluator
from automl.measures import count_macs, count_params, size_bytes
from automl.runners.base import OutOfMemoryError, run_trial
from automl.tasks.problem import Problem
from search_spaces import channel_space

COSTS = ("macs", "params", "size_bytes")


@pytest.fixture(scope="module")
def space(problem):
    return channel_space(problem.model, problem.example_inputs)


@pytest.fixture(scope="module")
def evaluator(problem, space):
    return Evaluator(problem, space, EvaluationOptions(precision="float32"), threads=1)


def half(space):
    return space.point([knob.nearest(0.5) for knob in space.knobs])


def base(space):
    return space.point(space.highest.tolist())


def values(problem, space, point, **options):
    evaluator = Evaluator(problem, space, EvaluationOptions(precision="float32", **options), threads=1)
    outcome = evaluator(point)
    assert outcome.state is TrialState.DONE, outcome.reason
    return outcome.values


def test_a_trial_measures_the_network_built(evaluator, problem, space):
    point = half(space)
    outcome = evaluator(point)
    assert outcome.state is TrialState.DONE and outcome.wall_s > 0
    assert list(outcome.values) == ["accuracy", "loss", "divergence", *COSTS]
    network = evaluator.network(point)
    assert not network.training
    with torch.no_grad():
        outputs = torch.cat([network(*inputs) for inputs, _ in problem.validation])
    targets = torch.cat([targets for _, targets in problem.validation])
    right = (outputs.argmax(1) == targets).float()
    assert outcome.values["accuracy"] == pytest.approx(right.mean().item(), abs=2e-3)
    assert outcome.values["loss"] == pytest.approx(F.cross_entropy(outputs, targets).item(), rel=1e-3)
    measured = {m.metric: m for m in outcome.measurements}
    assert measured["accuracy"].n == len(targets)
    assert measured["accuracy"].spread == pytest.approx((right.var() / len(targets)).sqrt().item(), rel=0.02)
    assert outcome.values["macs"] == count_macs(network, problem.example_inputs) == space.cost(point, "macs")
    assert outcome.values["params"] == count_params(network) == space.cost(point, "params")
    assert outcome.values["size_bytes"] == space.cost(point, "size_bytes") >= size_bytes(network)


def test_the_original_is_measured_as_it_is(evaluator, problem, space):
    outcome = evaluator(base(space))
    by_hand = {m.metric: m.value for m in evaluator.measure(problem.model, problem.validation)}
    assert outcome.values["accuracy"] == by_hand["accuracy"] > 0.9
    assert outcome.values["loss"] == pytest.approx(by_hand["loss"], rel=1e-5)
    state = evaluator.network(base(space)).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in problem.model.state_dict().items())


@pytest.mark.parametrize("importance", ["magnitude", "activation", "taylor", "surgeon"])
def test_each_repair_earns_its_time(problem, space, importance):
    point = half(space)
    plain = values(problem, space, point, importance=importance, reconstruction="none", recalibration="none")
    refitted = values(problem, space, point, importance=importance, recalibration="none")
    recalibrated = values(problem, space, point, importance=importance, reconstruction="none")
    both = values(problem, space, point, importance=importance)
    assert refitted["loss"] < 0.8 * plain["loss"]
    assert recalibrated["loss"] < 0.95 * plain["loss"]
    assert both["loss"] < min(refitted["loss"], recalibrated["loss"])
    assert both["accuracy"] > plain["accuracy"] + 0.1


def test_the_same_point_always_gives_the_same(evaluator, problem, space):
    point = half(space)
    first = evaluator(point).values
    other = space.point([knob.nearest(0.7) for knob in space.knobs])
    evaluator(other)
    assert evaluator(point).values == first
    assert values(problem, space, point) == first
    a, b = evaluator.network(point).state_dict(), evaluator.network(point).state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_pickled_evaluator_gives_the_same_and_leaves_the_data_behind(problem, space):
    point = half(space)
    heavy = torch.zeros(1_000_000)
    problem = Problem(
        problem.model,
        problem.calibration,
        problem.validation,
        recalibration=lambda seed: problem.calibration if heavy is not None else [],
        test=lambda: [((heavy,), heavy)],
    )
    evaluator = Evaluator(problem, space, threads=1)
    evaluator.prepare()
    expected = evaluator(point).values
    pickled = cloudpickle.dumps(evaluator)
    assert len(pickled) < 1_000_000
    again = cloudpickle.loads(pickled)
    assert again(point).values == expected
    assert again.problem.test is None and problem.test is not None


def test_auto_precision_ranks_as_float32_does(problem, space):
    points = [space.point([knob.nearest(keep) for knob in space.knobs]) for keep in (0.25, 0.5, 0.75)]
    exact = [values(problem, space, point)["loss"] for point in points]
    auto = Evaluator(problem, space, threads=1)
    assert [auto(point).values["loss"] for point in points] == pytest.approx(exact, rel=0.05)


def test_over_the_budget_is_infeasible(problem, space):
    limit = 0.5 * space.cost(base(space), "macs")
    evaluator = Evaluator(problem, space, limits={"macs": limit}, threads=1)
    outcome = evaluator(base(space))
    assert outcome.state is TrialState.INFEASIBLE
    assert outcome.values["accuracy"] > 0.9, "what the network would be worth is known all the same"
    assert "macs" in outcome.reason and f"{limit:,.0f}" in outcome.reason
    within = space.project(space.encode(half(space)), {"macs": limit})
    assert evaluator(within).state is TrialState.DONE


def raising(error):
    def metric(outputs, targets):
        raise error

    return metric


def allocating(outputs, targets):
    return torch.empty(2**50)


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        (lambda outputs, targets: outputs.sum() * float("nan"), "broken is nan"),
        (lambda outputs, targets: outputs.sum() / 0, "inf"),
        (raising(KeyError("no such\nthing")), r"KeyError: 'no such\\nthing'"),
        (raising(RuntimeError()), "RuntimeError"),
    ],
    ids=["nan", "inf", "any other", "no message"],
)
def test_a_bad_trial_ends_itself_only(problem, space, metric, reason):
    broken = Problem(problem.model, problem.calibration, problem.validation, metrics={"broken": metric})
    evaluator = Evaluator(broken, space, EvaluationOptions(reconstruction="none"), threads=1)
    outcome = evaluator(half(space))
    assert outcome.state is TrialState.FAILED and not outcome.measurements
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(outcome.reason)
    assert "\n" not in outcome.reason
    broken.metrics.clear()
    broken.metrics.update(problem.metrics)
    assert evaluator(half(space)).state is TrialState.DONE


@pytest.mark.parametrize(
    ("metric", "reason"),
    [
        (raising(MemoryError()), "out of memory"),
        (allocating, "out of memory: .*allocate memory"),
        (raising(torch.OutOfMemoryError("CUDA out of memory")), "out of memory: CUDA"),
    ],
    ids=["memory error", "allocator", "accelerator"],
)
def test_a_trial_that_finds_no_memory_may_be_tried_again(problem, space, metric, reason):
    short = Problem(problem.model, problem.calibration, problem.validation, metrics={"short": metric})
    evaluator = Evaluator(short, space, EvaluationOptions(reconstruction="none"), threads=1)
    with pytest.raises(OutOfMemoryError, match=reason):
        run_trial(evaluator, half(space))
    short.metrics.clear()
    short.metrics.update(problem.metrics)
    assert run_trial(evaluator, half(space)).state is TrialState.DONE


def test_nan_weights_fail_the_trial(space, problem):
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
    with torch.no_grad():
        network[0].weight[0] = float("nan")
    sick = Problem(network, problem.calibration, problem.validation)
    space = channel_space(sick.model, sick.example_inputs)
    outcome = Evaluator(sick, space, threads=1)(base(space))
    assert outcome.state is TrialState.FAILED and outcome.reason == "0.weight is not finite"


def test_ctrl_c_is_not_a_bad_trial(problem, space):
    stopped = Problem(
        problem.model, problem.calibration, problem.validation, metrics={"broken": raising(KeyboardInterrupt())}
    )
    with pytest.raises(KeyboardInterrupt):
        Evaluator(stopped, space, EvaluationOptions(precision="float32", reconstruction="none"))(half(space))


def test_threads_are_set_for_the_trial_only(problem, space):
    seen = []

    def metric(outputs, targets):
        seen.append(torch.get_num_threads())
        return torch.zeros(())

    watched = Problem(problem.model, problem.calibration, problem.validation, metrics={"seen": metric})
    before = torch.get_num_threads()
    Evaluator(watched, space, EvaluationOptions(reconstruction="none"), threads=before + 1)(half(space))
    assert set(seen) == {before + 1} and torch.get_num_threads() == before


def test_a_loss_that_is_a_mean_is_weighted_by_batch(problem, space, evaluator):
    own = Problem(problem.model, problem.calibration, problem.validation, loss=nn.CrossEntropyLoss())
    mine = Evaluator(own, space, EvaluationOptions(precision="float32"), threads=1)
    (loss,) = [m for m in mine.measure(own.model, own.validation) if m.metric == "loss"]
    (exact,) = [m for m in evaluator.measure(own.model, own.validation) if m.metric == "loss"]
    assert loss.value == pytest.approx(exact.value, rel=1e-5)
    assert loss.n == exact.n and loss.spread == pytest.approx(exact.spread, rel=0.9)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 16), nn.ReLU(), nn.Linear(16, 10)),
        nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.Conv2d(8, 16, 3, groups=4), nn.GroupNorm(4, 16), nn.SiLU(), nn.Conv2d(16, 10, 4)
        ),
        nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10)),
        nn.Sequential(
            nn.Flatten(1, 2), nn.Conv1d(8, 8, 3), nn.ReLU(), nn.Conv1d(8, 8, 1), nn.Flatten(), nn.Linear(48, 10)
        ),
        nn.Sequential(nn.ConvTranspose2d(1, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 4, 1), nn.Conv2d(4, 10, 10)),
    ],
    ids=["flatten", "grouped", "linear", "conv1d", "transposed"],
)
@pytest.mark.parametrize("importance", ["magnitude", "activation"])
def test_networks_of_other_joints(model, importance, problem):
    if not isinstance(model[-1], nn.Linear):
        model = nn.Sequential(model, nn.Flatten())
    other = Problem(model, problem.calibration[:1], problem.validation[:1])
    space = channel_space(other.model, other.example_inputs)
    evaluator = Evaluator(other, space, EvaluationOptions(importance=importance), threads=1)
    outcome = evaluator(half(space))
    assert outcome.state is TrialState.DONE, outcome.reason
    assert outcome.values["macs"] == space.cost(half(space), "macs") < space.cost(base(space), "macs")


def test_certificate_counts_for_real(problem, space):
    network = Evaluator(problem, space, threads=1).network(half(space))
    counted = Evaluator(problem, space, limits={"params": count_params(network)}, threads=1).certify(network)
    assert [m.metric for m in counted] == list(COSTS)
    tighter = Evaluator(problem, space, limits={"params": count_params(network) - 1, "macs": 1e12}, threads=1)
    with pytest.raises(BudgetError, match=r"params .* > "):
        tighter.certify(network)


def test_options_that_do_not_exist():
    with pytest.raises(ConfigError, match="least_squares"):
        EvaluationOptions(reconstruction="least_square")
    with pytest.raises(ConfigError, match="float32"):
        EvaluationOptions(precision="float16")


def test_limits_that_cannot_be_kept(problem, space):
    with pytest.raises(ConfigError, match="latency_ms"):
        Evaluator(problem, space, limits={"latency_ms": 5})

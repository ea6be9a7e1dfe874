"""Random architectures cost what they are priced, are built from JSON alone, learn, and run in ONNX Runtime.

`AUTOML_ARCHITECTURES=1000` tries so many of them.
"""

import os
import warnings

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from automl.errors import ExportError
from automl.export import export, load
from automl.measures.counts import counts
from search_spaces import (
    Architecture,
    CellSpace,
    CellsStep,
    DepthStep,
    Frame,
    InfeasibleBudgetError,
    Plan,
    Scales,
    SpaceError,
    Stage,
    StageOptions,
    network_of,
    supernet,
)

TRIED = int(os.environ.get("AUTOML_ARCHITECTURES", "24"))
EXPORTED = max(TRIED // 6, 1) if "AUTOML_ARCHITECTURES" not in os.environ else TRIED
KINDS = ("plain", "residual", "separable", "mobile", "fire", "shuffle", "nin")


def stage(**options):
    usual = {"kind": KINDS, "width": (16, 32, 48), "depth": (1, 2), "reduce": ("none", "stride", "max", "average")}
    usual |= {"kernel": (3, 5), "expand": (1, 3), "groups": (2, 4), "activation": ("relu", "hardswish")}
    return StageOptions(**(usual | options))


@pytest.fixture(scope="module")
def space():
    return CellSpace(Frame(size=(12, 10)), (8, 16, 24), [stage() for _ in range(3)])


@pytest.fixture(scope="module")
def bare():
    """Biases in place of norms, classes by convolution, pools that hang over, an image that the stem makes smaller."""
    frame = Frame(1, (20, 20), 7, 5, 2, True, head="convolution", head_width=24, norm=False, padded=False)
    return CellSpace(frame, (8, 16), [stage(), stage(reduce=("none", "stride"))])


@pytest.fixture(scope="module")
def padded():
    """Shortcuts without parameters."""
    return CellSpace(
        Frame(size=(9, 9), projected=False, head_width=16), (16,), [stage(kind=("residual", "shuffle"))] * 2
    )


@pytest.fixture(scope="module")
def signals():
    """Every kind of block on maps of one dimension, norms or biases, dropout; an odd length."""
    frame = Frame(3, (41,), 4, stem_kernel=7, stem_stride=2, stem_pool=True, standardized=True)
    options = stage(kernel=(3, 9), norm=("batch", "none"), dropout=(0.0, 0.2))
    return CellSpace(frame, (8, 16), [options, options], Scales(inputs=((1.0, -3e4, 0.0), (2.0, 1e3, 1e-3))))


@pytest.fixture(scope="module")
def rows():
    """Linear layers, numbers put out in their own units."""
    frame = Frame(7, (), 3, standardized=True, numbers=True)
    own = {"kind": ("residual", "plain"), "reduce": ("none",), "kernel": (1,), "excite": (False,), "depth": (1, 2, 3)}
    own |= {"width": (4, 8, 16, 32), "norm": ("batch", "none"), "dropout": (0.0, 0.1, 0.3)}
    scales = Scales(((1.0,) * 7, (0.1,) * 7), ((100.0, 0.0, -5.0), (30.0, 1.0, 0.01)))
    return CellSpace(frame, (4, 8, 16, 32), [stage(**own)] * 2, scales)


SPACES = ("space", "bare", "padded", "signals", "rows")


def random_points(space, n, seed=0):
    rng = np.random.default_rng(seed)
    return [space.point([int(rng.choice(knob.levels)) for knob in space.knobs]) for _ in range(n)]


@pytest.mark.parametrize("name", SPACES)
def test_priced_is_counted_and_one_step_of_training_changes_every_weight(name, request):
    space = request.getfixturevalue(name)
    torch.manual_seed(0)
    for point in random_points(space, TRIED):
        plan = Plan.from_json(space.plan(point).to_json())
        network = space.build(plan)
        x = torch.randn(4, space.frame.channels, *space.frame.size)
        macs, params, size_bytes = (m.value for m in counts(network, (x,)))
        assert (space.cost(point, "macs"), space.cost(point, "params")) == (macs, params), plan.to_json()
        assert size_bytes <= space.cost(point, "size_bytes") <= size_bytes + 30 * len(network.state_dict()) + 20
        loss = F.cross_entropy(network.train()(x), torch.arange(4) % space.frame.classes)
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
        assert float(sum(p.grad.abs().sum() for p in network.parameters())) > 0


def test_nearly_every_class_of_a_convolutional_head_can_be_learnt(bare):
    """One whose scores its activation makes 0 whatever is read could not: with usual biases, four of ten."""
    x = torch.randn(16, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    shared, points = supernet(bare), random_points(bare, TRIED)
    for scores_of in (lambda point: bare.build(bare.plan(point))(x), lambda point: shared.at(point, x)):
        alive = torch.stack([(scores_of(point) > 0).any(0) for point in points])
        assert alive.float().mean() > 0.98


@pytest.mark.parametrize("name", SPACES)
def test_exported_to_onnx_it_computes_the_same(name, request, tmp_path):
    space = request.getfixturevalue(name)
    for i, point in enumerate(random_points(space, EXPORTED, seed=1)):
        network = space.build(space.plan(point)).eval()
        x = torch.randn(2, space.frame.channels, *space.frame.size, generator=torch.Generator().manual_seed(i))
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(network, (x,), tmp_path / "network.onnx", dynamo=False)
            expected = network(x)
        session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-3, atol=1e-4)


def test_networks_standardise_by_what_their_space_was_given(signals, rows):
    for space in (signals, rows):
        network = space.build(space.plan(space.reference({})))
        found, given = Scales.of(network), space.scales
        assert np.allclose(found.inputs, given.inputs)
        assert found.numbers is None if given.numbers is None else np.allclose(found.numbers, given.numbers)
        x = torch.randn(5, space.frame.channels, *space.frame.size)
        raw = x * network.standard.spread + network.standard.offset
        told = network.eval()(raw)
        network.standard = network.numbers = torch.nn.Identity()
        expected = network(x)
        if given.numbers is not None:
            expected = expected * torch.tensor(given.numbers[1]) + torch.tensor(given.numbers[0])
        torch.testing.assert_close(told, expected, rtol=1e-3, atol=1e-2)


def test_of_rows_of_a_table_smaller_networks_are_tried_and_the_reference_uses_the_budget_up(rows):
    limits, rng = {"params": 3000}, np.random.default_rng(5)
    drawn = [rows.project(rng.random(len(rows.knobs)), limits) for _ in range(40)]
    parts = [rows.cost(point, "params") / 3000 for point in drawn]
    assert max(parts) <= 1 and min(parts) < 0.25 and np.mean(parts) < 0.7
    reference = rows.reference(limits)
    assert rows.cost(reference, "params") > 0.8 * 3000 and rows.cost(reference, "params") <= 3000
    point = drawn[0]
    assert rows.fill(rows.levels(point).tolist(), np.ones(len(rows.knobs)), limits) == point
    prefix = []
    for _ in rows.knobs:
        prefix.append(min(rows.allowed(prefix, limits)))
    assert prefix == rows.lowest.tolist()


@pytest.mark.parametrize("name", SPACES)
def test_costs_never_fall_when_an_amount_rises(name, request):
    space, rng = request.getfixturevalue(name), np.random.default_rng(2)
    amounts = [t for t, knob in enumerate(space.knobs) if knob.kind == "amount"]
    for _ in range(150):
        levels = np.array([int(rng.choice(knob.levels)) for knob in space.knobs])
        higher = levels.copy()
        t = int(rng.choice(amounts))
        higher[t] = int(rng.choice([level for level in space.knobs[t].levels if level >= levels[t]]))
        for metric in space.metrics:
            assert space.cost_of_levels(higher, metric) >= space.cost_of_levels(levels, metric)


@pytest.mark.parametrize("name", SPACES)
def test_two_spellings_are_one_point_and_two_points_are_two_networks(name, request):
    space, rng = request.getfixturevalue(name), np.random.default_rng(3)
    architectures = {}
    for point in random_points(space, 100):
        levels = space.levels(point)
        assert space.levels_of(space.architecture(levels)).tolist() == levels.tolist()
        assert architectures.setdefault(space.architecture(levels), point) == point
        other = levels.copy()
        for t in np.flatnonzero(~space.active(levels)):
            other[t] = int(rng.choice(space.knobs[t].levels))
        assert space.point(other.tolist()) == point
        assert space.decode(space.encode(point)) == point


@pytest.mark.parametrize("limits", [{"macs": 3e5}, {"params": 9e3, "macs": 4e5}, {"size_bytes": 60_000}])
def test_whatever_is_drawn_behind_the_wall_keeps_the_budget(space, limits):
    rng = np.random.default_rng(4)
    for _ in range(3):
        prefix = []
        for knob in space.knobs:
            prefix.append(int(rng.choice(space.allowed(prefix, limits))))
            assert prefix[-1] in knob.levels
        assert space.within(np.array(prefix), limits)
        levels = space.levels(space.project(rng.random(len(space.knobs)), limits))
        assert space.within(levels, limits)
        for t in np.flatnonzero(space.active(levels) & np.array([knob.kind == "amount" for knob in space.knobs])):
            above = [level for level in space.knobs[t].levels if level > levels[t]]
            raised = levels.copy()
            raised[t] = min(above, default=levels[t])
            assert not above or not space.within(raised, limits)


def test_the_least_cost_is_that_of_the_cheapest_architecture_of_all():
    """A space small enough to be tried whole, in which no kind of block is the cheapest everywhere."""
    small = {"width": (8, 64), "depth": (1,), "kernel": (3,), "expand": (1,), "squeeze": (1,), "groups": (2,)}
    small |= {"excite": (False,), "bypass": (False,), "activation": ("relu",), "reduce": ("none", "stride")}
    space = CellSpace(
        Frame(size=(6, 6)),
        (16,),
        [
            stage(
                **small,
            )
            for _ in range(2)
        ],
    )
    every = [
        space.point(levels)
        for levels in np.stack(np.meshgrid(*(k.levels for k in space.knobs)), -1).reshape(-1, len(space.knobs)).tolist()
    ]
    for metric in space.metrics:
        least = min(space.cost(point, metric) for point in every)
        assert space.least_costs({metric: 1e12}) == {metric: least}
        with pytest.raises(InfeasibleBudgetError, match=f"no network in the space has {metric}"):
            space.require_feasible({metric: least - 1})
    for kinds in ((0, 5), (4, 2), (3, 1)):
        limits = {"macs": 2e5, "params": 5e3}
        settled = np.array([knob.name.endswith("kind") for knob in space.knobs])
        levels = space.lowest
        levels[settled] = kinds
        fits = [p for p in every if (space.levels(p)[settled] == kinds).all() and space.within(space.levels(p), limits)]
        assert space.affordable(levels, settled, limits) == bool(fits)


def test_an_export_of_an_architecture_is_loaded_without_an_original(space, tmp_path):
    point = random_points(space, 1, seed=7)[0]
    plan, x = space.plan(point), torch.randn(2, 3, 12, 10)
    network = space.build(plan).eval()
    export(network, (x,), plan, tmp_path, ("safetensors",), manifest={})
    with torch.no_grad():
        assert torch.equal(load(tmp_path)(x), network(x))


def test_an_export_of_a_part_of_a_network_is_not(tmp_path):
    network, x = torch.nn.Sequential(torch.nn.Linear(4, 2)).eval(), torch.randn(2, 4)
    export(network, (x,), Plan(), tmp_path, ("safetensors",), manifest={})
    with pytest.raises(ExportError, match="a part of an original network: pass that network"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: CellSpace(Frame(), (8,), []), "at least one stage"),
        (lambda: CellSpace(Frame(), (9,), [stage()]), "widths that 8 divides|widths before them that"),
        (
            lambda: CellSpace(Frame(), (8,), [stage(kind=("cell",))]),
            "unknown kind 'cell' of a stage: expected one of plain",
        ),
        (lambda: CellSpace(Frame(), (8,), [stage(width=(16, 16))]), "expected a tuple of different values"),
        (
            lambda: CellSpace(Frame(size=(4, 4), padded=False), (8,), [stage(reduce=("max",))] * 3),
            "leaves nothing of a map",
        ),
        (lambda: CellSpace(Frame(size=()), (8,), [stage()]), "rows of a table have no map, and excite needs one"),
        (lambda: CellSpace(Frame(size=()), (8,), [stage(kind=("mobile",))]), "kind mobile needs one"),
        (lambda: Scales().put(network_of(Architecture(Frame(size=(4,), standardized=True), 4, ()))), "got none"),
        (lambda: Frame(size=(2, 2, 2)), r"expected \(height, width\) of an image"),
        (lambda: Stage("plain", 8, dropout=1.0), "at least 0 and below 1, got 1.0"),
        (lambda: Frame(head="mean"), "unknown head 'mean'"),
        (lambda: Stage("plain", 8, kernel=4), "expected an odd number, got 4"),
        (lambda: Stage("plain", 0), "width of a stage: expected an integer >= 1, got 0"),
        (lambda: Architecture.from_record({"stages": 3}), "expected an architecture"),
        (
            lambda: Architecture.from_record({"stem_width": 8, "stages": [{"kind": "plain"}]}),
            "expected an architecture",
        ),
    ],
)
def test_what_is_no_architecture_is_refused_in_words(wrong, says):
    with pytest.raises(SpaceError, match=says):
        wrong()


def test_a_plan_without_an_architecture_is_refused(space):
    with pytest.raises(SpaceError, match="names no architecture"):
        space.build(Plan((DepthStep(removed=("nobody",)),)))
    assert Plan((CellsStep(),)).get(CellsStep).architecture is None
